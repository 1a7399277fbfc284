package stack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// toa is the option as the toa module reads it.
func toa(client netip.AddrPort) []byte {
	a := client.Addr().AsSlice()
	o := append([]byte{254, byte(4 + len(a)), 0, 0}, a...)
	binary.BigEndian.PutUint16(o[2:], client.Port())
	return o
}

// A packet with the option is, byte for byte and with its virtio header, the packet that would have been built with it.
func TestAddTOAIsRebuild(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	added := 0
	for range 50_000 {
		s := randomSpec(r)
		client := randomEnd(r, r.IntN(2) == 0)
		f := s.Frame()
		p, before := mustParse(t, &f), f.Clone()
		if !AddTOA(&f, &p, AddrFrom(client.Addr()), client.Port(), 65535) {
			if !bytes.Equal(f.Bytes(), before.Bytes()) || f.Header != before.Header {
				t.Fatalf("%+v: refused, but changed", s)
			}
			continue
		}
		added++
		o := toa(client)
		s.TCPOptions = append(o, s.TCPOptions...)
		if s.GSOSize > 0 {
			s.GSOSize -= len(o)
		}
		if w := s.Frame(); !bytes.Equal(f.Bytes(), w.Bytes()) || f.Header != w.Header {
			t.Fatalf("%+v\n got %+v %x\nwant %+v %x", s, f.Header, f.Bytes(), w.Header, w.Bytes())
		}
		if again := mustParse(t, &f); again != p {
			t.Fatalf("%+v\nthe edited Packet  %+v\nthe frame's Packet %+v", s, p, again)
		}
	}
	if added < 5000 {
		t.Errorf("only %d packets took the option", added)
	}
}

func TestAddTOAIsRefused(t *testing.T) {
	for _, fam := range families {
		n := TOALen(AddrFrom(fam.client.Addr()))
		base := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK, Payload: pattern(100)}
		whole := uint32(fam.hdrLen + 20 + 100)
		for _, tt := range []struct {
			name string
			edit func(s *packettest.Spec)
			mtu  uint32
			want bool
		}{
			{"fits to the byte", func(*packettest.Spec) {}, whole + uint32(n), true},
			{"a byte larger than the MTU", func(*packettest.Spec) {}, whole + uint32(n) - 1, false},
			{"options up to 60 bytes", func(s *packettest.Spec) { s.TCPOptions = make([]byte, 40-n) }, 1500, true},
			{"options beyond 60 bytes", func(s *packettest.Spec) { s.TCPOptions = make([]byte, 44-n) }, 1500, false},
			{"UDP", func(s *packettest.Spec) { s.Proto = ProtoUDP }, 1500, false},
			{"a superpacket", func(s *packettest.Spec) { s.Partial, s.GSOSize, s.Payload = true, 1460, pattern(30000) }, 1500, true},
			{"the largest superpacket", func(s *packettest.Spec) { s.Partial, s.GSOSize, s.Payload = true, 1460, pattern(65535-fam.hdrLen-20) }, 1500, false},
			{"segments too small", func(s *packettest.Spec) { s.Partial, s.GSOSize = true, 2*n-1 }, 1500, false},
		} {
			s := base
			tt.edit(&s)
			f := s.Frame()
			p := mustParse(t, &f)
			if got := AddTOA(&f, &p, AddrFrom(fam.client.Addr()), 1, tt.mtu); got != tt.want {
				t.Errorf("%s: %s: %v, want %v", fam.name, tt.name, got, tt.want)
			}
			if max := MaxSegment(f.Header, &p); f.Header.Super() && max > fam.hdrLen+20+1460 {
				t.Errorf("%s: %s: segments grew to %d bytes", fam.name, tt.name, max)
			}
		}
	}
}

// Without headroom a frame stays as it is.
func TestAddTOAWithoutHeadroom(t *testing.T) {
	for _, fam := range families {
		f := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK}.Frame()
		p := mustParse(t, &f)
		for n := 0; AddTOA(&f, &p, AddrFrom(fam.client.Addr()), 1, 1500); n++ {
			if n > tap.Headroom {
				t.Fatal("headroom without end")
			}
		}
		if !ChecksumOK(&f, &p) {
			t.Errorf("%s: wrong checksum", fam.name)
		}
	}
}

// Each segment of a superpacket carries the option, and together they carry the stream.
func TestSegmentsRepeatTOA(t *testing.T) {
	for _, fam := range families {
		payload := pattern(10_000)
		f := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK, Payload: payload, Partial: true, GSOSize: 1000}.Frame()
		p := mustParse(t, &f)
		if !AddTOA(&f, &p, AddrFrom(fam.client.Addr()), fam.client.Port(), 1500) {
			t.Fatal("refused")
		}
		var stream []byte
		Segment(&f, &p, tap.NewArena(1<<18), func(g *tap.Frame) {
			q := mustParse(t, g)
			b := g.Bytes()
			if !ChecksumOK(g, &q) || !bytes.Contains(b[q.L4+20:q.L4+q.L4Len], toa(fam.client)) || int(q.L3Len) > fam.hdrLen+20+1000 {
				t.Errorf("%s: segment %s: %x", fam.name, Describe(b), b[:80])
			}
			stream = append(stream, b[q.L4+q.L4Len:]...)
		})
		if !bytes.Equal(stream, payload) {
			t.Errorf("%s: the stream is not what it was", fam.name)
		}
	}
}

