package stack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// The slow twin of Translate is packettest, which builds packets by gVisor's encoders: what is translated must be what is built of the translated
// specification, byte for byte, virtio header included.

// otherEnds are the ends of a translated packet, of the other family than src.
func otherEnds(src netip.AddrPort) (netip.AddrPort, netip.AddrPort) {
	if src.Addr().Is4() {
		return vip6, server6
	}
	return vip4, server4
}

func tupleOf(src, dst netip.AddrPort, proto uint8) *Tuple {
	return &Tuple{Src: AddrFrom(src.Addr()), Dst: AddrFrom(dst.Addr()), SrcPort: src.Port(), DstPort: dst.Port(), Proto: proto}
}

// crossed is what RFC 7915 makes of a packet, with IPv4's identification id.
func crossed(s packettest.Spec, id uint16) packettest.Spec {
	from6, size := s.Src.Addr().Is6(), len(s.Bytes())-14
	s.Src, s.Dst = otherEnds(s.Src)
	size -= len(s.IPOptions) + len(s.Ext)
	s.IPOptions = nil
	if !from6 {
		super := s.GSOSize > 0
		if s.MF || s.FragOffset > 0 || !s.DF && !super && size+20 > 1280 {
			s.ExtFirst, s.Ext = extFragment, make([]byte, 8)
			s.Ext[0] = s.Proto
			binary.BigEndian.PutUint16(s.Ext[2:], uint16(s.FragOffset))
			binary.BigEndian.PutUint32(s.Ext[4:], uint32(s.ID))
			if s.MF {
				s.Ext[3] |= 1
			}
		}
		s.Partial = s.Partial || super && s.NoCsum
		s.NoCsum, s.MF, s.ID, s.DF = false, false, 0, false
		return s
	}
	if n := s.GSOSize; n > 0 {
		size = min(size, size-len(s.Payload)+n)
	}
	s.DF, s.ID = size-20 > 1260, id
	if fragment := s.ExtFirst == extFragment; fragment {
		h := s.Ext[len(s.Ext)-8:]
		s.DF, s.ID, s.MF = false, binary.BigEndian.Uint16(h[6:]), h[3]&1 != 0
		s.FragOffset = int(binary.BigEndian.Uint16(h[2:]) &^ 7)
	}
	if s.DF {
		s.ID = 0
	}
	s.Ext, s.ExtFirst = nil, 0
	return s
}

// setClass writes TOS or traffic class into a frame; of IPv6 a flow label too.
func setClass(f *tap.Frame, tos uint8) {
	b := f.Bytes()
	if b[14]>>4 == 6 {
		header.IPv6(b[14:]).SetTOS(tos, 0x12345)
		return
	}
	b[15] = tos
	fixIPv4(b)
}

// checkCrossed translates the packet of s and compares it with the twin's.
func checkCrossed(t *testing.T, s packettest.Spec, tos uint8, id uint16) {
	t.Helper()
	f := s.Frame()
	setClass(&f, tos)
	p := mustParse(t, &f)
	w := crossed(s, id)
	want := w.Frame()
	setClass(&want, tos)
	if w.Src.Addr().Is6() {
		header.IPv6(want.Bytes()[14:]).SetTOS(tos, 0)
	}
	most := p.MaxAcross(f.Header)
	tuple := tupleOf(w.Src, w.Dst, s.Proto)
	if !Translate(&f, &p, tuple, id) {
		t.Fatalf("refused: %+v", s)
	}
	copy(f.Bytes()[:12], want.Bytes()[:12])
	if !bytes.Equal(f.Bytes(), want.Bytes()) || f.Header != want.Header {
		t.Fatalf("of %+v\n got %x %+v\nwant %x %+v", s, f.Bytes(), f.Header, want.Bytes(), want.Header)
	}
	q := mustParse(t, &f)
	if q.Kind == KindIPv6 {
		q.DF = p.DF
	}
	if q != p {
		t.Fatalf("says of itself %+v\nis %+v", p, q)
	}
	if n := MaxSegment(f.Header, &p); n != most {
		t.Fatalf("%d bytes, foretold %d", n, most)
	}
}

