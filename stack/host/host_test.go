package host

import (
	"context"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

func TestEcho(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			w.introduce(0, f.client, clientMAC, f.dip)
			for name, us := range map[string]netip.Addr{"DIP": f.dip, "VIP": f.vip, "DIP of the other link": f.dip2, "VIP of the other link": f.vip2} {
				t.Run(name, func(t *testing.T) {
					w.wantEchoReply(w.only(0, echo(clientMAC, f.client, us, 7)), us, f.client, clientMAC)
				})
			}
			w.introduce(1, f.server, clientMAC, f.dip2)
			w.wantEchoReply(w.only(1, to2(echo(clientMAC, f.server, f.vip, 8))), f.vip, f.server, clientMAC)
		})
	}
}

// TestEchoOfStranger pings from an on-link client that never asked for us: netstack asks for it first.
func TestEchoOfStranger(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			w.offer(0, echo(clientMAC, f.client, f.dip, 7))
			for w.step() {
			}
			q := w.wait("question for the client", isARPOrNS(f.client))
			if q.link != 0 || stack.SrcMAC(q.frame.Bytes()) != ownMAC {
				t.Errorf("asked on link %d: %s", q.link, stack.Describe(q.frame.Bytes()))
			}
			w.answer(0, f.client, clientMAC, f.dip)
			w.wantEchoReply(w.wait("echo reply", isICMP), f.dip, f.client, clientMAC)
		})
	}
}

func isICMP(s *sent) bool {
	return s.pkt.Proto == stack.ProtoICMP || (s.pkt.Proto == stack.ProtoICMPv6 && s.pkt.ICMPType < 133)
}

// answer says to us that who is at mac.
func (w *wire) answer(link int, who netip.Addr, mac stack.MAC, us netip.Addr) {
	w.t.Helper()
	f := packettest.ARP(2, mac, w.links[link].MAC, who, us)
	if !who.Is4() {
		b := who.As16()
		s := nd(136, mac, who, us, 0x60000000, append(b[:], append([]byte{2, 1}, mac[:]...)...))
		s.DstMAC = w.links[link].MAC
		f = s.Frame()
	}
	if v := w.offer(link, f); v != Queued {
		w.t.Fatalf("an answer to us is %v", v)
	}
	for w.step() {
	}
}

// TestEchoOffLink pings from behind a router that no route names; then the router fails over.
func TestEchoOffLink(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			for _, router := range []stack.MAC{routerMAC, clientMAC, routerMAC} {
				w.wantEchoReply(w.only(0, echo(router, f.off, f.vip, 7)), f.vip, f.off, router)
			}
			w.wantEchoReply(w.only(1, to2(echo(clientMAC, f.off, f.vip, 7))), f.vip, f.off, clientMAC)
			if n := w.Stats().LastHops; n != 2 {
				t.Errorf("%d last hops kept, want one on each link", n)
			}
		})
	}
}

// TestEchoRouted pings from behind a configured gateway: the answer takes the route, not the last hop.
func TestEchoRouted(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			w.offer(0, echo(clientMAC, f.routed, f.vip, 7))
			for w.step() {
			}
			w.wait("question for the gateway", isARPOrNS(f.gateway))
			w.answer(0, f.gateway, routerMAC, f.dip)
			w.wantEchoReply(w.wait("echo reply", isICMP), f.vip, f.routed, routerMAC)
			if n := w.Stats().LastHops; n != 0 {
				t.Errorf("%d last hops kept for a routed client", n)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			for _, us := range []netip.Addr{f.dip, f.vip} {
				spec := packettest.Spec{
					SrcMAC: routerMAC, DstMAC: ownMAC, Src: netip.AddrPortFrom(f.off, 4321), Dst: netip.AddrPortFrom(us, 81),
					Flags: stack.SYN, Seq: 1000,
				}
				for _, spec.Partial = range []bool{false, true} {
					s := w.only(0, spec.Frame())
					if s.pkt.Proto != stack.ProtoTCP || s.pkt.TCPFlags != stack.RST|stack.ACK || s.pkt.SrcPort != 81 || s.pkt.DstPort != 4321 {
						t.Errorf("a SYN nobody wants gets %s", stack.Describe(s.frame.Bytes()))
					}
				}
				spec.Proto, spec.Payload = packettest.UDP, []byte("anybody there?")
				for _, spec.Partial = range []bool{false, true} {
					s := w.only(0, spec.Frame())
					wantType, wantCode := uint8(3), uint8(3)
					if !us.Is4() {
						wantType, wantCode = 1, 4
					}
					if s.pkt.ICMPType != wantType || s.pkt.ICMPCode != wantCode || s.pkt.Src.Netip() != us || stack.DstMAC(s.frame.Bytes()) != routerMAC {
						t.Errorf("a datagram nobody wants gets %s", stack.Describe(s.frame.Bytes()))
					}
				}
			}
		})
	}
}

