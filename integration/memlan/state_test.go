package memlan_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/memlan"
)

// TestPersistenceKeepsTheServer: connection after connection of a client goes to one server, which rr alone would not do.
func TestPersistenceKeepsTheServer(t *testing.T) {
	methods(t, integration.Spec{Servers: 3, Scheduler: "rr", ServiceKeys: `persistence_timeout = "1h"`}, func(t *testing.T, w *memlan.World, _ *probe) {
		for _, network := range []string{"tcp", "udp"} {
			servers := map[string]int{}
			for range 9 {
				a, err := talk(t, w.Client(), network, w.VIP())
				if err != nil {
					t.Fatal(err)
				}
				servers[a.Server]++
			}
			if len(servers) != 1 {
				t.Errorf("%s went to %v", network, servers)
			}
		}
		if n := counterOf(w, "templates"); n != 2 {
			t.Errorf("%d templates, want one for each service", n)
		}
	})
}

// TestThresholdRefuses: a server takes as many connections as its threshold says, and others again when they have ended.
func TestThresholdRefuses(t *testing.T) {
	methods(t, integration.Spec{Servers: 1, ServerKeys: "u_threshold = 2\nl_threshold = 2\n"}, func(t *testing.T, w *memlan.World, _ *probe) {
		var open []*app.Client
		for range 2 {
			conn, err := w.Dial(t.Context(), "tcp")
			if err != nil {
				t.Fatal(err)
			}
			c := app.NewClient(conn, 10*time.Second)
			defer c.Close()
			if _, err := c.Who(); err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
		if conn, err := w.Dial(t.Context(), "tcp"); err == nil {
			conn.Close()
			t.Error("a third connection was made")
		}
		for _, c := range open {
			if _, err := c.Who(); err != nil {
				t.Errorf("an open connection: %v", err)
			}
		}
	})
}

// TestEveryPort: a service on every port of its VIP reaches servers on whatever port the client asks for.
func TestEveryPort(t *testing.T) {
	for _, family := range []int{4, 6} {
		vip := map[int]string{4: "10.77.1.101", 6: "2001:db8:77:1::101"}[family]
		server := map[int]string{4: "10.77.2.11", 6: "2001:db8:77:2::11"}[family]
		spec := integration.Spec{Method: "nat", Family: family, Servers: 1,
			Extra: "[[service]]\nname = \"all\"\nlisten = \"" + netip.AddrPortFrom(netip.MustParseAddr(vip), 0).String() + "\"\n[[service.server]]\naddress = \"" + server + "\"\n"}
		t.Run(spec.String(), func(t *testing.T) {
			w := newWorld(t, spec)
			for _, port := range []uint16{1, 4711, 65535} {
				serve(t, w.Host(0), netip.AddrPortFrom(netip.MustParseAddr(server), port))
				if _, err := talk(t, w.Client(), "tcp", netip.AddrPortFrom(netip.MustParseAddr(vip), port)); err != nil {
					t.Errorf("port %d: %v", port, err)
				}
			}
		})
	}
}

// TestIdleIsReset: the client of a connection that was silent for its timeout is told that it is over, in a way that its TCP believes.
func TestIdleIsReset(t *testing.T) {
	spec := integration.Spec{Servers: 1, WebKeys: `idle = "reset"`, Extra: "[timeouts]\ntcp = 2\n"}
	methods(t, spec, func(t *testing.T, w *memlan.World, _ *probe) {
		conn, err := w.Dial(t.Context(), "tcp")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := app.NewClient(conn, timeout).Who(); err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(timeout))
		var late net.Error
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.As(err, &late) && late.Timeout() {
			t.Errorf("the client's read ended with %v, want a reset", err)
		}
		waitFor(t, "the reset to be counted", func() bool { return counterOf(w, "idle_resets") == 1 })
	})
}
