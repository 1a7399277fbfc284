package director

import (
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// The path of a frame
//
// A worker owns one queue of one interface and carries each of its frames all the way, in this order; the files are named after the steps:
//
//	reader.Read    frames, borrowed until the next Read                        thread.go
//	  look         at each: untag; alike the one before, remembered? parse    look.go, vlan.go
//	  lookAhead    what they will ask a large table for                       ahead.go
//	  step         for each again: what is it, and for whom?                  worker.go
//	    again      one of a remembered connection?                            recent.go
//	    goesOn     one more of the connection before?                         streak.go, row.go
//	    fragment   of a datagram: the way of its first one                    fragment.go
//	    client     to a VIP: connection, or service, scheduler, connection    client.go
//	    server     an answer to a client, or a server's own traffic           server.go
//	    host       ours: ARP, ND, echo, the host's own sockets                host.go
//	  forward      edit in place, as the connection's method says             forward.go, tun.go
//	  answer       what cannot go on: reset, ICMP error                       answer.go
//	  out          batches by way out; cut where the way out cannot carry,    out.go
//	               merged where it can
//	queue.Write    the same-numbered queue of the outgoing interface
//
// Step returns one verdict for each frame, and steps counts it: nobody else does. Nothing on this path allocates, logs or waits for a packet of a
// known connection; the connection's shard is locked only inside Touch.

// worker carries the frames of one queue. Its fields are its own goroutine's, but for the counters.
type worker struct {
	d       *Director
	view    *view         // of this batch
	now     time.Duration // of this batch, since the director's start
	in      uint16        // the interface it reads; on a trunk that of the frame in hand
	trunk   *trunk        // nil: one interface, without tags
	queue   tap.Queue
	number  int             // of the queue
	looks   [tap.Batch]look // at the frames of the batch
	looked  int             // at so many of them
	parsed  []byte          // the last that was parsed for it
	next    int             // the frame in hand
	spare   look            // at what is carried besides
	l       *look           // at the frame in hand
	p       *stack.Packet   // in l
	conn    flow.Conn       // its connection, when it has one
	streak  streak
	row     *row
	ownRow  row
	recents recents

	outs   []out // by interface
	merger *stack.Merger
	arena  *tap.Arena
	made   []tap.Frame // frames of our own making, in arena, until the batch is out
	cut    *cutter
	cutFor *out // where what is cut, or made, goes
	tun    tunnelling
	pieces crossing
	ids    ids
	ftp    controlling
	counts [256]uint32 // by Verdict
	ahead  flow.Ahead
	tally  tally

	frames counter
	epoch  epoch // for reloads
}

// batch carries frames and sends what came of them. A frame that panics is counted and left behind; the rest goes on.
func (w *worker) batch(frames []tap.Frame) {
	w.epoch.begin()
	defer w.epoch.end()
	w.open(w.d.view.Load(), w.d.clock())
	for rest := frames; len(rest) > 0; {
		n := min(len(rest), tap.Batch)
		w.carryAll(rest[:n])
		rest = rest[n:]
	}
	w.flush()
	w.frames.Add(uint64(len(frames)))
	w.settle()
}

// open begins a batch.
func (w *worker) open(v *view, now time.Duration) {
	if v != w.view {
		w.recents.forget()
	}
	w.view, w.now, w.streak.on = v, now, false
}

// settle passes on what the batch in hand counted.
func (w *worker) settle() {
	w.tally.flush()
	for v, n := range w.counts[:numVerdicts] {
		if n > 0 {
			w.d.verdicts[v].Add(uint64(n))
			w.counts[v] = 0
		}
	}
}

// carryAll carries frames, tap.Batch at most.
func (w *worker) carryAll(frames []tap.Frame) {
	for w.looked, w.next = 0, 0; w.next < len(frames); {
		w.steps(frames)
	}
}

// steps looks at frames and carries them, from w.looked and w.next on, up to the end or the first that panics.
func (w *worker) steps(frames []tap.Frame) {
	defer w.afterPanic(len(frames))
	if w.looked < len(frames) {
		w.lookAll(frames)
	}
	for w.next < len(frames) {
		l := &w.looks[w.next&(tap.Batch-1)]
		if w.streak.on && w.row.takes(&frames[w.next], l) {
			w.carryRow(frames)
			continue
		}
		w.counts[w.step(&frames[w.next], l)]++
		w.next++
	}
}

// afterPanic, deferred, leaves behind a frame of n that panicked.
func (w *worker) afterPanic(n int) {
	r := recover()
	if r == nil {
		return
	}
	w.d.panicked(r)
	if w.looked < n {
		w.looks[w.looked&(tap.Batch-1)].verdict = DropPanic
		w.looked++
		return
	}
	w.counts[DropPanic]++
	w.next++
	w.streak.on = false
}

// step decides what becomes of one frame that was looked at.
func (w *worker) step(f *tap.Frame, l *look) Verdict {
	if l.verdict != undecided {
		return l.verdict
	}
	if l.of != nil {
		if w.again(f, l) {
			return w.row.verdict
		}
		l.like = other
		if v := w.parse(f, l); v != undecided {
			return v
		}
	}
	p := &l.p
	w.l, w.p, w.in = l, p, l.in
	if w.streak.on {
		if l.like != other && w.goesOn(f, l) {
			if w.row.takes(f, l) {
				w.row.carry(f, &p.Own)
				return w.row.verdict
			}
			return w.streak.carry(w, f)
		}
		w.streak.on = false
	}
	if v := w.notUnicast(f); v != undecided {
		return v
	}
	src, dst := w.view.locals.role(p.Src), w.view.locals.role(p.Dst)
	switch {
	case src&(roleVIP|roleDIP) != 0:
		return DropMartian
	case p.Fragment:
		return w.fragment(f, src, dst)
	case dst == roleVIP:
		return w.fromClient(f)
	}
	return w.carry(f, src, dst)
}

// notUnicast carries what is no IP packet from one host to another.
func (w *worker) notUnicast(f *tap.Frame) Verdict {
	p := w.p
	switch {
	case p.Kind == stack.KindARP, p.Kind == stack.KindIPv6 && p.Proto == stack.ProtoICMPv6 && isND(p.ICMPType):
		return w.neighbour(f)
	case f.Bytes()[0]&1 != 0:
		return DropMulticast
	case p.Kind == stack.KindOther:
		return DropEtherType
	}
	return undecided
}

// carry takes a packet the way that its ends ask for.
func (w *worker) carry(f *tap.Frame, src, dst role) Verdict {
	switch {
	case dst&roleDIP != 0:
		return w.toDIP(f, dst)
	case dst&roleVIP != 0:
		return w.fromClient(f)
	case dst&roleNever != 0:
		return DropMulticast
	}
	return w.transit(f, src)
}
