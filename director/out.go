package director

import (
	"tapdirector/stack"
	"tapdirector/stack/neigh"
	"tapdirector/tap"
)

// The way out. Frames are collected by outgoing interface and written together when the batch is done, in the order they were decided.
// A superpacket stays whole, and an unfinished checksum unfinished, where the device can carry them; elsewhere they are cut and completed
// here, into the worker's arena. What must be fragmented is cut last. Packets of one flow that leave together leave as one superpacket where the device
// carries it (stack.Merger): each frame less is one passage of the kernel less.

// out is the way to one interface: the queue with the worker's own number, so that a flow stays in order.
type out struct {
	queue   tap.Queue
	vlan    uint16 // of the interface; 0: frames leave without a tag
	offload tap.Offload
	batch   []*tap.Frame
}

// Bounds of what a worker makes itself in one batch before it writes early: frames, and bytes of arena (a largest superpacket cut to pieces).
const (
	madeFrames = 256
	arenaSize  = 512 << 10
)

// fits reports whether f needs no answer of "too big" on the interface: its packets are no larger than the MTU, or may be fragmented.
func (w *worker) fits(f *tap.Frame, iface uint16) bool {
	return w.p.L3Len <= w.view.ifaces[iface].mtu || !w.p.DF || w.largest(f) <= w.view.ifaces[iface].mtu
}

// largest is the IP length of the largest packet that f stands for.
func (w *worker) largest(f *tap.Frame) uint32 { return uint32(stack.MaxSegment(f.Header, w.p)) }

// toSlot sends f by a next hop's slot, or parks it while the hop's MAC is asked for; v is the verdict when it left.
func (w *worker) toSlot(f *tap.Frame, iface uint16, slot neigh.Slot, v Verdict) Verdict {
	if mac, ok := w.d.neigh.MAC(slot); ok {
		return w.toMAC(f, iface, mac, v)
	}
	stack.SetMACs(f.Bytes(), 0, w.view.ifaces[iface].mac)
	if !w.d.neigh.Park(slot, f) {
		return DropNoNeighbour
	}
	return Parked
}

// toMAC puts f in the batch of an interface; v is the verdict when it left.
func (w *worker) toMAC(f *tap.Frame, iface uint16, mac stack.MACWord, v Verdict) Verdict {
	i, o := &w.view.ifaces[iface], &w.outs[iface]
	stack.SetMACs(f.Bytes(), mac, i.mac)
	if (f.Plain() || o.offload.Carries(f.Header)) && (w.p.L3Len <= i.mtu || w.largest(f) <= i.mtu) {
		o.batch = append(o.batch, f)
		return v
	}
	w.cutFor = o
	if !w.cut.run(f, w.p, i.mtu) {
		return DropNoRoom
	}
	return v
}

// own sends a frame that lies in the worker's arena, by the way out that is set in cutFor. Early writing keeps room for one more largest frame.
func (w *worker) own(f *tap.Frame) {
	w.made = append(w.made, *f)
	w.cutFor.batch = append(w.cutFor.batch, &w.made[len(w.made)-1])
	if len(w.made) == cap(w.made) || !w.arena.Fits(tap.MaxFrameLen) {
		w.flush()
	}
}

// flush writes all batches and takes the arena back.
func (w *worker) flush() {
	for i := range w.outs {
		if o := &w.outs[i]; len(o.batch) > 0 {
			o.batch = w.merger.Merge(o.batch, o.offload)
			if o.vlan != 0 {
				o.tag()
			}
			o.queue.Write(o.batch)
			o.batch = o.batch[:0]
		}
	}
	w.made = w.made[:0]
	w.arena.Reset()
	w.countMerged()
}

// countMerged passes on what the batches brought.
func (w *worker) countMerged() {
	if m := &w.merger.Merged; m.Superpackets > 0 {
		w.d.merged.packets.Add(m.Packets)
		w.d.merged.superpackets.Add(m.Superpackets)
		*m = stack.Merged{}
	}
}
