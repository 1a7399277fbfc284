package memlan_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// TestTTLEndsAtTheDirector: a packet that would reach no server is answered, and makes no connection.
func TestTTLEndsAtTheDirector(t *testing.T) {
	methods(t, integration.Spec{}, func(t *testing.T, w *memlan.World, p *probe) {
		for _, s := range []packettest.Spec{p.tcp(stack.SYN), p.udp("REQ 1 0\n")} {
			s.TTL = 1
			p.send(s)
			p.expectError(timeExceeded, w.VIP().Addr(), w.VIP())
		}
		for _, c := range w.Counters() {
			if c.Name == "connections_inserted" && c.Value != 0 {
				t.Errorf("%d connections were made", c.Value)
			}
		}
	})
}

// TestTTLIsDecrementedOnce: on the way to the server, and with nat on the way back.
func TestTTLIsDecrementedOnce(t *testing.T) {
	methods(t, integration.Spec{}, func(t *testing.T, w *memlan.World, p *probe) {
		var ttl atomic.Uint32
		w.Observe(func(point, dir string, b []byte) {
			f, q := tap.NewFrame(tap.Header{}, unwrapped(b)), stack.Packet{}
			if stack.DstMAC(b) == w.Plan.Interfaces[0].MAC {
				return // flooded, as long as the switch does not know where the director is
			}
			if point[0] == 's' && dir == "in" && stack.Parse(&f, &q) == stack.ReasonNone && q.Proto == stack.ProtoUDP {
				ttl.Store(uint32(q.TTL))
			}
		})
		s := p.udp("REQ 1 0\n")
		s.TTL = 50
		p.send(s)
		answer := p.expectAnswer()
		if got := ttl.Load(); got != 49 {
			t.Errorf("the server got TTL %d, want 49", got)
		}
		want := uint8(64)
		if w.Plan.Translates() {
			want--
		}
		if answer.TTL != want {
			t.Errorf("the client got TTL %d, want %d", answer.TTL, want)
		}
	})
}

// expectAnswer waits for a server's answer to a datagram.
func (p *probe) expectAnswer() *arrival {
	p.t.Helper()
	a := p.expect("answer", func(a *arrival) bool {
		return a.Proto == stack.ProtoUDP && bytes.HasPrefix(a.Bytes()[a.L4+8:], []byte("ANS "))
	})
	if got := netip.AddrPortFrom(a.Src.Netip(), a.SrcPort); got != p.w.VIP() {
		p.t.Errorf("the answer is from %v, want %v", got, p.w.VIP())
	}
	return a
}

// TestTooBig: what must not be fragmented and does not fit the way to the server is answered with the MTU that would.
func TestTooBig(t *testing.T) {
	methods(t, integration.Spec{IntMTU: 1400, Offload: true}, func(t *testing.T, w *memlan.World, p *probe) {
		whole := p.udp(strings.Repeat("x", 1400))
		super := p.tcp(stack.ACK)
		super.Payload, super.GSOSize, super.Partial = make([]byte, 5000), 1400, true
		p.send(p.tcp(stack.SYN)) // super belongs to a connection
		p.expectTCP("SYN and ACK", stack.SYN|stack.ACK)
		for name, s := range map[string]packettest.Spec{"datagram": whole, "superpacket": super} {
			s.DF = true
			p.send(s)
			a := p.expectError(tooBig, w.VIP().Addr(), w.VIP())
			mtu := uint32(binary.BigEndian.Uint16(a.Bytes()[a.L4+6:]))
			if a.Proto == stack.ProtoICMPv6 {
				mtu = binary.BigEndian.Uint32(a.Bytes()[a.L4+4:])
			}
			if want := 1400 - overhead(w); mtu != want {
				t.Errorf("%s: MTU %d, want %d", name, mtu, want)
			}
		}
	})
}

// TestSuperpacketsStayWhole: one whose segments fit arrives in one piece, with the segment size it left with. What goes into a tunnel is cut.
func TestSuperpacketsStayWhole(t *testing.T) {
	for _, method := range []string{"nat", "dr", "fullnat"} {
		t.Run(method, func(t *testing.T) {
			families(t, integration.Spec{Method: method, Offload: true, IntMTU: 1400}, testSuperpacketStaysWhole)
		})
	}
}

