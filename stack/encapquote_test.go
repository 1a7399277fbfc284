package stack

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// A router's error about a wrapped packet leads back to the packet.
func TestQuotedTunnel(t *testing.T) {
	for _, tc := range tunnelCases() {
		t.Run(tc.name, func(t *testing.T) {
			s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Proto: ProtoUDP, Payload: pattern(1000)}
			f, _, inner := wrapped(t, &tc, s, 0, true)
			quote := f.Bytes()[14:]
			for _, n := range []int{len(quote), 512, tc.overhead + len(inner) - 1000} {
				e := errorAbout(&tc, quote[:min(n, len(quote))])
				p := mustParse(t, &e)
				var got Tunnel
				at, size, ok := p.QuotedTunnel(e.Bytes(), &got)
				want := tc.t
				want.TTL = 0
				if !ok || got != want || size != len(quote) {
					t.Fatalf("%v: %+v of %d bytes, want %+v of %d", ok, got, size, want, len(quote))
				}
				if p.ICMPSaysMTU(e.Bytes()) != 1400 {
					t.Errorf("MTU %d", p.ICMPSaysMTU(e.Bytes()))
				}
				var q Packet
				if !UnwrapQuote(&e, at, &q) || q.Src.Netip() != tc.inner.client.Addr() || q.Dst.Netip() != tc.inner.vip.Addr() ||
					q.SrcPort != tc.inner.client.Port() || q.DstPort != tc.inner.vip.Port() || q.Proto != ProtoUDP {
					t.Fatalf("%d bytes quoted: %+v", n, q)
				}
				a := tap.NewArena(1 << 12)
				SetMACs(e.Bytes(), WordOf(MAC{2, 0, 0, 0, 0, 1}), WordOf(MAC{2, 0, 0, 0, 0, 9}))
				r, ok := ICMPErrorFrame(ICMPTooBig, AddrFrom(tc.inner.vip.Addr()), 1300, &e, &q, a)
				if !ok {
					t.Fatal("no error for the client")
				}
				rp := mustParse(t, &r)
				if !ChecksumOK(&r, &rp) || !bytes.HasPrefix(inner, r.Bytes()[rp.L4+8:]) {
					t.Errorf("the client gets %s", Describe(r.Bytes()))
				}
			}
			// 8 bytes behind the outer header tell the tunnel, but not whose packet it was.
			e := errorAbout(&tc, quote[:tc.t.ipLen()+8])
			p := mustParse(t, &e)
			var got Tunnel
			at, _, ok := p.QuotedTunnel(e.Bytes(), &got)
			if !ok || got.Dst != tc.t.Dst || UnwrapQuote(&e, at, &p) {
				t.Errorf("a short quote: %v %+v", ok, got)
			}
		})
	}
}

// errorAbout is a router's "too big" to the tunnel's start.
func errorAbout(tc *tunnelCase, quote []byte) tap.Frame {
	s := packettest.Spec{Proto: ProtoICMP, ICMPType: 3, ICMPCode: 4, ICMPSeq: 1400, Payload: quote,
		Src: netip.MustParseAddrPort("10.77.5.5:0"), Dst: netip.AddrPortFrom(tc.t.Src.Netip(), 0)}
	if !tc.t.Dst.Is4() {
		s.Proto, s.ICMPType, s.ICMPCode, s.Src = ProtoICMPv6, 2, 0, netip.MustParseAddrPort("[2001:db8:5::5]:0")
	}
	return s.Frame()
}

// Any bytes may be quoted.
func TestQuotesOfRubbish(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		tc := tunnelCases()[r.IntN(20)]
		s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Proto: ProtoUDP, Payload: pattern(40)}
		f, _, _ := wrapped(t, &tc, s, 0, true)
		quote := bytes.Clone(f.Bytes()[14:])
		for range 1 + r.IntN(4) {
			quote[r.IntN(len(quote))] = byte(r.Uint32())
		}
		e := errorAbout(&tc, quote[:r.IntN(len(quote)+1)])
		tryQuote(t, &e)
	}
}

