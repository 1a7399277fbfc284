package flow

import (
	"time"

	"tapdirector/stack"
)

// What is told of connections with marks.
//
// A Persistent connection holds a template of its client (director/persist): that is told when the connection shows that its client is
// real, and when it ends.
//
// A Followed connection can be reset when it idles out, so that both ends learn of it. A reset is taken only with the very sequence
// number that its receiver expects next (RFC 5961 section 3.2). Both come from the client's packets alone, so it works with every method: what they
// acknowledge is what the client expects, the end of what they carry is what the server does. A connection that has been idle for its
// timeout has nothing under way that would make them differ; where a segment was lost for good, the receiver answers with a challenge and
// keeps its connection, as it would have without the reset.
//
// The numbers are 8 bytes beside the entry, in memory of their own that is taken, for 4096 entries at once, when the first Followed connection among
// them is made: nothing where no service asks for it, and where one does up to 8 bytes for each connection of the table. Noting them is a second
// look into the table for each packet of a client: 30 ns, paid by Followed connections only.

// Watcher is told of connections with marks. It is called under a lock of the table: it must be quick and must not call the table. What it
// is given is borrowed.
type Watcher interface {
	// Proven tells that a Persistent connection is one that its client means: TCP or SCTP is established, or the server has answered.
	Proven(c *Conn)

	// Ended tells that a Persistent, Control or Data connection is over. now is the table's time: that of the last Expire.
	Ended(c *Conn, now time.Duration)

	// Idled tells that a Followed connection was established until its timeout. Only Expire calls it.
	Idled(c *Conn, s Sequence)

	// Controls reports whether a Control connection whose time is over is still needed. Only Expire calls it.
	Controls(c *Conn) bool
}

// Sequence is what each end of a TCP connection expects next.
type Sequence struct{ Client, Server uint32 }

// advance moves to what a packet of the client says, unless that is older: a retransmission, or a keepalive, which is one byte back.
func (s *Sequence) advance(to Sequence) {
	if s.Client == 0 || int32(to.Client-s.Client) > 0 { // 0: a SYN acknowledges nothing
		s.Client = to.Client
	}
	if int32(to.Server-s.Server) > 0 {
		s.Server = to.Server
	}
}

// Follow notes the sequence numbers that a client's packet of tuple k brings: of a connection's first packet they are the beginning.
func (t *Table) Follow(k *stack.Tuple, to Sequence, first bool) {
	var key key
	t.hash.key(&key, k, Forward)
	s := &t.shards[key.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	i := t.find(s, &key)
	switch {
	case i == 0 || t.entries.at(i).marks&Followed == 0: // It ended in between.
	case first:
		*t.sequences.at(i) = to
	default:
		t.sequences.at(i).advance(to)
	}
}

// answered takes the marks off that a packet of the server refutes. For TCP and SCTP a packet proves nothing: servers answer every SYN and INIT.
func (t *Table) answered(e *entry) {
	e.marks &^= NoOutput
	if e.proto != stack.ProtoTCP && e.proto != stack.ProtoSCTP && e.marks&Unproven != 0 {
		t.prove(e)
	}
}

// prove tells that e's client is real.
func (t *Table) prove(e *entry) {
	e.marks &^= Unproven
	var c Conn
	t.load(e, &c)
	t.watch.Proven(&c)
}

// ended tells that e, which has marks that somebody keeps accounts of, is over.
func (t *Table) ended(s *shard, e *entry) {
	var c Conn
	t.load(e, &c)
	t.watch.Ended(&c, time.Duration(s.wheel.now)<<tickShift)
}

// controls reports whether entry i is to be kept beyond its time: a control connection is silent while its data connection is busy.
func (t *Table) controls(i uint32) bool {
	e := t.entries.at(i)
	if e.marks&Control == 0 || e.state != Established {
		return false
	}
	var c Conn
	t.load(e, &c)
	return t.watch.Controls(&c)
}

// idled tells that the time of entry i is over, if somebody wants to know.
func (t *Table) idled(i uint32) {
	e := t.entries.at(i)
	if e.marks&Followed == 0 || e.state != Established {
		return
	}
	var c Conn
	t.load(e, &c)
	t.watch.Idled(&c, *t.sequences.at(i))
}
