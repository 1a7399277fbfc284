package memlan_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/memlan"
	"tapdirector/stack"
)

// What servers whose gateway is the director send into the world, and what the world sends to them, is routed and not balanced.

const timeout = 20 * time.Second

// serve runs a server of the test's own on a host.
func serve(t *testing.T, h *memlan.Host, at netip.AddrPort) {
	t.Helper()
	l, err := h.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.ListenPacket(at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &app.Server{Name: "world"}
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(ctx, l) })
	wg.Go(func() { s.ServePacket(ctx, p) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// talk connects a host to a server, moves content both ways, and returns who answered.
func talk(t *testing.T, h *memlan.Host, network string, to netip.AddrPort) (app.Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	conn, err := h.Dial(ctx, network, to)
	if err != nil {
		return app.Answer{}, err
	}
	defer conn.Close()
	if network == "udp" {
		return app.Ask(conn, 1, []byte("question"), 100, timeout)
	}
	client := app.NewClient(conn, timeout)
	if a, err := client.Sink(200_000, 1); err != nil {
		return a, err
	}
	return client.Source(200_000, 2)
}

// routed is each world in which a server's traffic to the client is routed.
func routed(masquerade bool) (specs []integration.Spec) {
	for _, family := range []int{4, 6} {
		for _, arms := range []int{1, 2} {
			for _, offload := range []bool{false, true} {
				specs = append(specs, integration.Spec{Method: "nat", Family: family, Arms: arms, Offload: offload, Masquerade: masquerade})
			}
		}
	}
	return specs
}

// TestServersReachTheWorld: by TCP and UDP, as themselves, or with masquerade as the director.
func TestServersReachTheWorld(t *testing.T) {
	for _, masquerade := range []bool{false, true} {
		for _, spec := range routed(masquerade) {
			t.Run(fmt.Sprintf("masquerade=%v/%v", masquerade, spec), func(t *testing.T) {
				w := newWorld(t, spec)
				world := netip.AddrPortFrom(w.Plan.Client.Addr(), 9000)
				serve(t, w.Client(), world)
				for i, s := range w.Plan.Servers {
					want := s.Addr()
					if masquerade {
						want = w.Plan.Interfaces[0].Addresses[0].Addr()
					}
					for _, network := range []string{"tcp", "udp"} {
						got, err := talk(t, w.Host(i), network, world)
						if err != nil || got.Remote.Addr() != want {
							t.Errorf("%s by %s: seen as %v, %v; want %v", s.Name, network, got.Remote, err, want)
						}
					}
				}
				if n := verdict(w, "masqueraded"); (n > 0) != masquerade {
					t.Errorf("%d frames masqueraded", n)
				}
				if n := verdict(w, "routed"); (n > 0) == masquerade {
					t.Errorf("%d frames routed", n)
				}
			})
		}
	}
}

// TestTwoServersFromOnePort: with masquerade their connections to one place stay apart, though they left from the same port.
func TestTwoServersFromOnePort(t *testing.T) {
	methodless := integration.Spec{Method: "nat", Masquerade: true}
	families(t, methodless, func(t *testing.T, w *memlan.World, p *probe) {
		inner := plugProbe(t, w, integration.Int)
		for i, host := range []netip.Addr{inner.addr.Addr(), inner.addr.Addr().Next()} {
			s := inner.to(p.addr, stack.ProtoUDP)
			s.Src, s.Payload = netip.AddrPortFrom(host, 40000), []byte{byte(i)}
			inner.send(s)
		}
		first := p.expect("datagram", func(a *arrival) bool { return a.Proto == stack.ProtoUDP })
		second := p.expect("datagram", func(a *arrival) bool { return a.Proto == stack.ProtoUDP })
		if first.Src != second.Src || first.Src.Netip() != p.dip() {
			t.Errorf("they came from %v and %v, want %v", first.Src, second.Src, p.dip())
		}
		if first.SrcPort == second.SrcPort {
			t.Errorf("both came from port %d", first.SrcPort)
		}
	})
}

// TestEchoIsMasqueraded: an echo request of a server goes out as the director's, and the answer finds back.
func TestEchoIsMasqueraded(t *testing.T) {
	families(t, integration.Spec{Method: "nat", Masquerade: true}, func(t *testing.T, w *memlan.World, p *probe) {
		inner := plugProbe(t, w, integration.Int)
		inner.send(inner.echo(w.Plan.Client.Addr()))
		a := inner.expect("echo reply", echoReply.is)
		if a.Src.Netip() != w.Plan.Client.Addr() || a.Dst.Netip() != inner.addr.Addr() || a.SrcPort != 77 {
			t.Errorf("echo reply %v -> %v, identifier %d", a.Src, a.Dst, a.SrcPort)
		}
	})
}

// TestRoutedTTL: traceroute of a server sees the director, and what passes it has one hop less.
func TestRoutedTTL(t *testing.T) {
	for _, masquerade := range []bool{false, true} {
		families(t, integration.Spec{Method: "nat", Masquerade: masquerade}, func(t *testing.T, w *memlan.World, p *probe) {
			inner := plugProbe(t, w, integration.Int)
			s := inner.to(p.addr, stack.ProtoUDP)
			s.TTL = 1
			inner.send(s)
			inner.expectError(timeExceeded, inner.dip(), p.addr)
			s.TTL = 2
			inner.send(s)
			if a := p.expect("datagram", func(a *arrival) bool { return a.Proto == stack.ProtoUDP }); a.TTL != 1 {
				t.Errorf("TTL %d, want 1", a.TTL)
			}
		})
	}
}

// TestNotARouterForAll: with dr, and with forward = false, what is not for a service goes nowhere.
func TestNotARouterForAll(t *testing.T) {
	no := map[string]string{integration.Ext: "forward = false"}
	for _, spec := range []integration.Spec{{Method: "dr"}, {Method: "nat", InterfaceKeys: no}} {
		families(t, spec, func(t *testing.T, w *memlan.World, p *probe) {
			s := p.to(netip.AddrPortFrom(w.Plan.Servers[0].Addr(), 22), stack.ProtoTCP) // past the VIP, straight to a server
			s.Flags = stack.SYN
			p.send(s)
			waitVerdict(t, w, "drop-not-ours", 1)
		})
	}
}

// TestNoRoute: a server's packet to where no route leads is answered.
func TestNoRoute(t *testing.T) {
	netUnreachable := icmpKind{3, 0, 1, 0}
	families(t, integration.Spec{Method: "nat"}, func(t *testing.T, w *memlan.World, _ *probe) {
		inner := plugProbe(t, w, integration.Int)
		far := netip.MustParseAddrPort("192.0.2.1:9")
		if w.Plan.Spec.Family == 6 {
			far = netip.MustParseAddrPort("[2001:db8:ffff::1]:9")
		}
		inner.send(inner.to(far, stack.ProtoUDP))
		inner.expectError(netUnreachable, inner.dip(), far)
	})
}

// TestInterfaceGoesDown: connections live through it, and new ones come after it.
func TestInterfaceGoesDown(t *testing.T) {
	methods(t, integration.Spec{}, func(t *testing.T, w *memlan.World, p *probe) {
		p.send(p.udp("REQ 1 0\n"))
		first := p.expectAnswer()
		w.SetDown(integration.Ext, true)
		p.send(p.udp("REQ 2 0\n")) // lost
		w.SetDown(integration.Ext, false)
		p.send(p.udp("REQ 3 0\n"))
		again := p.expectAnswer()
		name := func(a *arrival) string { return string(a.Bytes()[a.L4+8+6 : a.L4+8+8]) }
		if name(first) != name(again) {
			t.Errorf("server %s before, %s after", name(first), name(again))
		}
		if who, err := talk(t, w.Client(), "tcp", w.VIP()); err != nil {
			t.Errorf("a new connection: %v, %v", who, err)
		}
	})
}
