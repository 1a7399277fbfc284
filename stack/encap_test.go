package stack

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// The ends of tunnels.
var (
	dip4, rip4 = netip.MustParseAddr("10.77.2.1"), netip.MustParseAddr("10.77.9.11")
	dip6, rip6 = netip.MustParseAddr("2001:db8:2::1"), netip.MustParseAddr("2001:db8:9::11")
)

// tunnelCase is one of all combinations of families, kinds and checksums.
type tunnelCase struct {
	name     string
	inner    family
	t        Tunnel
	overhead int
}

func tunnelCases() (cases []tunnelCase) {
	for _, in := range families {
		for _, out := range []struct {
			name     string
			src, dst netip.Addr
			ip       int
		}{{"IPv4", dip4, rip4, 20}, {"IPv6", dip6, rip6, 40}} {
			for _, kind := range []struct {
				name string
				kind TunnelKind
				csum bool
				n    int
			}{{"ipip", IPIP, false, 0}, {"gue", GUE, false, 12}, {"gue-csum", GUE, true, 12}, {"gre", GRE, false, 4}, {"gre-csum", GRE, true, 8}} {
				t := Tunnel{Kind: kind.kind, Src: AddrFrom(out.src), Dst: AddrFrom(out.dst), Csum: kind.csum, TTL: 64}
				if t.Kind == GUE {
					t.Port = packettest.GUEPort
				}
				cases = append(cases, tunnelCase{fmt.Sprintf("%s in %s in %s", in.name, kind.name, out.name), in, t, out.ip + kind.n})
			}
		}
	}
	return cases
}

// wrapped wraps a frame and has gVisor's headers read it.
func wrapped(t *testing.T, tc *tunnelCase, s packettest.Spec, id uint16, df bool) (f tap.Frame, o packettest.Outer, inner []byte) {
	t.Helper()
	f = s.Frame()
	p := mustParse(t, &f)
	CompleteChecksum(&f, &p)
	want := bytes.Clone(f.Bytes()[14:])
	if !tc.t.Wrap(&f, &p, id, df) {
		t.Fatal("not wrapped")
	}
	SetMACs(f.Bytes(), WordOf(MAC{2, 0, 0, 0, 0, 2}), WordOf(MAC{2, 0, 0, 0, 0, 1}))
	o, inner, err := packettest.Unwrap(f.Bytes()[14:])
	if err != nil {
		t.Fatalf("%v: %x", err, f.Bytes())
	}
	if !bytes.Equal(inner, want) {
		t.Fatalf("inside is\n%x, want\n%x", inner, want)
	}
	if f.Header != (tap.Header{}) {
		t.Errorf("virtio header %+v, want none", f.Header)
	}
	return f, o, inner
}

func TestWrap(t *testing.T) {
	for _, tc := range tunnelCases() {
		t.Run(tc.name, func(t *testing.T) {
			for _, payload := range []int{0, 1, 2, 100, 1301} {
				s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Flags: ACK, Payload: pattern(payload), Partial: payload == 100}
				f, o, inner := wrapped(t, &tc, s, 4711, true)
				if o.Len != tc.overhead || tc.t.Overhead() != tc.overhead || f.Len() != 14+tc.overhead+len(inner) {
					t.Errorf("%d bytes in front, Overhead %d, want %d", o.Len, tc.t.Overhead(), tc.overhead)
				}
				if o.Src != tc.t.Src.Netip() || o.Dst != tc.t.Dst.Netip() || o.TTL != 64 || o.Csum != tc.t.Csum {
					t.Errorf("outer header: %+v", o)
				}
				if !tc.t.Dst.Is4() && o.FlowLabel == 0 {
					t.Error("no flow label")
				}
				mustParse(t, &f)
			}
		})
	}
}

