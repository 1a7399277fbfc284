package stack

import (
	"encoding/binary"
	"math/bits"
)

// TCP options (RFC 9293 section 3.1).
const (
	tcpOptEnd    = 0
	tcpOptNop    = 1
	tcpOptMSS    = 2
	tcpOptMSSLen = 4
)

// ClampMSS lowers the maximum segment size that p, a TCP segment with SYN in the frame b, announces to at most most bytes, and keeps the checksum in
// step; partial is the frame's Header.Partial(). It reports whether it changed anything. Without the option there is nothing to lower: the sender may
// be sent 536 bytes then (RFC 9293 section 3.7.1). Options whose lengths lie end the search.
func (p *Packet) ClampMSS(b []byte, partial bool, most uint16) bool {
	at := p.mssOption(b)
	if at < 0 || binary.BigEndian.Uint16(b[at:]) <= most {
		return false
	}
	was := binary.BigEndian.Uint16(b[at:])
	binary.BigEndian.PutUint16(b[at:], most)
	if partial {
		return true // Whoever completes the checksum sums the option.
	}
	d := delta16(was, most)
	if (at-int(p.L4))%2 != 0 {
		d = delta16(bits.ReverseBytes16(was), bits.ReverseBytes16(most)) // it straddles two words
	}
	field := b[p.csum:][:2]
	binary.BigEndian.PutUint16(field, patch(binary.BigEndian.Uint16(field), d))
	return true
}

// mssOption returns the offset of the option's value, -1 without one.
func (p *Packet) mssOption(b []byte) int {
	if p.Proto != ProtoTCP || !p.HasPorts || p.TCPFlags&SYN == 0 {
		return -1
	}
	at, end := int(p.L4)+tcpMinLen, int(p.L4+p.L4Len)
	for at < end && b[at] != tcpOptEnd {
		if b[at] == tcpOptNop {
			at++
			continue
		}
		if at+2 > end || b[at+1] < 2 || at+int(b[at+1]) > end {
			return -1
		}
		if b[at] == tcpOptMSS && b[at+1] == tcpOptMSSLen {
			return at + 2
		}
		at += int(b[at+1])
	}
	return -1
}
