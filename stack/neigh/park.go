package neigh

import (
	"tapdirector/stack"
	"tapdirector/tap"
)

// Park takes a frame for a next hop without a MAC: a copy waits, and leaves with the destination MAC once that is known;
// until then f needs only its source MAC. If the MAC has come meanwhile the copy leaves at once. It asks if nobody did.
// False: s is none, or a limit of parked frames is reached.
func (r *Resolver) Park(s Slot, f *tap.Frame) bool {
	r.mu.Lock()
	if s == 0 || int(s) >= len(r.entries) {
		r.mu.Unlock()
		r.counters.parkDropped.Add(1)
		return false
	}
	if m, ok := r.MAC(s); ok {
		iface := r.entries[s].iface
		r.mu.Unlock()
		r.release(iface, m.MAC(), []tap.Frame{f.Clone()})
		return true
	}
	q, ask, ok := r.parkLocked(s, f)
	r.mu.Unlock()
	if ask {
		r.ask(q)
	}
	return ok
}

// parkLocked keeps a copy of f if there is room, and returns what is to be asked.
func (r *Resolver) parkLocked(s Slot, f *tap.Frame) (q question, ask, ok bool) {
	waiting := r.parked[s]
	// The newest frame is the one refused: of a handshake or a burst the first are worth most. (RFC 1122 2.3.2.2 would save
	// the latest, with room for one only in mind.)
	if len(waiting) >= r.o.Park || r.waiting >= r.o.ParkTotal || r.bytes+f.Len() > r.o.ParkBytes {
		r.counters.parkDropped.Add(1)
		return question{}, false, false
	}
	r.parked[s] = append(waiting, f.Clone())
	r.waiting++
	r.bytes += f.Len()
	r.counters.parked.Add(1)
	if st := r.entries[s].state; st != idle && st != failed {
		return question{}, false, true
	}
	return r.enterLocked(s, asking, r.now()), true, true
}

// takeLocked takes the frames that wait for s.
func (r *Resolver) takeLocked(s Slot) []tap.Frame {
	frames, ok := r.parked[s]
	if !ok {
		return nil
	}
	delete(r.parked, s)
	r.waiting -= len(frames)
	for i := range frames {
		r.bytes -= frames[i].Len()
	}
	return frames
}

// drains bounds how often drainLocked takes what came meanwhile.
const drains = 16

// drainLocked sends what waits for s, the slot of k, to m, before anybody else knows the MAC: so that no frame overtakes one that waits. What comes meanwhile waits too, and
// is sent after it. It unlocks meanwhile; false when s is not to get m any more, or who had another proof is at it already.
func (r *Resolver) drainLocked(k key, s Slot, m stack.MAC) bool {
	if r.entries[s].draining {
		return false
	}
	for range drains {
		frames := r.takeLocked(s)
		if len(frames) == 0 {
			break
		}
		r.entries[s].draining = true
		r.mu.Unlock()
		r.release(k.iface, m, frames)
		r.mu.Lock()
		if r.slots[k] != s || r.entries[s].state == fixed {
			return false
		}
		r.entries[s].draining = false
	}
	return true
}

// release sends frames that waited; no lock is held.
func (r *Resolver) release(iface int32, to stack.MAC, frames []tap.Frame) {
	for i := range frames {
		copy(frames[i].Bytes(), to[:])
		r.o.Links[iface].Send(&frames[i])
		r.counters.parkedSent.Add(1)
	}
}
