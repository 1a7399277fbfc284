package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/tap"
)

// TCP options, edited in place
//
// An option is put in right behind the fixed header, where a receiver that looks at the first option only finds it: everything in front of that
// place moves into the headroom, and nothing behind it moves. So the offsets of a Packet stay as they are, for they count from the frame's first
// byte; lengths grow, and with them, in this order: the IP length and IPv4's header checksum, TCP's data offset, the pseudo-header's length in
// TCP's checksum, and in a full checksum the new bytes.
//
// A superpacket stands for segments that will all carry the option. Each gives up as many bytes of payload for it, so none is larger than
// before; TCP does not care where a stream is cut.

// TCP option kinds.
const (
	tcpOptEnd = 0
	tcpOptNop = 1
	tcpOptMSS = 2
	tcpOptTOA = 254 // experimental (RFC 4727); "TCP option address", known to the toa module of Linux servers
)

// Bytes of the option that tells a server the client's address and port: TOALen4 for an IPv4 client, TOALen6 for an IPv6 one.
const (
	TOALen4 = 8
	TOALen6 = 20
)

// TOALen returns the bytes of the option for client.
func TOALen(client Addr) int {
	if client.Is4() {
		return TOALen4
	}
	return TOALen6
}

const tcpMaxLen = 60 // bytes of a TCP header

// AddTOA puts the address and port of client into TCP packet f as an option, and reports whether that was possible: not with a header that
// would be longer than 60 bytes, a packet longer than its IP header can say, packets larger than mtu bytes of L3, segments too small to give up
// bytes for it, to a fragment, or without headroom. Then f is unchanged.
func AddTOA(f *tap.Frame, p *Packet, client Addr, port uint16, mtu uint32) bool {
	n := TOALen(client)
	if p.Proto != ProtoTCP || !p.HasPorts || p.Fragment || int(p.L4Len)+n > tcpMaxLen || int(p.L3Len)+n > maxDatagram {
		return false
	}
	if f.Header.Super() && int(f.Header.GSOSize) < 2*n || !f.Header.Super() && p.L3Len+uint32(n) > mtu || !f.Prepend(n) {
		return false
	}
	if f.Header.Super() {
		f.Header.GSOSize -= uint16(n)
		f.Header.HdrLen += uint16(n)
	}
	b := f.Bytes()
	head := int(p.L4) + tcpMinLen
	copy(b[:head], b[n:n+head])
	o := b[head:][:n]
	o[0], o[1] = tcpOptTOA, uint8(n)
	binary.BigEndian.PutUint16(o[2:], port)
	if n == TOALen4 {
		client.Put(o[4:8])
	} else {
		client.Put(o[4:20])
	}
	p.grow(b, f.Header.Partial(), n, o)
	return true
}

// grow brings lengths and checksums in step with n new bytes of TCP options, which are o.
func (p *Packet) grow(b []byte, partial bool, n int, o []byte) {
	d := p.growL3(b, n)
	p.L3Len += uint32(n)
	p.L4Len += uint16(n)
	l4 := b[p.L4:][:tcpMinLen]
	old := binary.BigEndian.Uint16(l4[12:])
	l4[12] += uint8(n / 4 << 4)
	field := l4[tcpCsumOff:]
	if partial {
		binary.BigEndian.PutUint16(field, patchPartial(binary.BigEndian.Uint16(field), d))
		return
	}
	d += delta16(old, binary.BigEndian.Uint16(l4[12:])) + delta(checksum.Checksum(o, 0))
	binary.BigEndian.PutUint16(field, patch(binary.BigEndian.Uint16(field), d))
}

// growL3 makes the IP packet n bytes longer in its header, and returns what that does to the sum of the pseudo-header.
func (p *Packet) growL3(b []byte, n int) delta {
	if p.Kind == KindIPv6 {
		field := b[p.L3+4:][:2]
		binary.BigEndian.PutUint16(field, binary.BigEndian.Uint16(field)+uint16(n))
		return delta(n)
	}
	ip := b[p.L3:][:ipv4MinLen]
	old := binary.BigEndian.Uint16(ip[2:])
	binary.BigEndian.PutUint16(ip[2:], old+uint16(n))
	binary.BigEndian.PutUint16(ip[10:], patch(binary.BigEndian.Uint16(ip[10:]), delta16(old, old+uint16(n))))
	return delta(n)
}
