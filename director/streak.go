package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Packets of one connection in a row
//
// Bulk comes as rows of packets of one connection and direction. What the table does for the first of a row, finding it, advancing the state,
// restarting the timer, noting the last hop, is done for the next as well if that comes the same way and leaves the state as it is, for a batch has one
// time. So it goes on without asking the table. Another worker or the janitor may change or end the connection meanwhile: the packets of a
// row count as having come together, before that, and indeed they were read together.

// streak says that the packet before was one of w.conn, which the table knew.
type streak struct {
	on    bool
	dir   flow.Direction
	event uint16                            // one that leaves the state as it is; noEvent: not known yet
	carry func(*worker, *tap.Frame) Verdict // with event
}

const noEvent = 1 << 8

// known carries the packet in hand, which the table knows as one of w.conn in direction d, and has the next one go on like it. (Not behind a
// fragment, for which it is not enough to know the connection.)
func (w *worker) known(f *tap.Frame, d flow.Direction) Verdict {
	s := &w.streak
	s.on, s.dir, s.event = !w.p.Fragment, d, noEvent
	if w.beginRow(f, d) {
		return w.row.verdict
	}
	if d == flow.Forward {
		return forwarders[w.conn.Method](w, f)
	}
	return repliers[w.conn.Method](w, f)
}

// goesOn reports whether the packet in hand, at which l is a look, which has the tuple of the one before, is one more of w.conn, of which the table need not
// know.
func (w *worker) goesOn(f *tap.Frame, l *look) bool {
	p, s := &l.p, &w.streak
	if p.Fragment || p.TTL <= 1 {
		return false
	}
	if l.like == same && s.dir == flow.Forward && w.conn.Hop != flow.HopTo(w.in, stack.SrcWord(f.Bytes())) {
		return false
	}
	if s.event != uint16(p.Event) && !w.settled() {
		return false
	}
	if l.like == alike {
		if !w.row.tried {
			w.makeRow(s.dir)
		}
		if w.row.usable {
			w.row.event = s.event
		}
	}
	return true
}

// settled reports whether the event of the packet in hand leaves the state of w.conn as it is.
func (w *worker) settled() bool {
	if !w.conn.Settled(w.streak.dir, w.p.Event) {
		return false
	}
	w.streak.event, w.streak.carry = uint16(w.p.Event), repliers[w.conn.Method]
	if w.streak.dir == flow.Forward {
		w.streak.carry = forwarders[w.conn.Method]
	}
	return true
}
