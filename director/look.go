package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// A batch is looked at before it is carried: each frame is compared with the one before, then with what is remembered (recent.go), and parsed if it is alike neither. So it is known of all what
// they are while none has been edited yet, a frame of a row or of a remembered connection costs a comparison, and a large table can be told what it will be asked for (ahead.go).

// look is what is known of a frame before it is carried.
type look struct {
	verdict Verdict // on a frame that goes no further; undecided
	like    likeness
	in      uint16       // the interface that it came in on
	serial  uint16       // of of, then
	passing bool         // its connection is none to be remembered
	of      *recent      // its connection, nil: none that is remembered
	p       stack.Packet // of one of a remembered connection only Own
	key     flow.Key     // what the table is asked for, once it is known
}

// undecided is the verdict on a frame that is to be carried.
const undecided = Verdict(numVerdicts)

// likeness is what a frame has in common with the one before that was to be carried.
type likeness uint8

const (
	other likeness = iota
	same           // the tuple
	alike          // all that Rewrite does not touch: also MACs, interface, TTL
)

// lookAll looks at frames, from w.looked on.
func (w *worker) lookAll(frames []tap.Frame) {
	w.fetchRecents(frames[w.looked:])
	var fresh *look    // the last that is to be carried, if it was parsed
	var before *recent // its connection, if that is remembered
	for i := w.looked; i < len(frames); i++ {
		w.looked = i
		f, l := &frames[i], &w.looks[i&(tap.Batch-1)]
		l.verdict, l.like, l.in = undecided, other, w.in
		if w.trunk != nil {
			if !w.untag(f, l) {
				l.verdict = DropVLAN
				continue
			}
		}
		b := f.Bytes()
		if r := before; r != nil && stack.Near(b, &r.headers) && stack.Alike(f, r.headers[:], &l.p.Own) && r.in == l.in {
			l.like, l.of, l.serial = alike, r, r.serial
			continue
		}
		if fresh != nil && fresh.in == l.in && stack.Alike(f, w.parsed, &l.p.Own) {
			l.follow(fresh)
			continue
		}
		if w.recents.used > 0 {
			if r := w.recents.at(stack.Mix(b)); stack.Alike(f, r.headers[:], &l.p.Own) && r.in == l.in {
				l.of, l.serial = r, r.serial
				before, fresh = r, nil
				continue
			}
		}
		if l.verdict = w.lookNew(f, l, fresh); l.verdict == undecided {
			before, fresh = nil, l
		}
	}
	w.looked = len(frames)
	w.lookAhead(len(frames))
}

// follow makes l, of which Own is known, a look at a frame that is alike the one of last, which was parsed.
func (l *look) follow(last *look) {
	own := l.p.Own
	l.p, l.like, l.of, l.passing = last.p, alike, nil, false
	l.p.Own = own
	l.key.Clear()
}

// lookNew looks at a frame of no remembered connection; last is at the one before, if that was parsed.
func (w *worker) lookNew(f *tap.Frame, l, last *look) Verdict {
	if v := w.parse(f, l); v != undecided {
		return v
	}
	if last != nil && last.p.Tuple.Is(&l.p.Tuple) && f.Bytes()[0]&1 == 0 {
		l.like = same
	}
	return undecided
}

// parse parses a frame that came in on l.in.
func (w *worker) parse(f *tap.Frame, l *look) Verdict {
	if b := f.Bytes(); len(b) >= tap.EthernetLen && stack.DstWord(b) != w.view.ifaces[l.in].mac && b[0]&1 == 0 {
		return DropOtherHost
	}
	l.of, l.passing = nil, false
	l.key.Clear()
	if r := stack.Parse(f, &l.p); r != stack.ReasonNone {
		return refused(r)
	}
	w.parsed = f.Bytes()
	return undecided
}

// parseSpare parses a frame that is carried besides those of the batch, and takes it in hand.
func (w *worker) parseSpare(f *tap.Frame) bool {
	w.l, w.p = &w.spare, &w.spare.p
	w.l.passing = false
	w.l.key.Clear()
	return stack.Parse(f, w.p) == stack.ReasonNone
}
