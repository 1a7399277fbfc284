package stack

import (
	"encoding/binary"
	"math/bits"

	"tapdirector/tap"
)

// What is trusted
//
// Nothing: neither the frame's bytes nor its virtio header. Parse reads each length once, checks it against what is there, and leaves
// behind a Packet whose offsets and lengths all lie within the frame. Everything after it — edits, checksums, segments,
// fragments, replies — uses these offsets without looking again. So Parse is the only place where a frame is refused, and its order is
// the order of the bytes:
//
//	1  Ethernet      length, sender's address, EtherType (an 802.1Q tag is refused; what is no IP is left alone)
//	2  IPv4 or IPv6  version, lengths, header checksum, options or extension headers, fragment, addresses
//	3  trim          bytes behind the IP packet, Ethernet's padding, are cut off: a checksum must not see them
//	4  L4            TCP data offset, UDP length, ICMP header, SCTP chunk; ports
//	5  virtio        what it says of checksum and segments must be true of this very packet, or edits would spoil it
//
// Not looked at: L4 checksums (a forwarder leaves them to the ends; NAT edits keep a wrong one wrong), TCP options, the inside of
// ICMP errors and tunnels. A wrong seed of a partial checksum is likewise the sender's own affair.
//
// hdr_len of the virtio header is not checked because nobody uses it: it is a hint, and on forwarded frames a wrong one. But a device refuses a
// frame that is shorter than its hint, so that is made no longer than the frame.
//
// A destination of multicast or broadcast is fine; who does not want it says so later. A source must be one host's address. An IPv4
// address in IPv6 form (::ffff:a.b.c.d) is refused on both ends: as an Addr it could not be told from the IPv4 address.

// EtherTypes.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherIPv6 = 0x86dd
	etherQinQ = 0x88a8 // 802.1ad
)

// Sizes in bytes.
const (
	ipv4MinLen = 20
	ipv6Len    = 40
	tcpMinLen  = 20
	udpLen     = 8
	icmpLen    = 8
)

// Bits of the IPv4 flags and fragment offset word.
const (
	ipv4DF         = 0x4000
	ipv4MF         = 0x2000
	ipv4OffsetMask = 0x1fff // units of 8 bytes
)

// ICMP types that Parse and the replies know.
const (
	icmpEchoReply   = 0
	icmpEcho        = 8
	icmpv6Echo      = 128
	icmpv6EchoReply = 129
	icmpv6Redirect  = 137
)

// Offsets of fields in L4 headers.
const (
	tcpCsumOff  = 16
	udpCsumOff  = 6
	icmpCsumOff = 2
	icmpIDOff   = 4 // an echo's identifier
)

// IPv4 option types. The copied bit marks those that every fragment carries.
const (
	ipv4OptEnd        = 0
	ipv4OptNop        = 1
	ipv4OptLooseRoute = 131
	ipv4OptStrict     = 137
	ipv4OptCopied     = 0x80
)

// maxDatagram is the bytes that a whole datagram may have; 16 bits count them.
const maxDatagram = 65535

// Parse validates f and describes it in p. It trims f to its IP packet, its hdr_len to f, and changes nothing else of it. On any reason but
// ReasonNone p is not to be used, except for Kind.
func Parse(f *tap.Frame, p *Packet) Reason {
	*p = Packet{}
	b := f.Bytes()
	if len(b) < tap.EthernetLen {
		return ReasonShort
	}
	if len(b) >= alikeLen && unmarked(&f.Header) && p.parseSimple(f, (*[alikeLen]byte)(b), len(b)) {
		return ReasonNone
	}
	if b[6]&1 != 0 {
		return ReasonSourceMAC
	}
	if int(f.Header.HdrLen) > len(b) {
		trim(f, len(b))
	}
	switch binary.BigEndian.Uint16(b[12:14]) {
	case etherIPv4:
		return parseIPv4(f, b, p)
	case etherIPv6:
		return parseIPv6(f, b, p)
	case etherARP:
		p.Kind = KindARP
	case etherVLAN, etherQinQ:
		return ReasonVLAN
	}
	return parseOther(f)
}

// parseOther looks at the virtio header of a frame that has no IP packet: there is nothing to complete or to cut in it.
func parseOther(f *tap.Frame) Reason {
	if f.Header.Partial() {
		return ReasonPartial
	}
	if f.Header.Super() {
		return ReasonGSO
	}
	return ReasonNone
}

