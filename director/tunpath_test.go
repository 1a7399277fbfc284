package director

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// quoteLen is how much a router quotes of a packet when it is generous.
const quoteLen = 512

// insideError is what a router between the director and a server says about wrapped, a frame that left for the server.
func (w *world) insideError(wrapped *tap.Frame, kind icmpTest, quote int) packettest.Spec {
	outer := worldSpec{family: w.spec.outer}
	s := w.base(in, netip.AddrPortFrom(outer.addr(5, 5), 0), netip.AddrPortFrom(outer.addr(2, 1), 0))
	s.Proto, s.ICMPType, s.ICMPCode, s.ICMPSeq = stack.ProtoICMP, kind.v4[0], kind.v4[1], kind.mtu
	if w.spec.outer == 6 {
		s.Proto, s.ICMPType, s.ICMPCode = stack.ProtoICMPv6, kind.v6[0], kind.v6[1]
	}
	b := wrapped.Bytes()[14:]
	s.Payload = bytes.Clone(b[:min(quote, len(b))])
	return s
}

// icmpTest is an ICMP error in both families.
type icmpTest struct {
	v4, v6 [2]uint8
	mtu    uint16
}

var tunnelTooBig = icmpTest{[2]uint8{3, 4}, [2]uint8{2, 0}, 1400}

// wrappedFrame sends the client's first packet and returns what left.
func (w *world) wrappedFrame() *tap.Frame {
	w.tb.Helper()
	v, left := w.step(ext, w.toVIP(stack.SYN))
	_, f := w.one(v, left, ForwardedTUN, in)
	return &f
}

// "Too big" from inside the tunnel reaches the client with the tunnel's MTU, about the packet as the client sent it; and is remembered.
func TestTUNLearnsThePathMTU(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		everyTunnel(t, worldSpec{proto: proto}, func(t *testing.T, w *world, overhead int) {
			w.step(ext, w.toVIP(stack.SYN))
			s := w.sized(outerMTU-overhead, true)
			s.Flags = stack.ACK
			v, left := w.step(ext, s.Frame())
			_, f := w.one(v, left, ForwardedTUN, in)
			v, left = w.step(in, w.insideError(&f, tunnelTooBig, quoteLen).Frame())
			p, g := w.one(v, left, RelayedICMP, ext)
			outer, inner := quoted(t, &g)
			if got := p.ICMPSaysMTU(g.Bytes()); got != 1400-overhead {
				t.Errorf("the client is told MTU %d, want %d", got, 1400-overhead)
			}
			if endpoint(inner.Src, inner.SrcPort) != w.spec.client() || endpoint(inner.Dst, inner.DstPort) != w.spec.vip() ||
				outer.Dst.Netip() != w.spec.client().Addr() || outer.Src.Netip() != w.spec.vip().Addr() || stack.DstMAC(g.Bytes()) != clientMAC {
				t.Errorf("the client gets %s", stack.Describe(g.Bytes()))
			}
			if got := w.view.Load().servers[0].tunnel.path.learnedMTU(); got != 1400 {
				t.Errorf("learned %d", got)
			}
			s = w.sized(1400-overhead+1, true)
			s.Flags = stack.ACK
			v, left = w.step(ext, s.Frame())
			p, g = w.one(v, left, SentTooBig, ext)
			if got := p.ICMPSaysMTU(g.Bytes()); got != 1400-overhead {
				t.Errorf("then MTU %d", got)
			}
			s = w.sized(1400-overhead, true)
			s.Flags = stack.ACK
			v, left = w.step(ext, s.Frame())
			w.one(v, left, ForwardedTUN, in)
		})
	}
}

// A router that quotes 8 bytes behind the outer header tells whose tunnel, but not whose packet it was: the MTU is learned, the next packet answered.
func TestTUNShortQuotes(t *testing.T) {
	everyTunnel(t, worldSpec{}, func(t *testing.T, w *world, overhead int) {
		f := w.wrappedFrame()
		big := f.Clone() // what it is about was larger than the MTU it tells
		ip := 20
		if w.spec.outer == 6 {
			ip = 40
			big.Bytes()[14+4], big.Bytes()[14+5] = 5, 0xb4
		} else {
			big.Bytes()[14+2], big.Bytes()[14+3] = 5, 0xdc
		}
		v, left := w.step(in, w.insideError(&big, tunnelTooBig, ip+8).Frame())
		w.none(v, left, TunnelError)
		s := w.sized(1400-overhead+1, true)
		s.Flags = stack.ACK
		v, left = w.step(ext, s.Frame())
		w.one(v, left, SentTooBig, ext)
	})
}