func TestTranslateIsRebuild(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	n := 20000
	if testing.Short() {
		n = 2000
	}
	for range n {
		s := randomSpec(r)
		if s.Proto != ProtoTCP && s.Proto != ProtoUDP && s.Proto != ProtoSCTP {
			continue
		}
		if s.Src.Addr().Is6() {
			randomFragment6(r, &s)
		}
		if first := s.MF && s.FragOffset == 0; s.Src.Addr().Is4() && s.NoCsum && first {
			s.NoCsum = false
		}
		if r.IntN(4) == 0 && !s.MF && s.FragOffset == 0 && s.ExtFirst != extFragment {
			s.Payload = randomBytes(r, 1150+r.IntN(200))
		}
		if f := s.Frame(); s.Proto == ProtoSCTP { // the checksum of a first fragment cannot be edited
			if p := mustParse(t, &f); p.First {
				continue
			}
		}
		// Ports stay those of the spec's ends, which the twin has from there.
		checkCrossed(t, s, uint8(r.Uint32()), uint16(r.Uint32()))
	}
}

// randomFragment6 makes an IPv6 packet a fragment, now and then.
func randomFragment6(r *rand.Rand, s *packettest.Spec) {
	h := []byte{s.Proto, 0, 0, 0, 0, 0, byte(r.Uint32()), byte(r.Uint32())}
	switch r.IntN(6) {
	case 0: // atomic
	case 1:
		h[3] = 1
		s.TCPOptions, s.Payload = nil, randomBytes(r, 68)
		if s.Proto == ProtoUDP {
			s.Payload = s.Payload[:64]
		}
	case 2:
		s.FragOffset, s.Payload = 8*(8+r.IntN(1000)), randomBytes(r, 64)
		binary.BigEndian.PutUint16(h[2:], uint16(s.FragOffset))
	default:
		return
	}
	s.ExtFirst, s.Ext, s.Partial, s.GSOSize = extFragment, h, false, 0
}

// There and back is where one was, but for what is lost.
func TestTranslateThereAndBack(t *testing.T) {
	for _, fam := range families {
		for _, proto := range []uint8{ProtoTCP, ProtoUDP} {
			for _, size := range []int{0, 1, 1000, 1400, 60000} {
				s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: proto, DF: true, Flags: ACK, Payload: pattern(size)}
				f := s.Frame()
				p, first := mustParse(t, &f), slices.Clone(f.Bytes())
				src, dst := otherEnds(s.Src)
				back := p.Tuple
				if !Translate(&f, &p, tupleOf(src, dst, proto), 1) || !Translate(&f, &p, &back, 0) {
					t.Fatal("refused")
				}
				if fam.name == "IPv4" && size <= 1232-8 {
					f.Bytes()[20] |= 0x40 // DF is lost in small packets
					fixIPv4(f.Bytes())
				}
				if copy(f.Bytes()[:12], first); !bytes.Equal(f.Bytes(), first) {
					t.Errorf("%s, protocol %d, %d bytes: came back as\n%x\nwant\n%x", fam.name, proto, size, f.Bytes()[:80], first[:min(80, len(first))])
				}
			}
		}
	}
}

// What must not pass is refused and stays as it is.
func TestTranslateRefuses(t *testing.T) {
	udp4 := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(64), MF: true, NoCsum: true}
	auth := packettest.Spec{Src: client6, Dst: vip6, ExtFirst: extAuth, Ext: []byte{ProtoTCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
	behind := packettest.Spec{Src: client6, Dst: vip6, Proto: ProtoUDP, ExtFirst: extFragment, Payload: pattern(64),
		Ext: []byte{extDest, 0, 0, 1, 0, 0, 0, 9, ProtoUDP, 0, 1, 4, 0, 0, 0, 0}}
	far := fragment6(ProtoUDP, 65480, false, pattern(40))
	long := packettest.Spec{Src: client6, Dst: vip6, Proto: ProtoUDP, Payload: pattern(65516 - 8)}
	echo := packettest.Spec{Src: client6, Dst: vip6, Proto: ProtoICMPv6, ICMPType: 128}
	for name, s := range map[string]packettest.Spec{"first fragment without checksum": udp4, "authentication header": auth, "headers behind the fragment header": behind,
		"a fragment beyond IPv4's end": far, "more bytes than IPv4 can hold": long, "an echo": echo} {
		f := s.Frame()
		p, h, before := mustParse(t, &f), f.Header, slices.Clone(f.Bytes())
		q := p
		src, dst := otherEnds(s.Src)
		if Translate(&f, &p, tupleOf(src, dst, s.Proto), 1) || !bytes.Equal(f.Bytes(), before) || p != q || f.Header != h {
			t.Errorf("%s: taken, or changed", name)
		}
	}
	// The last byte of a fragment may be the last of an IPv4 datagram.
	checkCrossed(t, fragment6(ProtoUDP, 65480, false, pattern(35)), 0, 0)
}

// Without headroom nothing happens.
func TestTranslateNeedsHeadroom(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4, DF: true}
	f := s.Frame()
	f.Prepend(tap.Headroom - tap.HeaderLen - 19)
	b := f.Bytes()
	copy(b, s.Bytes())
	f.Trim(len(s.Bytes()))
	p := mustParse(t, &f)
	if Translate(&f, &p, tupleOf(vip6, server6, ProtoTCP), 1) || !bytes.Equal(f.Bytes(), s.Bytes()) {
		t.Error("translated into the virtio header")
	}
}