// parseIPv4 loads the fixed header as three big-endian words, once for fields and checksum alike:
//
//	w0  version, header length, TOS, total length, identification, flags and fragment offset
//	w1  TTL, protocol, checksum, source
//	w2  destination
func parseIPv4(f *tap.Frame, b []byte, p *Packet) Reason {
	p.Kind = KindIPv4
	if len(b) < tap.EthernetLen+ipv4MinLen {
		return ReasonTruncated
	}
	ip := b[tap.EthernetLen:][:ipv4MinLen]
	if ip[0] > ipv4Plain {
		if r := checkIPv4Options(b[tap.EthernetLen:]); r != ReasonNone {
			return r
		}
	}
	w0, w1, w2 := binary.BigEndian.Uint64(ip), binary.BigEndian.Uint64(ip[8:]), binary.BigEndian.Uint32(ip[16:])
	hdrLen, end := int(w0>>56&15)*4, tap.EthernetLen+int(w0>>32&0xffff)
	if w0>>60 != 4 || hdrLen < ipv4MinLen || end < tap.EthernetLen+hdrLen {
		return ReasonIPv4Header
	}
	if end > len(b) {
		return ReasonTruncated
	}
	if hdrLen == ipv4MinLen && !sumOK(w0, w1, w2) {
		return ReasonIPv4Checksum
	}
	if martian[w1>>24&0xff]&martianSource|martian[w2>>24]&martianDest != 0 || uint32(w1) == w2 || uint32(w1) == ^uint32(0) {
		return checkIPv4Addrs(uint32(w1), w2)
	}
	p.TTL, p.Proto = uint8(w1>>56), uint8(w1>>48)
	p.Src.lo, p.Dst.lo = v4Prefix|w1&0xffffffff, v4Prefix|uint64(w2)
	p.L3, p.L4, p.L3Len = tap.EthernetLen, uint16(tap.EthernetLen+hdrLen), uint32(end-tap.EthernetLen)
	if end < len(b) {
		trim(f, end)
		b = b[:end]
	}
	p.DF = w0&ipv4DF != 0
	if w0&(ipv4MF|ipv4OffsetMask) != 0 {
		return p.parseFragment(f, b, int(w0&ipv4OffsetMask)*8, w0&ipv4MF != 0)
	}
	if p.Proto == ProtoTCP && f.Plain() {
		return p.parseTCP(b[p.L4:])
	}
	return p.parseL4(b, &f.Header)
}

// trim cuts f to n bytes, and forgets a hint that headers are longer than that.
func trim(f *tap.Frame, n int) {
	f.Trim(n)
	if int(f.Header.HdrLen) > n {
		f.Header.HdrLen = 0
	}
}

// ipv4Plain is the first byte of a header without options.
const ipv4Plain = 0x45

// checkIPv4Options takes a packet with options, if its header is whole. It verifies the checksum and walks the options: lying lengths are refused,
// and source routes, which would take a packet past our decision (RFC 7126 sections 4.3 and 4.4).
func checkIPv4Options(ip []byte) Reason {
	hdrLen, total := ipv4HeaderLen(ip), int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || hdrLen > total || total > len(ip) {
		return ReasonNone // parseIPv4 says what is wrong
	}
	ip = ip[:hdrLen]
	if !ipv4ChecksumOK(ip) {
		return ReasonIPv4Checksum
	}
	for o := ip[ipv4MinLen:]; len(o) > 0 && o[0] != ipv4OptEnd; {
		if o[0] == ipv4OptNop {
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return ReasonIPv4Options
		}
		if o[0] == ipv4OptLooseRoute || o[0] == ipv4OptStrict {
			return ReasonSourceRoute
		}
		o = o[o[1]:]
	}
	return ReasonNone
}

// sumOK reports whether the 20 bytes of an IPv4 header sum up to zero: whether their sum is a multiple of 0xffff, which the sum of 64-bit words with the carry
// taken round is as well. (It is not 0 itself, for the version is not.)
func sumOK(w0, w1 uint64, w2 uint32) bool {
	s, c := bits.Add64(w0, w1, 0)
	s, c = bits.Add64(s, uint64(w2), c)
	return (s+c)%0xffff == 0
}

// martian marks the first bytes of addresses that checkIPv4Addrs refuses.
var martian = func() (m [256]uint8) {
	for i := range m {
		if i == 0 || i == 127 || i>>4 == 14 {
			m[i] |= martianSource
		}
		if i == 0 || i == 127 {
			m[i] |= martianDest
		}
	}
	return m
}()

const martianSource, martianDest = 1, 2

// checkIPv4Addrs refuses what no wire may carry (RFC 1122 section 3.2.1.3): as a source "this network", loopback, multicast and
// broadcast; as a destination the first two.
func checkIPv4Addrs(src, dst uint32) Reason {
	if net := src >> 24; net == 0 || net == 127 || net>>4 == 14 || src == ^uint32(0) {
		return ReasonMartianSource
	}
	if net := dst >> 24; net == 0 || net == 127 {
		return ReasonMartianDest
	}
	if src == dst {
		return ReasonLand
	}
	return ReasonNone
}

// parseFragment takes the fragment that starts at byte off of its datagram; b ends with it and p.L4 is its first byte.
func (p *Packet) parseFragment(f *tap.Frame, b []byte, off int, more bool) Reason {
	size := len(b) - int(p.L4)
	if off+size > maxDatagram || more && size%8 != 0 {
		return ReasonFragment
	}
	p.Fragment, p.First = true, off == 0
	if p.First {
		return p.parseL4(b, &f.Header)
	}
	// A fragment at byte 8 rewrites the flags of a TCP header that the first fragment has shown to be harmless (RFC 1858).
	if off == 8 && p.Proto == ProtoTCP {
		return ReasonTinyFragment
	}
	return parseOther(f)
}

