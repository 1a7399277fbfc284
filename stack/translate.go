package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// Translation between IPv4 and IPv6 (RFC 7915)
//
// A packet of a connection whose ends are of different families is taken out of its IP header, extension headers and options included, and put behind
// one of the other family. What is behind the IP header stays where it lies: the frame grows into its headroom at the front, or shrinks
// out of it.
//
//	             IPv6 to IPv4 (section 5.1)                        IPv4 to IPv6 (section 4.1)
//	class, TOS   copied                                            copied
//	flow label   lost                                              0
//	TTL          copied; who forwards counts it down               copied
//	DF           set in packets larger than 1260 bytes, which no   clear and larger than 1280 bytes: a fragment header, for the packet must be
//	             link of IPv6 would have to carry                  cut to that size (FragmentIPv6); set or smaller: none
//	id           of the fragment header, 0 with DF, else counted   in the fragment header
//	fragments    stay what they are, at their offsets              stay what they are; too large, they are cut again
//	options,     lost; with AH, which signs addresses, and with    lost; source routes never get past Parse
//	extensions   headers behind the fragment header: refused
//
// Fragments keep their offsets only if nothing is taken out behind the fragment header, therefore the last.
//
// Checksums. TCP's and UDP's pseudo-headers differ between the families in the addresses alone: length and protocol are the same numbers, and the 0xffff in an
// IPv4 Addr is one's complement's zero. So the edit is the same delta as within one family, for full and partial checksums. UDP over IPv4 may have none,
// over IPv6 it must: it is computed, of a superpacket left to who cuts it, and of a first fragment impossible (section 4.5: dropped).
// SCTP's has no pseudo-header.
//
// Superpackets stay whole. Their segment size counts payload only, so segments grow or shrink with the header: MaxAcross is what they come to.

// HeaderGrowth is the bytes that a packet is larger in IPv6 than in IPv4, fragments apart.
const HeaderGrowth = ipv6Len - ipv4MinLen

// Bytes of L3.
const (
	ipv6MinMTU  = 1280                      // of every link of IPv6
	acrossMinDF = ipv6MinMTU - HeaderGrowth // an IPv4 packet up to this has no DF: translated back it would fit any link
	crossedFrag = ipv6Len + extMinLen       // IPv6 with a fragment header
)

// MaxAcross returns the bytes of L3 that the largest packet which a frame with header h stands for has after its translation.
func (p *Packet) MaxAcross(h tap.Header) int { return MaxSegment(h, p) + p.growth(h) }

// growth is what translation adds to the packet; options and extension headers go.
func (p *Packet) growth(h tap.Header) int { return p.headerAcross(h) - int(p.L4-p.L3) }

// headerAcross is the bytes that the IP header, fragment header included, has after translation.
func (p *Packet) headerAcross(h tap.Header) int {
	switch {
	case p.Kind == KindIPv6:
		return ipv4MinLen
	case p.Fragment || !p.DF && !h.Super() && int(p.L3Len)-int(p.L4-p.L3)+ipv6Len > ipv6MinMTU:
		return crossedFrag
	}
	return ipv6Len
}

// CutAcross reports whether the packet may be cut on its way in the other family: fragments, what IPv4 may cut, and what is smaller than IPv6 ever says is
// too big. (Fragments even with DF: only the first could be answered, and some senders that set it, gVisor's UDP among them, never listen.)
func (p *Packet) CutAcross(h tap.Header) bool {
	if p.Kind == KindIPv4 {
		return !p.DF || p.Fragment
	}
	return p.Fragment || p.MaxAcross(h) <= acrossMinDF
}

