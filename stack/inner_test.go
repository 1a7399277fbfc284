package stack

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// icmpErrorAbout is an ICMP error that quotes the first n bytes of a packet, to the packet's source; all is of one family.
func icmpErrorAbout(s packettest.Spec, fam family, n int) packettest.Spec {
	quote := s.Bytes()[14:]
	t := uint8(11)
	if fam.name == "IPv6" {
		t = 3
	}
	return packettest.Spec{Src: fam.server, Dst: s.Src, Proto: fam.icmp, ICMPType: t, Payload: quote[:min(n, len(quote))]}
}

func TestIsICMPError(t *testing.T) {
	for _, fam := range families {
		errors := map[uint8]bool{3: true, 4: true, 5: true, 11: true, 12: true}
		if fam.name == "IPv6" {
			errors = map[uint8]bool{1: true, 2: true, 3: true, 4: true, 127: true}
		}
		for _, typ := range []uint8{0, 1, 2, 3, 4, 5, 8, 11, 12, 13, 127, 128, 129, 135} {
			s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: fam.icmp, ICMPType: typ}
			f := s.Frame()
			p := mustParse(t, &f)
			want := errors[typ] || fam.name == "IPv6" && typ < 128
			if p.IsICMPError() != want {
				t.Errorf("%s type %d: %v", fam.name, typ, !want)
			}
		}
		s := packettest.Spec{Src: fam.client, Dst: fam.vip}
		f := s.Frame()
		if p := mustParse(t, &f); p.IsICMPError() {
			t.Errorf("%s TCP is an ICMP error", fam.name)
		}
	}
}

// An error about a packet, both ends of the quote translated, is the error about the translated packet.
func TestInnerEditIsRebuild(t *testing.T) {
	for _, fam := range families {
		for _, tt := range []struct {
			name string
			s    packettest.Spec
			n    int // bytes of L4 quoted
		}{
			{"TCP, whole", packettest.Spec{Flags: ACK, Payload: pattern(30)}, 1000},
			{"TCP, 8 bytes", packettest.Spec{Flags: ACK, Payload: pattern(30)}, 8},
			{"TCP, up to half the checksum", packettest.Spec{Flags: ACK, Payload: pattern(30)}, 17},
			{"TCP, just with the checksum", packettest.Spec{Flags: ACK, Payload: pattern(30)}, 18},
			{"UDP", packettest.Spec{Proto: ProtoUDP, Payload: pattern(31)}, 20},
			{"UDP without checksum", packettest.Spec{Proto: ProtoUDP, Payload: pattern(31), NoCsum: true}, 20},
			{"echo", packettest.Spec{Proto: fam.icmp, ICMPType: fam.echo, ICMPID: 40123}, 8},
		} {
			t.Run(fam.name+" "+tt.name, func(t *testing.T) {
				tt.s.Src, tt.s.Dst = fam.client, fam.vip
				s := icmpErrorAbout(tt.s, fam, fam.hdrLen+tt.n)
				f := s.Frame()
				p := mustParse(t, &f)
				var q Packet
				if !p.Inner(f.Bytes(), &q) || q.Src != AddrFrom(fam.client.Addr()) || q.Dst != AddrFrom(fam.vip.Addr()) || q.SrcPort != 40123 {
					t.Fatalf("inner %+v", q)
				}
				q.SetSrc(f.Bytes(), false, AddrFrom(fam.vip.Addr()), 77)
				q.SetDst(f.Bytes(), false, AddrFrom(fam.server.Addr()), 88)
				p.FixICMP(f.Bytes())

				moved := tt.s
				moved.Src, moved.Dst, moved.ICMPID = withPort(fam.vip, 77), withPort(fam.server, 88), 88
				want := s
				want.Payload = moved.Bytes()[14:]
				if n := fam.hdrLen + tt.n; tt.n == 17 { // half a checksum cannot be kept right
					want.Payload = append(want.Payload[:n-1:n-1], s.Payload[n-1])
				}
				want.Payload = want.Payload[:min(fam.hdrLen+tt.n, len(want.Payload))]
				if w := want.Frame(); !bytes.Equal(f.Bytes(), w.Bytes()) {
					t.Errorf("\n got %x\nwant %x", f.Bytes(), w.Bytes())
				}
			})
		}
	}
}