// parseL4 reads the L4 header at p.L4; b ends where the IP packet ends.
func (p *Packet) parseL4(b []byte, h *tap.Header) Reason {
	l4 := b[p.L4:]
	r := ReasonNone
	switch p.Proto {
	case ProtoTCP:
		r = p.parseTCP(l4)
	case ProtoUDP:
		r = p.parseUDP(l4, h)
	case ProtoSCTP:
		r = p.parseSCTP(l4)
	case ProtoICMP:
		if p.Kind == KindIPv4 {
			r = p.parseICMP(l4, icmpEcho, icmpEchoReply)
		}
	case ProtoICMPv6:
		if p.Kind == KindIPv6 {
			r = p.parseICMP(l4, icmpv6Echo, icmpv6EchoReply)
		}
	}
	if r == ReasonNone && (h.Flags|h.GSOType) != 0 {
		r = p.checkOffload(h)
	}
	return r
}

func (p *Packet) parseTCP(l4 []byte) Reason {
	if len(l4) < tcpMinLen {
		return p.cutShort(ReasonTCPHeader)
	}
	ports, word := binary.BigEndian.Uint32(l4), binary.BigEndian.Uint16(l4[12:])
	hdrLen := word >> 12 * 4
	if hdrLen < tcpMinLen {
		return ReasonTCPHeader
	}
	if int(hdrLen) > len(l4) {
		return p.cutShort(ReasonTCPHeader)
	}
	p.SrcPort, p.DstPort = uint16(ports>>16), uint16(ports)
	p.TCPFlags, p.Event = uint8(word), uint8(word)
	p.HasPorts, p.L4Len, p.csum = true, hdrLen, p.L4+tcpCsumOff
	return ReasonNone
}

// parseUDP accepts a datagram that ends before its packet does (RFC 768 leaves the rest to others), but not together with
// offloads: the kernel would sum and cut up to the end of the packet.
func (p *Packet) parseUDP(l4 []byte, h *tap.Header) Reason {
	if len(l4) < udpLen {
		return p.cutShort(ReasonUDPLength)
	}
	n := int(binary.BigEndian.Uint16(l4[4:]))
	if n < udpLen || n > len(l4) && !p.Fragment {
		return ReasonUDPLength
	}
	if n != len(l4) && (h.Partial() || h.Super()) {
		return ReasonUDPLength
	}
	p.SrcPort, p.DstPort = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	p.NoCsum = binary.BigEndian.Uint16(l4[udpCsumOff:]) == 0 && !h.Partial()
	p.HasPorts, p.L4Len, p.csum = true, udpLen, p.L4+udpCsumOff
	return ReasonNone
}

func (p *Packet) parseICMP(l4 []byte, echo, reply uint8) Reason {
	if len(l4) < icmpLen {
		return p.cutShort(ReasonICMPHeader)
	}
	p.ICMPType, p.ICMPCode = l4[0], l4[1]
	p.L4Len, p.csum = icmpLen, p.L4+icmpCsumOff
	if p.ICMPType == echo || p.ICMPType == reply {
		p.SrcPort = binary.BigEndian.Uint16(l4[icmpIDOff:])
		p.DstPort = p.SrcPort
		p.echo = true
	}
	return ReasonNone
}

// cutShort names the fault of an L4 header that is not whole: in a first fragment it is somebody's trick (RFC 1858, RFC 7112).
func (p *Packet) cutShort(r Reason) Reason {
	if p.First {
		return ReasonTinyFragment
	}
	return r
}

// checkOffload compares what the virtio header claims with the packet: the checksum to complete must be the one of the L4 header that
// was parsed, and segments must be of its protocol. A fragment can be neither partial nor super. Nor can SCTP: Linux gives a TAP no offload for it, but
// completes and cuts before (and a partial CRC is no sum that virtio has a word for).
func (p *Packet) checkOffload(h *tap.Header) Reason {
	if h.Partial() && (p.Fragment || !p.HasPorts || p.csum == 0 || h.CsumStart != p.L4 || h.CsumStart+h.CsumOffset != p.csum) {
		return ReasonPartial
	}
	if !h.Super() {
		return ReasonNone
	}
	if p.Fragment || !segmentable(h, p.Kind, p.Proto, p.TCPFlags) {
		return ReasonGSO
	}
	return ReasonNone
}

// segmentable reports whether segments as h says can be those of such a packet. It refuses the flags of TCP that would mean something else on every segment than on the whole.
func segmentable(h *tap.Header, k Kind, proto, flags uint8) bool {
	if h.GSOSize == 0 {
		return false
	}
	tcp := proto == ProtoTCP && flags&(SYN|RST) == 0
	switch h.GSOType &^ tap.GSOECN {
	case tap.GSOTCPv4:
		return k == KindIPv4 && tcp
	case tap.GSOTCPv6:
		return k == KindIPv6 && tcp
	case tap.GSOUDPL4:
		return proto == ProtoUDP && h.GSOType&tap.GSOECN == 0
	}
	return false
}
