package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// ICMP errors between the families (RFC 7915 sections 4.2, 4.3, 5.2 and 5.3)
//
// An error about a packet that was translated comes in the family of the way it happened on, and who sent the packet knows the other. Both headers are
// translated: the error's own, and the quoted one. What there is no word for in the other family is not told: the caller drops it.
//
// An MTU is told with the difference of the headers, and no larger than the links on either side of the translator carry. A router older than RFC 1191
// tells none: then it is the next plateau below the packet's length.
//
// Extensions behind the quote (RFC 4884: MPLS labels, mostly) are cut off, for they would have to move, and their place be told in other units.

// ErrorAcross says what an ICMP error is to become in the other family.
type ErrorAcross struct {
	Ends   Tuple  // of the error
	Quoted Tuple  // of the packet that it is about, as its sender sent it
	MTU    int    // the largest that may be told of, in bytes of L3 of the new family
	ID     uint16 // IPv4's identification
}

// Translate makes of f, whose packet p is an ICMP error about q (see Inner), the error in the other family, checksum included, and of p what describes it;
// q no longer fits. The MACs stay to be set. It reports false, f unchanged, for what has no meaning there, and without headroom. What was a wrong
// checksum would be right after: verify first.
func (e *ErrorAcross) Translate(f *tap.Frame, p, q *Packet) bool {
	b := f.Bytes()
	end := p.quoteEnd(b)
	in, ok := q.quotedAcross(b[:end])
	if !ok {
		return false
	}
	head, ok := p.icmpAcross(b, q, e.MTU)
	if !ok {
		return false
	}
	out, outLen := ipFields{tos: tosOf(b[p.L3:], p.Kind), ttl: p.TTL, proto: ProtoICMP, ident: uint32(e.ID) << 16}, ipv4MinLen
	if p.Kind == KindIPv4 {
		outLen, out.proto = ipv6Len, ProtoICMPv6
	}
	at, inLen := tap.EthernetLen+outLen+icmpLen, q.headerAcross(tap.Header{})
	size := int(q.L3Len) + q.growth(tap.Header{})
	if !q.moveL4(f, at+inLen) {
		return false
	}
	f.Trim(min(f.Len()-(len(b)-end), tap.EthernetLen+outLen-ipv6Len+ipv6MinMTU)) // RFC 4443 section 2.4 (c)
	b = f.Bytes()
	q.L3, q.L3Len = uint16(at), uint32(size)
	q.crossL4(b, false, &e.Quoted)
	q.crossL3(b[at:][:inLen], in)
	p.becomeError(b, outLen, &e.Ends)
	p.ICMPType, p.ICMPCode = head[0], head[1]
	p.crossL3(b[tap.EthernetLen:][:outLen], out)
	p.setEtherType(b)
	copy(b[p.L4:], head[:])
	p.FixICMP(b)
	return true
}

// quoteEnd returns the offset behind the packet that p, an ICMP error in b, quotes: where RFC 4884's length says that extensions follow, or the end of p.
// No such length is below 128 bytes.
func (p *Packet) quoteEnd(b []byte) int {
	end, l4, n := int(p.L3)+int(p.L3Len), b[p.L4:], 0
	switch {
	case p.Kind == KindIPv4 && (p.ICMPType == 3 || p.ICMPType == 11 || p.ICMPType == 12):
		n = int(l4[5]) * 4
	case p.Kind == KindIPv6 && (p.ICMPType == 1 || p.ICMPType == 3):
		n = int(l4[4]) * 8
	}
	if n < 128 {
		return end
	}
	return min(end, int(p.L4)+icmpLen+n)
}

// quotedAcross reads what the other family's header of the quoted packet q says, b ending with the quote.
func (q *Packet) quotedAcross(b []byte) (h ipFields, ok bool) {
	if int(q.L4)+icmpLen > len(b) {
		return h, false
	}
	ip := b[q.L3:]
	h = ipFields{tos: tosOf(ip, q.Kind), ttl: q.TTL, proto: q.Proto}
	q.DF = true
	q.NoCsum = q.NoCsum || int(q.csum)+2 > len(b)
	if q.Kind == KindIPv4 {
		q.L3Len, h.ident = uint32(binary.BigEndian.Uint16(ip[2:])), binary.BigEndian.Uint32(ip[4:])
		q.Fragment = h.ident&ipv4MF != 0
	} else {
		q.L3Len = ipv6Len + uint32(binary.BigEndian.Uint16(ip[4:]))
		if h.ident, ok = q.identAcross(ip, q.MaxAcross(tap.Header{}), 0); !ok {
			return h, false
		}
	}
	size := int(q.L3Len) + q.growth(tap.Header{})
	return h, q.L3Len >= uint32(q.L4-q.L3) && size <= maxDatagram
}

