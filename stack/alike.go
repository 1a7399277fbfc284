package stack

import (
	"encoding/binary"
	"math/bits"

	"tapdirector/tap"
)

// Frames alike
//
// Bulk comes as rows of frames of one connection, of which each says what the one before said, but for lengths, TCP's flags, and numbers that a director does not
// read. So what Parse found of one holds for another, if these bytes are the same; what may differ (Own) is looked at as Parse does:
//
//	same       MACs, EtherType; version, header length, TOS, flags and fragment offset, TTL, protocol, addresses (IPv6: version, class, flow label, next header,
//	           hop limit, addresses); ports, length of the TCP header
//	looked at  total length, IPv4 checksum; TCP flags; UDP length and checksum; the virtio header, as checkOffload does: that there is something to complete or to cut, as
//	           nearly always in frames of this host's own kernel, makes no difference to who is alike
//
// Anything out of the ordinary is left to Parse: what is not TCP or UDP, options of IP and extension headers, fragments.

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

// Alike looks at a frame as Parse does, if it is alike one that Parse or Alike took, whose headers were was: at what may differ, which it leaves in o. It reports false when the frame
// is not alike, or is to be refused: then it is as it was, and o is not to be used.
func Alike(f *tap.Frame, was []byte, o *Own) bool {
	b := f.Bytes()
	if len(b) < alikeLen || len(was) < alikeLen {
		return false
	}
	h, g := (*[alikeLen]byte)(b), (*[alikeLen]byte)(was)
	if le64(h[30:]) != le64(g[30:]) { // ports and an address of IPv4, half an address of IPv6: what differs most often
		return false
	}
	first := le64(h[8:])
	if le32(h[26:]) != le32(g[26:]) || first != le64(g[8:]) || le64(h[:]) != le64(g[:]) {
		return false
	}
	end := 0
	if first>>32&firstMask4 == firstIPv4 {
		end = o.alikeIPv4(h, g, len(b))
	} else if first>>32&firstMask6 == firstIPv6 && len(b) >= alikeLenOf6 && len(was) >= alikeLenOf6 {
		end = o.alikeIPv6((*[alikeLenOf6]byte)(b), (*[alikeLenOf6]byte)(was), len(b))
	}
	if end == 0 || !unmarked(&f.Header) && (int(f.Header.HdrLen) > len(b) || !o.marked(&f.Header, b[:end])) {
		return false
	}
	o.L3Len = uint32(end - tap.EthernetLen)
	if end < len(b) {
		trim(f, end)
	}
	return true
}

// unmarked reports whether a virtio header says nothing that Parse would have to look at.
func unmarked(h *tap.Header) bool { return h.Plain() && h.HdrLen == 0 }

// alikeIPv4 and alikeIPv6 compare what Alike has not, in a frame of n bytes, and return where its packet ends; 0 when it is not alike.
func (o *Own) alikeIPv4(h, g *[alikeLen]byte, n int) int {
	word, end := le32(h[20:]), tap.EthernetLen+int(binary.BigEndian.Uint16(h[16:]))
	whole := word & wholeMask
	if word != le32(g[20:]) || whole != wholeTCP && whole != wholeUDP || end > n || !sumOK(le64(h[14:]), le64(h[22:]), uint32(le64(h[30:]))) { // The order of bytes is of no matter to a sum; of two loads that begin alike the compiler makes single bytes.
		return 0
	}
	if whole == wholeTCP {
		return o.alikeTCP((*[tcpMinLen]byte)(h[plainL4:]), g[plainL4+12], end, plainL4)
	}
	return o.alikeUDP((*[udpLen]byte)(h[plainL4:]), end, plainL4)
}

