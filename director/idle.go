package director

import (
	"sync"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Connections that idled out are reset where the service says idle = "reset", and those of a server that was removed (reload.go) where it says
// on_server_removed = "reset": each end gets a segment that looks as if the other had sent it. To the
// server it takes the way of a client's packet, whatever the method; to the client it leaves as the VIP, by the last hop, also with
// methods whose answers do not pass here.
//
// The table reports them while the janitor expires; they are kept here, at most maxIdled of them, and sent when that is done, two segments from the
// budget of all answers each. Frames of a resetter are nobody's that was read, so they have no verdict; two counters say what became of them.

// maxIdled bounds the connections that wait for their resets.
const maxIdled = 4096

// resetter resets idle connections, and those of servers that were removed. It is the janitor's; others may offer it connections.
type resetter struct {
	d     *Director
	w     *worker // with no queue to read; nil: no connection had to be reset yet
	epoch epoch   // for reloads

	mu      sync.Mutex
	waiting []idled

	sent    *counter // connections that were reset at both ends
	dropped *counter // too many waited
}

// idled is a connection that waits.
type idled struct {
	conn flow.Conn
	next flow.Sequence
}

func newResetter(d *Director) resetter {
	return resetter{d: d, sent: &counter{}, dropped: &counter{}}
}

// add notes a connection to be reset.
func (r *resetter) add(c *flow.Conn, s flow.Sequence) {
	if !r.offer(c, s) {
		r.dropped.Add(1)
	}
}

// offer notes a connection to be reset, if there is room.
func (r *resetter) offer(c *flow.Conn, s flow.Sequence) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == maxIdled {
		return false
	}
	r.waiting = append(r.waiting, idled{*c, s})
	return true
}

// busy reports whether connections wait.
func (r *resetter) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) > 0
}

// run sends what the budget allows; the rest waits for the next time.
func (r *resetter) run(now time.Duration) {
	r.mu.Lock()
	waiting := r.waiting // others only append
	r.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	r.epoch.begin()
	defer r.epoch.end()
	w := r.worker()
	w.open(w.d.view.Load(), now)
	n := 0
	for n < len(waiting) && w.d.budget.take(now) && w.d.budget.take(now) {
		w.resetBoth(&waiting[n])
		n++
	}
	w.flush()
	w.settle()
	r.sent.Add(uint64(n))
	if w.d.budget.rate.Load() == 0 { // none will ever be sent
		r.dropped.Add(uint64(len(waiting) - n))
		n = len(waiting)
	}
	r.mu.Lock()
	r.waiting = append(r.waiting[:0], r.waiting[n:]...)
	r.mu.Unlock()
}

// worker returns the one that sends them; it is made when it is first asked for.
func (r *resetter) worker() *worker {
	if r.w == nil {
		r.w = r.d.newWorker(0, 0, nil)
		r.w.queue = nil
	}
	return r.w
}

// resetBoth sends the resets of one connection.
func (w *worker) resetBoth(i *idled) {
	w.conn = i.conn
	t := i.conn.Tuple(flow.Forward)
	if f := w.reset(&t, i.next.Server); f != nil {
		forwarders[i.conn.Method](w, f)
	}
	t = t.Reverse()
	if f := w.reset(&t, i.next.Client); f != nil {
		w.toClient(f)
	}
}

// reset makes a reset, parsed and taken in hand.
func (w *worker) reset(t *stack.Tuple, seq uint32) *tap.Frame {
	if len(w.made) == cap(w.made) || !w.arena.Fits(tap.MaxFrameLen) {
		w.flush()
	}
	f, ok := stack.ResetFrame(t, seq, w.arena)
	if !ok || !w.parseSpare(&f) {
		return nil
	}
	w.made = append(w.made, f)
	return &w.made[len(w.made)-1]
}

// toClient sends a packet of our own, whole and from the VIP, the way of answers to w.conn's client.
func (w *worker) toClient(f *tap.Frame) Verdict {
	hop := w.conn.Hop
	if !w.view.ifaces[hop.Iface()].byRoute {
		return w.toMAC(f, hop.Iface(), hop.MAC(), SentReset)
	}
	r := w.view.routeTo(w.p.Dst)
	if r == nil {
		return DropNoAnswer
	}
	return w.viaRoute(f, r, SentReset)
}

// follow notes the sequence numbers of the packet in hand, a client's; of the first, or of one that acknowledges something.
func (w *worker) follow(f *tap.Frame, first bool) {
	p := w.p
	if !first && p.TCPFlags&stack.ACK == 0 {
		return
	}
	end, ack := p.Sequence(f.Bytes())
	if p.TCPFlags&stack.ACK == 0 {
		ack = 0
	}
	w.d.table.Follow(&p.Tuple, flow.Sequence{Client: ack, Server: end}, first)
}
