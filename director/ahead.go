package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Before a batch is carried, the connection table is told what its packets will look up, so that the waits for memory overlap (flow.Ahead). Only where the table is
// so large that this pays; what it costs is a second parse of each frame. It decides nothing: a packet that is missed here waits by itself.

// fewAhead is the smallest batch that is worth it.
const fewAhead = 4

// lookAhead tells the table what frames are about to ask for.
func (w *worker) lookAhead(frames []tap.Frame) {
	if len(frames) < fewAhead || !w.d.table.Pays() {
		return
	}
	defer func() { _ = recover() }() // A frame that panics will do so again, in its step, which counts it.
	for i := range frames {
		if stack.Parse(&frames[i], &w.p) == stack.ReasonNone && w.p.HasPorts && !w.p.Fragment {
			w.ahead.Add(w.d.table, &w.p.Tuple, w.direction())
		}
	}
	w.ahead.Fetch(w.d.table)
}

// direction says from which end of its connection the packet in hand comes, if it is of one.
func (w *worker) direction() flow.Direction {
	if role := w.view.locals.role(w.p.Dst); role&roleVIP != 0 && !(role&roleDIP != 0 && w.view.tracks) {
		return flow.Forward
	}
	return flow.Reply
}
