package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// An ICMP error from inside a tunnel is about the outer packet, and comes to the director, which is its source. What the client can use is in the
// quote, behind the outer headers: the head of the packet that the client sent. How much of it depends on the router: RFC 792 asks for 8 bytes behind the
// outer IP header, RFC 1812 for up to 576 in all.

// QuotedTunnel describes in t the tunnel whose packet p, an ICMP error in the frame b, quotes, all but its TTL. inner is the offset in b of the packet
// that was in the tunnel; it may lie behind the end of the quote. size is the bytes of L3 of the packet that the error is about. It reports
// false for what is no tunnel packet, a later fragment of one, and an error that is itself a fragment.
func (p *Packet) QuotedTunnel(b []byte, t *Tunnel) (inner, size int, ok bool) {
	q := Packet{Kind: p.Kind, L3: p.L4 + icmpLen}
	if p.Fragment || p.L4Len != icmpLen {
		return 0, 0, false
	}
	b = b[:uint32(p.L3)+p.L3Len]
	quote := b[q.L3:]
	if p.Kind == KindIPv4 {
		ok = q.innerIPv4(quote)
	} else {
		ok = q.innerIPv6(quote, b)
	}
	if !ok || int(q.L4) > len(b) {
		return 0, 0, false
	}
	size = int(binary.BigEndian.Uint16(quote[2:]))
	if p.Kind == KindIPv6 {
		size = ipv6Len + int(binary.BigEndian.Uint16(quote[4:]))
	}
	*t = Tunnel{Src: q.Src, Dst: q.Dst}
	n, ok := t.readShim(b[q.L4:], q.Proto)
	return int(q.L4) + n, size, ok
}

// readShim reads what stands between the outer IP header, whose protocol is proto, and the inner packet, and returns its length.
func (t *Tunnel) readShim(l4 []byte, proto uint8) (n int, ok bool) {
	switch {
	case proto == protoIPv4 || proto == protoIPv6:
		t.Kind = IPIP
		return 0, true
	case proto == ProtoUDP && len(l4) >= udpLen:
		t.Kind, t.Port, t.Csum = GUE, binary.BigEndian.Uint16(l4[2:]), binary.BigEndian.Uint16(l4[udpCsumOff:]) != 0
		return udpLen + gueLen, len(l4) < udpLen+gueLen || l4[8] == 0
	case proto == protoGRE && len(l4) >= greLen:
		t.Kind, t.Csum, n = GRE, l4[0]&0x80 != 0, greLen
		if t.Csum {
			n += greCsumLen
		}
		return n, true
	}
	return 0, false
}

// UnwrapQuote makes of f, an ICMP error about a packet of a tunnel, a frame that holds the packet that was in the tunnel, as far as it was quoted, and
// describes it in p as Inner does. The MACs stay to be set. inner is what QuotedTunnel said. It reports false, and leaves f useless, when too
// little was quoted to tell whose packet it was.
func UnwrapQuote(f *tap.Frame, inner int, p *Packet) bool {
	if inner+ipv4MinLen > f.Len() || !f.Prepend(tap.EthernetLen-inner) {
		return false
	}
	f.Header = tap.Header{}
	b := f.Bytes()
	*p = Packet{Kind: KindIPv4, L3: tap.EthernetLen, DF: true}
	binary.BigEndian.PutUint16(b[12:], etherIPv4)
	ok := false
	switch b[p.L3] >> 4 {
	case 4:
		f.Trim(min(f.Len(), tap.EthernetLen+int(binary.BigEndian.Uint16(b[p.L3+2:]))))
		b = f.Bytes()
		ok = p.innerIPv4(b[p.L3:])
	case 6:
		p.Kind = KindIPv6
		binary.BigEndian.PutUint16(b[12:], etherIPv6)
		f.Trim(min(f.Len(), tap.EthernetLen+ipv6Len+int(binary.BigEndian.Uint16(b[p.L3+4:]))))
		b = f.Bytes()
		ok = p.innerIPv6(b[p.L3:], b)
	}
	p.L3Len = uint32(f.Len() - tap.EthernetLen)
	return ok && int(p.L4) <= len(b) && p.innerL4(b)
}

// ICMPSaysMTU returns the next hop's MTU in bytes of L3 that p, an ICMP "too big" in the frame b, tells; 0 from a router older than RFC 1191.
func (p *Packet) ICMPSaysMTU(b []byte) int {
	if p.Kind == KindIPv4 {
		return int(binary.BigEndian.Uint16(b[p.L4+6:]))
	}
	return int(min(binary.BigEndian.Uint32(b[p.L4+4:]), maxDatagram))
}

// ICMPError returns what p, an ICMP error from inside a tunnel, means to the sender of the packet that was in it. It reports false for what is not
// about the packet but the way it took, or no longer in use: redirects and source quench.
func (p *Packet) ICMPError() (e ICMPError, ok bool) {
	t := [2]uint8{p.ICMPType, p.ICMPCode}
	for e, codes := range icmpCodes {
		if p.Kind == KindIPv4 && codes.v4 == t || p.Kind == KindIPv6 && codes.v6 == t {
			if e := ICMPError(e); e != ICMPPortUnreachable {
				return e, true
			}
		}
	}
	switch {
	case p.Kind == KindIPv4 && p.ICMPType == 3 && (p.ICMPCode == 9 || p.ICMPCode == 10):
		return ICMPAdminProhibited, true // network and host (RFC 1122 section 3.2.2.1)
	case p.Kind == KindIPv4 && (p.ICMPType == 4 || p.ICMPType == 5):
		return 0, false
	}
	return ICMPHostUnreachable, p.IsICMPError()
}
