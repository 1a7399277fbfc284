// Package sched holds the schedulers: which real server gets a new connection.
//
// A scheduler sees servers as weights and counters, never addresses, and is asked once for each new connection, never for a packet of a
// known one. A server can be picked while its weight is above 0 and it is not overloaded; weight 0 drains, because connections that
// exist never come here. When no server can be picked the answer is -1, and what then happens is the service's on_no_server.
//
// The rules are those of LVS (ip_vs_rr, ip_vs_wrr, ip_vs_lc, ip_vs_wlc), with one difference that an eye on sequences will see: LVS puts
// each new server at the head of its list, so its order is newest first; ours is the order of lb.toml.
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
	"sync/atomic"

	"tapdirector/stack"
)

// Server is what a scheduler knows of a real server. The connection table changes the counters, schedulers read them. It fills a cache
// line of its own, so that counting for one server does not slow the reading of the next.
type Server struct {
	Weight   atomic.Int32 // 0 to 65535; 0: no new connections. Call Scheduler.Update after a change
	Active   atomic.Int32 // connections in an active state (ESTABLISHED, SYN_SENT, SYN_RECV, SYNACK)
	Inactive atomic.Int32 // all other connections
	Overload atomic.Bool  // no new connections for now, whatever the weight
	Index    int          // the caller's number of the server; schedulers do not read it

	_ [64 - 24]byte
}

// usable reports whether s may get a new connection.
func (s *Server) usable() bool { return s.Weight.Load() > 0 && !s.Overload.Load() }

// load is LVS's overhead of a server.
func (s *Server) load() int64 { return int64(s.Active.Load())<<8 + int64(s.Inactive.Load()) }

// Scheduler picks servers for one service. Both methods may be called from several goroutines at once and do not allocate.
type Scheduler interface {
	// Pick returns the place of the chosen server in the slice given to New, or -1 when none can be picked. k is the tuple of the
	// connection's first packet; a scheduler that does not hash ignores it.
	Pick(k *stack.Tuple) int
	// Update tells the scheduler that weights have changed. A different set of servers needs a new Scheduler.
	Update()
}

// maker builds a scheduler; the slice is the scheduler's own.
type maker struct {
	name string
	make func([]*Server) Scheduler
}

// registry is in the order in which people meet the schedulers.
var registry = []maker{
	{"rr", newRR},
	{"wrr", newWRR},
	{"lc", newLC},
	{"wlc", newWLC},
}

// New returns the scheduler of that name over servers, whose order is the order of rr and wrr and breaks ties of lc and wlc. The only
// error is a name that is not in Names.
func New(name string, servers []*Server) (Scheduler, error) {
	for _, m := range registry {
		if m.name == name {
			return m.make(slices.Clone(servers)), nil
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
