package stack

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"tapdirector/tap"
)

// A frame that is alike the one before is what Parse says of it; so is one in which any byte, or any field of the virtio header, was changed.
func TestAlikeIsParse(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	taken, supers := map[bool]int{}, 0
	for range 100_000 {
		s := randomSpec(r)
		before := s.Frame()
		var q Packet
		if Parse(&before, &q) != ReasonNone {
			continue
		}
		s.Payload, s.Seq, s.Flags = make([]byte, r.IntN(100)), r.Uint32(), uint8(r.Uint32())
		s.Partial, s.GSOSize = false, 0
		if ports := s.Proto == ProtoTCP || s.Proto == ProtoUDP; ports && !s.MF && s.FragOffset == 0 && !s.NoCsum && r.IntN(2) == 0 {
			s.Partial, s.GSOSize = true, max(0, r.IntN(40)-20)
		}
		f := s.Frame()
		if r.IntN(4) == 0 {
			f = tap.NewFrame(f.Header, append(f.Bytes(), make([]byte, r.IntN(20))...))
		}
		switch r.IntN(4) {
		case 0:
			b := f.Bytes()
			b[r.IntN(min(len(b), 80))] ^= 1 << r.IntN(8)
		case 1:
			f.Header = randomHeader(r, f.Header)
		case 2:
			var p Packet
			if g := f.Clone(); Parse(&g, &p) == ReasonNone && p.csum != 0 { // a sum of 0, which with UDP means that there is none unless it is partial
				f.Bytes()[p.csum], f.Bytes()[p.csum+1] = 0, 0
			}
		}
		twin, was := f.Clone(), f.Clone()
		var p, want Packet
		p = q
		ok := Alike(&f, before.Bytes(), &p.Own)
		taken[ok]++
		if ok && f.Header.Super() {
			supers++
		}
		if !ok {
			if !bytes.Equal(f.Bytes(), was.Bytes()) || f.Header != was.Header {
				t.Fatalf("%+v: refused, and edited", s)
			}
			continue
		}
		if Mix(f.Bytes()) != Mix(before.Bytes()) {
			t.Fatalf("%+v: alike, and mixed differently", s)
		}
		if reason := Parse(&twin, &want); reason != ReasonNone || p != want || !bytes.Equal(f.Bytes(), twin.Bytes()) || f.Header != twin.Header {
			t.Fatalf("%+v\nalike %+v\nParse %+v %v", s, p, want, reason)
		}
	}
	if taken[true] < 5_000 || taken[false] < 5_000 || supers < 1_000 {
		t.Errorf("taken or not: %v, of superpackets %d", taken, supers)
	}
}

// randomHeader returns h with a field changed, or one that has nothing to do with it.
func randomHeader(r *rand.Rand, h tap.Header) tap.Header {
	switch r.IntN(7) {
	case 0:
		h.Flags ^= 1 << r.IntN(8)
	case 1:
		h.GSOType ^= []uint8{tap.GSOTCPv4, tap.GSOTCPv6, tap.GSOUDPL4, tap.GSOUDP, tap.GSOECN, 2}[r.IntN(6)]
	case 2:
		h.GSOSize = uint16(r.IntN(2))
	case 3:
		h.CsumStart += uint16(r.IntN(3)) - 1
	case 4:
		h.CsumOffset += uint16(r.IntN(3)) - 1
	case 5:
		h.HdrLen = uint16(r.IntN(100))
	default:
		h = tap.Header{Flags: uint8(r.IntN(4)), GSOType: uint8(r.IntN(6) / 5), HdrLen: uint16(r.IntN(100))}
	}
	return h
}

// parseSimple is parseIPv4 for what it takes: with a length of headers in its virtio header a frame is none of its.
func TestParseSimpleIsParse(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 200_000 {
		s := randomSpec(r)
		s.Partial, s.GSOSize = false, 0
		f := s.Frame()
		if r.IntN(4) == 0 {
			f = tap.NewFrame(f.Header, append(f.Bytes(), make([]byte, r.IntN(20))...))
		}
		if r.IntN(2) == 0 {
			b := f.Bytes()
			b[r.IntN(min(len(b), 60))] ^= 1 << r.IntN(8)
		}
		twin := f.Clone()
		twin.Header.HdrLen = 1
		var p, q Packet
		got, want := Parse(&f, &p), Parse(&twin, &q)
		if got != want || got == ReasonNone && (p != q || !bytes.Equal(f.Bytes(), twin.Bytes())) {
			t.Fatalf("%x\n got %v %+v\nwant %v %+v", f.Bytes(), got, p, want, q)
		}
	}
}

// A Rewrite edits as SetMACs, SetEnds and DecTTL do.
func TestRewriteIsSetEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	done := 0
	for range 100_000 {
		s := randomSpec(r)
		f := s.Frame()
		p := mustParse(t, &f)
		if !p.Simple() || p.TTL == 0 {
			continue
		}
		to, a := p.Tuple, randomEnd(r, s.Dst.Addr().Is6())
		dst, src := MACWord(r.Uint64()>>16), MACWord(r.Uint64()>>16)
		var edit Rewrite
		edit.Begin(&p, dst, src)
		switch r.IntN(5) {
		case 0:
			to.Src, to.SrcPort = AddrFrom(a.Addr()), a.Port()
			edit.SetSrc(&p, to.Src, to.SrcPort)
		case 1:
			to.Dst, to.DstPort = AddrFrom(a.Addr()), a.Port()
			edit.SetDst(&p, to.Dst, to.DstPort)
		case 2:
			b := randomEnd(r, s.Dst.Addr().Is6())
			to.Src, to.SrcPort, to.Dst, to.DstPort = AddrFrom(a.Addr()), a.Port(), AddrFrom(b.Addr()), b.Port()
			edit.SetEnds(&p, &to)
		case 3:
			edit.SetEnds(&p, &to)
		}
		twin, q := f.Clone(), p
		edit.Apply(&f, p.NoCsum)
		SetMACs(twin.Bytes(), dst, src)
		q.SetEnds(twin.Bytes(), f.Header.Partial(), &to)
		q.DecTTL(twin.Bytes())
		if !bytes.Equal(f.Bytes(), twin.Bytes()) {
			t.Fatalf("%+v to %+v\n got %x\nwant %x", s, to, f.Bytes(), twin.Bytes())
		}
		done++
	}
	if done < 10_000 {
		t.Errorf("only %d packets", done)
	}
}
