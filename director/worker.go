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
//	  lookAhead    what they will ask a large table for                       ahead.go
//	  untag        on a trunk: whose interface is it?                         vlan.go
//	  step         parse; what is it, and for whom?                           worker.go
//	    goesOn     one more of the connection before?                         streak.go
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
	d      *Director
	view   *view         // of this batch
	now    time.Duration // of this batch, since the director's start
	in     uint16        // the interface it reads; on a trunk that of the frame in hand
	mac    stack.MACWord // its MAC
	trunk  *trunk        // nil: one interface, without tags
	queue  tap.Queue
	number int          // of the queue
	p      stack.Packet // the frame in hand
	conn   flow.Conn    // its connection, when it has one
	streak streak

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
	counts [numVerdicts]uint32
	ahead  flow.Ahead
	tally  tally
	next   int // the frame of the batch that is in hand, for when it panics

	frames counter
	epoch  epoch // for reloads
}

// batch carries frames and sends what came of them. A frame that panics is counted and left behind; the rest goes on.
func (w *worker) batch(frames []tap.Frame) {
	w.epoch.begin()
	defer w.epoch.end()
	w.open(w.d.view.Load(), w.d.clock())
	if w.trunk == nil {
		w.lookAhead(frames)
	}
	for w.next = 0; w.next < len(frames); {
		if w.trunk == nil {
			w.steps(frames)
		} else {
			w.trunkSteps(frames)
		}
	}
	w.flush()
	w.frames.Add(uint64(len(frames)))
	w.settle()
}

// open begins a batch.
func (w *worker) open(v *view, now time.Duration) {
	w.view, w.now, w.streak.on = v, now, false
	w.mac = v.ifaces[w.in].mac
}

// settle passes on what the batch in hand counted.
func (w *worker) settle() {
	w.tally.flush()
	for v, n := range &w.counts {
		if n > 0 {
			w.d.verdicts[v].Add(uint64(n))
			w.counts[v] = 0
		}
	}
}

// steps carries the frames from w.next on, up to the end or the first that panics.
func (w *worker) steps(frames []tap.Frame) {
	defer w.afterPanic()
	for ; w.next < len(frames); w.next++ {
		w.counts[w.step(&frames[w.next])]++
	}
}

// afterPanic, deferred, leaves behind a frame that panicked.
func (w *worker) afterPanic() {
	if r := recover(); r != nil {
		w.counts[DropPanic]++
		w.next++
		w.d.panicked(r)
	}
}

// step decides what becomes of one frame.
func (w *worker) step(f *tap.Frame) Verdict {
	p := &w.p
	if b := f.Bytes(); len(b) >= tap.EthernetLen && stack.DstWord(b) != w.mac && b[0]&1 == 0 {
		return DropOtherHost
	}
	if r := stack.Parse(f, p); r != stack.ReasonNone {
		return refused(r)
	}
	if w.goesOn(f) {
		return w.streak.carry(w, f)
	}
	w.streak.on = false
	if p.Kind == stack.KindARP || p.Kind == stack.KindIPv6 && p.Proto == stack.ProtoICMPv6 && isND(p.ICMPType) {
		return w.neighbour(f)
	}
	if f.Bytes()[0]&1 != 0 {
		return DropMulticast
	}
	if p.Kind == stack.KindOther {
		return DropEtherType
	}
	src, dst := w.view.locals.role(p.Src), w.view.locals.role(p.Dst)
	switch {
	case src&(roleVIP|roleDIP) != 0:
		return DropMartian
	case p.Fragment:
		return w.fragment(f, src, dst)
	}
	return w.carry(f, src, dst)
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
