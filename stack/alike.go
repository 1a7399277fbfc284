package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// Frames alike
//
// Bulk comes as rows of frames of one connection, of which each says what the one before said, but for lengths, TCP's flags, and numbers that a director does not
// read. So what Parse found of one holds for the next, if these bytes are the same; what may differ is looked at as Parse does:
//
//	same       MACs, EtherType; version, header length, TOS, flags and fragment offset, TTL, protocol, addresses (IPv6: version, class, flow label, next header,
//	           hop limit, addresses); ports, length of the TCP header
//	looked at  total length, IPv4 checksum; TCP flags; UDP length and checksum
//
// Anything out of the ordinary is left to Parse: what is not TCP or UDP, options of IP and extension headers, fragments, and frames with something to complete or to cut.

// Offsets of the L4 header in frames without IP options or extension headers.
const (
	plainL4    = tap.EthernetLen + ipv4MinLen
	plainL4of6 = tap.EthernetLen + ipv6Len
)

// Of the shortest frames that are compared.
const (
	alikeLen    = plainL4 + tcpMinLen
	alikeLenOf6 = plainL4of6 + tcpMinLen
)

// Words of the headers as they are loaded, the first byte the lowest.
const (
	firstIPv4  = 0x0008 | ipv4Plain<<16 // EtherType, version and header length
	firstIPv6  = 0xdd86 | 0x60<<16      // EtherType, version
	firstMask4 = 0xffffff
	firstMask6 = 0xf0ffff

	wholeTCP  = ProtoTCP << 24 // flags and fragment offset, TTL, protocol
	wholeUDP  = ProtoUDP << 24
	wholeMask = 0xff<<24 | (ipv4OffsetMask&0xff)<<8 | (ipv4MF|ipv4OffsetMask)>>8
)

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// ParseAlike is Parse for a frame that is alike the one before, of which Parse or ParseAlike has made q, and which nobody has edited since. It reports false when it is not, or is
// to be refused: then f is as it was, and p is not to be used.
func ParseAlike(f *tap.Frame, p *Packet, before *tap.Frame, q *Packet) bool {
	b, was := f.Bytes(), before.Bytes()
	if len(b) < alikeLen || len(was) < alikeLen {
		return false
	}
	h, g := (*[alikeLen]byte)(b), (*[alikeLen]byte)(was)
	if le64(h[30:]) != le64(g[30:]) { // ports and an address of IPv4, half an address of IPv6: what differs most often
		return false
	}
	first := le64(h[8:])
	if le32(h[26:]) != le32(g[26:]) || first != le64(g[8:]) || le64(h[:]) != le64(g[:]) || !unmarked(&f.Header) {
		return false
	}
	end := 0
	if first>>32&firstMask4 == firstIPv4 {
		end = p.alikeIPv4(h, g, len(b), q)
	} else if first>>32&firstMask6 == firstIPv6 && len(b) >= alikeLenOf6 && len(was) >= alikeLenOf6 {
		end = p.alikeIPv6((*[alikeLenOf6]byte)(b), (*[alikeLenOf6]byte)(was), len(b), q)
	}
	if end == 0 {
		return false
	}
	p.L3Len = uint32(end - tap.EthernetLen)
	if end < len(b) {
		trim(f, end)
	}
	return true
}

// unmarked reports whether a virtio header says nothing that Parse would have to look at.
func unmarked(h *tap.Header) bool { return h.Plain() && h.HdrLen == 0 }

// alikeIPv4 and alikeIPv6 compare what ParseAlike has not, in a frame of n bytes, and return where its packet ends; 0 when it is not alike.
func (p *Packet) alikeIPv4(h, g *[alikeLen]byte, n int, q *Packet) int {
	word, end := le32(h[20:]), tap.EthernetLen+int(binary.BigEndian.Uint16(h[16:]))
	whole := word & wholeMask
	if word != le32(g[20:]) || whole != wholeTCP && whole != wholeUDP || end > n || !sumOK(le64(h[14:]), le64(h[22:]), le32(h[30:])) { // The order of bytes is of no matter to a sum.
		return 0
	}
	*p = *q
	if whole == wholeTCP {
		return p.alikeTCP((*[tcpMinLen]byte)(h[plainL4:]), g[plainL4+12], end)
	}
	return p.alikeUDP((*[udpLen]byte)(h[plainL4:]), end)
}

func (p *Packet) alikeIPv6(h, g *[alikeLenOf6]byte, n int, q *Packet) int {
	end := plainL4of6 + int(binary.BigEndian.Uint16(h[18:]))
	if le32(h[14:]) != le32(g[14:]) || h[20] != g[20] || h[21] != g[21] || h[20] != ProtoTCP && h[20] != ProtoUDP || end > n ||
		le64(h[22:]) != le64(g[22:]) || le64(h[38:]) != le64(g[38:]) || le64(h[46:]) != le64(g[46:]) || le32(h[plainL4of6:]) != le32(g[plainL4of6:]) {
		return 0
	}
	*p = *q
	if h[20] == ProtoTCP {
		return p.alikeTCP((*[tcpMinLen]byte)(h[plainL4of6:]), g[plainL4of6+12], end)
	}
	return p.alikeUDP((*[udpLen]byte)(h[plainL4of6:]), end)
}

// alikeTCP looks at the header of a packet that ends at byte end of its frame; was is the length of the header of the packet before, as it stands there.
func (p *Packet) alikeTCP(l4 *[tcpMinLen]byte, was byte, end int) int {
	if (l4[12]^was)>>4 != 0 || end < int(p.L4+p.L4Len) {
		return 0
	}
	p.TCPFlags, p.Event = l4[13], l4[13]
	return end
}

// alikeUDP looks at the header of a packet that ends at byte end of its frame.
func (p *Packet) alikeUDP(l4 *[udpLen]byte, end int) int {
	n := int(binary.BigEndian.Uint16(l4[4:]))
	if n < udpLen || n > end-int(p.L4) {
		return 0
	}
	p.NoCsum = binary.BigEndian.Uint16(l4[udpCsumOff:]) == 0
	return end
}
