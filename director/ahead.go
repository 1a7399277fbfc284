package director

import (
	"unsafe"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Before a batch is carried, what its packets will ask for is fetched, so that the waits for memory overlap: what is remembered of their connections (recent.go), or, where
// the connection table is so large that this pays, their entries there (flow.Ahead). It decides nothing: a packet that is missed here waits by itself.

// fewAhead is the smallest batch that is worth it, and manyRecents how many remembered connections are: fewer are in the nearest caches.
const (
	fewAhead    = 4
	manyRecents = 128
)

// fetchRecents fetches what may be remembered of the connections of frames.
func (w *worker) fetchRecents(frames []tap.Frame) {
	if len(frames) < fewAhead || w.recents.used < manyRecents {
		return
	}
	for i := range frames {
		flow.Prefetch(unsafe.Pointer(w.recents.at(stack.Mix(frames[i].Bytes()))))
	}
}

// lookAhead fetches what the n frames of the batch are about to ask the table for.
func (w *worker) lookAhead(n int) {
	large := w.d.table.Pays()
	if n < fewAhead || w.recents.used < manyRecents && !large {
		return
	}
	for i := range w.looks[:n] {
		l := &w.looks[i]
		if l.verdict != undecided || l.like != other {
			continue
		}
		if l.of != nil {
			w.d.table.Fetch(&l.of.place)
		} else if large && l.p.HasPorts && !l.p.Fragment {
			w.d.table.Prepare(&l.key, &l.p.Tuple, w.direction(l))
			w.ahead.Add(w.d.table, &l.key)
		}
	}
	if large {
		w.ahead.Fetch(w.d.table)
	}
}

// direction says from which end of its connection a packet comes, if it is of one.
func (w *worker) direction(l *look) flow.Direction {
	if role := w.view.locals.role(l.p.Dst); role&roleVIP != 0 && !(role&roleDIP != 0 && w.view.tracks) {
		return flow.Forward
	}
	return flow.Reply
}

// touch asks the table for the connection of the packet in hand, into w.conn.
func (w *worker) touch(d flow.Direction, hop flow.Hop) flow.Result {
	k := &w.l.key
	if !k.Ready(d) {
		w.d.table.Prepare(k, &w.p.Tuple, d)
	}
	return w.d.table.Touch(k, w.p.Event, hop, w.now, &w.conn)
}