// The bytes in front, as a person reads them.
func TestWrapGolden(t *testing.T) {
	golden := map[string]string{
		"IPv4 in ipip in IPv4":     "4500 0040 0000 4000 4004 1b15 0a4d0201 0a4d090b",
		"IPv6 in ipip in IPv4":     "4500 0054 0000 4000 4029 1adc 0a4d0201 0a4d090b",
		"IPv4 in gre in IPv4":      "4500 0044 0000 4000 402f 1ae6 0a4d0201 0a4d090b 0000 0800",
		"IPv6 in gre in IPv4":      "4500 0058 0000 4000 402f 1ad2 0a4d0201 0a4d090b 0000 86dd",
		"IPv4 in gre in IPv6":      "600..... 0030 2f40 20010db8000200000000000000000001 20010db8000900000000000000000011 0000 0800",
		"IPv4 in ipip in IPv6":     "600..... 002c 0440 20010db8000200000000000000000001 20010db8000900000000000000000011",
		"IPv6 in ipip in IPv6":     "600..... 0040 2940 20010db8000200000000000000000001 20010db8000900000000000000000011",
		"IPv4 in gue in IPv4":      "4500 004c 0000 4000 4011 1afc 0a4d0201 0a4d090b .... 17c0 0038 0000 00040000",
		"IPv6 in gue in IPv6":      "600..... 004c 1140 20010db8000200000000000000000001 20010db8000900000000000000000011 .... 17c0 004c 0000 00290000",
		"IPv6 in gue-csum in IPv6": "600..... 004c 1140 20010db8000200000000000000000001 20010db8000900000000000000000011 .... 17c0 004c .... 00290000",
	}
	seen := 0
	for _, tc := range tunnelCases() {
		want, ok := golden[tc.name]
		if !ok {
			continue
		}
		seen++
		s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Flags: ACK, Payload: pattern(4)}
		f, _, _ := wrapped(t, &tc, s, 0, true)
		got := fmt.Sprintf("%x", f.Bytes()[14:14+tc.overhead])
		if !matches(got, want) {
			t.Errorf("%s: %s, want %s", tc.name, got, want)
		}
	}
	if seen != len(golden) {
		t.Errorf("%d of %d cases exist", seen, len(golden))
	}
}

// matches compares hex digits; a dot stands for any, blanks for none.
func matches(got, want string) bool {
	i := 0
	for _, c := range want {
		if c == ' ' {
			continue
		}
		if i >= len(got) || c != '.' && got[i] != byte(c) {
			return false
		}
		i++
	}
	return i == len(got)
}

// DSCP and ECN are copied whole: a CE mark survives outside (RFC 6040).
func TestWrapTOS(t *testing.T) {
	for _, tc := range tunnelCases() {
		for _, tos := range []uint8{0, 1, 2, 3, 0xb8, 0xbb, 0xff} {
			s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Flags: ACK}
			f := s.Frame()
			setTOS(f.Bytes(), tos)
			p := mustParse(t, &f)
			if !tc.t.Wrap(&f, &p, 0, true) {
				t.Fatal("not wrapped")
			}
			o, _, err := packettest.Unwrap(f.Bytes()[14:])
			if err != nil || o.TOS != tos {
				t.Errorf("%s: TOS %#x outside, want %#x (%v)", tc.name, o.TOS, tos, err)
			}
		}
	}
}

func setTOS(b []byte, tos uint8) {
	if b[14]>>4 == 4 {
		b[15] = tos
		fixIPv4(b)
		return
	}
	header.IPv6(b[14:]).SetTOS(tos, 0)
}

// TTL, DF and identification.
func TestWrapOptions(t *testing.T) {
	for _, tc := range tunnelCases() {
		s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Flags: ACK, TTL: 17}
		_, o, _ := wrapped(t, &tc, s, 4711, false)
		is4 := tc.t.Dst.Is4()
		if o.TTL != 64 || o.DF || is4 && o.ID != 4711 {
			t.Errorf("%s: without DF: %+v", tc.name, o)
		}
		tc.t.TTL = 0
		_, o, _ = wrapped(t, &tc, s, 4711, true)
		if o.TTL != 17 || o.DF != is4 || o.ID != 0 {
			t.Errorf("%s: with DF and the packet's TTL: %+v", tc.name, o)
		}
	}
}

// The flow is the same for both kinds of packets of a flow, and for all fragments of a datagram; flows spread over the ports.
func TestWrapFlow(t *testing.T) {
	tc := &tunnelCase{t: Tunnel{Kind: GUE, Src: AddrFrom(dip4), Dst: AddrFrom(rip4), Port: packettest.GUEPort, TTL: 64}}
	for _, fam := range families {
		port := func(s packettest.Spec) uint16 {
			_, o, _ := wrapped(t, tc, s, 0, true)
			return o.SrcPort
		}
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: SYN}
		first := port(s)
		s.Flags, s.Payload = ACK, pattern(100)
		if got := port(s); got != first || first < 49152 {
			t.Errorf("%s: ports %d and %d for one flow", fam.name, first, got)
		}
		ports := map[uint16]bool{}
		for i := range 1000 {
			s.Src = withPort(s.Src, uint16(1024+i))
			ports[port(s)] = true
		}
		if len(ports) < 900 { // 970 of 16384 by chance
			t.Errorf("%s: 1000 flows from %d ports", fam.name, len(ports))
		}
	}
	one := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(64), MF: true}
	two := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(64), FragOffset: 72}
	_, a, _ := wrapped(t, tc, one, 0, true)
	_, b, _ := wrapped(t, tc, two, 0, true)
	if a.SrcPort != b.SrcPort {
		t.Errorf("fragments of one datagram from ports %d and %d", a.SrcPort, b.SrcPort)
	}
}