func (o *Own) alikeIPv6(h, g *[alikeLenOf6]byte, n int) int {
	end := plainL4of6 + int(binary.BigEndian.Uint16(h[18:]))
	if le32(h[14:]) != le32(g[14:]) || h[20] != g[20] || h[21] != g[21] || h[20] != ProtoTCP && h[20] != ProtoUDP || end > n ||
		le64(h[22:]) != le64(g[22:]) || le64(h[38:]) != le64(g[38:]) || le64(h[46:]) != le64(g[46:]) || le32(h[plainL4of6:]) != le32(g[plainL4of6:]) {
		return 0
	}
	if h[20] == ProtoTCP {
		return o.alikeTCP((*[tcpMinLen]byte)(h[plainL4of6:]), g[plainL4of6+12], end, plainL4of6)
	}
	return o.alikeUDP((*[udpLen]byte)(h[plainL4of6:]), end, plainL4of6)
}

// alikeTCP looks at the header, at byte off, of a packet that ends at byte end of its frame; was is the length of the other one's, as it stands there.
func (o *Own) alikeTCP(l4 *[tcpMinLen]byte, was byte, end, off int) int {
	if (l4[12]^was)>>4 != 0 || end < off+int(l4[12]>>4)*4 {
		return 0
	}
	o.TCPFlags, o.Event, o.NoCsum, o.First = l4[13], l4[13], false, false
	return end
}

// alikeUDP looks at the header, at byte off, of a packet that ends at byte end of its frame.
func (o *Own) alikeUDP(l4 *[udpLen]byte, end, off int) int {
	n := int(binary.BigEndian.Uint16(l4[4:]))
	if n < udpLen || n > end-off {
		return 0
	}
	o.TCPFlags, o.Event, o.NoCsum, o.First = 0, 0, binary.BigEndian.Uint16(l4[udpCsumOff:]) == 0, false
	return end
}

// marked looks at a virtio header that says something, as checkOffload and parseUDP do; b is the frame up to the end of its packet. It reports false when that does not fit.
func (o *Own) marked(h *tap.Header, b []byte) bool {
	if h.Plain() {
		return true
	}
	kind, l4, proto := KindIPv4, plainL4, b[tap.EthernetLen+9]
	if b[12] != etherIPv4>>8 {
		kind, l4, proto = KindIPv6, plainL4of6, b[tap.EthernetLen+6]
	}
	csum := uint16(tcpCsumOff)
	if proto == ProtoUDP {
		if int(binary.BigEndian.Uint16(b[l4+4:])) != len(b)-l4 {
			return false
		}
		csum = udpCsumOff
	}
	if h.Partial() {
		if int(h.CsumStart) != l4 || h.CsumOffset != csum {
			return false
		}
		o.NoCsum = false
	}
	return !h.Super() || segmentable(h, kind, proto, o.TCPFlags)
}

// HeadersLen is so many bytes of a frame as Alike compares.
const HeadersLen = alikeLenOf6

// Near reports, more quickly than Alike, whether a frame may be alike one with such headers.
func Near(b []byte, was *[HeadersLen]byte) bool {
	if len(b) < plainL4+4 || le64(b[plainL4-4:]) != le64(was[plainL4-4:]) {
		return false
	}
	return b[12] == etherIPv4>>8 || len(b) >= plainL4of6+4 && le32(b[plainL4of6:]) == le32(was[plainL4of6:])
}

// Mix makes a number of the ends that a frame's packet has, if Alike takes it; of other frames, of anything. It is quick and no secret.
func Mix(b []byte) uint64 {
	if len(b) < plainL4+4 {
		return 0
	}
	h := (*[plainL4 + 4]byte)(b)
	x, y := le64(h[26:]), uint64(le32(h[34:]))
	if h[12] != etherIPv4>>8 && len(b) >= plainL4of6+4 {
		g := (*[plainL4of6 + 4]byte)(b)
		x = le64(g[22:]) ^ bits.RotateLeft64(le64(g[30:]), 23)
		y = le64(g[38:]) ^ bits.RotateLeft64(le64(g[46:]), 23) ^ uint64(le32(g[54:]))
	}
	hi, lo := bits.Mul64(x^0x9e3779b97f4a7c15, y^0xd1b54a32d192ed03)
	return hi ^ lo
}
