package sched

import "tapdirector/stack"

// When servers come or go a scheduler is made anew. So that the turn does not begin again with each change, and caches do not lose their destinations, it
// takes over from the one before it what still holds:
//
//	rr           the turn goes on behind the last server picked, or where it was when that has left
//	wrr          the level stays, as after a change of weights; the sweep begins with the first server
//	lblc, lblcr  destinations keep their servers, as far as these are still there
//
// The others have nothing to remember: they look at servers, or compute.

// Inherit lets next, which nobody has asked yet, go on where last is, if both are of the same kind. place says where in next's list a server of last's is; -1: it
// has left.
func Inherit(next, last Scheduler, place func(int) int) {
	switch n := next.(type) {
	case *rr:
		if l, ok := last.(*rr); ok {
			n.inherit(l, place)
		}
	case *wrr:
		if l, ok := last.(*wrr); ok {
			n.inherit(l)
		}
	case *lblc:
		if l, ok := last.(*lblc); ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			n.cache.inherit(&l.cache, func(i int32) (int32, bool) {
				at := place(int(i))
				return int32(at), at >= 0
			})
		}
	case *lblcr:
		if l, ok := last.(*lblcr); ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			n.cache.inherit(&l.cache, func(s serverSet) (serverSet, bool) { return s.moved(place) })
		}
	}
}

// inherit goes on behind the last server that l picked and that is still there.
func (r *rr) inherit(l *rr, place func(int) int) {
	next := int(l.next.Load())
	if len(r.servers) == 0 || next == len(l.servers) {
		return
	}
	for i := next - 1; i >= next-len(l.servers); i-- {
		if at := place((i + len(l.servers)) % len(l.servers)); at >= 0 {
			r.next.Store(uint32((at + 1) % len(r.servers)))
			return
		}
	}
}

// inherit keeps the level.
func (w *wrr) inherit(l *wrr) {
	l.mu.Lock()
	w.level = l.level
	l.mu.Unlock()
	w.Update()
}

// inherit takes over what is known of destinations, as moved by move, which says whether something of it is left.
func (d *destinations[V]) inherit(l *destinations[V], move func(V) (V, bool)) {
	d.swept = l.swept
	d.known = make(map[stack.Addr]destination[V], len(l.known))
	for a, e := range l.known {
		if v, ok := move(e.value); ok {
			d.known[a] = destination[V]{e.used, v}
		}
	}
}

// moved is s with the places of another list.
func (s serverSet) moved(place func(int) int) (serverSet, bool) {
	t := serverSet{modified: s.modified}
	for _, i := range s.places {
		if at := place(int(i)); at >= 0 {
			t.places = append(t.places, int32(at))
		}
	}
	return t, len(t.places) > 0
}