// becomeError makes p describe an ICMP error behind an IP header of n bytes of the other family, whose frame is b and whose ends are t; all but the family.
func (p *Packet) becomeError(b []byte, n int, t *Tuple) {
	p.Src, p.Dst = t.Src, t.Dst
	p.L3Len, p.L4 = uint32(len(b)-tap.EthernetLen), uint16(tap.EthernetLen+n)
	p.csum = p.L4 + icmpCsumOff
	p.Proto = ProtoICMP
	if p.Kind == KindIPv4 {
		p.Proto = ProtoICMPv6
	}
}

// icmpAcross returns the ICMP header, without checksum, that p, an error in b about q, has in the other family; most is the largest MTU to be told of.
func (p *Packet) icmpAcross(b []byte, q *Packet, most int) (head [icmpLen]byte, ok bool) {
	l4 := b[p.L4:][:icmpLen]
	if p.Kind == KindIPv4 {
		return icmpToIPv6(l4, int(q.L3Len), most)
	}
	return icmpToIPv4(l4, most)
}

// Bytes of L3: the least MTU of a link of IPv4 (RFC 791), and the least that Linux believes in.
const (
	ipv4MinMTU   = 68
	leastPlateau = 552
)

// typeCode is an ICMP type and code; of both zero there is no error.
type typeCode [2]uint8

// unreachable6 are what ICMP's "destination unreachable" is in ICMPv6, by code (RFC 7915 section 4.2). Code 2 is a parameter problem, code 4 "too big".
var unreachable6 = [16]typeCode{
	0: {1, 0}, 1: {1, 0}, 2: {4, 1}, 3: {1, 4}, 4: {2, 0}, 5: {1, 0}, 6: {1, 0}, 7: {1, 0}, 8: {1, 0},
	9: {1, 1}, 10: {1, 1}, 11: {1, 0}, 12: {1, 0}, 13: {1, 1}, 15: {1, 1},
}

// unreachable4 are what ICMPv6's is in ICMP (section 5.2).
var unreachable4 = [5]typeCode{0: {3, 1}, 1: {3, 10}, 2: {3, 1}, 3: {3, 1}, 4: {3, 3}}

const (
	noPointer  = 0xff // a field that the other family does not have
	nextHeader = 6    // offset of IPv6's next header field
)

// pointers6 are the fields of an IPv4 header in IPv6's, by their offset (figure 3); pointers4 the other way (figure 6).
var (
	pointers6 = [ipv4MinLen]uint8{
		0, 1, 4, 4, noPointer, noPointer, noPointer, noPointer, 7, 6, noPointer, noPointer, 8, 8, 8, 8, 24, 24, 24, 24,
	}
	pointers4 = [ipv6Len]uint8{
		0, 1, noPointer, noPointer, 2, 2, 9, 8,
		12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
		16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16,
	}
)

// icmpToIPv6 translates the header l4 of an ICMP error about a packet of size bytes.
func icmpToIPv6(l4 []byte, size, most int) (head [icmpLen]byte, ok bool) {
	typ, code := l4[0], l4[1]
	switch {
	case typ == 3 && int(code) < len(unreachable6):
		t := unreachable6[code]
		head[0], head[1] = t[0], t[1]
		switch code {
		case 2:
			head[7] = nextHeader
		case 4:
			mtu := int(binary.BigEndian.Uint16(l4[6:]))
			if mtu == 0 {
				mtu = Plateau(size)
			}
			binary.BigEndian.PutUint32(head[4:], uint32(max(min(mtu+HeaderGrowth, most), ipv6MinMTU)))
		}
	case typ == 11:
		head[0], head[1] = 3, code
	case typ == 12 && (code == 0 || code == 2) && l4[4] < ipv4MinLen && pointers6[l4[4]] != noPointer:
		head[0], head[7] = 4, pointers6[l4[4]]
	}
	return head, head[0] != 0
}

// icmpToIPv4 translates the header l4 of an ICMPv6 error.
func icmpToIPv4(l4 []byte, most int) (head [icmpLen]byte, ok bool) {
	typ, code, word := l4[0], l4[1], binary.BigEndian.Uint32(l4[4:])
	switch {
	case typ == 1 && int(code) < len(unreachable4):
		head[0], head[1] = unreachable4[code][0], unreachable4[code][1]
	case typ == 2:
		mtu := min(int64(word)-HeaderGrowth, int64(most), maxDatagram)
		head[0], head[1] = 3, 4
		binary.BigEndian.PutUint16(head[6:], uint16(max(mtu, ipv4MinMTU)))
	case typ == 3:
		head[0], head[1] = 11, code
	case typ == 4 && code == 0 && word < ipv6Len && pointers4[word] != noPointer:
		head[0], head[4] = 12, pointers4[word]
	case typ == 4 && code == 1:
		head[0], head[1] = 3, 2
	}
	return head, head[0] != 0
}

// Plateau returns the likely MTU of a link that could not carry size bytes (RFC 1191 section 7.1), at least 552.
func Plateau(size int) int {
	for _, mtu := range [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006} {
		if mtu < size {
			return mtu
		}
	}
	return leastPlateau
}
