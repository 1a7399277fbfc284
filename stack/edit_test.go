package stack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

func TestSetMACs(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4}
	b := s.Bytes()
	dst, src := MAC{2, 1, 2, 3, 4, 5}, MAC{2, 6, 7, 8, 9, 10}
	SetMACs(b, WordOf(dst), WordOf(src))
	if DstMAC(b) != dst || SrcMAC(b) != src || DstWord(b) != WordOf(dst) || SrcWord(b) != WordOf(src) || DstWord(b).MAC() != dst {
		t.Errorf("%x", b[:14])
	}
}

// An edited packet is, byte for byte, the packet that would have been built with the new addresses and ports. The builder sums
// everything anew with gVisor's code: the slow twin of our deltas.
func TestEditIsRebuild(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		s := randomSpec(r)
		if s.Proto == ProtoSCTP && s.MF {
			continue // its checksum cannot be edited
		}
		f := s.Frame()
		p := mustParse(t, &f)
		dst, src := randomEnd(r, s.Dst.Addr().Is6()), randomEnd(r, s.Dst.Addr().Is6())
		b, partial := f.Bytes(), f.Header.Partial()
		p.SetDst(b, partial, AddrFrom(dst.Addr()), dst.Port())
		p.SetSrc(b, partial, AddrFrom(src.Addr()), src.Port())
		p.DecTTL(b)

		was := s
		s.Src, s.Dst, s.TTL = src, dst, s.TTL-1
		if p.echo {
			s.ICMPID = src.Port()
		}
		w := s.Frame()
		if !bytes.Equal(b, w.Bytes()) {
			t.Fatalf("%+v\n got %x\nwant %x", was, b, w.Bytes())
		}
		if again := mustParse(t, &f); again != p {
			t.Fatalf("%+v\nthe edited Packet  %+v\nthe frame's Packet %+v", was, p, again)
		}
		if w := s; !ChecksumOK(&f, &p) && !(w.NoCsum && p.Kind == KindIPv6) {
			t.Fatalf("%+v: checksum", was)
		}
	}
}

// The same against gVisor's setters, which know of full and partial checksums themselves.
func TestEditLikeGVisor(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		s := randomSpec(r)
		if s.Proto != ProtoTCP && s.Proto != ProtoUDP || s.FragOffset > 0 {
			continue
		}
		f, twin := s.Frame(), s.Frame()
		p := mustParse(t, &f)
		dst := randomEnd(r, s.Dst.Addr().Is6())
		gvisorSetDst(twin.Bytes(), p, s.Partial, dst)
		p.SetDst(f.Bytes(), s.Partial, AddrFrom(dst.Addr()), dst.Port())
		if !bytes.Equal(f.Bytes(), twin.Bytes()) {
			t.Fatalf("%+v\n  ours %x\ngVisor %x", s, f.Bytes(), twin.Bytes())
		}
	}
}

func gvisorSetDst(b []byte, p Packet, partial bool, to netip.AddrPort) {
	old, dst := tcpip.AddrFromSlice(p.Dst.Netip().AsSlice()), tcpip.AddrFromSlice(to.Addr().AsSlice())
	if p.Kind == KindIPv4 {
		header.IPv4(b[p.L3:]).SetDestinationAddressWithChecksumUpdate(dst)
	} else {
		header.IPv6(b[p.L3:]).SetDestinationAddress(dst)
	}
	l4 := header.ChecksummableTransport(header.TCP(b[p.L4:]))
	if p.Proto == ProtoUDP {
		l4 = header.UDP(b[p.L4:])
	}
	if p.NoCsum && partial {
		panic("a partial checksum is never missing")
	}
	l4.UpdateChecksumPseudoHeaderAddress(old, dst, !partial)
	if partial {
		l4.SetDestinationPort(to.Port())
	} else {
		l4.SetDestinationPortWithChecksumUpdate(to.Port())
	}
}

// A wrong checksum stays wrong: an edit must not mend what was damaged on the way.
func TestEditKeepsDamage(t *testing.T) {
	for _, fam := range families {
		for _, proto := range []uint8{ProtoTCP, ProtoUDP, ProtoSCTP, fam.icmp} {
			s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: proto, ICMPType: fam.echo, Payload: pattern(50)}
			f := s.Frame()
			f.Bytes()[f.Len()-1] ^= 4
			p := mustParse(t, &f)
			p.SetDst(f.Bytes(), false, AddrFrom(fam.server.Addr()), fam.server.Port())
			p.SetSrc(f.Bytes(), false, AddrFrom(fam.vip.Addr()), 1)
			if ChecksumOK(&f, &p) {
				t.Errorf("%s protocol %d: the damage is gone", fam.name, proto)
			}
		}
	}
}

