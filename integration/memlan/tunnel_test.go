package memlan_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// tunnels runs a test in a world of each kind of tunnel, in both families of both ends, with a client's probe on ext.
func tunnels(t *testing.T, s integration.Spec, test func(t *testing.T, w *memlan.World, p *probe)) {
	for _, tunnel := range []string{"ipip", "gue", "gre"} {
		for _, family := range []int{4, 6} {
			for _, outer := range []int{4, 6} {
				s := s
				s.Method, s.Tunnel, s.Family, s.ServerFamily = "tun", tunnel, family, outer
				t.Run(s.String(), func(t *testing.T) {
					w := newWorld(t, s)
					test(t, w, plugProbe(t, w, integration.Ext))
				})
			}
		}
	}
}

// overhead is the bytes of the tunnel that methods goes through, 0 for other methods than tun.
func overhead(w *memlan.World) uint32 {
	switch {
	case w.Plan.Spec.Method != "tun":
		return 0
	case w.Plan.Spec.ServerFamily == 6:
		return 40
	}
	return 20
}

// unwrapped returns a frame with the packet that a tunnel carries in the place of the tunnel's; any other frame as it is.
func unwrapped(b []byte) []byte {
	_, inner, err := packettest.Unwrap(b[tap.EthernetLen:])
	if err != nil {
		return b
	}
	f := slices.Concat(b[:tap.EthernetLen], inner)
	f[12], f[13] = 0x08, 0x00
	if inner[0]>>4 == 6 {
		f[12], f[13] = 0x86, 0xdd
	}
	return f
}

// arrivals shows the frames that come to the first server in a tunnel.
func arrivals(w *memlan.World) <-chan []byte {
	c := make(chan []byte, 64)
	w.Observe(func(point, dir string, frame []byte) {
		if point != "s1/int" || dir != "in" {
			return
		}
		if _, _, err := packettest.Unwrap(frame[tap.EthernetLen:]); err == nil {
			select {
			case c <- bytes.Clone(frame):
			default:
			}
		}
	})
	return c
}

// TestErrorsFromInsideTunnels: a router between director and server says "too big" about the outer packet. The client hears of it as an error
// about its own packet, with the size that fits into the tunnel; the next one is answered by the director itself.
func TestErrorsFromInsideTunnels(t *testing.T) {
	tunnels(t, integration.Spec{Servers: 1}, func(t *testing.T, w *memlan.World, p *probe) {
		wrapped := arrivals(w)
		big := p.udp("REQ 1 0\n" + strings.Repeat("x", 1350))
		big.DF = true
		p.send(big)
		p.expectAnswer()
		quote := (<-wrapped)[tap.EthernetLen:]
		outer, _, _ := packettest.Unwrap(quote)

		router := plugProbe(t, w, integration.Int)
		e := router.to(netip.AddrPortFrom(outer.Src, 0), packettest.ICMP)
		e.ICMPType, e.ICMPCode, e.ICMPSeq, e.Payload = 3, 4, 1380, quote[:400]
		if outer.Src.Is6() {
			e.Proto, e.ICMPType, e.ICMPCode = packettest.ICMPv6, 2, 0
		}
		router.send(e)
		want := 1380 - outer.Len
		for _, verdictName := range []string{"relayed-icmp", "sent-too-big"} {
			a := p.expectError(tooBig, w.VIP().Addr(), w.VIP())
			if got := a.ICMPSaysMTU(a.Bytes()); got != want {
				t.Errorf("%s: told MTU %d, want %d", verdictName, got, want)
			}
			waitVerdict(t, w, verdictName, 1)
			p.send(big)
		}
	})
}

// TestNoTunnelEnd: a server that does not unwrap says so; its client is told that the host is not reached.
func TestNoTunnelEnd(t *testing.T) {
	tunnels(t, integration.Spec{Servers: 1}, func(t *testing.T, w *memlan.World, p *probe) {
		wrapped := arrivals(w)
		p.send(p.udp("REQ 1 0\n"))
		p.expectAnswer()
		quote := (<-wrapped)[tap.EthernetLen:]
		outer, _, _ := packettest.Unwrap(quote)
		server := plugProbe(t, w, integration.Int)
		e := server.to(netip.AddrPortFrom(outer.Src, 0), packettest.ICMP)
		e.Src, e.ICMPType, e.ICMPCode, e.Payload = netip.AddrPortFrom(outer.Dst, 0), 3, 2, quote
		if outer.Src.Is6() {
			e.Proto, e.ICMPType, e.ICMPCode = packettest.ICMPv6, 1, 4
		}
		server.send(e)
		p.expectError(icmpKind{3, 1, 1, 3}, w.VIP().Addr(), w.VIP())
	})
}

// TestTTLInTunnels: outside it is 64, and inside one less than the client sent.
func TestTTLInTunnels(t *testing.T) {
	tunnels(t, integration.Spec{Servers: 1}, func(t *testing.T, w *memlan.World, p *probe) {
		wrapped := arrivals(w)
		s := p.udp("REQ 1 0\n")
		s.TTL = 9
		p.send(s)
		p.expectAnswer()
		outer, inner, _ := packettest.Unwrap((<-wrapped)[tap.EthernetLen:])
		ttl := inner[8]
		if w.Plan.Spec.Family == 6 {
			ttl = inner[7]
		}
		if outer.TTL != 64 || ttl != 8 {
			t.Errorf("outer TTL %d, inner %d; want 64 and 8", outer.TTL, ttl)
		}
	})
}
