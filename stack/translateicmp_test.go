package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// icmpCase is an ICMP error of one family and what RFC 7915 makes of it; want type 0 is nothing.
type icmpCase struct {
	typ, code uint8
	rest      uint32 // the four bytes behind the checksum
	want      [2]uint8
	wantRest  uint32
}

// errors4 are those of IPv4 (sections 4.2 and figure 3), about a packet of 1500 bytes, with links of 1500 bytes here.
var errors4 = []icmpCase{
	{3, 0, 0, [2]uint8{1, 0}, 0}, {3, 1, 0, [2]uint8{1, 0}, 0}, {3, 2, 0, [2]uint8{4, 1}, 6}, {3, 3, 0, [2]uint8{1, 4}, 0},
	{3, 4, 1400, [2]uint8{2, 0}, 1420}, {3, 4, 1300, [2]uint8{2, 0}, 1320}, {3, 4, 1000, [2]uint8{2, 0}, 1280}, {3, 4, 68, [2]uint8{2, 0}, 1280},
	{3, 4, 1500, [2]uint8{2, 0}, 1500}, {3, 4, 0, [2]uint8{2, 0}, 1492 + 8}, // the plateau of 1492 and 20, but no more than the link of 1500
	{3, 5, 0, [2]uint8{1, 0}, 0}, {3, 6, 0, [2]uint8{1, 0}, 0}, {3, 7, 0, [2]uint8{1, 0}, 0}, {3, 8, 0, [2]uint8{1, 0}, 0},
	{3, 9, 0, [2]uint8{1, 1}, 0}, {3, 10, 0, [2]uint8{1, 1}, 0}, {3, 11, 0, [2]uint8{1, 0}, 0}, {3, 12, 0, [2]uint8{1, 0}, 0},
	{3, 13, 0, [2]uint8{1, 1}, 0}, {3, 14, 0, [2]uint8{}, 0}, {3, 15, 0, [2]uint8{1, 1}, 0}, {3, 16, 0, [2]uint8{}, 0}, {3, 255, 0, [2]uint8{}, 0},
	{4, 0, 0, [2]uint8{}, 0}, {5, 1, 0, [2]uint8{}, 0},
	{11, 0, 0, [2]uint8{3, 0}, 0}, {11, 1, 0, [2]uint8{3, 1}, 0},
	{12, 0, 0, [2]uint8{4, 0}, 0}, {12, 0, 1 << 24, [2]uint8{4, 0}, 1}, {12, 0, 2 << 24, [2]uint8{4, 0}, 4}, {12, 0, 3 << 24, [2]uint8{4, 0}, 4},
	{12, 0, 4 << 24, [2]uint8{}, 0}, {12, 0, 6 << 24, [2]uint8{}, 0}, {12, 0, 8 << 24, [2]uint8{4, 0}, 7}, {12, 2, 9 << 24, [2]uint8{4, 0}, 6},
	{12, 0, 10 << 24, [2]uint8{}, 0}, {12, 0, 12 << 24, [2]uint8{4, 0}, 8}, {12, 0, 15 << 24, [2]uint8{4, 0}, 8}, {12, 0, 16 << 24, [2]uint8{4, 0}, 24},
	{12, 0, 19 << 24, [2]uint8{4, 0}, 24}, {12, 0, 20 << 24, [2]uint8{}, 0}, {12, 1, 0, [2]uint8{}, 0}, {12, 3, 0, [2]uint8{}, 0},
}

// errors6 are those of IPv6 (section 5.2 and figure 6).
var errors6 = []icmpCase{
	{1, 0, 0, [2]uint8{3, 1}, 0}, {1, 1, 0, [2]uint8{3, 10}, 0}, {1, 2, 0, [2]uint8{3, 1}, 0}, {1, 3, 0, [2]uint8{3, 1}, 0}, {1, 4, 0, [2]uint8{3, 3}, 0},
	{1, 5, 0, [2]uint8{}, 0}, {1, 6, 0, [2]uint8{}, 0},
	{2, 0, 1400, [2]uint8{3, 4}, 1380}, {2, 0, 1280, [2]uint8{3, 4}, 1260}, {2, 0, 9000, [2]uint8{3, 4}, 1480}, {2, 0, 1<<32 - 1, [2]uint8{3, 4}, 1480},
	{2, 0, 20, [2]uint8{3, 4}, 68},
	{3, 0, 0, [2]uint8{11, 0}, 0}, {3, 1, 0, [2]uint8{11, 1}, 0},
	{4, 0, 0, [2]uint8{12, 0}, 0}, {4, 0, 1, [2]uint8{12, 0}, 1 << 24}, {4, 0, 2, [2]uint8{}, 0}, {4, 0, 3, [2]uint8{}, 0},
	{4, 0, 4, [2]uint8{12, 0}, 2 << 24}, {4, 0, 5, [2]uint8{12, 0}, 2 << 24}, {4, 0, 6, [2]uint8{12, 0}, 9 << 24}, {4, 0, 7, [2]uint8{12, 0}, 8 << 24},
	{4, 0, 8, [2]uint8{12, 0}, 12 << 24}, {4, 0, 23, [2]uint8{12, 0}, 12 << 24}, {4, 0, 24, [2]uint8{12, 0}, 16 << 24}, {4, 0, 39, [2]uint8{12, 0}, 16 << 24},
	{4, 0, 40, [2]uint8{}, 0}, {4, 1, 6, [2]uint8{3, 2}, 0}, {4, 2, 40, [2]uint8{}, 0},
	{127, 0, 0, [2]uint8{}, 0},
}

