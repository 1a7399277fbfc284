package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// What answers an SCTP packet that belongs to no association (RFC 9260 section 8.4). It ends the sender's wait at once, where an ICMP error would only be
// noted: Linux takes port unreachable for a hint and tries for minutes on.
//
//	INIT             ABORT, its tag the one that the INIT asks for
//	SHUTDOWN ACK     SHUTDOWN COMPLETE with the T bit: the sender is done
//	any other        ABORT with the T bit
//
// The T bit says that the tag is the packet's own, returned. Not answered are ABORT, SHUTDOWN COMPLETE, COOKIE ACK and ERROR.

// tagReflected is the T bit of a chunk's flags.
const tagReflected = 1

// IsStray reports whether p, an SCTP packet that belongs to no association, is to be discarded in silence.
func (p *Packet) IsStray() bool {
	switch p.Event {
	case ChunkAbort, ChunkShutdownComplete, ChunkCookieAck, ChunkError:
		return true
	}
	return false
}

// AbortFrame returns the answer to p, an SCTP packet in frame f that belongs to no association. It reports false when none may be sent: to what IsStray,
// to a first fragment, to an INIT that breaks the rules, when the packet was sent to a group, and when a has no room.
func AbortFrame(f *tap.Frame, p *Packet, a *tap.Arena) (tap.Frame, bool) {
	b := f.Bytes()
	if p.Proto != ProtoSCTP || !p.HasPorts || p.Fragment || p.IsStray() || p.toGroup(b) {
		return tap.Frame{}, false
	}
	in := b[p.L4 : uint32(p.L3)+p.L3Len]
	chunk, flags, tag := uint8(ChunkAbort), uint8(tagReflected), binary.BigEndian.Uint32(in[sctpTagOff:])
	switch p.Event {
	case ChunkInit:
		if tag != 0 || len(in) < sctpLen+initMinLen {
			return tap.Frame{}, false
		}
		if flags, tag = 0, binary.BigEndian.Uint32(in[sctpLen+chunkLen:]); tag == 0 {
			return tap.Frame{}, false
		}
	case ChunkShutdownAck:
		chunk = ChunkShutdownComplete
	}
	r, l4, ok := p.newReply(a, b, p.Dst, ProtoSCTP, sctpLen+chunkLen)
	if !ok {
		return r, false
	}
	binary.BigEndian.PutUint16(l4, p.DstPort)
	binary.BigEndian.PutUint16(l4[2:], p.SrcPort)
	binary.BigEndian.PutUint32(l4[sctpTagOff:], tag)
	l4[sctpLen], l4[sctpLen+1] = chunk, flags
	binary.BigEndian.PutUint16(l4[sctpLen+2:], chunkLen)
	setSCTPSum(l4)
	return r, true
}
