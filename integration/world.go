package integration

import (
	"context"
	"net"
	"net/netip"

	"tapdirector/director"
	"tapdirector/integration/app"
	"tapdirector/tap"
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

// Hosts is a World whose hosts do more than their part of the plan. A host is named as in the plan: "client", "s1".
type Hosts interface {
	// DialFrom connects a host's socket to an address. A from that is valid is the socket's own address and port, which a connection that is over may have had
	// before; port 0 is any.
	DialFrom(ctx context.Context, host, network string, from, to netip.AddrPort) (net.Conn, error)

	// Serve lets server i, counted from 0, answer at another address or port as well, by TCP and UDP.
	Serve(i int, at netip.AddrPort) error

	// AddAddress gives a host another address on its first leg.
	AddAddress(host string, p netip.Prefix) error
}

// Directed is a World whose director can be started anew and told what lb.toml does not say.
type Directed interface {
	// Restart ends the director and starts one with the same lb.toml, which knows nothing of any connection.
	Restart() error

	// Reload makes what edit makes of the lb.toml in force the one in force. Where the director is another process it is told so, and does it by and by; the error
	// then only says whether it was told.
	Reload(edit func(text string) string) error

	// SetWeight is director.SetWeight.
	SetWeight(service string, server netip.AddrPort, weight int) error
}

// Wired is a World whose wire can be reached by hand.
type Wired interface {
	// Inject sends a frame from the client's place on its LAN.
	Inject(f *tap.Frame) error

	// SetLinks takes all links of a host down, as if their cables were pulled, or brings them up again.
	SetLinks(host string, up bool) error

	// Retransmitted returns how many SYNs of the client had to be sent again, and maybe other segments of its.
	Retransmitted() uint64
}

// Lab is a World with all of these.
type Lab interface {
	World
	Hosts
	Directed
	Wired
}
