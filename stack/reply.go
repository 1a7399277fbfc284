package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/tap"
)

// Replies that the director makes itself: a TCP reset or acknowledgement, an ICMP error. A reply goes back to where the frame came from: hardware addresses
// are swapped, so that its source is the address the frame was sent to, our own. Packets are short, atomic (DF, IPv4 identification 0,
// RFC 6864), with a TTL of 64 and full checksums, and need no route.
//
// Nothing answers a frame or packet that was sent to a group: the answers of all members would meet at one host.

const replyTTL = 64

// IPv4 precedence "internetwork control" for ICMP errors (RFC 1812 section 4.3.2.5).
const tosControl = 0xc0

// RSTFrame returns the reset that refuses TCP segment f (RFC 9293 section 3.10.7.1): its sequence number is what the segment
// acknowledges, or else 0 and it acknowledges the whole segment, SYN and FIN counting one each. A superpacket counts as what it holds.
// It reports false for a RST, for what is not a whole TCP segment, for a group as receiver, and when a has no room.
func RSTFrame(f *tap.Frame, p *Packet, a *tap.Arena) (tap.Frame, bool) {
	b := f.Bytes()
	if p.Proto != ProtoTCP || !p.HasPorts || p.Fragment || p.TCPFlags&RST != 0 || p.toGroup(b) {
		return tap.Frame{}, false
	}
	r, l4, ok := p.newTCPReply(a, b, tcpMinLen, RST)
	if !ok {
		return r, false
	}
	in := b[p.L4:]
	if p.TCPFlags&ACK != 0 {
		copy(l4[4:8], in[8:12])
	} else {
		l4[13] |= ACK
		binary.BigEndian.PutUint32(l4[8:], binary.BigEndian.Uint32(in[4:])+p.segmentLen())
	}
	p.sumTCPReply(l4)
	return r, true
}

// ACKFrame returns the acknowledgement of ack that the receiver of TCP segment f would send, with this window (as in the header, not scaled). Timestamps are those of f,
// exchanged (RFC 7323 section 3), so that its sender measures this answer and none before. It reports false as RSTFrame does.
func ACKFrame(f *tap.Frame, p *Packet, ack uint32, window uint16, a *tap.Arena) (tap.Frame, bool) {
	b := f.Bytes()
	if p.Proto != ProtoTCP || !p.HasPorts || p.Fragment || p.TCPFlags&(RST|ACK) != ACK || p.toGroup(b) {
		return tap.Frame{}, false
	}
	n := tcpMinLen
	stamps := int(p.findOption(b, tcpOptTimestamps))
	if stamps > 0 && b[stamps-1] == 10 {
		n += 12
	}
	r, l4, ok := p.newTCPReply(a, b, n, ACK)
	if !ok {
		return r, false
	}
	copy(l4[4:8], b[p.L4+8:])
	binary.BigEndian.PutUint32(l4[8:], ack)
	binary.BigEndian.PutUint16(l4[14:], window)
	if n > tcpMinLen {
		copy(l4[20:], []byte{tcpOptNop, tcpOptNop, tcpOptTimestamps, 10})
		copy(l4[24:28], b[stamps+4:])
		copy(l4[28:32], b[stamps:])
	}
	p.sumTCPReply(l4)
	return r, true
}

// newTCPReply starts a segment with a header of n bytes and these flags from the receiver of frame b to its sender: numbers, window and checksum are zero.
func (p *Packet) newTCPReply(a *tap.Arena, b []byte, n int, flags uint8) (r tap.Frame, l4 []byte, ok bool) {
	if r, l4, ok = p.newReply(a, b, p.Dst, ProtoTCP, n); !ok {
		return r, nil, false
	}
	clear(l4)
	binary.BigEndian.PutUint16(l4, p.DstPort)
	binary.BigEndian.PutUint16(l4[2:], p.SrcPort)
	l4[12], l4[13] = uint8(n/4)<<4, flags
	return r, l4, true
}

