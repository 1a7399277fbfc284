package stack

import (
	"encoding/binary"
	"sync"

	"tapdirector/tap"
)

// Segmentation in software
//
// A superpacket stands for a row of packets with the same headers but for lengths, checksums and what counts along. For an outgoing
// side that cannot carry it, Segment makes that row: what the kernel's or the card's segmentation would have sent.
//
//	IPv4   total length; identification + 1 for each segment; header checksum
//	IPv6   payload length; extension headers repeated
//	TCP    sequence number; FIN and PSH on the last only, CWR on the first only (RFC 3168 section 6.1.2); full checksum
//	UDP    length; full checksum, unless the superpacket had none
//
// Where headers end is what Parse found: hdr_len of the virtio header is not used.

// MaxSegment returns the bytes of L3 of the largest packet that a frame with header h stands for: what counts against an MTU.
func MaxSegment(h tap.Header, p *Packet) int {
	if !h.Super() {
		return int(p.L3Len)
	}
	return min(int(p.L3Len), p.headersLen()+int(h.GSOSize))
}

// headersLen is the bytes of headers from L3 on.
func (p *Packet) headersLen() int { return int(p.L4) + int(p.L4Len) - int(p.L3) }

// pieces lends frames to callers of emit: what is passed to a func value escapes, and the path may not allocate.
var pieces = sync.Pool{New: func() any { return new(tap.Frame) }}

// Segment cuts the superpacket f into frames of its GSO size and hands them to emit in order, with full checksums and an empty virtio
// header. Each is borrowed: the Frame until emit returns, its bytes, which live in a, until a is reset. emit may reset a itself once it is
// done with a piece, so that room for one is enough; f, which is not changed, must then lie elsewhere. It reports false when f is no
// superpacket, or when a is full: then the pieces emitted so far are all.
func Segment(f *tap.Frame, p *Packet, a *tap.Arena, emit func(*tap.Frame)) bool {
	c, ok := newCutter(f, p)
	if !ok {
		return false
	}
	s := pieces.Get().(*tap.Frame)
	defer pieces.Put(s)
	for i := range c.n {
		if *s, ok = a.Frame(c.len(i)); !ok {
			return false
		}
		c.cut(i, s.Bytes())
		emit(s)
	}
	return true
}

// cutter makes segments of one superpacket. It borrows the superpacket's bytes.
type cutter struct {
	p       *Packet
	hdr     []byte // Ethernet to L4, options included
	payload []byte
	hdrLen  int
	size    int // payload bytes of every segment but the last
	n       int // segments; at least one, also without payload
}

// newCutter returns the cutter of f; false when f is no superpacket.
func newCutter(f *tap.Frame, p *Packet) (cutter, bool) {
	if !f.Header.Super() || !p.HasPorts || f.Header.GSOSize == 0 {
		return cutter{}, false
	}
	b := f.Bytes()
	c := cutter{p: p, hdrLen: int(p.L4 + p.L4Len), size: int(f.Header.GSOSize)}
	c.hdr, c.payload = b[:c.hdrLen], b[c.hdrLen:uint32(p.L3)+p.L3Len]
	c.size = min(c.size, max(len(c.payload), 1))
	c.n = max((len(c.payload)+c.size-1)/c.size, 1)
	return c, true
}

// data returns the payload of segment i.
func (c *cutter) data(i int) []byte {
	return c.payload[i*c.size : min((i+1)*c.size, len(c.payload))]
}

// len returns the bytes of segment i as a frame.
func (c *cutter) len(i int) int { return c.hdrLen + len(c.data(i)) }

// cut writes segment i to b, which has len(i) bytes.
func (c *cutter) cut(i int, b []byte) {
	copy(b, c.hdr)
	copy(b[c.hdrLen:], c.data(i))
	p := c.p
	ip, l4 := b[p.L3:], b[p.L4:]
	if p.Kind == KindIPv4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(i))
		setIPv4Checksum(ip[:p.L4-p.L3])
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Len))
	}
	if p.Proto == ProtoTCP {
		c.cutTCP(i, l4)
		return
	}
	binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	if !p.NoCsum {
		p.setL4Checksum(l4, udpCsumOff)
	}
}

func (c *cutter) cutTCP(i int, l4 []byte) {
	binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(i*c.size))
	if i > 0 {
		l4[13] &^= CWR
	}
	if i < c.n-1 {
		l4[13] &^= FIN | PSH
	}
	c.p.setL4Checksum(l4, tcpCsumOff)
}