func testSuperpacketStaysWhole(t *testing.T, w *memlan.World, p *probe) {
	var sizes sync.Map
	w.ObserveFrames(func(point, dir string, f *tap.Frame) {
		if point[0] == 's' && dir == "in" && f.Header.Super() {
			sizes.Store(f.Len(), f.Header.GSOSize)
		}
	})
	p.send(p.tcp(stack.SYN))
	p.expectTCP("SYN and ACK", stack.SYN|stack.ACK)
	s := p.tcp(stack.ACK)
	s.Payload, s.GSOSize, s.Partial, s.DF = make([]byte, 20000), 1300, true, true
	f := s.Frame()
	p.port.Send(&f)
	waitFor(t, "a superpacket at a server", func() bool { size, ok := sizes.Load(f.Len()); return ok && size == uint16(1300) })
}

// TestFragmentsWithoutDF: the director is a router and fragments what may be (IPv4).
func TestFragmentsWithoutDF(t *testing.T) {
	for _, method := range []string{"nat", "dr"} {
		for _, offload := range []bool{false, true} {
			s := integration.Spec{Method: method, IntMTU: 1200, Offload: offload}
			t.Run(s.String(), func(t *testing.T) {
				w := newWorld(t, s)
				p := plugProbe(t, w, integration.Ext)
				big := p.udp("REQ 1 0\n" + strings.Repeat("x", 1400))
				big.Partial = offload
				p.send(big)
				p.expectAnswer()
			})
		}
	}
}

// TestNoServer: every weight is 0, so nobody can take a new connection.
func TestNoServer(t *testing.T) {
	spec := integration.Spec{Scheduler: "wlc", Weights: []int{0, 0, 0}}
	t.Run("reject", func(t *testing.T) {
		methods(t, spec, func(t *testing.T, w *memlan.World, p *probe) {
			p.send(p.tcp(stack.SYN))
			p.expectTCP("reset", stack.RST|stack.ACK)
			p.send(p.udp("REQ 1 0\n"))
			p.expect("port unreachable", portUnreachable.is)
		})
	})
	spec.ServiceKeys = `on_no_server = "drop"`
	t.Run("drop", func(t *testing.T) {
		methods(t, spec, func(t *testing.T, w *memlan.World, p *probe) {
			p.send(p.tcp(stack.SYN))
			p.send(p.udp("REQ 1 0\n"))
			waitVerdict(t, w, "drop-no-server", 2)
			if n := verdict(w, "sent-reset") + verdict(w, "sent-unreachable"); n != 0 {
				t.Errorf("%d answers all the same", n)
			}
		})
	})
}

// TestStrays: what belongs to no connection and makes none.
func TestStrays(t *testing.T) {
	methods(t, integration.Spec{}, func(t *testing.T, w *memlan.World, p *probe) {
		s := p.tcp(stack.ACK)
		s.Ack = 5000
		p.send(s)
		a := p.expectTCP("reset", stack.RST)
		if seq := binary.BigEndian.Uint32(a.Bytes()[a.L4+4:]); seq != 5000 {
			t.Errorf("the reset has sequence number %d, want the 5000 that was acknowledged", seq)
		}
		p.send(p.tcp(stack.RST))
		waitVerdict(t, w, "drop-stray", 1)

		elsewhere := netip.AddrPortFrom(w.VIP().Addr(), 81) // no service there
		s = p.to(elsewhere, packettest.TCP)
		s.Flags = stack.SYN
		p.send(s)
		p.expectTCP("reset", stack.RST|stack.ACK)
		p.send(p.to(elsewhere, packettest.UDP))
		p.expectError(portUnreachable, elsewhere.Addr(), elsewhere)
	})
}

// TestTagged: 802.1Q frames are counted and go nowhere.
func TestTagged(t *testing.T) {
	families(t, integration.Spec{Method: "nat"}, func(t *testing.T, w *memlan.World, p *probe) {
		plain := p.tcp(stack.SYN)
		b := plain.Bytes()
		tagged := append(append(append([]byte{}, b[:12]...), 0x81, 0, 0, 5), b[12:]...)
		f := tap.NewFrame(tap.Header{}, tagged)
		p.port.Send(&f)
		waitVerdict(t, w, "drop: 802.1Q tag", 1)
		if n := verdict(w, "forwarded-nat"); n != 0 {
			t.Errorf("%d frames were forwarded", n)
		}
	})
}