// What does not fit stays as it was.
func TestWrapRefuses(t *testing.T) {
	for _, tc := range tunnelCases() {
		size := 65535 - tc.inner.hdrLen - 20 - tc.overhead
		s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Flags: ACK, Payload: make([]byte, size+1)}
		f := s.Frame()
		p := mustParse(t, &f)
		before := bytes.Clone(f.Bytes())
		if tc.t.Wrap(&f, &p, 0, true) || !bytes.Equal(f.Bytes(), before) {
			t.Errorf("%s: %d bytes were wrapped", tc.name, len(before)+tc.overhead-14)
		}
		s.Payload = s.Payload[1:]
		wrapped(t, &tc, s, 0, true)

		s.Payload = nil
		f = s.Frame()
		p = mustParse(t, &f)
		free := tap.Headroom - tap.HeaderLen
		for n := 0; n <= free/tc.overhead; n++ { // tunnels in tunnels, until no headroom is left
			before = bytes.Clone(f.Bytes())
			if ok := tc.t.Wrap(&f, &p, 0, true); ok != (n < free/tc.overhead) || !ok && !bytes.Equal(f.Bytes(), before) {
				t.Errorf("%s: wrapped %d times: %v", tc.name, n, ok)
			}
		}
	}
}

func TestWrapAllocatesNothing(t *testing.T) {
	for _, tc := range tunnelCases() {
		s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Flags: ACK, Payload: pattern(100)}
		f := s.Frame()
		p := mustParse(t, &f)
		if n := testing.AllocsPerRun(100, func() {
			tc.t.Wrap(&f, &p, 0, true)
			f.Prepend(-tc.overhead)
		}); n != 0 {
			t.Errorf("%s: %v allocations", tc.name, n)
		}
	}
}

// Own IPv6 packets are put together again as a receiver would.
func TestFragmentOwnIPv6(t *testing.T) {
	for _, tt := range []struct {
		size, mtu int
		want      []int // bytes of L3
	}{
		{1400, 1280, []int{1280, 40 + 8 + 1400 - 1232}},
		{1233, 1280, []int{1280, 49}},
		{1232, 1280, []int{1280}},
		{100, 1283, []int{148}},
		{30, 64, []int{64, 62}},
	} {
		s := packettest.Spec{Src: client6, Dst: server6, Proto: ProtoUDP, Payload: pattern(tt.size - 8)}
		f, a := s.Frame(), tap.NewArena(1<<16)
		var data []byte
		i := 0
		ok := FragmentOwnIPv6(&f, tt.mtu, 0xdeadbeef, a, func(g *tap.Frame) {
			p := mustParse(t, g)
			b := g.Bytes()
			frag := header.IPv6Fragment(b[54:62])
			if i >= len(tt.want) || int(p.L3Len) != tt.want[i] || frag.ID() != 0xdeadbeef || frag.NextHeader() != ProtoUDP ||
				int(frag.FragmentOffset())*8 != len(data) || frag.More() != (i < len(tt.want)-1) {
				t.Errorf("%d bytes by MTU %d: piece %d is %x", tt.size, tt.mtu, i, b[14:62])
			}
			data = append(data, b[62:]...)
			i++
		})
		if !ok || i != len(tt.want) || !bytes.Equal(data, f.Bytes()[54:]) {
			t.Errorf("%d bytes by MTU %d: %v, %d pieces, %d bytes", tt.size, tt.mtu, ok, i, len(data))
		}
	}
	s := packettest.Spec{Src: client6, Dst: server6, Proto: ProtoUDP, Payload: pattern(100)}
	f := s.Frame()
	none := func(*tap.Frame) { t.Error("a piece") }
	if FragmentOwnIPv6(&f, 55, 1, tap.NewArena(1<<16), none) || FragmentOwnIPv6(&f, 128, 1, tap.NewArena(64), none) {
		t.Error("no room, but true")
	}
}

// checkWrap puts a packet that Parse took, complete, into a tunnel and wants it back as it was.
func checkWrap(t *testing.T, f tap.Frame, p Packet, n int) {
	t.Helper()
	cases := tunnelCases()
	tc := &cases[n%len(cases)]
	CompleteChecksum(&f, &p)
	f.Header = tap.Header{} // as if it had been cut
	want := bytes.Clone(f.Bytes()[14:])
	if !tc.t.Wrap(&f, &p, 1, true) {
		return
	}
	o, inner, err := packettest.Unwrap(f.Bytes()[14:])
	if err != nil || !bytes.Equal(inner, want) || o.Kind == "" {
		t.Errorf("%s: %v: %x, want %x", tc.name, err, inner, want)
	}
}

func BenchmarkWrap(b *testing.B) {
	for _, tc := range tunnelCases() {
		s := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Flags: ACK, Payload: pattern(1400)}
		f := s.Frame()
		p := mustParse(b, &f)
		b.Run(tc.name, func(b *testing.B) {
			for b.Loop() {
				tc.t.Wrap(&f, &p, 0, true)
				f.Prepend(-tc.overhead)
			}
		})
	}
}
