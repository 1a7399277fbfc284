package stack

import (
	"encoding/binary"
)

// Edits in place. Each takes b, the frame that p describes, and leaves addresses, ports and all checksums in step with each other and
// with p; see checksum.go for how. partial is the frame's Header.Partial(). They compute nothing that depends on the length of the frame.

// DstMAC returns the receiver's hardware address of the frame b.
func DstMAC(b []byte) MAC { return MAC(b[0:6]) }

// SrcMAC returns the sender's hardware address of the frame b.
func SrcMAC(b []byte) MAC { return MAC(b[6:12]) }

// DstWord returns the same as a number.
func DstWord(b []byte) MACWord { return MACWord(binary.BigEndian.Uint64(b[0:8]) >> 16) }

// SrcWord is DstWord for the sender.
func SrcWord(b []byte) MACWord { return MACWord(binary.BigEndian.Uint64(b[4:12]) & (1<<48 - 1)) }

// SetMACs writes both hardware addresses of the frame b.
func SetMACs(b []byte, dst, src MACWord) {
	binary.BigEndian.PutUint64(b[0:8], uint64(dst)<<16|uint64(src)>>32)
	binary.BigEndian.PutUint32(b[8:12], uint32(src))
}

// SetDst changes the destination to address a, of p's own family, and port. For ICMP echo the port is the identifier, and
// becomes both ports of p; packets without ports, later fragments among them, keep theirs and port is ignored.
func (p *Packet) SetDst(b []byte, partial bool, a Addr, port uint16) {
	d := deltaAddr(p.Dst, a)
	p.Dst = a
	if p.Kind == KindIPv4 {
		ip := b[p.L3:][:ipv4MinLen]
		binary.BigEndian.PutUint32(ip[16:], uint32(a.lo))
		binary.BigEndian.PutUint16(ip[10:], patch(binary.BigEndian.Uint16(ip[10:]), d))
	} else {
		ip := b[p.L3:][:ipv6Len]
		binary.BigEndian.PutUint64(ip[24:], a.hi)
		binary.BigEndian.PutUint64(ip[32:], a.lo)
	}
	if !p.HasPorts {
		p.editICMP(b, d, port)
		return
	}
	binary.BigEndian.PutUint16(b[p.L4+2:], port)
	was := p.ports()
	p.DstPort = port
	p.editL4(b, partial, d, was)
}

// SetSrc changes the source; see SetDst.
func (p *Packet) SetSrc(b []byte, partial bool, a Addr, port uint16) {
	d := deltaAddr(p.Src, a)
	p.Src = a
	if p.Kind == KindIPv4 {
		ip := b[p.L3:][:ipv4MinLen]
		binary.BigEndian.PutUint32(ip[12:], uint32(a.lo))
		binary.BigEndian.PutUint16(ip[10:], patch(binary.BigEndian.Uint16(ip[10:]), d))
	} else {
		ip := b[p.L3:][:ipv6Len]
		binary.BigEndian.PutUint64(ip[8:], a.hi)
		binary.BigEndian.PutUint64(ip[16:], a.lo)
	}
	if !p.HasPorts {
		p.editICMP(b, d, port)
		return
	}
	binary.BigEndian.PutUint16(b[p.L4:], port)
	was := p.ports()
	p.SrcPort = port
	p.editL4(b, partial, d, was)
}

// SetEnds changes both ends, to the addresses, of p's own family, and ports of t: SetSrc and SetDst in one pass. For ICMP echo the source port of t is
// the identifier; packets without ports keep theirs.
func (p *Packet) SetEnds(b []byte, partial bool, t *Tuple) {
	d := deltaAddr(p.Src, t.Src) + deltaAddr(p.Dst, t.Dst)
	if p.Kind == KindIPv4 {
		ip := b[p.L3:][:ipv4MinLen]
		binary.BigEndian.PutUint32(ip[12:], uint32(t.Src.lo))
		binary.BigEndian.PutUint32(ip[16:], uint32(t.Dst.lo))
		binary.BigEndian.PutUint16(ip[10:], patch(binary.BigEndian.Uint16(ip[10:]), d))
	} else {
		ip := b[p.L3:][:ipv6Len]
		binary.BigEndian.PutUint64(ip[8:], t.Src.hi)
		binary.BigEndian.PutUint64(ip[16:], t.Src.lo)
		binary.BigEndian.PutUint64(ip[24:], t.Dst.hi)
		binary.BigEndian.PutUint64(ip[32:], t.Dst.lo)
	}
	p.Src, p.Dst = t.Src, t.Dst
	if !p.HasPorts {
		p.editICMP(b, d, t.SrcPort)
		return
	}
	l4 := b[p.L4:][:4]
	binary.BigEndian.PutUint16(l4, t.SrcPort)
	binary.BigEndian.PutUint16(l4[2:], t.DstPort)
	was := p.ports()
	p.SrcPort, p.DstPort = t.SrcPort, t.DstPort
	p.editL4(b, partial, d, was)
}

// editL4 brings the checksum of TCP, UDP or SCTP in step: the addresses changed by d, and the ports were others.
func (p *Packet) editL4(b []byte, partial bool, d delta, was uint32) {
	if p.NoCsum {
		if p.Proto == ProtoSCTP {
			p.editSCTP(b, was)
		}
		return
	}
	field := b[p.csum:][:2]
	old := binary.BigEndian.Uint16(field)
	if partial {
		binary.BigEndian.PutUint16(field, patchPartial(old, d))
		return
	}
	sum := patch(old, d+delta(^was)+delta(p.ports()))
	if sum == 0 && p.Proto == ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
}

// editICMP brings ICMP in step with an edit of an address by d, and makes id the identifier of an echo.
func (p *Packet) editICMP(b []byte, d delta, id uint16) {
	if p.csum == 0 {
		return
	}
	if p.Kind == KindIPv4 {
		d = 0
	}
	if p.echo {
		binary.BigEndian.PutUint16(b[p.L4+icmpIDOff:], id)
		d += delta16(p.SrcPort, id)
		p.SrcPort, p.DstPort = id, id
	}
	field := b[p.csum:][:2]
	sum := patch(binary.BigEndian.Uint16(field), d)
	if sum == 0 && p.Kind == KindIPv4 {
		sum = 0xffff // An ICMP message of zeros only, which no pseudo-header saves: its checksum is the other zero; for others both are right.
	}
	binary.BigEndian.PutUint16(field, sum)
}

// DecTTL takes one from TTL or hop limit. At 0 there is nothing to take; who forwards has looked before (TTL <= 1 is not forwarded).
func (p *Packet) DecTTL(b []byte) {
	if p.TTL == 0 {
		return
	}
	p.TTL--
	if p.Kind == KindIPv6 {
		b[p.L3+7] = p.TTL
		return
	}
	ip := b[p.L3:][:ipv4MinLen]
	ip[8] = p.TTL
	// The TTL is the upper half of its word: the sum loses 0x0100, so its complement gains it. 0xffff, the wrong one of the two zeros, carries too.
	s := uint32(binary.BigEndian.Uint16(ip[10:])) + 0x0100
	binary.BigEndian.PutUint16(ip[10:], uint16(s+(s+1)>>16))
}
