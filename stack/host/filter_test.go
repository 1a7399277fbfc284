package host

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

func TestARP(t *testing.T) {
	f := families[0]
	probe := netip.IPv4Unspecified()
	tests := []struct {
		name   string
		link   int
		frame  tap.Frame
		want   Verdict
		answer stack.MAC
	}{
		{"for the DIP", 0, packettest.ARP(1, clientMAC, everyone, f.client, f.dip), Queued, ownMAC},
		{"for the VIP", 0, packettest.ARP(1, clientMAC, everyone, f.client, f.vip), Queued, ownMAC},
		{"for the VIP on the other link", 1, packettest.ARP(1, clientMAC, everyone, f.server, f.vip2), Queued, ownMAC2},
		{"unicast", 0, packettest.ARP(1, clientMAC, ownMAC, f.client, f.vip), Queued, ownMAC},
		{"from a foreign subnet", 0, packettest.ARP(1, clientMAC, everyone, f.off, f.vip), Queued, ownMAC},
		{"a probe for our address", 0, packettest.ARP(1, clientMAC, everyone, probe, f.vip), Queued, ownMAC},
		{"for another host", 0, packettest.ARP(1, clientMAC, everyone, f.client, f.foreign), Ignored, stack.MAC{}},
		{"for a VIP of another link", 0, packettest.ARP(1, clientMAC, everyone, f.client, f.vip2), Ignored, stack.MAC{}},
		{"for a DIP of another link", 1, packettest.ARP(1, clientMAC, everyone, f.server, f.dip), Ignored, stack.MAC{}},
		{"for the off-link world", 0, packettest.ARP(1, clientMAC, everyone, f.client, f.off), Ignored, stack.MAC{}},
		{"flooded: not to our MAC", 0, packettest.ARP(1, clientMAC, routerMAC, f.client, f.vip), Ignored, stack.MAC{}},
		{"gratuitous", 0, packettest.ARP(1, clientMAC, everyone, f.client, f.client), Ignored, stack.MAC{}},
		{"gratuitous reply", 0, packettest.ARP(2, clientMAC, everyone, f.client, f.client), Ignored, stack.MAC{}},
		{"reply to us", 0, packettest.ARP(2, clientMAC, ownMAC, f.client, f.dip), Queued, stack.MAC{}},
		{"reply to another", 0, packettest.ARP(2, clientMAC, routerMAC, f.client, f.foreign), Ignored, stack.MAC{}},
		{"as we", 0, packettest.ARP(1, clientMAC, everyone, f.vip, f.dip), Ignored, stack.MAC{}},
		{"cut", 0, cut(packettest.ARP(1, clientMAC, everyone, f.client, f.vip), 41), Ignored, stack.MAC{}},
		{"no ARP for IPv4", 0, change(packettest.ARP(1, clientMAC, everyone, f.client, f.vip), 14+5, 6), Ignored, stack.MAC{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, nil)
			v, out := w.deliver(tt.link, tt.frame)
			if v != tt.want || len(out) != map[bool]int{true: 1}[tt.answer != stack.MAC{}] {
				t.Fatalf("%v, %d answers; want %v, %x", v, len(out), tt.want, tt.answer)
			}
			if len(out) == 1 {
				a := header.ARP(out[0].frame.Bytes()[14:])
				if a.Op() != header.ARPReply || stack.MAC(a.HardwareAddressSender()) != tt.answer || stack.DstMAC(out[0].frame.Bytes()) != clientMAC || out[0].link != tt.link {
					t.Errorf("answered on link %d: %s", out[0].link, stack.Describe(out[0].frame.Bytes()))
				}
			}
		})
	}
}

func cut(f tap.Frame, n int) tap.Frame { f.Trim(n); return f }

func change(f tap.Frame, at int, b byte) tap.Frame { f.Bytes()[at] = b; return f }

func TestND(t *testing.T) {
	f := families[1]
	clientLL, nobody := ip("fe80::c"), netip.IPv6Unspecified()
	target := func(a netip.Addr) []byte { return a.AsSlice() }
	toGroup := ip("ff02::1:ff00:100")
	tests := []struct {
		name   string
		link   int
		frame  tap.Frame
		want   Verdict
		answer netip.Addr // whom the advertisement goes to
	}{
		{"for the DIP", 0, solicit(f.client, clientMAC, f.dip), Queued, f.client},
		{"for the VIP", 0, solicit(f.client, clientMAC, f.vip), Queued, f.client},
		{"from a link-local address", 0, solicit(clientLL, clientMAC, f.vip), Queued, clientLL},
		{"from a foreign subnet", 0, solicit(f.off, clientMAC, f.vip), Queued, f.off},
		{"for our link-local address", 0, solicit(clientLL, clientMAC, linkLocal(ownMAC)), Queued, clientLL},
		{"duplicate address detection", 0, nd(135, clientMAC, nobody, toGroup, 0, target(f.vip)).Frame(), Queued, ip("ff02::1")},
		{"unicast, with option", 0, nd(135, clientMAC, f.client, f.vip, 0, append(target(f.vip), append([]byte{1, 1}, clientMAC[:]...)...)).Frame(), Queued, f.client},
		{"for another host", 0, solicit(f.client, clientMAC, f.foreign), Ignored, netip.Addr{}},
		{"for a VIP of another link", 0, solicit(f.client, clientMAC, f.vip2), Ignored, netip.Addr{}},
		{"for the other link's link-local address", 0, solicit(f.client, clientMAC, linkLocal(ownMAC2)), Ignored, netip.Addr{}},
		{"hop limit 254", 0, change(solicit(f.client, clientMAC, f.vip), 14+7, 254), Ignored, netip.Addr{}},
		{"wrong checksum", 0, change(solicit(f.client, clientMAC, f.vip), 14+40+2, 1), Queued, netip.Addr{}},
		{"advertisement to us", 0, nd(136, clientMAC, f.client, f.dip, 0x40000000, target(f.client)).Frame(), Queued, netip.Addr{}},
		{"advertisement to all", 0, nd(136, clientMAC, f.client, f.group, 0x20000000, target(f.client)).Frame(), Queued, netip.Addr{}},
		{"advertisement as we", 0, nd(136, clientMAC, f.client, f.group, 0x20000000, target(f.vip)).Frame(), Ignored, netip.Addr{}},
		{"router solicitation", 0, nd(133, clientMAC, clientLL, ip("ff02::2"), 0, make([]byte, 32)).Frame(), Ignored, netip.Addr{}},
		{"router advertisement", 0, nd(134, clientMAC, clientLL, f.group, 0, make([]byte, 32)).Frame(), Ignored, netip.Addr{}},
		{"redirect", 0, nd(137, clientMAC, clientLL, f.dip, 0, make([]byte, 32)).Frame(), Ignored, netip.Addr{}},
		{"cut", 0, nd(135, clientMAC, f.client, f.vip, 0, make([]byte, 8)).Frame(), Ignored, netip.Addr{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, nil)
			v, out := w.deliver(tt.link, tt.frame)
			if v != tt.want || len(out) != map[bool]int{true: 1}[tt.answer.IsValid()] {
				t.Fatalf("%v, %d answers; want %v, %v", v, len(out), tt.want, tt.answer)
			}
			if len(out) == 1 {
				wantAdvert(t, &out[0], tt.answer)
			}
		})
	}
}

