// Package sched holds the schedulers: which real server gets a new connection.
//
// A scheduler is asked once for each new connection, never for a packet of a known one. A server can be picked while its weight is above 0
// and it is neither overloaded nor dead, that is, known not to be reached; weight 0 drains, because connections that exist never come here. When no server can be picked the answer is -1,
// and what then happens is the service's on_no_server.
//
// There are four kinds. Those that count turns (rr, wrr) and those that look at load (lc, wlc, sed, nq, fo, ovf, twos) see servers as weights
// and counters only. Those that hash (sh, dh, mh, quic) give the same client, or destination, the same server as long as it is usable. Those for
// caches (lblc, lblcr) remember where a destination went.
//
// The rules are those of LVS, one file for each family. Where LVS's rule hurts its users ours is another, and docs/lvs.md has a row for it. One
// difference concerns all: LVS puts each new server at the head of its list, so its order is newest first; ours is the order of lb.toml.
//
// The load of a server is active*256 + inactive connections: one that moves data counts as much as 256 that do not. Loads over weights
// are compared by cross multiplication in 64 bits, so nothing is divided and nothing is rounded.
//
// A Scheduler may be asked by all workers at once. Counters are read without a lock, so two picks at the same instant may both choose the
// server that was the least loaded for either; the next pick sees both.
package sched

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tapdirector/stack"
)

// Server is what a scheduler knows of a real server. The connection table changes the counters, schedulers read them. It fills a cache
// line of its own, so that counting for one server does not slow the reading of the next.
type Server struct {
	Weight   atomic.Int32 // 0 to 65535; 0: no new connections. Call Scheduler.Update after a change
	Active   atomic.Int32 // connections in an active state (ESTABLISHED, SYN_SENT, SYN_RECV, SYNACK)
	Inactive atomic.Int32 // all other connections
	Overload atomic.Bool  // no new connections for now, whatever the weight
	Dead     atomic.Bool  // no new connections while another server can take them
	Port     uint16       // with Addr the name of the server for mh and quic, which two directors agree on. Set before New
	Index    int          // the caller's number of the server; schedulers do not read it
	Addr     stack.Addr   // RIP
	QUICID   uint64       // what the server writes into its QUIC connection ids, Options.QUICIDLength bytes of it. Set before New

	_ [64 - 56]byte
}

// usable reports whether s may get a new connection, if it lives.
func (s *Server) usable() bool { return s.Weight.Load() > 0 && !s.Overload.Load() }

// load is LVS's overhead of a server.
func (s *Server) load() int64 { return int64(s.Active.Load())<<8 + int64(s.Inactive.Load()) }

// Request is a first packet as schedulers see it. What it points to is borrowed until Pick returns.
type Request struct {
	Tuple   *stack.Tuple  // client and virtual service
	Payload []byte        // behind the UDP header; nil for other protocols
	Now     time.Duration // the path's time, monotonic
	Dead    bool          // dead servers count as well: to be asked for when there is no other
}

// usable reports whether s may get this connection.
func (r *Request) usable(s *Server) bool { return s.usable() && (r.Dead || !s.Dead.Load()) }

// Options is what the schedulers that hash want to know; the others ignore it.
type Options struct {
	Port         bool // sh, mh, quic: hash the client's port as well as its address
	Fallback     bool // sh, dh, mh, quic: where the hash leads to a server that is not usable, take another; else none
	TableSize    int  // mh, quic: one of TableSizes; 0: DefaultTableSize
	QUICIDLength int  // quic: bytes of Server.QUICID in a connection id, 1 to 8; 0: DefaultQUICIDLength
}

// Scheduler picks servers for one service. Both methods may be called from several goroutines at once.
type Scheduler interface {
	// Pick returns the place of the chosen server in the slice given to New, or -1 when none can be picked. It does not allocate, but for
	// lblc and lblcr when they meet a destination for the first time.
	Pick(r Request) int
	// Update tells the scheduler that weights have changed. A different set of servers needs a new Scheduler.
	Update()
}

// maker builds a scheduler; the slice is the scheduler's own.
type maker struct {
	name string
	make func([]*Server, Options) (Scheduler, error)
}

// plain is a maker of what has no options and cannot fail.
func plain[S Scheduler](f func([]*Server) S) func([]*Server, Options) (Scheduler, error) {
	return func(servers []*Server, _ Options) (Scheduler, error) { return f(servers), nil }
}

// registry is in the order in which people meet the schedulers.
var registry = []maker{
	{"rr", plain(newRR)},
	{"wrr", plain(newWRR)},
	{"lc", plain(newLC)},
	{"wlc", plain(newWLC)},
	{"sed", plain(newSED)},
	{"nq", plain(newNQ)},
	{"fo", plain(newFO)},
	{"ovf", plain(newOVF)},
	{"twos", plain(newTwos)},
	{"sh", newSH},
	{"dh", newDH},
	{"mh", newMH},
	{"lblc", plain(newLBLC)},
	{"lblcr", plain(newLBLCR)},
	{"quic", newQUIC},
}

// New returns the scheduler of that name over servers, whose order is the order of rr and wrr and breaks the ties of the others; for mh and
// quic it does not matter. The errors are a name that is not in Names and options that are out of range.
func New(name string, servers []*Server, o Options) (Scheduler, error) {
	for _, m := range registry {
		if m.name == name {
			return m.make(slices.Clone(servers), o)
		}
	}
	return nil, fmt.Errorf("no scheduler %q: there are %s", name, strings.Join(Names(), ", "))
}

// Names returns the names that New knows.
func Names() []string {
	names := make([]string, len(registry))
	for i, m := range registry {
		names[i] = m.name
	}
	return names
}

// derived is what a scheduler computes from the weights at each Update and reads at each pick: readers never wait, and of two Updates at once
// the later one sees the newest weights.
type derived[T any] struct {
	mu sync.Mutex
	p  atomic.Pointer[T]
}

// update replaces the value by what compute makes of the last one, nil before the first.
func (d *derived[T]) update(compute func(last *T) *T) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.p.Store(compute(d.p.Load()))
}

func (d *derived[T]) load() *T { return d.p.Load() }