// TestNeighboursAndEcho: the director answers for DIP and VIP, by ARP or ND and by echo, and for nobody else.
func TestNeighboursAndEcho(t *testing.T) {
	methods(t, integration.Spec{}, func(t *testing.T, w *memlan.World, p *probe) {
		others := []netip.Addr{w.Plan.Servers[0].Addr(), p.addr.Addr().Next()}
		for _, a := range others { // asked first: had it an answer, that would come first
			p.ask(a)
		}
		for _, a := range []netip.Addr{p.dip(), w.VIP().Addr()} {
			p.ask(a)
			p.expect("answer for "+a.String(), func(got *arrival) bool {
				who, mac, ok := neighbour(got)
				if ok && (who != a || mac != w.Plan.Interfaces[0].MAC) && mac == stack.SrcMAC(got.Bytes()) && mac == w.Plan.Interfaces[0].MAC {
					t.Errorf("asked for %v, the director answered for %v", a, who)
				}
				return ok && who == a && mac == w.Plan.Interfaces[0].MAC
			})
			p.send(p.echo(a))
			if got := p.expect("echo", echoReply.is); got.Src.Netip() != a {
				t.Errorf("%v answered an echo to %v", got.Src, a)
			}
		}
	})
}

// ask sends an ARP request or a neighbour solicitation.
func (p *probe) ask(a netip.Addr) {
	everyone := stack.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if a.Is4() {
		f := packettest.ARP(1, probeMAC, everyone, p.addr.Addr(), a)
		p.port.Send(&f)
		return
	}
	b := a.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, b[13], b[14], b[15]})
	p.send(packettest.Spec{SrcMAC: probeMAC, DstMAC: stack.MAC{0x33, 0x33, 0xff, b[13], b[14], b[15]}, TTL: 255,
		Src: p.addr, Dst: netip.AddrPortFrom(group, 0), Proto: packettest.ICMPv6, ICMPType: 135,
		Payload: append(append(b[:], 1, 1), probeMAC[:]...)})
}

// neighbour reads an ARP reply, or a solicited advertisement.
func neighbour(a *arrival) (who netip.Addr, mac stack.MAC, ok bool) {
	b := a.Bytes()
	switch {
	case a.Kind == stack.KindARP && b[21] == 2:
		return netip.AddrFrom4([4]byte(b[28:32])), stack.MAC(b[22:28]), true
	case a.Proto == stack.ProtoICMPv6 && a.ICMPType == 136 && len(b) >= 86 && b[58]&0x40 != 0:
		return netip.AddrFrom16([16]byte(b[62:78])), stack.MAC(b[80:86]), true
	}
	return netip.Addr{}, stack.MAC{}, false
}

// TestErrorsAboutAConnection: an ICMP error from the client's side about a server's packet reaches that server, in its own words.
func TestErrorsAboutAConnection(t *testing.T) {
	methods(t, integration.Spec{}, func(t *testing.T, w *memlan.World, p *probe) {
		quoted := make(chan netip.AddrPort, 16)
		w.Observe(func(point, dir string, b []byte) {
			f, q, inner := tap.NewFrame(tap.Header{}, unwrapped(b)), stack.Packet{}, stack.Packet{}
			if point[0] == 's' && dir == "in" && stack.Parse(&f, &q) == stack.ReasonNone && q.IsICMPError() && q.Inner(f.Bytes(), &inner) {
				quoted <- netip.AddrPortFrom(inner.Src.Netip(), inner.SrcPort)
			}
		})
		p.send(p.udp("REQ 1 0\n"))
		answer := p.expectAnswer()
		s := p.echo(w.VIP().Addr())
		s.ICMPType, s.ICMPCode = portUnreachable.type4, portUnreachable.code4
		if w.VIP().Addr().Is6() {
			s.ICMPType, s.ICMPCode = portUnreachable.type6, portUnreachable.code6
		}
		s.ICMPID, s.ICMPSeq, s.Payload = 0, 0, answer.Bytes()[answer.L3:]
		p.send(s)
		waitFor(t, "an ICMP error at a server", func() bool { return len(quoted) > 0 })
		got := <-quoted
		for _, h := range w.Plan.Servers {
			if got == h.Listen {
				return
			}
		}
		t.Errorf("it quotes a packet from %v, which is no server's", got)
	})
}