// Translate makes of f, whose packet is p, TCP, UDP or SCTP, one of the other family from t.Src to t.Dst and with their ports, and of p what describes it; of later
// fragments only the addresses change. The MACs stay to be set. id is IPv4's identification, used where DF is clear. After a translation to IPv6 p.DF says
// still whether the packet may be cut. It reports false, all unchanged, for what RFC 7915 does not let pass, and without headroom.
func Translate(f *tap.Frame, p *Packet, t *Tuple, id uint16) bool {
	b := f.Bytes()
	if !p.HasPorts && (!p.Fragment || p.First) || p.First && p.NoCsum && p.Kind == KindIPv4 {
		return false
	}
	n, h := p.headerAcross(f.Header), ipFields{tos: tosOf(b[p.L3:], p.Kind), ttl: p.TTL, proto: p.Proto}
	size, ok := int(p.L3Len)+p.growth(f.Header), true
	if p.Kind == KindIPv4 {
		h.ident = binary.BigEndian.Uint32(b[p.L3+4:])
	} else if h.ident, ok = p.identAcross(b[p.L3:], p.MaxAcross(f.Header), id); !ok {
		return false
	}
	if size > maxDatagram || !p.moveL4(f, tap.EthernetLen+n) {
		return false
	}
	p.L3Len = uint32(size)
	b = f.Bytes()
	p.crossL4(b, f.Header.Partial(), t)
	if p.NoCsum && p.Kind == KindIPv4 && p.Proto == ProtoUDP {
		p.sumUDP(f, b)
	}
	p.crossL3(b[tap.EthernetLen:][:n], h)
	p.setEtherType(b)
	return true
}

// identAcross returns the second word of an IPv4 header for the packet ip of IPv6: identification, flags, offset. It reports false for what has
// extension headers that must not be lost, and for a fragment that would lie beyond what an IPv4 datagram may hold.
func (p *Packet) identAcross(ip []byte, largest int, id uint16) (word uint32, ok bool) {
	at, ok := p.chain(ip)
	switch {
	case !ok:
		return 0, false
	case at == 0 && largest > acrossMinDF:
		return ipv4DF, true
	case at == 0:
		return uint32(id) << 16, true
	}
	off := binary.BigEndian.Uint16(ip[at+2:])
	word = uint32(binary.BigEndian.Uint16(ip[at+6:]))<<16 | uint32(off>>3)
	if off&ipv6More != 0 {
		word |= ipv4MF
	}
	end := int(off&ipv6OffMask) + int(p.L3Len) - at - extMinLen
	return word, end+ipv4MinLen <= maxDatagram
}

// chain walks the extension headers up to p.L4, which Parse has found to be sound. It returns the offset of the fragment header, 0 without one, and whether
// all may be left out.
func (p *Packet) chain(ip []byte) (fragment int, ok bool) {
	end := int(p.L4 - p.L3)
	for next, at := ip[6], ipv6Len; at < end; {
		size := extMinLen + int(ip[at+1])*8
		switch {
		case next == extAuth:
			return 0, false
		case next == extFragment:
			fragment, size = at, extMinLen
		}
		next, at = ip[at], at+size
	}
	return fragment, !p.Fragment || fragment+extMinLen == end
}

// moveL4 moves the start of f so that p's L4 header comes to lie at offset to.
func (p *Packet) moveL4(f *tap.Frame, to int) bool {
	by := to - int(p.L4)
	if !f.Prepend(by) {
		return false
	}
	p.L4 = uint16(to)
	if p.csum != 0 {
		p.csum += uint16(by)
	}
	h := &f.Header
	if h.HdrLen != 0 {
		h.HdrLen = uint16(max(int(h.HdrLen)+by, 0))
	}
	if h.Partial() {
		h.CsumStart = p.L4
	}
	switch h.GSOType &^ tap.GSOECN {
	case tap.GSOTCPv4:
		h.GSOType += tap.GSOTCPv6 - tap.GSOTCPv4
	case tap.GSOTCPv6:
		h.GSOType -= tap.GSOTCPv6 - tap.GSOTCPv4
	}
	return true
}

// crossL4 gives p the ends t: addresses, ports, L4 checksum.
func (p *Packet) crossL4(b []byte, partial bool, t *Tuple) {
	d := deltaAddr(p.Src, t.Src) + deltaAddr(p.Dst, t.Dst)
	p.Src, p.Dst = t.Src, t.Dst
	if !p.HasPorts {
		return
	}
	l4 := b[p.L4:][:4]
	binary.BigEndian.PutUint16(l4, t.SrcPort)
	binary.BigEndian.PutUint16(l4[2:], t.DstPort)
	was := p.ports()
	p.SrcPort, p.DstPort = t.SrcPort, t.DstPort
	p.editL4(b, partial, d, was)
}

