package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/tap"
)

// What changes in a TCP segment when the bytes of its stream do: the payload, and the numbers of bytes in the header and the option of selective
// acknowledgements (RFC 2018). As with all edits, a checksum that was wrong stays wrong.

// MaxSACKs is how many edges of blocks a segment has at most: four blocks.
const MaxSACKs = 8

const (
	tcpOptSACK       = 5
	tcpOptTimestamps = 8
	tcpWindowOff     = 14
	tcpUrgOff        = 18
)

// Numbers returns the sequence number and the acknowledgement of TCP segment p in frame b.
func (p *Packet) Numbers(b []byte) (seq, ack uint32) {
	l4 := b[p.L4:][:tcpMinLen]
	return binary.BigEndian.Uint32(l4[4:]), binary.BigEndian.Uint32(l4[8:])
}

// Window returns the window of TCP segment p in frame b, as it stands in the header.
func (p *Packet) Window(b []byte) uint16 { return binary.BigEndian.Uint16(b[p.L4+tcpWindowOff:]) }

// SetNumbers changes them; partial is the frame's Header.Partial().
func (p *Packet) SetNumbers(b []byte, partial bool, seq, ack uint32) {
	p.setWord(b, partial, int(p.L4)+4, seq)
	p.setWord(b, partial, int(p.L4)+8, ack)
}

// setWord writes four bytes of a TCP header at offset at.
func (p *Packet) setWord(b []byte, partial bool, at int, v uint32) {
	old := binary.BigEndian.Uint32(b[at:])
	binary.BigEndian.PutUint32(b[at:], v)
	if partial {
		return // the sum of the pseudo-header does not know it
	}
	d := delta16(uint16(old>>16), uint16(v>>16)) + delta16(uint16(old), uint16(v))
	if (at-int(p.L4))&1 != 0 { // its bytes belong to three words of the sum, each in the other half
		d = delta(swap16(fold(uint64(d))))
	}
	field := b[p.csum:][:2]
	binary.BigEndian.PutUint16(field, patch(binary.BigEndian.Uint16(field), d))
}

func swap16(v uint16) uint16 { return v<<8 | v>>8 }

// SACKs copies the edges of the blocks of TCP segment p to edges, start and end in turn, and returns how many there are and where in the frame they
// are; options that lie end the search.
func (p *Packet) SACKs(b []byte, edges *[MaxSACKs]uint32) (n int, at int) {
	at = int(p.findOption(b, tcpOptSACK))
	if at == 0 {
		return 0, 0
	}
	n = min(int(b[at-1]-2)/8*2, MaxSACKs)
	for i := range n {
		edges[i] = binary.BigEndian.Uint32(b[at+4*i:])
	}
	return n, at
}

// SetSACKs writes edges where SACKs found them.
func (p *Packet) SetSACKs(b []byte, partial bool, at int, edges []uint32) {
	for i, v := range edges {
		p.setWord(b, partial, at+4*i, v)
	}
}

// ClearFlags takes flags off TCP segment p in frame b.
func (p *Packet) ClearFlags(b []byte, partial bool, flags uint8) {
	p.TCPFlags &^= flags
	p.Event = p.TCPFlags
	p.setWord(b, partial, int(p.L4)+12, binary.BigEndian.Uint32(b[p.L4+12:])&^(uint32(flags)<<16))
}

// Payload returns the bytes that TCP segment p carries in frame b: the frame's own.
func (p *Packet) Payload(b []byte) []byte { return b[p.L4+p.L4Len : uint32(p.L3)+p.L3Len] }

// ReplacePayload gives TCP segment f another payload, which does not lie in f. The headers move, the offsets of p stay: they count from the frame's first byte. An urgent
// pointer keeps its distance to the payload's end. A superpacket of which one segment is left becomes an ordinary one. It reports false, and changes
// nothing, when the packet would be too long for its IP header or the frame for its headroom.
func ReplacePayload(f *tap.Frame, p *Packet, payload []byte) bool {
	old := p.Payload(f.Bytes())
	n := len(payload) - len(old)
	head := int(p.L4 + p.L4Len)
	if int(p.L3Len)+n > maxDatagram || p.Fragment {
		return false
	}
	d := delta(checksum.Checksum(payload, 0)) + delta(^checksum.Checksum(old, 0))
	b := f.Bytes()
	if !f.Prepend(n) {
		return false
	}
	if n > 0 {
		copy(f.Bytes()[:head], b[:head])
	} else {
		copy(b[-n:], b[:head])
	}
	b = f.Bytes()
	copy(b[head:], payload)
	p.moveUrgent(b, f.Header.Partial(), n)
	if f.Header.Super() && len(payload) <= int(f.Header.GSOSize) {
		f.Header.GSOType, f.Header.GSOSize = tap.GSONone, 0
	}
	p.resized(b, f.Header.Partial(), n, d)
	return true
}

// moveUrgent keeps an urgent pointer where it was, seen from the end of what has become n bytes longer.
func (p *Packet) moveUrgent(b []byte, partial bool, n int) {
	if p.TCPFlags&URG == 0 {
		return
	}
	word := binary.BigEndian.Uint32(b[p.L4+tcpUrgOff-2:])
	at := max(0, min(int(word&0xffff)+n, 0xffff))
	p.setWord(b, partial, int(p.L4)+tcpUrgOff-2, word&^0xffff|uint32(at))
}

// resized brings lengths and checksums in step with a payload that is n bytes longer and whose sum changed by d.
func (p *Packet) resized(b []byte, partial bool, n int, d delta) {
	old := binary.BigEndian.Uint16(b[p.L3+2:])
	if p.Kind == KindIPv6 {
		old = binary.BigEndian.Uint16(b[p.L3+4:])
	}
	p.growL3(b, n)
	length := delta16(old, old+uint16(n))
	p.L3Len = uint32(int(p.L3Len) + n)
	field := b[p.csum:][:2]
	if partial {
		binary.BigEndian.PutUint16(field, patchPartial(binary.BigEndian.Uint16(field), length))
		return
	}
	binary.BigEndian.PutUint16(field, patch(binary.BigEndian.Uint16(field), length+d))
}

// Renumber gives a packet that an ICMP error in frame b quotes, q, another sequence number; the error's own checksum is FixICMP's.
func (q *Packet) Renumber(b []byte, to func(seq uint32) uint32) {
	if q.Proto == ProtoTCP && q.HasPorts && int(q.L4)+8 <= len(b) {
		binary.BigEndian.PutUint32(b[q.L4+4:], to(binary.BigEndian.Uint32(b[q.L4+4:])))
	}
}
