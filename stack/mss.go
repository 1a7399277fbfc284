package stack

import "encoding/binary"

// The MSS option of a SYN: how many bytes of a segment its sender is ready to receive. A director between two ends that adds bytes to what one sends
// lowers what the other offers.

// ClampMSS lowers the maximum segment size that p, a TCP segment with SYN in the frame b, announces to at most most bytes, and keeps the checksum in
// step; partial is the frame's Header.Partial(). It reports whether it changed anything. Without the option there is nothing to lower: the sender may
// be sent 536 bytes then (RFC 9293 section 3.7.1).
func (p *Packet) ClampMSS(b []byte, partial bool, most uint16) bool {
	if p.TCPFlags&SYN == 0 {
		return false
	}
	at := p.findMSS(b)
	if at == 0 || binary.BigEndian.Uint16(b[at:]) <= most {
		return false
	}
	p.setMSS(b, partial, at, most)
	return true
}

// LowerMSS takes by bytes off the largest segment that a SYN in frame b offers to receive; without an offer, or one so small that nothing would be
// left, it changes nothing.
func (p *Packet) LowerMSS(b []byte, partial bool, by int) {
	at := p.findMSS(b)
	if at == 0 {
		return
	}
	if old := binary.BigEndian.Uint16(b[at:]); int(old) > 2*by {
		p.setMSS(b, partial, at, old-uint16(by))
	}
}

// setMSS writes the option's value, which is at offset at.
func (p *Packet) setMSS(b []byte, partial bool, at, mss uint16) {
	old := binary.BigEndian.Uint16(b[at:])
	binary.BigEndian.PutUint16(b[at:], mss)
	if partial {
		return // the sum of the pseudo-header does not know it
	}
	d := delta16(old, mss)
	if at&1 != p.L4&1 { // behind an odd number of NOPs its bytes belong to two words of the sum
		d = delta16(old<<8|old>>8, mss<<8|mss>>8)
	}
	field := b[p.csum:][:2]
	binary.BigEndian.PutUint16(field, patch(binary.BigEndian.Uint16(field), d))
}

// findMSS returns the offset of the two bytes of the MSS option's value, 0 when there is none.
func (p *Packet) findMSS(b []byte) uint16 {
	if at := p.findOption(b, tcpOptMSS); at != 0 && b[at-1] == 4 {
		return at
	}
	return 0
}

// findOption returns the offset of the value of the first TCP option of this kind, 0 when there is none. Options that lie end the search.
func (p *Packet) findOption(b []byte, kind byte) uint16 {
	if p.Proto != ProtoTCP || !p.HasPorts {
		return 0
	}
	for at, end := p.L4+tcpMinLen, p.L4+p.L4Len; at < end && b[at] != tcpOptEnd; {
		if b[at] == tcpOptNop {
			at++
			continue
		}
		if end-at < 2 || b[at+1] < 2 || uint16(b[at+1]) > end-at {
			return 0
		}
		if b[at] == kind {
			return at + 2
		}
		at += uint16(b[at+1])
	}
	return 0
}