// tryQuote does with a frame what the director does, if Parse takes it.
func tryQuote(t *testing.T, f *tap.Frame) {
	var p, q Packet
	var tunnel Tunnel
	if Parse(f, &p) != ReasonNone || !p.IsICMPError() {
		return
	}
	at, _, ok := p.QuotedTunnel(f.Bytes(), &tunnel)
	if !ok {
		return
	}
	p.ICMPError()
	if !UnwrapQuote(f, at, &q) {
		return
	}
	SetMACs(f.Bytes(), WordOf(MAC{2, 0, 0, 0, 0, 1}), WordOf(MAC{2, 0, 0, 0, 0, 9}))
	src := AddrFrom(dip4)
	if q.Kind == KindIPv6 {
		src = AddrFrom(dip6)
	}
	if r, ok := ICMPErrorFrame(ICMPHostUnreachable, src, 0, f, &q, tap.NewArena(1<<12)); ok {
		var rp Packet
		if reason := Parse(&r, &rp); reason == ReasonNone && !ChecksumOK(&r, &rp) {
			t.Errorf("wrong checksum: %s", Describe(r.Bytes()))
		}
	}
}

// What an error from inside a tunnel means to the client.
func TestICMPErrorKinds(t *testing.T) {
	for _, tt := range []struct {
		kind Kind
		code [2]uint8
		want ICMPError
		ok   bool
	}{
		{KindIPv4, [2]uint8{3, 4}, ICMPTooBig, true},
		{KindIPv6, [2]uint8{2, 0}, ICMPTooBig, true},
		{KindIPv4, [2]uint8{11, 0}, ICMPTimeExceeded, true},
		{KindIPv6, [2]uint8{3, 0}, ICMPTimeExceeded, true},
		{KindIPv4, [2]uint8{3, 0}, ICMPNetUnreachable, true},
		{KindIPv6, [2]uint8{1, 0}, ICMPNetUnreachable, true},
		{KindIPv4, [2]uint8{3, 1}, ICMPHostUnreachable, true},
		{KindIPv4, [2]uint8{3, 2}, ICMPHostUnreachable, true}, // the server does not unwrap
		{KindIPv4, [2]uint8{3, 3}, ICMPHostUnreachable, true},
		{KindIPv6, [2]uint8{1, 4}, ICMPHostUnreachable, true},
		{KindIPv6, [2]uint8{4, 1}, ICMPHostUnreachable, true},
		{KindIPv4, [2]uint8{11, 1}, ICMPHostUnreachable, true},
		{KindIPv4, [2]uint8{12, 0}, ICMPHostUnreachable, true},
		{KindIPv4, [2]uint8{3, 10}, ICMPAdminProhibited, true},
		{KindIPv4, [2]uint8{3, 13}, ICMPAdminProhibited, true},
		{KindIPv6, [2]uint8{1, 1}, ICMPAdminProhibited, true},
		{KindIPv4, [2]uint8{4, 0}, 0, false},
		{KindIPv4, [2]uint8{5, 1}, 0, false},
		{KindIPv4, [2]uint8{8, 0}, 0, false},
		{KindIPv6, [2]uint8{137, 0}, 0, false},
	} {
		p := Packet{Kind: tt.kind, ICMPType: tt.code[0], ICMPCode: tt.code[1], csum: 36, Tuple: Tuple{Proto: ProtoICMP}}
		if tt.kind == KindIPv6 {
			p.Proto = ProtoICMPv6
		}
		if got, ok := p.ICMPError(); ok != tt.ok || ok && got != tt.want {
			t.Errorf("IPv%d type %d code %d: %v %v, want %v %v", 2*tt.kind, tt.code[0], tt.code[1], got, ok, tt.want, tt.ok)
		}
	}
}