// Both headers of an error are translated: it is the error about the translated packet.
func TestErrorAcross(t *testing.T) {
	for _, fam := range families {
		cases, other := errors4, families[1]
		if fam.name == "IPv6" {
			cases, other = errors6, families[0]
		}
		for _, c := range cases {
			for name, about := range map[string]packettest.Spec{
				"TCP": {Flags: ACK, DF: true, Payload: pattern(1500 - fam.hdrLen - 20)}, "UDP": {Proto: ProtoUDP, DF: true, Payload: pattern(100)},
			} {
				t.Run(fmt.Sprintf("%s %d/%d %#x %s", fam.name, c.typ, c.code, c.rest, name), func(t *testing.T) {
					c := c
					if c.typ == 3 && c.code == 4 && c.rest == 0 && name == "UDP" && fam.name == "IPv4" {
						c.wantRest = 1280 // of a packet of 128 bytes no plateau tells anything
					}
					checkErrorAcross(t, c, about, fam, other)
				})
			}
		}
	}
}

// checkErrorAcross translates case c about a packet; what is wanted is built by packettest.
func checkErrorAcross(t *testing.T, c icmpCase, about packettest.Spec, fam, other family) {
	about.Src, about.Dst = fam.client, fam.vip
	s := icmpErrorAbout(about, fam, fam.hdrLen+40)
	s.ICMPType, s.ICMPCode, s.ICMPID, s.ICMPSeq = c.typ, c.code, uint16(c.rest>>16), uint16(c.rest)
	f := s.Frame()
	p := mustParse(t, &f)
	var q Packet
	if !p.Inner(f.Bytes(), &q) {
		t.Fatal("quotes nothing")
	}
	e := ErrorAcross{
		Ends: *tupleOf(other.vip, other.client, 0), Quoted: *tupleOf(other.client, other.server, about.Proto), MTU: 1500, ID: 5,
	}
	if fam.name == "IPv6" {
		e.MTU = 1480 // a link of IPv6 of 1500 bytes
	}
	before := bytes.Clone(f.Bytes())
	if ok := e.Translate(&f, &p, &q); ok != (c.want[0] != 0) || !ok && !bytes.Equal(before, f.Bytes()) {
		t.Fatalf("translated: %v; %x", ok, f.Bytes())
	} else if !ok {
		return
	}
	SetMACs(f.Bytes(), WordOf(MAC{2}), WordOf(MAC{2}))
	if again := mustParse(t, &f); again.Tuple != p.Tuple || again.L4 != p.L4 || again.L3Len != p.L3Len || again.csum != p.csum || again.Kind != p.Kind {
		t.Errorf("says of itself %+v\nis %+v", p, again)
	}
	about = crossed(about, 0)
	about.Src, about.Dst = other.client, other.server
	want := packettest.Spec{Src: other.vip, Dst: other.client, Proto: other.icmp, ICMPType: c.want[0], ICMPCode: c.want[1], ICMPID: uint16(c.wantRest >> 16),
		ICMPSeq: uint16(c.wantRest), Payload: about.Bytes()[14:][:other.hdrLen+40], ID: 5}
	w := want.Frame()
	if copy(f.Bytes()[:12], w.Bytes()); !bytes.Equal(f.Bytes(), w.Bytes()) {
		t.Errorf("\n got %x\nwant %x", f.Bytes(), w.Bytes())
	}
}

