package director

import (
	"net/netip"
	"testing"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
)

// worldSpec with the outer interface masquerading, and the host of the world that servers talk to.
func masqueradeWorld(t *testing.T, family int, proto string) (*world, netip.AddrPort) {
	w := newWorld(t, worldSpec{family: family, proto: proto, ext: "masquerade = true"})
	far := netip.AddrPortFrom(w.spec.addr(1, 200), 53)
	slot := w.neigh.Pin(ext, far.Addr(), stack.MAC{2, 0, 0, 0, 0xfa, 1})
	if _, ok := w.neigh.MAC(slot); !ok {
		t.Fatal("a static next hop is not resolved")
	}
	return w, far
}

// outbound is a server's own packet to the world.
func (w *world) outbound(port uint16, far netip.AddrPort) packettest.Spec {
	s := w.base(in, netip.AddrPortFrom(w.spec.server(0).Addr(), port), far)
	s.Flags, s.Payload = stack.SYN, []byte("who is there")
	return s
}

// A server's own packet leaves with our DIP as its source, and the answer finds back.
func TestMasqueradeBothWays(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w, far := masqueradeWorld(t, family, proto)
			v, left := w.step(in, w.outbound(5353, far).Frame())
			p, _ := w.one(v, left, Masqueraded, ext)
			if p.Src.Netip() != w.spec.addr(1, 1) || endpoint(p.Dst, p.DstPort) != far || p.TTL != 63 {
				t.Fatalf("left as %v -> %v TTL %d", endpoint(p.Src, p.SrcPort), endpoint(p.Dst, p.DstPort), p.TTL)
			}
			back := w.base(ext, far, endpoint(p.Src, p.SrcPort))
			back.Flags = stack.SYN | stack.ACK
			v, left = w.step(ext, back.Frame())
			q, f := w.one(v, left, Demasqueraded, in)
			if got := endpoint(q.Dst, q.DstPort); got.Addr() != w.spec.server(0).Addr() || got.Port() != 5353 || endpoint(q.Src, q.SrcPort) != far {
				t.Errorf("answer arrives as %s", stack.Describe(f.Bytes()))
			}
			if stack.DstMAC(f.Bytes()) != serverMAC(0) {
				t.Errorf("answer goes to %x, want the server", stack.DstMAC(f.Bytes()))
			}
		})
	}
}

// An echo request is masqueraded by its identifier.
func TestMasqueradeEcho(t *testing.T) {
	types := map[int][3]uint8{4: {stack.ProtoICMP, 8, 0}, 6: {stack.ProtoICMPv6, 128, 129}}
	bothFamilies(t, func(t *testing.T, family int) {
		w, far := masqueradeWorld(t, family, "tcp")
		s := w.outbound(0, far)
		s.Proto, s.ICMPType, s.ICMPID = types[family][0], types[family][1], 77
		v, left := w.step(in, s.Frame())
		p, _ := w.one(v, left, Masqueraded, ext)
		if p.Src.Netip() != w.spec.addr(1, 1) {
			t.Fatalf("left from %v, want our DIP", p.Src)
		}
		back := w.base(ext, far, endpoint(p.Src, 0))
		back.Proto, back.ICMPType, back.ICMPID = types[family][0], types[family][2], p.SrcPort
		v, left = w.step(ext, back.Frame())
		if q, _ := w.one(v, left, Demasqueraded, in); q.DstPort != 77 || q.Dst.Netip() != w.spec.server(0).Addr() {
			t.Errorf("answer arrives at %v with identifier %d, want 77", q.Dst, q.DstPort)
		}
	})
}

// Load-balanced traffic is not masqueraded: the client sees the VIP.
func TestRepliesAreNotMasqueraded(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w, _ := masqueradeWorld(t, family, "tcp")
		w.step(ext, w.toVIP(stack.SYN))
		v, left := w.step(in, w.fromServer(0, stack.SYN|stack.ACK))
		if p, _ := w.one(v, left, RepliedNAT, ext); endpoint(p.Src, p.SrcPort) != w.spec.vip() {
			t.Errorf("client sees %v, want the VIP", endpoint(p.Src, p.SrcPort))
		}
	})
}