// TestWrongChecksum checks that netstack verifies what comes in: nothing vouches for it.
func TestWrongChecksum(t *testing.T) {
	for _, f := range families {
		w := newWire(t, nil)
		for _, frame := range []tap.Frame{
			echo(routerMAC, f.off, f.vip, 1),
			packettest.Spec{SrcMAC: routerMAC, DstMAC: ownMAC, Src: netip.AddrPortFrom(f.off, 1), Dst: netip.AddrPortFrom(f.vip, 2), Flags: stack.SYN}.Frame(),
		} {
			frame.Bytes()[frame.Len()-1] ^= 1
			if v, out := w.deliver(0, frame); v != Queued || len(out) != 0 {
				t.Errorf("%s: %v, %d answers to a damaged packet", f.name, v, len(out))
			}
		}
	}
}

// TestUDPSuperpacket hands a superpacket to a socket: it must come out as the datagrams it was made of.
func TestUDPSuperpacket(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			us := tcpip.FullAddress{NIC: 1, Addr: address(f.dip), Port: 5353}
			c, err := gonet.DialUDP(w.Stack(), &us, nil, protocolOf(f.dip))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			spec := packettest.Spec{
				SrcMAC: routerMAC, DstMAC: ownMAC, Src: netip.AddrPortFrom(f.off, 4321), Dst: netip.AddrPortFrom(f.dip, 5353),
				Proto: packettest.UDP, Partial: true, GSOSize: 1000, Payload: make([]byte, 2500),
			}
			w.deliver(0, spec.Frame())
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			for _, want := range []int{1000, 1000, 500} {
				if n, _, err := c.ReadFrom(make([]byte, 4000)); n != want || err != nil {
					t.Fatalf("read %d bytes, %v; want %d", n, err, want)
				}
			}

			spec.GSOSize = 1 // more pieces than anybody makes
			w.deliver(0, spec.Frame())
			if w.Stats().Uncut != 1 {
				t.Error("a superpacket that cannot be cut is not counted")
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no Send", func(o *Options) { o.Links[1].Send = nil }, `link "int": no Send`},
		{"no MAC", func(o *Options) { o.Links[1].MAC = stack.MAC{} }, `link "int": 000000000000 is not the MAC of a host`},
		{"group MAC", func(o *Options) { o.Links[0].MAC[0] = 1 }, `link "ext": 010000000001 is not the MAC of a host`},
		{"route without a link", func(o *Options) { o.Routes[0].Link = 2 }, "route to 203.0.113.0/24 via 10.77.1.254 on link 2"},
		{"route through the other family", func(o *Options) { o.Routes[0].Via = ip("2001:db8::1") }, "no such route"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := plan()
			for i := range o.Links {
				o.Links[i].Send = func(*tap.Frame) {}
				o.Links[i].MAC = stack.MAC{2, 0, 0, 0, 0, 1}
			}
			tt.change(&o)
			h, err := New(o)
			if err == nil {
				h.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestDIPIsVIP and an address named twice: once is enough.
func TestDIPIsVIP(t *testing.T) {
	for _, f := range families {
		w := newWire(t, func(o *Options) { o.Links[0].VIPs = []netip.Addr{f.dip, f.dip, f.vip2} })
		w.introduce(0, f.client, clientMAC, f.dip)
		w.introduce(0, f.client, clientMAC, f.vip2)
		if n := len(w.links[0].owned()); n != 4-1 {
			t.Errorf("%s: %d addresses announced, want 3", f.name, n)
		}
	}
}

// TestRunAndClose counts goroutines: none may be left, whichever of Close and cancel comes first.
func TestRunAndClose(t *testing.T) {
	for _, closeFirst := range []bool{true, false} {
		before := runtime.NumGoroutine()
		w := newWire(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		w.wait("announcement", func(s *sent) bool { return s.pkt.Kind == stack.KindARP })
		w.offer(0, echo(routerMAC, families[0].off, families[0].vip, 1))
		w.wait("echo reply", isICMP)
		if closeFirst {
			w.Close()
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ends with %v", err)
		}
		w.Close()
		w.Close()
		if err := w.Run(t.Context()); err != nil {
			t.Errorf("Run of a closed host: %v", err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
			runtime.Gosched()
		}
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines before, %d after", before, n)
		}
	}
}
