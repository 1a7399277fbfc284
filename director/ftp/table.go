// Package ftp follows FTP's control connections, so that the second connection, the one for the data, finds its way through address translation. It is
// what ip_vs_ftp and nf_conntrack_ftp are to Linux.
//
// # Theory of operation
//
// A client says on the control connection where it listens (active: PORT, EPRT), or is told where the server does (passive: 227, 229); line.go has the
// lines. Where an address or port in a line is not what its receiver has to see, it is edited. From then on the numbers of that direction's bytes differ
// between the ends: stream.go. Lines are put together out of segments, however they are cut: scan.go.
//
// What was announced is an expectation: one connection, from or to this client, that belongs to the same server. A control connection has one
// at a time, the last that was announced, for Options.Life; so there are at most Options.Max. The first packet that fits takes it.
//
//	Carry                   each segment of a control connection: read, translated, edited
//	Passive, Active         a first packet: is it expected?
//	DataBegins, DataEnds    the data connections of a control connection, which is kept while it has any: it is silent during a long transfer
//	Ended                   a control connection
//
// An answer is followed only when the client has asked for it, and only an address that is its sender's own: else a client could have connections
// opened to somebody else (FTP bounce, RFC 2577). Other lines pass as they are, and so does everything once TLS has begun.
//
// A session is made by the first bytes of an established connection and not by a SYN, so a flood of SYNs finds nothing to fill. At Options.Max
// control connections pass unread. One lock is enough: control connections carry a few packets for each file. Nothing in it is a pointer that the
// garbage collector would follow per session, and nothing is allocated for a segment.
package ftp

import (
	"sync"
	"sync/atomic"
	"time"

	"tapdirector/stack"
)

// DefaultMax is the number of control connections that a table follows unless Options say otherwise.
const DefaultMax = 1 << 16

// Options are what a table is made of.
type Options struct {
	Max  int           // control connections, and so expectations, at most; 0 = DefaultMax
	Life time.Duration // of an expectation

	// Taken reports whether somebody else listens on a VIP's port. It is called under the table's lock, and must not call it.
	Taken func(vip stack.Addr, port uint16) bool
}

// Stats are the counters of a table.
type Stats struct {
	Sessions     uint64 // control connections that are followed now
	Expectations uint64 // connections that are expected now

	PassiveExpected uint64 // answers that were followed
	ActiveExpected  uint64 // commands that were followed
	Connections     uint64 // data connections that were expected and came
	Expired         uint64 // expectations that nobody met, or that another took the place of
	Edited          uint64 // lines that were edited
	PortsChanged    uint64 // of these, those with another port: somebody else had it on the VIP
	Foreign         uint64 // lines with an address that is not their sender's, which were not followed
	Malformed       uint64 // lines with an address or port that is none
	Unasked         uint64 // answers to no command
	LongLines       uint64 // lines longer than 128 bytes that would have mattered
	NoPort          uint64 // answers that were not followed because no port of the VIP was free
	Waited          uint64 // segments that had to be sent again: ahead of what is missing, or behind edits that nobody has acknowledged
	Acknowledged    uint64 // segments of a line that is held, which the director acknowledged to their sender
	Full            uint64 // segments of control connections that pass unread because there are too many
	Encrypted       uint64 // control connections on which TLS began
}

// key is what an expected connection is found by: where it goes to, and from which host.
type key struct {
	from, to stack.Addr
	port     uint16
}

// expectation is a connection that is to come. The zero value: none.
type expectation struct {
	key    key
	port   uint16 // passive: the server's
	active bool
	until  time.Duration
}

// session is a control connection.
type session struct {
	readers [2]reader // by flow.Direction
	control stack.Tuple
	server  stack.Addr
	want    expectation
	id      uint32 // its own number
	age     uint32 // how many sessions had this number
	next    uint32 // of the free ones
	data    uint32 // data connections
	asked   uint8  // PASV and EPSV without an answer
	auth    bool   // AUTH without an answer
	tls     bool   // nothing can be read any more
}

// owner says whose a data connection is.
type owner struct{ id, age uint32 }

const chunk = 64 // sessions that are allocated at once

// Table is the control connections and what they announced. All methods may be called at the same time.
type Table struct {
	max     int
	life    time.Duration
	taken   func(vip stack.Addr, port uint16) bool
	waiting atomic.Int64 // expectations, for who only wants to know whether there are any

	mu       sync.Mutex
	sessions []*[chunk]session
	free     uint32 // number 0 is none
	controls map[stack.Tuple]uint32
	datas    map[stack.Tuple]owner
	expected map[key]uint32
	stats    Stats
	job      job
}

// New makes an empty table.
func New(o Options) *Table {
	if o.Max <= 0 {
		o.Max = DefaultMax
	}
	return &Table{max: o.Max, life: o.Life, taken: o.Taken, controls: map[stack.Tuple]uint32{}, datas: map[stack.Tuple]owner{}, expected: map[key]uint32{}}
}

// Set changes Options.Max and Options.Life. What is there stays as it is.
func (t *Table) Set(most int, life time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.max, t.life = most, life
}

func (t *Table) at(id uint32) *session { return &t.sessions[id/chunk][id%chunk] }

// session returns the control connection of this forward tuple, nil when it is not followed.
func (t *Table) session(control *stack.Tuple) *session {
	if id := t.controls[*control]; id != 0 {
		return t.at(id)
	}
	return nil
}

// begin makes a session; nil at the limit.
func (t *Table) begin(control *stack.Tuple) *session {
	if len(t.controls) >= t.max {
		t.stats.Full++
		return nil
	}
	if t.free == 0 {
		t.grow()
	}
	s := t.at(t.free)
	t.free = s.next
	*s = session{control: *control, id: s.id, age: s.age}
	t.controls[*control] = s.id
	return s
}

// grow makes a chunk of free sessions.
func (t *Table) grow() {
	first := uint32(len(t.sessions)) * chunk
	t.sessions = append(t.sessions, new([chunk]session))
	for id := first + chunk - 1; id >= max(first, 1); id-- {
		s := t.at(id)
		s.id, s.next = id, t.free
		t.free = id
	}
}

// Ended tells that the control connection of this forward tuple is over.
func (t *Table) Ended(control *stack.Tuple) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.session(control)
	if s == nil {
		return
	}
	t.forget(s)
	delete(t.controls, *control)
	s.age++
	s.next, t.free = t.free, s.id
}

// HasData reports whether the control connection of this forward tuple has data connections.
func (t *Table) HasData(control *stack.Tuple) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.session(control)
	return s != nil && s.data > 0
}

// Stats returns the counters.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Sessions, t.stats.Expectations = uint64(len(t.controls)), uint64(len(t.expected))
	return t.stats
}