// What is not about a packet of ours is not believed.
func TestTUNForgedErrors(t *testing.T) {
	everyTunnel(t, worldSpec{}, func(t *testing.T, w *world, overhead int) {
		f := w.wrappedFrame()
		learned := func() uint32 { return w.view.Load().servers[0].tunnel.path.learnedMTU() }

		small := tunnelTooBig // of a packet that was smaller than that
		v, left := w.step(in, w.insideError(f, small, quoteLen).Frame())
		if w.one(v, left, RelayedICMP, ext); learned() != 0 {
			t.Error("learned of a packet that fits")
		}
		stranger := f.Clone() // of a connection that is not there
		at := 14 + overhead + 20
		if w.spec.family == 6 {
			at += 20
		}
		stranger.Bytes()[at] ^= 0xff
		e := w.insideError(&stranger, icmpTest{tunnelTooBig.v4, tunnelTooBig.v6, 60}, quoteLen)
		v, left = w.step(in, e.Frame())
		if w.none(v, left, TunnelError); learned() != 0 {
			t.Error("learned of no connection")
		}
		bad := w.insideError(f, tunnelTooBig, quoteLen).Frame()
		bad.Bytes()[bad.Len()-1] ^= 1
		v, left = w.step(in, bad)
		w.none(v, left, DropBadICMP)

		other := f.Clone() // to a server that is none
		other.Bytes()[14+overheadDst(w.spec.outer)] ^= 0x40
		v, left = w.step(in, w.insideError(&other, tunnelTooBig, quoteLen).Frame())
		w.none(v, left, ToHost)
		redirect := icmpTest{[2]uint8{5, 1}, [2]uint8{137, 0}, 0}
		if w.spec.outer == 4 {
			v, left = w.step(in, w.insideError(f, redirect, quoteLen).Frame())
			w.none(v, left, ToHost)
		}
	})
}

// overheadDst is the offset of the last byte of an outer header's destination.
func overheadDst(outer int) int { return map[int]int{4: 19, 6: 39}[outer] }

// What else goes wrong inside is told as RFC 2003 and 2473 want it.
func TestTUNErrorsInside(t *testing.T) {
	var (
		hop  = icmpTest{[2]uint8{11, 0}, [2]uint8{3, 0}, 0}
		host = icmpTest{[2]uint8{3, 1}, [2]uint8{1, 3}, 0}
		net  = icmpTest{[2]uint8{3, 0}, [2]uint8{1, 0}, 0}
		port = icmpTest{[2]uint8{3, 3}, [2]uint8{1, 4}, 0}
		no   = icmpTest{[2]uint8{3, 13}, [2]uint8{1, 1}, 0}
	)
	for _, tc := range []struct {
		name, service string
		in, want      icmpTest
	}{
		{"TTL of the tunnel", "", hop, host},
		{"TTL of the packet", "tunnel_ttl = 0\n", hop, hop},
		{"host", "", host, host},
		{"net", "", net, net},
		{"port: the server does not unwrap", "", port, host},
		{"refused", "", no, no},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everyTunnel(t, worldSpec{service: tc.service}, func(t *testing.T, w *world, _ int) {
				v, left := w.step(in, w.insideError(w.wrappedFrame(), tc.in, quoteLen).Frame())
				p, g := w.one(v, left, RelayedICMP, ext)
				want := tc.want.v4
				if w.spec.family == 6 {
					want = tc.want.v6
				}
				if got := [2]uint8{p.ICMPType, p.ICMPCode}; got != want {
					t.Errorf("the client gets type and code %v, want %v: %s", got, want, stack.Describe(g.Bytes()))
				}
			})
		})
	}
}

// Without path MTU discovery the client is told nothing: the next packet is fragmented to the path's MTU.
func TestTUNLearnsWithoutDiscovery(t *testing.T) {
	everyTunnel(t, worldSpec{proto: "udp", service: "pmtu_disc = false\n"}, func(t *testing.T, w *world, overhead int) {
		s := w.sized(outerMTU-overhead, true)
		v, left := w.step(ext, s.Frame())
		_, f := w.one(v, left, ForwardedTUN, in)
		v, left = w.step(in, w.insideError(&f, tunnelTooBig, quoteLen).Frame())
		w.none(v, left, TunnelError)
		v, left = w.step(ext, s.Frame())
		if v != ForwardedTUN || len(left) != 2 || left[0].frame.Len() > 14+1400 {
			t.Fatalf("%v with %d frames, want two fragments for an MTU of 1400", v, len(left))
		}
		w.unwrap(w.assemble(left))
	})
}

// What is learned of a path ends after ten minutes.
func TestServerPath(t *testing.T) {
	for _, tc := range []struct {
		name      string
		mtu, size int
		is4       bool
		want      uint32
	}{
		{"told", 1400, 1500, true, 1400},
		{"told, IPv6", 1400, 1500, false, 1400},
		{"not smaller than the packet", 1500, 1500, true, 9000},
		{"an absurd one", 9000, 1500, true, 9000},
		{"too small to believe", 68, 1500, true, minPath4},
		{"too small to believe, IPv6", 68, 1500, false, 1280},
		{"not told", 0, 1500, true, 1492},
		{"not told, small", 0, 1006, true, minPath4},
		{"not told, huge", 0, 65535, true, 32000},
	} {
		p := serverPath{pathRecord: &pathRecord{}}
		p.learn(tc.mtu, tc.size, tc.is4, 5*time.Second)
		want := min(tc.want, 9000)
		if got := p.mtu(9000, 6*time.Second); got != want {
			t.Errorf("%s: MTU %d, want %d", tc.name, got, want)
		}
		if got := p.mtu(1000, 6*time.Second); got != min(want, 1000) {
			t.Errorf("%s: MTU %d behind a link of 1000", tc.name, got)
		}
		if got := p.mtu(9000, 605*time.Second); got != 9000 || p.learnedMTU() != 0 {
			t.Errorf("%s: MTU %d after ten minutes", tc.name, got)
		}
	}
}
