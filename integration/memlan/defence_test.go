package memlan_test

import (
	"net/netip"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/memlan"
	"tapdirector/integration/worldtest"
	"tapdirector/stack"
)

// TestFloodKeepsConnections: while a flood of SYNs from forged sources keeps the table full, a connection that was there lives on, and new ones
// are made.
func TestFloodKeepsConnections(t *testing.T) {
	methods(t, integration.Spec{Extra: "[limits]\nconnections = 4000\n"}, func(t *testing.T, w *memlan.World, p *probe) {
		dial := func() *app.Client {
			conn, err := w.Dial(t.Context(), "tcp")
			if err != nil {
				t.Fatal(err)
			}
			c := app.NewClient(conn, 10*time.Second)
			t.Cleanup(func() { c.Close() })
			return c
		}
		old := dial()
		before, err := old.Who()
		if err != nil {
			t.Fatal(err)
		}
		n := 9000
		if worldtest.RaceEnabled {
			n = 5000
		}
		flood(t, w, p, n)
		if counterOf(w, "connections_evicted") == 0 {
			t.Error("nothing was evicted")
		}
		if after, err := old.Who(); err != nil || after != before {
			t.Errorf("the old connection: %v, %v; before %v", after, err, before)
		}
		if _, err := dial().Who(); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	})
}

// flood sends n SYNs, each from another source, in bursts that no queue of the LAN is too short for. Some may get lost all the same.
func flood(t *testing.T, w *memlan.World, p *probe, n int) {
	t.Helper()
	const burst = 50
	s := p.tcp(stack.SYN)
	net := netip.MustParseAddr("198.18.0.0").AsSlice() // not on a link: nobody asks for these by ARP or ND
	if p.addr.Addr().Is6() {
		net = netip.MustParseAddr("2001:db8:ff::").AsSlice()
	}
	for i := 0; i < n; i += burst {
		before := counterOf(w, "connections_inserted")
		for j := i; j < i+burst; j++ {
			net[len(net)-2], net[len(net)-1] = byte(128+j>>8), byte(j)
			a, _ := netip.AddrFromSlice(net)
			s.Src = netip.AddrPortFrom(a, uint16(1024+j%60000))
			p.send(s)
		}
		waitFor(t, "the director to take most of a burst", func() bool {
			return counterOf(w, "connections_inserted") >= before+burst/2
		})
	}
}

// counterOf returns the sum of the counters of a name.
func counterOf(w *memlan.World, name string) (sum uint64) {
	for _, c := range w.Counters() {
		if c.Name == name {
			sum += c.Value
		}
	}
	return sum
}

// TestDenied: who is denied gets no answer at all, others are served.
func TestDenied(t *testing.T) {
	spec := integration.Spec{ServiceKeys: `deny = ["10.77.1.3", "2001:db8:77:1::3"]`}
	methods(t, spec, func(t *testing.T, w *memlan.World, p *probe) {
		p.send(p.tcp(stack.SYN))
		p.send(p.tcp(stack.ACK))
		p.send(p.udp("REQ 1 0\n"))
		waitVerdict(t, w, "drop-denied", 3)
		if n := counterOf(w, "connections_inserted") + verdict(w, "sent-reset"); n != 0 {
			t.Errorf("%d connections or resets", n)
		}
		conn, err := w.Dial(t.Context(), "tcp")
		if err != nil {
			t.Fatal(err)
		}
		c := app.NewClient(conn, 10*time.Second)
		defer c.Close()
		if _, err := c.Who(); err != nil {
			t.Error(err)
		}
	})
}

// TestRatePerSource: beyond its burst a source gets no connections, and no answers; another source does.
func TestRatePerSource(t *testing.T) {
	methods(t, integration.Spec{ServiceKeys: "rate_per_source = 1\nburst_per_source = 5"}, func(t *testing.T, w *memlan.World, p *probe) {
		s := p.tcp(stack.SYN)
		for i := range uint16(50) {
			s.Src = netip.AddrPortFrom(p.addr.Addr(), 50000+i)
			p.send(s)
		}
		waitVerdict(t, w, "drop-source-rate", 30)
		if p.addr.Addr().Is6() {
			return // the client is in the probe's /64
		}
		conn, err := w.Dial(t.Context(), "udp")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := app.Ask(conn, 1, nil, 0, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
}
