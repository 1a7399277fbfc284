package stack

import (
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// benchSpecs are the packets that the path sees most.
var benchSpecs = []struct {
	name string
	s    packettest.Spec
}{
	{"IPv4/TCP", packettest.Spec{Src: client4, Dst: vip4, Flags: ACK, Payload: make([]byte, 1400)}},
	{"IPv4/TCP/partial", packettest.Spec{Src: client4, Dst: vip4, Flags: ACK, Payload: make([]byte, 60000), Partial: true, GSOSize: 1448}},
	{"IPv4/UDP", packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: make([]byte, 64)}},
	{"IPv6/TCP", packettest.Spec{Src: client6, Dst: vip6, Flags: ACK, Payload: make([]byte, 1400)}},
	{"IPv6/TCP/partial", packettest.Spec{Src: client6, Dst: vip6, Flags: ACK, Payload: make([]byte, 60000), Partial: true, GSOSize: 1448}},
	{"IPv6/UDP", packettest.Spec{Src: client6, Dst: vip6, Proto: ProtoUDP, Payload: make([]byte, 64)}},
	{"IPv6/ext", packettest.Spec{Src: client6, Dst: vip6, Flags: ACK, ExtFirst: extHopByHop,
		Ext: []byte{extDest, 0, 1, 4, 0, 0, 0, 0, ProtoTCP, 0, 1, 4, 0, 0, 0, 0}}},
}

func BenchmarkParse(b *testing.B) {
	for _, bs := range benchSpecs {
		b.Run(bs.name, func(b *testing.B) {
			f := bs.s.Frame()
			var p Packet
			b.ReportAllocs()
			for b.Loop() {
				if Parse(&f, &p) != ReasonNone {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkSetDst(b *testing.B) {
	for _, bs := range benchSpecs {
		b.Run(bs.name, func(b *testing.B) {
			f := bs.s.Frame()
			p := mustParse(b, &f)
			to := [2]Addr{AddrFrom(server4.Addr()), p.Dst}
			if p.Kind == KindIPv6 {
				to[0] = AddrFrom(server6.Addr())
			}
			by, partial, i := f.Bytes(), f.Header.Partial(), 0
			b.ReportAllocs()
			for b.Loop() {
				p.SetDst(by, partial, to[i&1], uint16(i))
				i++
			}
		})
	}
}

func BenchmarkSetSrc(b *testing.B) {
	f := benchSpecs[0].s.Frame()
	p := mustParse(b, &f)
	by, to, i := f.Bytes(), p.Src, 0
	for b.Loop() {
		p.SetSrc(by, false, to, uint16(i))
		i++
	}
}

func BenchmarkDecTTL(b *testing.B) {
	f := benchSpecs[0].s.Frame()
	p := mustParse(b, &f)
	by := f.Bytes()
	for b.Loop() {
		p.TTL = 64
		p.DecTTL(by)
	}
}

func BenchmarkSetMACs(b *testing.B) {
	by := benchSpecs[0].s.Bytes()
	dst, src := WordOf(MAC{2, 0, 0, 0, 0, 9}), WordOf(MAC{2, 0, 0, 0, 0, 8})
	for b.Loop() {
		SetMACs(by, dst, src)
	}
}

func BenchmarkCompleteChecksum(b *testing.B) {
	s := benchSpecs[0].s
	s.Partial = true
	f := s.Frame()
	p := mustParse(b, &f)
	h := f.Header
	b.SetBytes(int64(f.Len()))
	for b.Loop() {
		f.Header = h
		CompleteChecksum(&f, &p)
	}
}

func BenchmarkSegment(b *testing.B) {
	for _, i := range []int{1, 4} {
		b.Run(benchSpecs[i].name, func(b *testing.B) {
			f := benchSpecs[i].s.Frame()
			p := mustParse(b, &f)
			a := tap.NewArena(1 << 17)
			emit := func(*tap.Frame) {}
			b.SetBytes(int64(f.Len()))
			b.ReportAllocs()
			for b.Loop() {
				a.Reset()
				if !Segment(&f, &p, a, emit) {
					b.Fatal("not cut")
				}
			}
		})
	}
}

func BenchmarkFragmentIPv4(b *testing.B) {
	s := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: make([]byte, 8000)}
	f := s.Frame()
	p := mustParse(b, &f)
	a := tap.NewArena(1 << 16)
	emit := func(*tap.Frame) {}
	b.ReportAllocs()
	for b.Loop() {
		a.Reset()
		if !FragmentIPv4(&f, &p, 1500, a, emit) {
			b.Fatal("not cut")
		}
	}
}

func BenchmarkReplies(b *testing.B) {
	f := benchSpecs[0].s.Frame()
	p := mustParse(b, &f)
	a, own := tap.NewArena(1<<12), AddrFrom(server4.Addr())
	b.Run("RST", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.Reset()
			RSTFrame(&f, &p, a)
		}
	})
	b.Run("ICMP", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.Reset()
			ICMPErrorFrame(ICMPTimeExceeded, own, 0, &f, &p, a)
		}
	})
}