func TestLowerMSS(t *testing.T) {
	mss := func(n int) []byte { return []byte{2, 4, byte(n >> 8), byte(n)} }
	for _, fam := range families {
		for _, partial := range []bool{false, true} {
			for _, tt := range []struct {
				name         string
				before, want []byte
			}{
				{"alone", mss(1460), mss(1440)},
				{"behind others", append([]byte{1, 1, 4, 2}, mss(1460)...), append([]byte{1, 1, 4, 2}, mss(1440)...)},
				{"at an odd place", []byte{1, 2, 4, 5, 0xb4, 1, 1, 1}, []byte{1, 2, 4, 5, 0xa0, 1, 1, 1}},
				{"too small to take from", mss(40), mss(40)},
				{"none", []byte{1, 1, 1, 1}, []byte{1, 1, 1, 1}},
				{"behind the end", append([]byte{0, 1, 1, 1}, mss(1460)...), append([]byte{0, 1, 1, 1}, mss(1460)...)},
				{"of a wrong length", []byte{2, 3, 5, 1}, []byte{2, 3, 5, 1}},
				{"behind a lie", append([]byte{8, 0, 1, 1}, mss(1460)...), append([]byte{8, 0, 1, 1}, mss(1460)...)},
				{"beyond the header", []byte{1, 1, 1, 2}, []byte{1, 1, 1, 2}},
				{"longer than the header", []byte{1, 2, 9, 9}, []byte{1, 2, 9, 9}},
			} {
				s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: SYN | ACK, TCPOptions: tt.before, Partial: partial}
				f := s.Frame()
				p := mustParse(t, &f)
				p.LowerMSS(f.Bytes(), partial, 20)
				s.TCPOptions = tt.want
				if want := s.Frame(); !bytes.Equal(f.Bytes(), want.Bytes()) {
					t.Errorf("%s: %s: partial %v:\n got %x\nwant %x", fam.name, tt.name, partial, f.Bytes(), want.Bytes())
				}
			}
		}
	}
	f := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP}.Frame()
	p := mustParse(t, &f)
	p.LowerMSS(f.Bytes(), false, 8)
}

// SetEnds does what SetSrc and SetDst do.
func TestSetEndsIsBoth(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 50_000 {
		s := randomSpec(r)
		f := s.Frame()
		p := mustParse(t, &f)
		if !p.HasPorts || p.Proto == ProtoSCTP && p.Fragment {
			continue
		}
		six := s.Src.Addr().Is6()
		if r.IntN(4) == 0 && !six && !s.Partial && s.GSOSize == 0 { // a later fragment: its payload stays as it is
			s.FragOffset, s.MF = 8*(10+r.IntN(100)), false
			f = s.Frame()
			p = mustParse(t, &f)
		}
		src, dst := randomEnd(r, six), randomEnd(r, six)
		p.SetEnds(f.Bytes(), s.Partial, &Tuple{Src: AddrFrom(src.Addr()), Dst: AddrFrom(dst.Addr()), SrcPort: src.Port(), DstPort: dst.Port()})
		s.Src, s.Dst = src, dst
		if want := s.Frame(); !bytes.Equal(f.Bytes(), want.Bytes()) || mustParse(t, &f) != p {
			t.Fatalf("%+v\n got %x\nwant %x", s, f.Bytes(), want.Bytes())
		}
	}
}

func TestOptionsAllocateNothing(t *testing.T) {
	f := packettest.Spec{Src: client6, Dst: vip6, Flags: ACK, TCPOptions: []byte{2, 4, 5, 0xb4}, Payload: pattern(100)}.Frame()
	p := mustParse(t, &f)
	first, fresh := f, p
	a := AddrFrom(client6.Addr())
	if n := testing.AllocsPerRun(100, func() {
		f, p = first, fresh
		p.LowerMSS(f.Bytes(), false, 8)
		AddTOA(&f, &p, a, 1, 1500)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAddTOA(b *testing.B) {
	for _, fam := range families {
		b.Run(fam.name, func(b *testing.B) {
			f := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK}.Frame()
			p := mustParse(b, &f)
			first, fresh, a := f, p, AddrFrom(fam.client.Addr())
			b.ReportAllocs()
			for b.Loop() {
				f, p = first, fresh
				AddTOA(&f, &p, a, 1, 1500)
			}
		})
	}
}

func BenchmarkSetEnds(b *testing.B) {
	for _, fam := range families {
		b.Run(fam.name, func(b *testing.B) {
			f := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK}.Frame()
			p := mustParse(b, &f)
			to := p.Tuple
			by := f.Bytes()
			for b.Loop() {
				to.SrcPort++
				p.SetEnds(by, false, &to)
			}
		})
	}
}
