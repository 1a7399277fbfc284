package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// A connection that neither end has used for long is ended by a reset that the director makes out of what it remembers. For either end it must look
// as if the other had sent it, sequence number included (RFC 5961 section 3.2).

// Sequence returns the sequence number behind the last byte of TCP segment p in frame b, SYN and FIN counting one each, and the one that
// it acknowledges, which is valid with the flag ACK. A superpacket counts as what it holds.
func (p *Packet) Sequence(b []byte) (end, ack uint32) {
	l4 := b[p.L4:]
	return binary.BigEndian.Uint32(l4[4:]) + p.segmentLen(), binary.BigEndian.Uint32(l4[8:])
}

// ResetFrame returns a TCP reset from t.Src to t.Dst with this sequence number. Its MACs are zero. It reports false when a has no room.
func ResetFrame(t *Tuple, seq uint32, a *tap.Arena) (tap.Frame, bool) {
	p := Packet{Kind: KindIPv4, Tuple: t.Reverse()}
	eth := [tap.EthernetLen]byte{12: 0x08}
	if !t.Src.Is4() {
		p.Kind, eth[12], eth[13] = KindIPv6, 0x86, 0xdd
	}
	r, l4, ok := p.newReply(a, eth[:], t.Src, ProtoTCP, tcpMinLen)
	if !ok {
		return r, false
	}
	clear(l4)
	binary.BigEndian.PutUint16(l4, t.SrcPort)
	binary.BigEndian.PutUint16(l4[2:], t.DstPort)
	binary.BigEndian.PutUint32(l4[4:], seq)
	l4[12], l4[13] = tcpMinLen/4<<4, RST
	p.Tuple = *t
	p.setL4Checksum(l4, tcpCsumOff)
	return r, true
}
