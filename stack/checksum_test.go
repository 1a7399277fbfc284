package stack

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// The example of RFC 1624 section 4: a field of 0x5555 becomes 0x3285, and the checksum of 0xDD2F must become 0x0000.
func TestPatchRFC1624(t *testing.T) {
	if got := patch(0xdd2f, delta16(0x5555, 0x3285)); got != 0 {
		t.Errorf("patch = %#04x, want 0 (0xffff is the mistake of RFC 1141)", got)
	}
}

// slowFold is fold as RFC 1071 writes it.
func slowFold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestFold(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, s := range []uint64{0, 1, 0xffff, 0x10000, 0x1ffff, 0xfffeffff, 0xffffffff, 1<<33 + 0xffff, 1<<48 - 1} {
		if got := fold(s); got != slowFold(s) {
			t.Errorf("fold(%#x) = %#x, want %#x", s, got, slowFold(s))
		}
	}
	for range 100_000 {
		s := r.Uint64() >> (16 + r.UintN(48))
		if got := fold(s); got != slowFold(s) {
			t.Fatalf("fold(%#x) = %#x, want %#x", s, got, slowFold(s))
		}
	}
}

// deltaAddr is the same sum as word by word.
func TestDeltaAddr(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 100_000 {
		old, to := Addr{r.Uint64(), r.Uint64()}, Addr{r.Uint64(), r.Uint64()}
		if r.IntN(4) == 0 {
			old.hi, to.hi, old.lo, to.lo = 0, ^uint64(0)>>r.UintN(64), ^uint64(0), 0
		}
		o, n := old.As16(), to.As16()
		want := checksum.Checksum(n[:], 0)
		for i := range o {
			o[i] = ^o[i]
		}
		want = checksum.Checksum(o[:], want)
		if got := fold(uint64(deltaAddr(old, to))); !sameSum(got, want) {
			t.Fatalf("%v to %v: %#x, want %#x", old, to, got, want)
		}
	}
}

func TestPseudoHeader(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 50_000 {
		s := randomSpec(r)
		f := s.Frame()
		p := mustParse(t, &f)
		want := header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(p.Proto), tcpip.AddrFromSlice(s.Src.Addr().AsSlice()),
			tcpip.AddrFromSlice(s.Dst.Addr().AsSlice()), 1234)
		if p.Kind == KindIPv4 && p.Proto == ProtoICMP {
			want = 0
		}
		if got := p.pseudoHeader(1234); !sameSum(got, want) {
			t.Fatalf("%+v: %#x, want %#x", s, got, want)
		}
	}
}

// A completed frame is the frame that was never partial.
func TestCompleteChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	n := 0
	for range 20_000 {
		s := randomSpec(r)
		s.GSOSize = 0
		f := s.Frame()
		p := mustParse(t, &f)
		CompleteChecksum(&f, &p)
		if s.Partial {
			n++
		}
		s.Partial = false
		w := s.Frame()
		if !bytes.Equal(f.Bytes(), w.Bytes()) || f.Header != (tap.Header{}) {
			t.Fatalf("%+v\n got %x %+v\nwant %x", s, f.Bytes(), f.Header, w.Bytes())
		}
	}
	if n == 0 {
		t.Error("no frame was partial")
	}
}

func TestChecksumOK(t *testing.T) {
	for _, fam := range families {
		for _, s := range []packettest.Spec{
			{Proto: ProtoTCP}, {Proto: ProtoTCP, Partial: true}, {Proto: ProtoUDP}, {Proto: ProtoUDP, Partial: true},
			{Proto: fam.icmp, ICMPType: fam.echo}, {Proto: fam.icmp, ICMPType: 3},
		} {
			s.Src, s.Dst, s.Payload = fam.client, fam.vip, pattern(31)
			f := s.Frame()
			p := mustParse(t, &f)
			if !ChecksumOK(&f, &p) {
				t.Errorf("%s %+v: a right checksum is called wrong", fam.name, s)
			}
			f.Bytes()[p.csum] ^= 1
			if ChecksumOK(&f, &p) {
				t.Errorf("%s %+v: a wrong checksum is called right", fam.name, s)
			}
		}
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoUDP, NoCsum: true}
		f := s.Frame()
		p := mustParse(t, &f)
		if want := fam.name == "IPv4"; ChecksumOK(&f, &p) != want {
			t.Errorf("%s UDP without checksum: %v, want %v", fam.name, !want, want)
		}
	}
}

// What cannot be checked is not called wrong; the IPv4 header can always be checked.
func TestChecksumOKOfFragment(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, FragOffset: 80, Payload: pattern(80)}
	f := s.Frame()
	p := mustParse(t, &f)
	if !ChecksumOK(&f, &p) {
		t.Error("a later fragment has nothing to be wrong")
	}
	f.Bytes()[22]--
	if ChecksumOK(&f, &p) {
		t.Error("a wrong IPv4 header is called right")
	}
}

// zeroSum is a UDP packet whose checksum comes out as 0: its last word is the checksum of the rest.
func zeroSum(fam family) packettest.Spec {
	s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoUDP, Payload: make([]byte, 4)}
	b := s.Bytes()
	copy(s.Payload[2:], b[14+fam.hdrLen+udpCsumOff:][:2])
	return s
}

func TestComputedZeroIsWrittenAsOnes(t *testing.T) {
	for _, fam := range families {
		full, partial := zeroSum(fam), zeroSum(fam)
		partial.Partial = true
		f, c, again := full.Frame(), partial.Frame(), full.Frame()
		p := mustParse(t, &f)
		q := mustParse(t, &c)
		CompleteChecksum(&c, &q)
		p.setL4Checksum(p.l4Packet(again.Bytes()), udpCsumOff)
		for name, got := range map[string]tap.Frame{"built": f, "completed": c, "computed": again} {
			if sum := got.Bytes()[p.csum:][:2]; !bytes.Equal(sum, []byte{255, 255}) || !ChecksumOK(&got, &p) {
				t.Errorf("%s %s: %x", fam.name, name, sum)
			}
		}
	}
}
