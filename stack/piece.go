package stack

import "encoding/binary"

// Piece is where a fragment belongs: which datagram, and which bytes of it. It is worked out for fragments only, so that other packets pay nothing.
type Piece struct {
	ID    uint32 // identification; 16 bits in IPv4
	Head  uint16 // bytes that every fragment repeats and a datagram's 65,535 include: IPv4's header, IPv6's extension headers before the fragment header
	Off   uint16 // bytes from the datagram's start to the fragment's
	Len   uint16 // bytes of the datagram that the fragment holds
	Proto uint8  // what the datagram carries; in IPv6 as the fragment header has it, so perhaps another extension header
	More  bool   // other fragments follow
}

// End returns the byte behind the fragment's last, counted from the datagram's start.
func (q *Piece) End() int { return int(q.Off) + int(q.Len) }

// Whole returns the bytes that a datagram which ends with this fragment has, as its header would count them.
func (q *Piece) Whole() int { return int(q.Head) + q.End() }

// Piece describes the fragment p in frame b; p.Fragment must be true. Parse has seen to it that every offset is within b.
func (p *Packet) Piece(b []byte) Piece {
	ip := b[p.L3 : uint32(p.L3)+p.L3Len]
	if p.Kind == KindIPv4 {
		word := binary.BigEndian.Uint16(ip[6:])
		head := p.L4 - p.L3
		return Piece{
			ID: uint32(binary.BigEndian.Uint16(ip[4:])), Head: head, Proto: p.Proto,
			Off: word & ipv4OffsetMask * 8, Len: uint16(len(ip)) - head, More: word&ipv4MF != 0,
		}
	}
	at := fragmentHeader(ip)
	h, word := ip[at:][:extMinLen], binary.BigEndian.Uint16(ip[at+2:])
	return Piece{
		ID: binary.BigEndian.Uint32(h[4:]), Head: uint16(at - ipv6Len), Proto: h[0],
		Off: word & ipv6OffMask, Len: uint16(len(ip) - at - extMinLen), More: word&ipv6More != 0,
	}
}

// fragmentHeader returns the offset of the fragment header in the packet ip, which has one.
func fragmentHeader(ip []byte) int {
	at := ipv6Len
	for next := ip[6]; next != extFragment; {
		size := extMinLen + int(ip[at+1])*8
		if next == extAuth {
			size = (int(ip[at+1]) + 2) * 4
		}
		next, at = ip[at], at+size
	}
	return at
}