// wantAdvert checks an advertisement of ours on link 0.
func wantAdvert(t *testing.T, s *sent, dst netip.Addr) {
	t.Helper()
	b := s.frame.Bytes()
	na := header.NDPNeighborAdvert(b[14+40+4:])
	if s.pkt.ICMPType != 136 || s.pkt.TTL != 255 || s.pkt.Dst.Netip() != dst || !stack.ChecksumOK(&s.frame, &s.pkt) {
		t.Errorf("answered with %s", stack.Describe(b))
	}
	if !na.OverrideFlag() || na.SolicitedFlag() == dst.IsMulticast() || stack.MAC(b[14+40+24+2:]) != ownMAC || stack.SrcMAC(b) != ownMAC {
		t.Errorf("the advertisement does not say where we are: %x", b)
	}
}

func TestIPFilter(t *testing.T) {
	for _, f := range families {
		other := map[bool]netip.Addr{true: ip("10.77.1.255"), false: linkLocal(ownMAC2)}[f.dip.Is4()]
		for _, tt := range []struct {
			name string
			mac  stack.MAC
			dst  netip.Addr
			want Verdict
		}{
			{"DIP", ownMAC, f.dip, Queued},
			{"VIP of another link", ownMAC, f.vip2, Queued},
			{"VIP in a broadcast frame", everyone, f.vip, Queued},
			{"flooded", routerMAC, f.vip, Ignored},
			{"another host", ownMAC, f.foreign, Ignored},
			{"a group", ownMAC, f.group, Ignored},
			{"the subnet's broadcast, the other link's link-local address", ownMAC, other, Ignored},
		} {
			w := newWire(t, nil)
			frame := echo(clientMAC, f.off, tt.dst, 1)
			copy(frame.Bytes(), tt.mac[:])
			if v, _ := w.deliver(0, frame); v != tt.want {
				t.Errorf("%s, to %s: %v, want %v", f.name, tt.name, v, tt.want)
			}
		}
	}
	for _, f := range families {
		w := newWire(t, nil)
		if v, _ := w.deliver(0, echo(clientMAC, f.vip2, f.dip, 1)); v != Ignored {
			t.Errorf("%s: a packet that claims to come from us is %v", f.name, v)
		}
	}
	w := newWire(t, nil)
	if v, _ := w.deliver(0, tap.NewFrame(tap.Header{}, append(append(ownMAC[:], clientMAC[:]...), 0x88, 0xcc, 0, 0))); v != Ignored {
		t.Errorf("an EtherType that is not ours is %v", v)
	}
}

// TestNoLinkLocal checks that a link without IPv6 has no IPv6 address of its own.
func TestNoLinkLocal(t *testing.T) {
	w := newWire(t, func(o *Options) {
		o.Links[0].Addresses, o.Links[0].VIPs = o.Links[0].Addresses[:1], o.Links[0].VIPs[:1]
		o.Routes = nil
	})
	if v := w.offer(0, solicit(ip("fe80::c"), clientMAC, linkLocal(ownMAC))); v != Ignored {
		t.Errorf("%v", v)
	}
	if v := w.offer(1, solicit(ip("fe80::c"), clientMAC, linkLocal(ownMAC2))); v != Queued {
		t.Errorf("the other link: %v", v)
	}
}

func TestConflict(t *testing.T) {
	f4, f6 := families[0], families[1]
	b := f6.vip.As16()
	w := newWire(t, nil)
	for _, claim := range []tap.Frame{
		packettest.ARP(1, clientMAC, everyone, f4.vip, f4.vip),
		packettest.ARP(2, clientMAC, ownMAC, f4.dip, f4.client),
		nd(136, clientMAC, f6.vip, f6.group, 0x20000000, b[:]).Frame(),
	} {
		w.deliver(0, claim)
	}
	own := announcement(ownMAC2, f4.vip) // a loop, or our other link on the same LAN
	w.deliver(0, own)
	if n := w.Stats().Conflicts; n != 3 {
		t.Errorf("%d conflicts counted, want 3", n)
	}
}
