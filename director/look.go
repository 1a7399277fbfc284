package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// A batch is looked at before it is carried: each frame is parsed, once, and compared with the one before. So it is known of all what they are while none has been edited yet, a row
// of frames of one connection costs a comparison for each, and a large table can be told what it will be asked for (ahead.go).

// look is what is known of a frame before it is carried.
type look struct {
	p       stack.Packet
	verdict Verdict // on a frame that goes no further; undecided
	like    likeness
	in      uint16 // the interface that it came in on

	// What follows is for who is no more of a streak; so of a frame that is alike it is noted then.

	simple bool     // stack.Packet.Simple, to one host, and it may go on
	slot   uint16   // in recents
	tag    uint32   // there; 0: its connection is none to be remembered
	key    flow.Key // what the table is asked for, once it is known
}

// undecided is the verdict on a frame that is to be carried.
const undecided = Verdict(numVerdicts)

// likeness is what a frame has in common with the one before that was to be carried.
type likeness uint8

const (
	other likeness = iota
	same           // the tuple
	alike          // all that Rewrite does not touch: also MACs, interface, TTL; nothing is to be completed or cut
)

// lookAll looks at frames, from w.looked on.
func (w *worker) lookAll(frames []tap.Frame) {
	var last *look // that is to be carried
	var of *tap.Frame
	in, mac := w.in, w.view.ifaces[w.in].mac
	for i := w.looked; i < len(frames); i++ {
		w.looked = i
		f, l := &frames[i], &w.looks[i&(tap.Batch-1)]
		l.verdict, l.like, l.in = undecided, other, in
		if w.trunk != nil {
			if !w.untag(f, l) {
				l.verdict = DropVLAN
				continue
			}
			mac = w.view.ifaces[l.in].mac
		}
		if last != nil && last.in == l.in && stack.ParseAlike(f, &l.p, of, &last.p) {
			l.like = alike
		} else if b := f.Bytes(); len(b) >= tap.EthernetLen && stack.DstWord(b) != mac && b[0]&1 == 0 {
			l.verdict = DropOtherHost
			continue
		} else if r := stack.Parse(f, &l.p); r != stack.ReasonNone {
			l.verdict = refused(r)
			continue
		} else {
			if last != nil && b[0]&1 == 0 && last.p.Tuple.Is(&l.p.Tuple) {
				l.like = same
			}
			l.place(f)
		}
		last, of = l, f
	}
	w.looked = len(frames)
	w.lookAhead(len(frames))
}

// place completes the look at f.
func (l *look) place(f *tap.Frame) {
	l.key.Clear()
	l.tag, l.simple = 0, l.p.TTL > 1 && l.p.Simple(&f.Header) && f.Bytes()[0]&1 == 0
	if l.simple {
		l.recall()
	}
}

// parseSpare parses a frame that is carried besides those of the batch, and takes it in hand.
func (w *worker) parseSpare(f *tap.Frame) bool {
	w.l, w.p = &w.spare, &w.spare.p
	w.l.key.Clear()
	return stack.Parse(f, w.p) == stack.ReasonNone
}
