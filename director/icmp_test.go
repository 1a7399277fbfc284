package director

import (
	"net/netip"
	"testing"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// tooBigAbout is a router's "too big" about frame: what a small-MTU link says on the way of it.
func tooBigAbout(w *world, iface int, from netip.Addr, about *tap.Frame) packettest.Spec {
	s := w.base(iface, netip.AddrPortFrom(from, 0), netip.AddrPortFrom(netip.Addr{}, 0))
	s.Proto, s.ICMPType, s.ICMPCode, s.ICMPSeq = stack.ProtoICMP, 3, 4, 1280
	if w.spec.family == 6 {
		s.Proto, s.ICMPType, s.ICMPCode = stack.ProtoICMPv6, 2, 0
	}
	var p stack.Packet
	stack.Parse(about, &p)
	s.Dst = netip.AddrPortFrom(p.Src.Netip(), 0)
	quote := about.Bytes()[p.L3:]
	s.Payload = append([]byte(nil), quote[:min(len(quote), 60)]...)
	return s
}

// quoted returns the packet that the error in f quotes.
func quoted(t *testing.T, f *tap.Frame) (outer, inner stack.Packet) {
	t.Helper()
	g := f.Clone()
	if r := stack.Parse(&g, &outer); r != stack.ReasonNone {
		t.Fatal(r)
	}
	if !outer.Inner(g.Bytes(), &inner) {
		t.Fatalf("quotes nothing: %s", stack.Describe(f.Bytes()))
	}
	return outer, inner
}

// An error about what the client gets reaches the server as an error about what the server sent, and the other way round.
func TestICMPErrorsAreTranslated(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, proto: proto})
			router := w.spec.addr(1, 77)
			_, left := w.step(ext, w.toVIP(stack.SYN))
			toServer := left[0].frame
			_, left = w.step(in, w.fromServer(0, stack.SYN|stack.ACK))
			toClient := left[0].frame

			v, left := w.step(ext, tooBigAbout(w, ext, router, &toClient).Frame())
			w.one(v, left, RelayedICMP, in)
			outer, inner := quoted(t, &left[0].frame)
			if outer.Dst.Netip() != w.spec.server(0).Addr() || outer.Src.Netip() != router ||
				endpoint(inner.Src, inner.SrcPort) != w.spec.server(0) || endpoint(inner.Dst, inner.DstPort) != w.spec.client() {
				t.Errorf("server gets %v -> %v about %v -> %v", outer.Src, outer.Dst, inner.Src, inner.Dst)
			}

			v, left = w.step(in, tooBigAbout(w, in, w.spec.server(0).Addr(), &toServer).Frame())
			w.one(v, left, RelayedICMP, ext)
			outer, inner = quoted(t, &left[0].frame)
			if outer.Src.Netip() != w.spec.vip().Addr() || endpoint(inner.Src, inner.SrcPort) != w.spec.client() ||
				endpoint(inner.Dst, inner.DstPort) != w.spec.vip() {
				t.Errorf("client gets %v -> %v about %v -> %v", outer.Src, outer.Dst, inner.Src, inner.Dst)
			}
		})
	}
}

func TestICMPErrorsToDRServersPassUnchanged(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "dr"})
		w.step(ext, w.toVIP(stack.SYN))
		reply := w.base(ext, w.spec.vip(), w.spec.client()).Frame()
		v, left := w.step(ext, tooBigAbout(w, ext, w.spec.addr(1, 77), &reply).Frame())
		p, f := w.one(v, left, RelayedICMP, in)
		if p.Dst.Netip() != w.spec.vip().Addr() || stack.DstMAC(f.Bytes()) != serverMAC(0) {
			t.Errorf("server gets %s", stack.Describe(f.Bytes()))
		}
	})
}

func TestICMPErrorsAreDemasqueraded(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w, far := masqueradeWorld(t, family, "udp")
		_, left := w.step(in, w.outbound(5353, far).Frame())
		router := w.spec.addr(1, 77)
		v, left := w.step(ext, tooBigAbout(w, ext, router, &left[0].frame).Frame())
		w.one(v, left, RelayedICMP, in)
		outer, inner := quoted(t, &left[0].frame)
		if outer.Src.Netip() != router || outer.Dst.Netip() != w.spec.server(0).Addr() || inner.SrcPort != 5353 ||
			inner.Src.Netip() != w.spec.server(0).Addr() {
			t.Errorf("server gets %v -> %v about %v", outer.Src, outer.Dst, endpoint(inner.Src, inner.SrcPort))
		}
	})
}

// An edit would make a wrong checksum right: such an error is dropped. One about no connection is the host's.
func TestICMPErrorsThatGoNowhere(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family})
		w.step(ext, w.toVIP(stack.SYN))
		_, left := w.step(in, w.fromServer(0, stack.SYN|stack.ACK))
		f := tooBigAbout(w, ext, w.spec.addr(1, 77), &left[0].frame).Frame()
		f.Bytes()[f.Len()-1] ^= 1
		v, left := w.step(ext, f)
		w.none(v, left, DropBadICMP)

		stray := w.base(ext, w.spec.vip(), netip.AddrPortFrom(w.spec.client().Addr(), 9)).Frame()
		v, left = w.step(ext, tooBigAbout(w, ext, w.spec.addr(1, 77), &stray).Frame())
		w.none(v, left, ToHost)
	})
}

// Errors about packets to a VIP come from the VIP, as with LVS: a host answers from the address it was asked at (RFC 4443 2.2), and "too big" from a
// private DIP would be filtered on its way. About other packets the director is a router, and speaks for itself.
func TestICMPErrorsComeFrom(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "udp"})
		closed, last, routed := w.toVIPSpec(0), w.toVIPSpec(0), w.toVIPSpec(0)
		closed.Dst = netip.AddrPortFrom(closed.Dst.Addr(), 81)
		routed.Dst = netip.AddrPortFrom(w.spec.addr(2, 99), 81)
		last.TTL, routed.TTL = 1, 1
		for _, c := range []struct {
			spec packettest.Spec
			want Verdict
			from netip.Addr
		}{
			{closed, SentUnreachable, w.spec.vip().Addr()},
			{last, SentTimeExceeded, w.spec.vip().Addr()},
			{routed, SentTimeExceeded, w.spec.addr(1, 1)},
		} {
			v, left := w.step(ext, c.spec.Frame())
			if p, _ := w.one(v, left, c.want, ext); p.Src.Netip() != c.from {
				t.Errorf("%v came from %v, want %v", v, p.Src, c.from)
			}
		}
	})
}

// A redirect is about a link that the other end is not on.
func TestRedirectsGoNowhere(t *testing.T) {
	w := newWorld(t, worldSpec{})
	w.step(ext, w.toVIP(stack.SYN))
	_, left := w.step(in, w.fromServer(0, stack.SYN|stack.ACK))
	s := tooBigAbout(w, ext, w.spec.addr(1, 77), &left[0].frame)
	s.ICMPType, s.ICMPCode = 5, 1
	v, left := w.step(ext, s.Frame())
	w.none(v, left, DropRedirect)
}