// sumUDP gives UDP the checksum that it had none of.
func (p *Packet) sumUDP(f *tap.Frame, b []byte) {
	p.NoCsum = false
	l4 := p.l4Packet(b)
	if !f.Header.Super() {
		p.setL4Checksum(l4, udpCsumOff)
		return
	}
	binary.BigEndian.PutUint16(l4[udpCsumOff:], p.pseudoHeader(len(l4)))
	f.Header.Flags = tap.FlagNeedsCsum
	f.Header.CsumStart, f.Header.CsumOffset = p.L4, udpCsumOff
}

// ipFields are what an IP header of either family says besides lengths and addresses.
type ipFields struct {
	tos, ttl, proto uint8
	ident           uint32 // as IPv4's second word: identification, flags, offset
}

// crossL3 writes the header that is ip, of the family that p is not yet of, and makes p of that family.
func (p *Packet) crossL3(ip []byte, h ipFields) {
	if p.Kind == KindIPv4 {
		p.Kind = KindIPv6
		p.putIPv6(ip, h)
		return
	}
	p.Kind, p.DF = KindIPv4, h.ident&ipv4DF != 0
	p.putIPv4(ip, h)
}

// setEtherType makes the frame b one of p's family.
func (p *Packet) setEtherType(b []byte) {
	if p.Kind == KindIPv4 {
		binary.BigEndian.PutUint16(b[12:], etherIPv4)
		return
	}
	binary.BigEndian.PutUint16(b[12:], etherIPv6)
}

// putIPv4 writes the header that is ip, of a packet with p's ends and length.
func (p *Packet) putIPv4(ip []byte, h ipFields) {
	ip[0], ip[1], ip[8], ip[9] = 4<<4|ipv4MinLen/4, h.tos, h.ttl, h.proto
	binary.BigEndian.PutUint16(ip[2:], uint16(p.L3Len))
	binary.BigEndian.PutUint32(ip[4:], h.ident)
	p.Src.Put(ip[12:16])
	p.Dst.Put(ip[16:20])
	setIPv4Checksum(ip)
}

// putIPv6 writes the header that is ip, with a fragment header where ip has room for one.
func (p *Packet) putIPv6(ip []byte, h ipFields) {
	binary.BigEndian.PutUint32(ip, 6<<28|uint32(h.tos)<<20)
	binary.BigEndian.PutUint16(ip[4:], uint16(p.L3Len-ipv6Len))
	ip[6], ip[7] = h.proto, h.ttl
	p.Src.Put(ip[8:24])
	p.Dst.Put(ip[24:40])
	if len(ip) == ipv6Len {
		return
	}
	word := uint16(h.ident&ipv4OffsetMask) << 3
	if h.ident&ipv4MF != 0 {
		word |= ipv6More
	}
	ip[6], ip[40], ip[41] = extFragment, h.proto, 0
	binary.BigEndian.PutUint16(ip[42:], word)
	binary.BigEndian.PutUint32(ip[44:], h.ident>>16)
}

// FragmentIPv6 cuts f, which Translate made and gave a fragment header, into fragments of at most mtu bytes of L3, and hands them to emit in order, borrowed as
// with Segment. It reports false without a fragment header, when mtu has no room for 8 bytes of payload, and when a is full.
func FragmentIPv6(f *tap.Frame, p *Packet, mtu int, a *tap.Arena, emit func(*tap.Frame)) bool {
	CompleteChecksum(f, p)
	b := f.Bytes()
	if len(b) < tap.EthernetLen+crossedFrag || b[tap.EthernetLen+6] != extFragment {
		return false
	}
	h := b[tap.EthernetLen+ipv6Len:][:extMinLen]
	w := whole6{
		hdr: b[:tap.EthernetLen+ipv6Len], data: b[tap.EthernetLen+crossedFrag:],
		next: h[0], word: binary.BigEndian.Uint16(h[2:]), id: binary.BigEndian.Uint32(h[4:]),
	}
	return w.cut(mtu, a, emit)
}