// sumTCPReply finishes it.
func (p *Packet) sumTCPReply(l4 []byte) {
	t := Packet{Kind: p.Kind, Tuple: Tuple{Src: p.Dst, Dst: p.Src, Proto: ProtoTCP}}
	t.setL4Checksum(l4, tcpCsumOff)
}

// segmentLen is SEG.LEN of RFC 9293: payload, SYN and FIN.
func (p *Packet) segmentLen() uint32 {
	n := p.L3Len - uint32(p.headersLen())
	return n + uint32(p.TCPFlags>>1&1) + uint32(p.TCPFlags&FIN)
}

// toGroup reports whether the frame b, or its packet, was sent to more than one host.
func (p *Packet) toGroup(b []byte) bool {
	if b[0]&1 != 0 {
		return true
	}
	if p.Kind == KindIPv4 {
		d := uint32(p.Dst.lo)
		return d>>28 == 14 || d == ^uint32(0)
	}
	return p.Dst.hi>>56 == 0xff
}

// newReply starts a packet from src to the sender of frame b: Ethernet and IP headers are done, the n bytes of L4 it returns are not.
func (p *Packet) newReply(a *tap.Arena, b []byte, src Addr, proto uint8, n int) (r tap.Frame, l4 []byte, ok bool) {
	ipLen := ipv4MinLen
	if p.Kind == KindIPv6 {
		ipLen = ipv6Len
	}
	r, ok = a.Frame(tap.EthernetLen + ipLen + n)
	if !ok {
		return r, nil, false
	}
	rb := r.Bytes()
	SetMACs(rb, SrcWord(b), DstWord(b))
	copy(rb[12:14], b[12:14])
	ip := rb[tap.EthernetLen:][:ipLen]
	clear(ip)
	if p.Kind == KindIPv6 {
		ip[0], ip[6], ip[7] = 6<<4, proto, replyTTL
		binary.BigEndian.PutUint16(ip[4:], uint16(n))
		src.Put(ip[8:24])
		p.Src.Put(ip[24:40])
		return r, rb[tap.EthernetLen+ipLen:], true
	}
	ip[0], ip[8], ip[9] = 4<<4|ipv4MinLen/4, replyTTL, proto
	if proto == ProtoICMP {
		ip[1] = tosControl
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(ipLen+n))
	binary.BigEndian.PutUint16(ip[6:], ipv4DF)
	src.Put(ip[12:16])
	p.Src.Put(ip[16:20])
	setIPv4Checksum(ip)
	return r, rb[tap.EthernetLen+ipLen:], true
}

// ICMPError is an error that the director reports to a sender.
type ICMPError uint8

// The errors, each with its type and code in both families.
const (
	ICMPTimeExceeded    ICMPError = iota // TTL or hop limit used up in transit
	ICMPPortUnreachable                  // nobody serves this port
	ICMPHostUnreachable                  // the next hop does not answer
	ICMPNetUnreachable                   // no route
	ICMPTooBig                           // larger than the MTU, and not to be fragmented here
	ICMPAdminProhibited                  // refused by configuration
	numICMPErrors
)

// icmpCodes are {type, code} of ICMP (RFC 792, RFC 1812) and of ICMPv6 (RFC 4443).
var icmpCodes = [numICMPErrors]struct{ v4, v6 [2]uint8 }{
	ICMPTimeExceeded:    {v4: [2]uint8{11, 0}, v6: [2]uint8{3, 0}},
	ICMPPortUnreachable: {v4: [2]uint8{3, 3}, v6: [2]uint8{1, 4}},
	ICMPHostUnreachable: {v4: [2]uint8{3, 1}, v6: [2]uint8{1, 3}},
	ICMPNetUnreachable:  {v4: [2]uint8{3, 0}, v6: [2]uint8{1, 0}},
	ICMPTooBig:          {v4: [2]uint8{3, 4}, v6: [2]uint8{2, 0}},
	ICMPAdminProhibited: {v4: [2]uint8{3, 13}, v6: [2]uint8{1, 1}},
}

