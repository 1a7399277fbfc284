package ftp

import (
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
)

// The way of a segment of a control connection: what it acknowledges is translated, what it carries is read, edited, and numbered anew.

// Segment is a TCP segment of a control connection: as its sender made it, and after Carry as it goes on.
type Segment struct {
	Seq, Ack uint32
	Flags    uint8
	SACKs    []uint32 // starts and ends of blocks, in turn; those of the packet, which are translated in place
	Payload  []byte   // borrowed
	Window   uint16
	Damaged  bool // its checksum is wrong: nothing in it is believed
	Part     bool // a first fragment: Payload is not all

	// After Carry. Held: some of it is kept for a line's end, so its sender is to be answered that everything before HeldAck was received, and by the receiver's window.
	Held       bool
	HeldAck    uint32
	HeldWindow uint16
}

// Fate is what becomes of a segment.
type Fate uint8

// The fates.
const (
	Passes  Fate = iota // with the payload that it has
	Changed             // with the payload that it has now
	Cut                 // with the payload that it has now, of which an end is missing: FIN and PSH do not hold
	Waits               // not: its sender sends it again
)

// job is the segment in hand.
type job struct {
	s   *session
	c   *flow.Conn
	r   *reader
	now time.Duration
}

// Carry reads and translates g, a segment of control connection c in direction d. A new payload is made in room, which has at least
// Room(g) bytes.
func (t *Table) Carry(c *flow.Conn, d flow.Direction, g *Segment, now time.Duration, room []byte) Fate {
	control := c.Tuple(flow.Forward)
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.session(&control)
	if s == nil {
		if len(g.Payload) == 0 || g.Damaged || g.Part || c.State != flow.Established {
			return Passes
		}
		if s = t.begin(&control); s == nil {
			return Passes
		}
		s.server = c.Server
	}
	s.acknowledge(1-d, g)
	at := g.Seq
	if g.Flags&stack.SYN != 0 {
		at++
	}
	r := &s.readers[d]
	if g.Damaged || g.Part || len(g.Payload) == 0 && g.Flags&stack.FIN == 0 {
		if g.Part {
			r.pass(at)
		}
		if g.Seq = r.sent(g.Seq); len(g.Payload) == 0 && g.Flags&stack.RST == 0 {
			g.Seq = r.probe(at, g.Seq)
		}
		return Passes
	}
	if !t.read(s, c, d, at, g, now) {
		t.stats.Waited++
		return Waits
	}
	return t.edit(r, at, g, room)
}

// Room is how many bytes the payload of g may have after Carry.
func Room(g *Segment) int { return len(g.Payload) + maxEdits*maxText }

// acknowledge translates what a segment says about the bytes of direction d, which it has received.
func (s *session) acknowledge(d flow.Direction, g *Segment) {
	if g.Flags&stack.ACK == 0 {
		return
	}
	n := &s.readers[d].numbers
	if !g.Damaged && g.Flags&stack.SYN == 0 {
		n.hear(g.Ack, g.Window)
	}
	g.Ack = n.acked(g.Ack)
	for i := 0; i+1 < len(g.SACKs); i += 2 {
		g.SACKs[i], g.SACKs[i+1] = n.sack(g.SACKs[i], g.SACKs[i+1])
	}
}

// read reads what is new in g. It reports false when nothing of g may go on.
func (t *Table) read(s *session, c *flow.Conn, d flow.Direction, at uint32, g *Segment, now time.Duration) bool {
	r := &s.readers[d]
	end := at + uint32(len(g.Payload))
	if s.tls {
		if before(r.next, end) {
			r.next = end
		}
		return true
	}
	fresh, ok := r.admit(at, g.Payload)
	if !ok {
		return false
	}
	t.job = job{s, c, r, now}
	r.read(int(d), fresh, t)
	t.job = job{}
	if g.Flags&stack.FIN != 0 && r.next == end {
		r.leave()
		return true
	}
	return before(at, r.next)
}

