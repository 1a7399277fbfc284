package stack

import "encoding/binary"

// An ICMP error quotes the head of the packet it is about. For a connection that is translated, the quote is as it was where the error arose, and
// must be translated too before the error reaches the end that knows the other form. A quote is short: RFC 792 asks for 8 bytes of L4, and its lengths
// and checksums describe the whole packet, not what is quoted. So nothing is checked but that each field read is there.

// IsICMPError reports whether p is an ICMP error: it quotes a packet and must never be answered by another error.
func (p *Packet) IsICMPError() bool {
	switch {
	case p.Kind == KindIPv4 && p.Proto == ProtoICMP && p.csum != 0:
		return p.ICMPType == 3 || p.ICMPType == 4 || p.ICMPType == 5 || p.ICMPType == 11 || p.ICMPType == 12
	case p.Kind == KindIPv6 && p.Proto == ProtoICMPv6 && p.csum != 0:
		return p.ICMPType < 128
	}
	return false
}

// Inner describes in q the packet that p, an ICMP error in the frame b, quotes: its tuple, and the offsets that SetSrc and SetDst need to edit it. It
// reports false for what cannot be told: another family, a later fragment, no ports in the quote; and for an error that is a fragment itself, whose
// checksum could not be computed again. p's checksum is not right after an edit of q: see FixICMP.
func (p *Packet) Inner(b []byte, q *Packet) bool {
	*q = Packet{Kind: p.Kind, L3: p.L4 + icmpLen}
	if p.Fragment || p.L4Len != icmpLen {
		return false
	}
	b = b[:uint32(p.L3)+p.L3Len]
	if p.Kind == KindIPv4 {
		return q.innerIPv4(b[q.L3:]) && q.innerL4(b)
	}
	return q.innerIPv6(b[q.L3:], b) && q.innerL4(b)
}

func (q *Packet) innerIPv4(ip []byte) bool {
	if len(ip) < ipv4MinLen || ip[0]>>4 != 4 || ip[0]&15 < 5 || binary.BigEndian.Uint16(ip[6:])&ipv4OffsetMask != 0 {
		return false
	}
	q.Proto, q.TTL, q.L4 = ip[9], ip[8], q.L3+uint16(ip[0]&15)*4
	q.Src, q.Dst = AddrFrom4(ip[12:]), AddrFrom4(ip[16:])
	return true
}

func (q *Packet) innerIPv6(ip, b []byte) bool {
	if len(ip) < ipv6Len || ip[0]>>4 != 6 {
		return false
	}
	q.Proto, q.TTL, q.L4 = ip[6], ip[7], q.L3+ipv6Len
	q.Src, q.Dst = AddrFrom16(ip[8:]), AddrFrom16(ip[24:])
	if q.Src.Is4() || q.Dst.Is4() {
		return false // would be taken for the addresses of an IPv4 connection
	}
	if !IsExtension(q.Proto) {
		return true
	}
	frag, r := q.walkExtensions(b)
	q.First = frag&ipv6More != 0
	return r == ReasonNone && frag&ipv6OffMask == 0
}

// innerL4 reads ports, or an echo's identifier; b ends with the quote.
func (q *Packet) innerL4(b []byte) bool {
	if int(q.L4)+icmpLen > len(b) {
		return false
	}
	l4 := b[q.L4:]
	switch q.Proto {
	case ProtoTCP:
		q.csum = q.L4 + tcpCsumOff
		q.NoCsum = int(q.csum)+2 > len(b) // not quoted, so not to be edited
	case ProtoUDP:
		q.csum = q.L4 + udpCsumOff
		q.NoCsum = binary.BigEndian.Uint16(l4[udpCsumOff:]) == 0
	case ProtoSCTP:
		q.NoCsum, q.L3Len = true, q.quotedLen(b)
	case ProtoICMP:
		return q.Kind == KindIPv4 && q.innerEcho(l4, icmpEcho, icmpEchoReply)
	case ProtoICMPv6:
		return q.Kind == KindIPv6 && q.innerEcho(l4, icmpv6Echo, icmpv6EchoReply)
	default:
		return false
	}
	q.SrcPort, q.DstPort, q.HasPorts = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:]), true
	return true
}

// quotedLen returns the bytes that the quoted packet has, as its header says, when all of it is one packet: what a quoted CRC is of. For a first
// fragment it is 0.
func (q *Packet) quotedLen(b []byte) uint32 {
	ip := b[q.L3:]
	switch {
	case q.Kind == KindIPv6 && q.First, q.Kind == KindIPv4 && binary.BigEndian.Uint16(ip[6:])&ipv4MF != 0:
		return 0
	case q.Kind == KindIPv6:
		return ipv6Len + uint32(binary.BigEndian.Uint16(ip[4:]))
	}
	return uint32(binary.BigEndian.Uint16(ip[2:]))
}

func (q *Packet) innerEcho(l4 []byte, echo, reply uint8) bool {
	if l4[0] != echo && l4[0] != reply {
		return false
	}
	q.SrcPort = binary.BigEndian.Uint16(l4[icmpIDOff:])
	q.DstPort, q.echo, q.csum = q.SrcPort, true, q.L4+icmpCsumOff
	return true
}

// LowerMTU takes by bytes off the MTU that p, an ICMP error in the frame b, tells of, if it is one that does; by may be negative. No
// less is told than a host of the family may be asked for (RFC 1191 section 3, RFC 8200 section 5). The checksum is not right after it: see FixICMP.
func (p *Packet) LowerMTU(b []byte, by int) {
	l4 := b[p.L4:][:icmpLen]
	switch {
	case p.Kind == KindIPv4 && p.ICMPType == 3 && p.ICMPCode == 4:
		if old := int(binary.BigEndian.Uint16(l4[6:])); old != 0 { // a router older than RFC 1191 tells none
			binary.BigEndian.PutUint16(l4[6:], uint16(min(max(old-by, 68), maxDatagram)))
		}
	case p.Kind == KindIPv6 && p.ICMPType == 2:
		old := int64(binary.BigEndian.Uint32(l4[4:]))
		binary.BigEndian.PutUint32(l4[4:], uint32(min(max(old-int64(by), 1280), 1<<32-1)))
	}
}

// FixICMP computes the checksum of p, an ICMP or ICMPv6 packet in the frame b, after its payload was edited. What was wrong before would be right
// after: verify first (ChecksumOK).
func (p *Packet) FixICMP(b []byte) { p.setL4Checksum(p.l4Packet(b), icmpCsumOff) }