// Bytes of L3 that an ICMP error may have: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c).
const (
	icmpMaxLen   = 576
	icmpv6MaxLen = 1280
)

// ICMPErrorFrame returns error e about packet f, from address src of f's family, quoting as much of the packet as the RFCs want. mtu, in bytes
// of L3, is for ICMPTooBig only. What is quoted is what a wire would have carried: a partial checksum is completed (in f), a superpacket is
// quoted by its first segment. It reports false when none may be sent (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e): about
// an ICMP error or redirect, a later fragment, to a group, from no single host), and when a has no room.
func ICMPErrorFrame(e ICMPError, src Addr, mtu int, f *tap.Frame, p *Packet, a *tap.Arena) (tap.Frame, bool) {
	b := f.Bytes()
	if e >= numICMPErrors || src.Is4() != p.Src.Is4() || !p.mayComplain(b) {
		return tap.Frame{}, false
	}
	quote, ok := p.quoted(f, a)
	if !ok {
		return tap.Frame{}, false
	}
	proto, codes, limit := uint8(ProtoICMP), icmpCodes[e].v4, icmpMaxLen-ipv4MinLen-icmpLen
	if p.Kind == KindIPv6 {
		proto, codes, limit = ProtoICMPv6, icmpCodes[e].v6, icmpv6MaxLen-ipv6Len-icmpLen
	}
	quote = quote[:min(len(quote), limit)]
	r, l4, ok := p.newReply(a, b, src, proto, icmpLen+len(quote))
	if !ok {
		return r, false
	}
	clear(l4[:icmpLen])
	l4[0], l4[1] = codes[0], codes[1]
	if e == ICMPTooBig {
		putMTU(l4, mtu, p.Kind)
	}
	copy(l4[icmpLen:], quote)
	t := Packet{Kind: p.Kind, Tuple: Tuple{Src: src, Dst: p.Src, Proto: proto}}
	binary.BigEndian.PutUint16(l4[icmpCsumOff:], ^checksum.Checksum(l4, t.pseudoHeader(len(l4))))
	return r, true
}

// putMTU writes the next hop's MTU: 16 bits in ICMP (RFC 1191), 32 in ICMPv6.
func putMTU(l4 []byte, mtu int, k Kind) {
	if k == KindIPv4 {
		binary.BigEndian.PutUint16(l4[6:], uint16(min(mtu, maxDatagram)))
		return
	}
	binary.BigEndian.PutUint32(l4[4:], uint32(mtu))
}

// mayComplain reports whether an ICMP error about the packet may be sent.
func (p *Packet) mayComplain(b []byte) bool {
	if p.Kind != KindIPv4 && p.Kind != KindIPv6 || p.Fragment && !p.First || p.Src.IsZero() || p.toGroup(b) {
		return false
	}
	if p.Kind == KindIPv6 {
		return p.Proto != ProtoICMPv6 || p.ICMPType >= icmpv6Echo && p.ICMPType != icmpv6Redirect
	}
	return p.Proto != ProtoICMP || isICMPQuery(p.ICMPType)
}

// isICMPQuery reports whether an ICMP type is known to be no error; what is not known counts as one.
func isICMPQuery(t uint8) bool {
	switch t {
	case icmpEchoReply, icmpEcho, 9, 10, 13, 14, 15, 16, 17, 18: // router discovery, timestamp, information, address mask
		return true
	}
	return false
}

// quoted returns the IP packet to quote, borrowed from f or a.
func (p *Packet) quoted(f *tap.Frame, a *tap.Arena) ([]byte, bool) {
	if !f.Header.Super() {
		CompleteChecksum(f, p)
		return f.Bytes()[p.L3:], true
	}
	c, ok := newCutter(f, p)
	if !ok {
		return nil, false
	}
	s, ok := a.Frame(c.len(0))
	if !ok {
		return nil, false
	}
	c.cut(0, s.Bytes())
	return s.Bytes()[p.L3:], true
}