func TestInnerRefuses(t *testing.T) {
	for _, fam := range families {
		other := families[0]
		if fam.name == "IPv4" {
			other = families[1]
		}
		whole := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK}
		foreign := packettest.Spec{Src: other.client, Dst: other.vip, Flags: ACK}
		ping := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: other.icmp, ICMPType: other.echo}
		unreachable := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: fam.icmp, ICMPType: 1}
		gre := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: 47, Payload: pattern(20)}
		for _, tt := range []struct {
			name string
			in   packettest.Spec
			n    int
		}{
			{"nothing quoted", whole, 0},
			{"half an IP header", whole, fam.hdrLen - 1},
			{"7 bytes of L4", whole, fam.hdrLen + 7},
			{"the other family", foreign, 100},
			{"the other family's ICMP", ping, 100},
			{"an ICMP error", unreachable, 100},
			{"a protocol without ports", gre, 100},
		} {
			s := icmpErrorAbout(tt.in, fam, tt.n)
			s.Dst = fam.client
			refuseInner(t, fam.name+" "+tt.name, s)
		}
	}
	later4 := packettest.Spec{Src: client4, Dst: vip4, FragOffset: 80, Payload: pattern(40)}
	refuseInner(t, "later IPv4 fragment", icmpErrorAbout(later4, families[0], 100))
	refuseInner(t, "later IPv6 fragment", icmpErrorAbout(fragment6(ProtoUDP, 80, false, pattern(40)), families[1], 100))
	mapped := packettest.Spec{Src: client6, Dst: vip6}
	s := icmpErrorAbout(mapped, families[1], 100)
	copy(s.Payload[8:], append(make([]byte, 10), 255, 255, 192, 0, 2, 7))
	refuseInner(t, "IPv4 in disguise", s)
	fragmented := icmpErrorAbout(packettest.Spec{Src: client4, Dst: vip4, Payload: pattern(40)}, families[0], 64)
	fragmented.MF = true
	refuseInner(t, "an error in fragments", fragmented)
}

func refuseInner(t *testing.T, name string, s packettest.Spec) {
	t.Helper()
	f := s.Frame()
	p := mustParse(t, &f)
	var q Packet
	if p.Inner(f.Bytes(), &q) {
		t.Errorf("%s: %+v", name, q)
	}
}

func TestInnerRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 20))
	n := 0
	for range 20_000 {
		s := randomSpec(r)
		fam := families[0]
		if s.Src.Addr().Is6() {
			fam = families[1]
		}
		e := icmpErrorAbout(s, fam, r.IntN(120))
		f := e.Frame()
		p := mustParse(t, &f)
		if checkInner(t, &f, &p) {
			n++
		}
	}
	if n < 1000 {
		t.Errorf("only %d quotes were understood", n)
	}
}

// checkInner edits what f quotes, if it is an ICMP error, and checks that f stays right.
func checkInner(t *testing.T, f *tap.Frame, p *Packet) bool {
	t.Helper()
	var q Packet
	if !p.IsICMPError() || !ChecksumOK(f, p) || !p.Inner(f.Bytes(), &q) {
		return false
	}
	n := f.Len()
	to := AddrFrom(server4.Addr())
	if p.Kind == KindIPv6 {
		to = AddrFrom(server6.Addr())
	}
	q.SetSrc(f.Bytes(), false, to, 1)
	q.SetDst(f.Bytes(), false, to, 2)
	p.FixICMP(f.Bytes())
	var again Packet
	if f.Len() != n || !p.Inner(f.Bytes(), &again) || !ChecksumOK(f, p) {
		t.Fatalf("after an edit of the quote: %+v\n%x", *p, f.Bytes())
	}
	if again.NoCsum = q.NoCsum; again != q {
		t.Fatalf("edited %+v\n   got %+v", q, again)
	}
	return true
}

func TestLowerMTU(t *testing.T) {
	for _, fam := range families {
		kinds := map[string]packettest.Spec{
			"too big": {Proto: fam.icmp, ICMPType: 3, ICMPCode: 4},
			"other":   {Proto: fam.icmp, ICMPType: 3, ICMPCode: 1},
		}
		for _, tt := range []struct {
			kind           string
			told, by, want int
		}{{"too big", 1480, 20, 1460}, {"too big", 1480, -20, 1500}, {"too big", 1285, 20, 1280}, {"other", 1480, 20, 1480}} {
			s := kinds[tt.kind]
			if fam.icmp == ProtoICMPv6 && tt.kind == "too big" {
				s.ICMPType, s.ICMPCode = 2, 0
			} else if fam.icmp == ProtoICMPv6 {
				s.ICMPType = 1
			}
			want := tt.want
			if fam.icmp == ProtoICMP && want == 1280 {
				want = 1265
			}
			s.Src, s.Dst, s.ICMPSeq, s.Payload = fam.client, fam.vip, uint16(tt.told), pattern(60)
			f := s.Frame()
			p := mustParse(t, &f)
			p.LowerMTU(f.Bytes(), tt.by)
			p.FixICMP(f.Bytes())
			s.ICMPSeq = uint16(want)
			if w := s.Frame(); !bytes.Equal(f.Bytes(), w.Bytes()) {
				t.Errorf("%s: %s: %d less %d:\n got %x\nwant %x", fam.name, tt.kind, tt.told, tt.by, f.Bytes(), w.Bytes())
			}
		}
	}
}