// edit makes g what goes on of it, up to what was read.
func (t *Table) edit(r *reader, at uint32, g *Segment, room []byte) (f Fate) {
	if n := r.next - at; n < uint32(len(g.Payload)) && before(at, r.next) {
		g.Payload = g.Payload[:n]
		t.stats.Waited++
		f = Cut
	}
	g.Seq = r.sent(g.Seq)
	end := at + uint32(len(g.Payload))
	owed := r.owed(at)
	if owed == nil && r.clean(at, end) {
		return f
	}
	b := room[:0]
	if owed != nil {
		g.Seq, b = r.sent(owed.at), append(b, owed.text[:owed.n]...)
	}
	g.Payload = r.rewrite(b, at, g.Payload)
	if e := r.opened(); e != nil && before(e.at, end) && r.heard && r.last == r.sent(e.at) {
		g.Held, g.HeldAck, g.HeldWindow = true, e.held, r.window
		t.stats.Acknowledged++
	}
	return max(f, Changed)
}

// line handles the line of the reader in hand.
func (t *Table) line(d int) bool {
	j := &t.job
	line := j.r.line[:j.r.n]
	v := verbOf(d, line)
	switch v {
	case port, eprt:
		return t.active(v, line)
	case answerPASV, answerEPSV:
		return t.passive(v, line)
	case pasv, epsv:
		j.s.asked += min(1, 255-j.s.asked)
	case auth:
		j.s.auth = true
	case answerAUTH:
		t.beginTLS()
	}
	j.r.keep()
	return true
}

// active handles a client's announcement.
func (t *Table) active(v verb, line []byte) bool {
	j := &t.job
	j.r.keep()
	e, ok := endpointOf(v, line)
	switch {
	case !ok:
		t.stats.Malformed++
	case e.addr != j.c.Client:
		t.stats.Foreign++
	default:
		t.stats.ActiveExpected++
		t.expect(j.s, expectation{key: key{j.c.Server, j.c.Client, e.port}, active: true, until: j.now + t.life})
	}
	return true
}

// passive handles a server's.
func (t *Table) passive(v verb, line []byte) bool {
	s, c, r := t.job.s, t.job.c, t.job.r
	e, ok := endpointOf(v, line)
	if s.asked == 0 || !ok || v == answerPASV && e.addr != c.Server && e.addr != c.Virtual || v == answerPASV && !c.Virtual.Is4() {
		t.unfollowed(ok)
		r.keep()
		return true
	}
	k := key{from: c.Client, to: c.Virtual}
	if k.port = t.virtualPort(s, k, c.Server, e.port, t.job.now); k.port == 0 {
		s.asked--
		t.stats.NoPort++
		r.keep()
		return true
	}
	if k.port == e.port && (v == answerEPSV || e.addr == c.Virtual) {
		r.keep()
	} else if !t.rewritePassive(v, &e, k) {
		return false
	}
	s.asked--
	t.stats.PassiveExpected++
	t.expect(s, expectation{key: k, port: e.port, until: t.job.now + t.life})
	return true
}

// unfollowed counts an answer that is not followed.
func (t *Table) unfollowed(wellFormed bool) {
	s := t.job.s
	switch {
	case s.asked == 0:
		t.stats.Unasked++
		return
	case wellFormed:
		t.stats.Foreign++
	default:
		t.stats.Malformed++
	}
	s.asked--
}

// rewritePassive makes an answer say the VIP and port of k. It reports false when there is no room yet.
func (t *Table) rewritePassive(v verb, e *endpoint, k key) bool {
	var b [maxText]byte
	text := appendSix(b[:0], k.to, k.port)
	if v == answerEPSV {
		text = appendPort(b[:0], k.port)
	}
	if !t.job.r.replace(e.from, e.to, text) {
		return false
	}
	t.stats.Edited++
	if k.port != e.port {
		t.stats.PortsChanged++
	}
	return true
}

// partly holds what may have to be edited: answers that somebody waits for.
func (t *Table) partly(d int) partly {
	switch s := t.job.s; {
	case d == int(flow.Forward):
		return goesOn
	case s.asked > 0:
		return isHeld
	case s.auth:
		return goesOn
	}
	return ignored
}

func (t *Table) tooLong() { t.stats.LongLines++ }

// beginTLS stops reading, if the client has asked for it.
func (t *Table) beginTLS() {
	s := t.job.s
	if !s.auth || s.tls {
		return
	}
	s.tls = true
	t.stats.Encrypted++
	s.readers[1-flow.Reply].leave()
}

// Quoted translates the sequence number in a packet of direction d that an ICMP error quotes, to what its sender made it.
func (t *Table) Quoted(c *flow.Conn, d flow.Direction, seq uint32) uint32 {
	control := c.Tuple(flow.Forward)
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.session(&control); s != nil {
		return s.readers[d].edge(seq, false)
	}
	return seq
}