// UDP gives 0 a meaning: a computed 0 is written as 0xffff. The port is chosen so that the sum comes out at that.
func TestEditUDPComputedZero(t *testing.T) {
	for _, fam := range families {
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoUDP, Payload: pattern(10)}
		f := s.Frame()
		p := mustParse(t, &f)
		// With port 0 the checksum is the complement of all the rest: just that port makes the whole sum 0xffff.
		p.SetDst(f.Bytes(), false, p.Dst, 0)
		port := binary.BigEndian.Uint16(f.Bytes()[p.csum:])
		p.SetDst(f.Bytes(), false, p.Dst, port)
		if got := binary.BigEndian.Uint16(f.Bytes()[p.csum:]); got != 0xffff || !ChecksumOK(&f, &p) {
			t.Errorf("%s: checksum %#04x, want 0xffff", fam.name, got)
		}
		// And from 0xffff on to another port.
		p.SetDst(f.Bytes(), false, p.Dst, 53)
		if !ChecksumOK(&f, &p) {
			t.Errorf("%s: wrong after leaving 0xffff", fam.name)
		}
	}
}

// An echo reply that becomes all zeros is the one packet whose sum is the other zero.
func TestEditEchoOfZeros(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoICMP, ICMPID: 5, Payload: make([]byte, 8)}
	f := s.Frame()
	p := mustParse(t, &f)
	p.SetDst(f.Bytes(), false, p.Dst, 0)
	if !ChecksumOK(&f, &p) {
		t.Errorf("checksum %x", f.Bytes()[p.csum:p.csum+2])
	}
	p.SetDst(f.Bytes(), false, p.Dst, 6)
	if !ChecksumOK(&f, &p) {
		t.Errorf("checksum %x", f.Bytes()[p.csum:p.csum+2])
	}
}

func TestDecTTL(t *testing.T) {
	for _, fam := range families {
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, TTL: 255}
		f := s.Frame()
		p := mustParse(t, &f)
		for want := 254; want >= -1; want-- {
			p.DecTTL(f.Bytes())
			again := mustParse(t, &f) // verifies the header checksum, too
			if again.TTL != uint8(max(want, 0)) || again != p {
				t.Fatalf("%s: TTL %d, Packet says %d; want %d", fam.name, again.TTL, p.TTL, max(want, 0))
			}
		}
	}
}

func TestPathAllocatesNothing(t *testing.T) {
	for _, fam := range families {
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, TTL: 255, Payload: pattern(3000), Partial: true, GSOSize: 1448}
		f := s.Frame()
		a := tap.NewArena(1 << 20)
		n := 0
		count := func(*tap.Frame) { n++ }
		to, from := AddrFrom(fam.server.Addr()), AddrFrom(fam.client.Addr())
		got := testing.AllocsPerRun(100, func() {
			var p Packet
			if Parse(&f, &p) != ReasonNone {
				t.Fatal("parse")
			}
			p.SetDst(f.Bytes(), true, to, 8000)
			p.SetSrc(f.Bytes(), true, from, 1)
			p.DecTTL(f.Bytes())
			SetMACs(f.Bytes(), SrcWord(f.Bytes()), DstWord(f.Bytes()))
		})
		if got != 0 {
			t.Errorf("%s: parse and edits allocate %v times", fam.name, got)
		}
		p := mustParse(t, &f)
		got = testing.AllocsPerRun(100, func() {
			a.Reset()
			if !Segment(&f, &p, a, count) {
				t.Fatal("segment")
			}
			if _, ok := RSTFrame(&f, &p, a); !ok {
				t.Fatal("reset")
			}
			if _, ok := ICMPErrorFrame(ICMPTooBig, to, 1400, &f, &p, a); !ok {
				t.Fatal("ICMP error")
			}
		})
		if got != 0 || n == 0 {
			t.Errorf("%s: segments and replies allocate %v times", fam.name, got)
		}
	}
}