// An IPv4 packet that may be cut becomes fragments that put together are the translated packet.
func TestFragmentIPv6(t *testing.T) {
	for _, s := range []packettest.Spec{
		{Proto: ProtoUDP, Payload: pattern(1400), ID: 77},
		{Proto: ProtoUDP, Payload: pattern(1400), ID: 77, NoCsum: true},
		{Proto: ProtoUDP, Payload: pattern(40000), ID: 77, Partial: true},
		{Proto: ProtoTCP, Payload: pattern(3000), ID: 9, Flags: ACK},
	} {
		s.Src, s.Dst = client4, vip4
		f := s.Frame()
		p := mustParse(t, &f)
		if !p.CutAcross(f.Header) || !Translate(&f, &p, tupleOf(vip6, server6, s.Proto), 0) || p.DF {
			t.Fatalf("cannot be cut: %+v", p)
		}
		var out []tap.Frame
		a := tap.NewArena(1 << 18)
		if !FragmentIPv6(&f, &p, 1280, a, func(g *tap.Frame) { out = append(out, g.Clone()) }) {
			t.Fatal("not cut")
		}
		for i := range out {
			if q := mustParse(t, &out[i]); q.L3Len > 1280 || q.Piece(out[i].Bytes()).ID != uint32(s.ID) {
				t.Errorf("fragment %d: %d bytes, %+v", i, q.L3Len, q.Piece(out[i].Bytes()))
			}
		}
		got, err := packettest.Reassemble(out)
		if err != nil {
			t.Fatal(err)
		}
		s.Src, s.Dst, s.NoCsum, s.Partial = vip6, server6, false, false
		if want := s.Bytes(); !bytes.Equal(got.Bytes()[14:], want[14:]) {
			t.Errorf("%d bytes put together are not the packet of %d", got.Len(), len(want))
		}
	}
	whole := packettest.Spec{Src: client6, Dst: vip6, Payload: pattern(1400)}.Frame()
	p := mustParse(t, &whole)
	if FragmentIPv6(&whole, &p, 1280, tap.NewArena(1<<16), func(*tap.Frame) {}) {
		t.Error("a packet of somebody else was cut")
	}
}

// checkTranslate translates any packet of TCP or UDP that Parse took, there and back: it stays what its Packet says, its checksum as right as before.
func checkTranslate(t *testing.T, f tap.Frame, p Packet) {
	t.Helper()
	there, back := tupleOf(vip6, server6, p.Proto), p.Tuple
	if p.Kind == KindIPv6 {
		there = tupleOf(vip4, server4, p.Proto)
	}
	right := ChecksumOK(&f, &p)
	for _, ends := range []*Tuple{there, &back} {
		cut, most := p.CutAcross(f.Header), p.MaxAcross(f.Header)
		bare := p.NoCsum && p.Kind == KindIPv4
		before := slices.Clone(f.Bytes())
		if !Translate(&f, &p, ends, 7) {
			if !bytes.Equal(f.Bytes(), before) {
				t.Fatalf("refused and changed: %x", f.Bytes())
			}
			return
		}
		SetMACs(f.Bytes(), WordOf(MAC{2}), WordOf(MAC{2}))
		again := mustParse(t, &f)
		if p.Kind == KindIPv6 {
			again.DF = p.DF
		}
		if again != p || MaxSegment(f.Header, &p) != most || p.Kind == KindIPv4 && p.DF == cut {
			t.Fatalf("translated %+v\n      got %+v, %d bytes at most, may be cut %v\n%x", p, again, most, cut, f.Bytes())
		}
		if now := ChecksumOK(&f, &p); now != right && !bare && !p.NoCsum {
			t.Fatalf("checksum right before: %v, after: %v\n%+v\n%x", right, now, p, f.Bytes())
		}
		right = ChecksumOK(&f, &p)
	}
}