// Quotes of any length, with extensions behind them, with extension headers and options in them, and the largest.
func TestErrorAcrossQuotes(t *testing.T) {
	options := packettest.Spec{Proto: ProtoUDP, DF: true, Payload: pattern(50), IPOptions: []byte{1, 7, 7, 4, 0, 0, 0, 0}}
	headers := packettest.Spec{Proto: ProtoUDP, Payload: pattern(50), ExtFirst: extDest, Ext: []byte{ProtoUDP, 0, 1, 4, 0, 0, 0, 0}}
	plain := packettest.Spec{Proto: ProtoUDP, DF: true, Payload: pattern(1300)}
	first4 := packettest.Spec{Proto: ProtoUDP, MF: true, ID: 99, Payload: pattern(1272)}
	for _, tt := range []struct {
		name   string
		family int
		about  packettest.Spec
		quote  int // bytes
		length uint8
		left   int // bytes of L4 in the translated quote
	}{
		{"8 bytes", 0, plain, 28, 0, 8},
		{"8 bytes", 1, plain, 48, 0, 8},
		{"options", 0, options, 36, 0, 8},
		{"extension headers", 1, headers, 56, 0, 8},
		{"a first fragment", 0, first4, 128, 0, 108},
		{"RFC 4884 extensions", 0, plain, 200, 128 / 4, 108},
		{"RFC 4884 extensions", 1, plain, 200, 128 / 8, 88},
		{"a length that lies", 0, plain, 200, 5, 180},
		{"all of IPv6's 1280", 0, plain, 1320, 0, 1280 - 40 - 8 - 40},
		{"all of IPv6's 1280", 1, plain, 1232, 0, 1192},
	} {
		fam, other := families[tt.family], families[1-tt.family]
		t.Run(fam.name+" "+tt.name, func(t *testing.T) {
			tt.about.Src, tt.about.Dst = fam.client, fam.vip
			s := icmpErrorAbout(tt.about, fam, tt.quote)
			s.ICMPID = uint16(tt.length) // IPv4: the second byte
			if fam.name == "IPv6" {
				s.ICMPID <<= 8
			}
			f := s.Frame()
			p := mustParse(t, &f)
			var q, inner Packet
			e := ErrorAcross{Ends: *tupleOf(other.vip, other.client, 0), Quoted: *tupleOf(other.client, other.server, 0), MTU: 1500}
			if !p.Inner(f.Bytes(), &q) || !e.Translate(&f, &p, &q) {
				t.Fatal("not translated")
			}
			SetMACs(f.Bytes(), WordOf(MAC{2}), WordOf(MAC{2}))
			again := mustParse(t, &f)
			if !ChecksumOK(&f, &again) || !again.Inner(f.Bytes(), &inner) || inner.Src != AddrFrom(other.client.Addr()) || inner.SrcPort != other.client.Port() {
				t.Fatalf("quotes %+v: %x", inner, f.Bytes())
			}
			if n := f.Len() - int(inner.L4); n != tt.left || again.Kind == KindIPv6 && again.L3Len > 1280 {
				t.Errorf("%d bytes of L4 are quoted, want %d; %d bytes in all", n, tt.left, again.L3Len)
			}
			if at := inner.L3 + 40; tt.name == "a first fragment" && (inner.L4 != at+8 || binary.BigEndian.Uint32(f.Bytes()[at+4:]) != 99) {
				t.Errorf("the quoted fragment has no fragment header: %x", f.Bytes())
			}
		})
	}
}

// What quotes less than eight bytes of L4, or a packet that could not have been translated, is refused.
func TestErrorAcrossRefuses(t *testing.T) {
	auth := packettest.Spec{Src: client6, Dst: vip6, ExtFirst: extAuth, Ext: []byte{ProtoTCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Payload: pattern(30)}
	s := icmpErrorAbout(auth, families[1], 100)
	f := s.Frame()
	p := mustParse(t, &f)
	var q Packet
	e := ErrorAcross{MTU: 1500}
	if !p.Inner(f.Bytes(), &q) || e.Translate(&f, &p, &q) {
		t.Error("a quote with an authentication header was translated")
	}
}

func TestPlateau(t *testing.T) {
	for size, want := range map[int]int{65535: 32000, 1500: 1492, 1492: 1006, 576: 552, 20: 552} {
		if got := Plateau(size); got != want {
			t.Errorf("below %d: %d, want %d", size, got, want)
		}
	}
}

// checkErrorTranslate translates what is an ICMP error about a packet; it stays one, its checksum right.
func checkErrorTranslate(t *testing.T, f tap.Frame, p Packet) {
	t.Helper()
	var q, inner Packet
	if !p.IsICMPError() || !ChecksumOK(&f, &p) || !p.Inner(f.Bytes(), &q) || q.echo {
		return
	}
	e := ErrorAcross{Ends: *tupleOf(vip6, client6, 0), Quoted: *tupleOf(client6, server6, q.Proto), MTU: 1500}
	if p.Kind == KindIPv6 {
		e.Ends, e.Quoted = *tupleOf(vip4, client4, 0), *tupleOf(client4, server4, q.Proto)
	}
	before := bytes.Clone(f.Bytes())
	if !e.Translate(&f, &p, &q) {
		if !bytes.Equal(before, f.Bytes()) {
			t.Fatalf("refused and changed: %x", f.Bytes())
		}
		return
	}
	SetMACs(f.Bytes(), WordOf(MAC{2}), WordOf(MAC{2}))
	again := mustParse(t, &f)
	if !ChecksumOK(&f, &again) || !again.Inner(f.Bytes(), &inner) || inner.Src != e.Quoted.Src || inner.DstPort != e.Quoted.DstPort {
		t.Fatalf("translated to %+v about %+v\n%x", again, inner, f.Bytes())
	}
}
