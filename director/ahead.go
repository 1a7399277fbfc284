package director

import (
	"tapdirector/director/flow"
)

// Before a batch is carried, the connection table is told what its packets will look up, so that the waits for memory overlap (flow.Ahead). Only where the table is
// so large that this pays. It decides nothing: a packet that is missed here waits by itself.

// fewAhead is the smallest batch that is worth it.
const fewAhead = 4

// lookAhead tells the table what the n frames of the batch are about to ask for.
func (w *worker) lookAhead(n int) {
	if n < fewAhead || !w.d.table.Pays() {
		return
	}
	for i := range w.looks[:n] {
		l := &w.looks[i]
		if l.verdict == undecided && l.like == other && l.p.HasPorts && !l.p.Fragment {
			w.d.table.Prepare(&l.key, &l.p.Tuple, w.direction(l))
			w.ahead.Add(w.d.table, &l.key)
		}
	}
	w.ahead.Fetch(w.d.table)
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
	return w.d.table.TouchKey(k, w.p.Event, hop, w.now, &w.conn)
}
