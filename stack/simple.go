package stack

import (
	"encoding/binary"
	"math/bits"

	"tapdirector/tap"
)

// parseSimple is Parse for most frames there are: TCP or UDP behind an IPv4 header without options, in a frame of n bytes that begins with h. It reports false for all others, and for
// what is to be refused: then p is as it was, empty.
func (p *Packet) parseSimple(f *tap.Frame, h *[alikeLen]byte, n int) bool {
	whole := le32(h[20:]) & wholeMask
	if le64(h[8:])>>32&firstMask4 != firstIPv4 || whole != wholeTCP && whole != wholeUDP {
		return false
	}
	total := int(binary.BigEndian.Uint16(h[16:]))
	end := tap.EthernetLen + total
	w1, w2 := le64(h[22:]), le32(h[30:]) // loaded once: the compiler makes single bytes of loads that overlap
	src, dst := bits.ReverseBytes32(uint32(w1>>32)), bits.ReverseBytes32(w2)
	if h[6]&1 != 0 || end > n || !sumOK(le64(h[14:]), w1, w2) ||
		martian[h[26]]&martianSource|martian[h[30]]&martianDest != 0 || src == dst || src == ^uint32(0) {
		return false
	}
	l4Len, off := udpLen, plainL4+udpCsumOff
	if whole == wholeTCP {
		l4Len, off = int(h[plainL4+12]>>4)*4, plainL4+tcpCsumOff
		if l4Len < tcpMinLen || plainL4+l4Len > end {
			return false
		}
		p.TCPFlags, p.Event = h[plainL4+13], h[plainL4+13]
	} else {
		size := int(binary.BigEndian.Uint16(h[plainL4+4:]))
		if size < udpLen || plainL4+size > end {
			return false
		}
		p.NoCsum = h[plainL4+udpCsumOff]|h[plainL4+udpCsumOff+1] == 0
	}
	p.Src.lo, p.Dst.lo = v4Prefix|uint64(src), v4Prefix|uint64(dst)
	p.SrcPort, p.DstPort = binary.BigEndian.Uint16(h[34:]), binary.BigEndian.Uint16(h[36:])
	p.Proto, p.TTL, p.Kind, p.HasPorts = h[23], h[22], KindIPv4, true
	p.DF = h[20]&(ipv4DF>>8) != 0
	p.L3, p.L4, p.L4Len, p.csum, p.L3Len = tap.EthernetLen, plainL4, uint16(l4Len), uint16(off), uint32(total)
	if end < n {
		trim(f, end)
	}
	return true
}

// Simple reports whether a packet is TCP or UDP behind an IP header without options or extensions, and no fragment: one that Alike and Rewrite take.
func (p *Packet) Simple() bool {
	l4 := uint16(plainL4)
	if p.Kind == KindIPv6 {
		l4 = plainL4of6
	}
	return p.L4 == l4 && p.csum != 0 && p.HasPorts && !p.Fragment
}
