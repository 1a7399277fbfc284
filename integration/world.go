package integration

import (
	"context"
	"net"
	"net/netip"

	"tapdirector/director"
	"tapdirector/integration/app"
)

// World is a running lab: every host is up, every server listens, the director runs.
type World interface {
	// VIP returns the address of the services: web over TCP and datagrams over UDP.
	VIP() netip.AddrPort

	// Dial connects a client's socket to the VIP; network is "tcp" or "udp". A connection is to be closed before the world is.
	Dial(ctx context.Context, network string) (net.Conn, error)

	// Servers returns the servers in the order of lb.toml.
	Servers() []*app.Server

	// Counters returns the director's.
	Counters() []director.Counter

	// Close takes everything down and waits until it is gone; it may be called twice. Its error is whatever ended badly, also before.
	Close() error
}

// Faulty is a World that can tell what its hosts held against frames that reached them.
type Faulty interface {
	// Faults returns what was counted since the world was built, by name ("s1: Tcp.InCsumErrors"): wrong checksums and
	// malformed headers. It may name counters that are 0.
	Faults() map[string]uint64
}

// Observer is called for each frame that passes a point; it is called by many goroutines and must not keep the frame. Points are named by host and LAN ("client/ext", "s1/int",
// "director/ext"). Dir is "in" for a frame that arrives at that host, "out" for one that leaves it.
type Observer func(point, dir string, frame []byte)

// Observable is a World that shows its frames.
type Observable interface {
	// Observe adds an observer.
	Observe(o Observer)
}
