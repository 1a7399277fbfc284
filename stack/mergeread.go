package stack

import (
	"encoding/binary"
	"math/bits"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/tap"
)

// What Merger asks of one packet. It reads frames that Parse took, some of which it edited since, at fixed offsets: whatever has options, extension
// headers or fragments is not merged anyway.

// Where L4 starts in what may be merged.
const (
	l4OfIPv4 = tap.EthernetLen + ipv4MinLen
	l4OfIPv6 = tap.EthernetLen + ipv6Len
)

// fate is what a packet means to the runs of its batch.
type fate uint8

const (
	passes fate = iota // of no flow that is merged: it changes nothing
	stops              // of a flow that is not known: every run ends
	alone              // cannot be merged: its flow's run ends
	joins              // may join a run, or start one
)

// segment is a packet that may be part of a superpacket.
type segment struct {
	proto  uint8
	pushed bool   // TCP: with PSH
	last   bool   // nothing joins behind it
	l4     uint16 // offset of the L4 header: says the family as well
	hdrLen uint16 // Ethernet to L4
	size   uint16 // payload bytes
}

// read fills s in and says what becomes of f on the way to a device that carries o. s is whole for joins; for alone it names the flow.
func (s *segment) read(f *tap.Frame, o tap.Offload) fate {
	b := f.Bytes()
	if len(b) < tap.EthernetLen+ipv4MinLen {
		return passes
	}
	var v fate
	carried := o.TSO4
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherIPv4:
		v = s.readIPv4(b)
	case etherIPv6:
		v = s.readIPv6(b)
		carried = o.TSO6
	default:
		return passes
	}
	if v != joins {
		return v
	}
	if s.proto == ProtoUDP {
		return s.readUDP(f, b, o.USO)
	}
	return s.readTCP(f, b, carried)
}

func (s *segment) readIPv4(b []byte) fate {
	s.proto, s.l4 = b[23], l4OfIPv4
	switch {
	case s.proto != ProtoTCP && s.proto != ProtoUDP:
		return passes
	case b[14] != 0x45 || binary.BigEndian.Uint16(b[20:])&(ipv4MF|ipv4OffsetMask) != 0 || int(binary.BigEndian.Uint16(b[16:])) != len(b)-tap.EthernetLen:
		return stops
	}
	return joins
}

func (s *segment) readIPv6(b []byte) fate {
	if len(b) < l4OfIPv6 {
		return passes
	}
	s.proto, s.l4 = b[20], l4OfIPv6
	switch s.proto {
	case ProtoTCP, ProtoUDP:
		if int(binary.BigEndian.Uint16(b[18:])) != len(b)-l4OfIPv6 {
			return stops
		}
		return joins
	case ProtoICMPv6, protoIPv4, protoIPv6, protoGRE:
		return passes
	}
	return stops // behind extension headers there may be any flow
}

// readUDP leaves alone what has no payload, no checksum, or bytes behind its end.
func (s *segment) readUDP(f *tap.Frame, b []byte, carried bool) fate {
	if len(b) < int(s.l4)+udpLen {
		return stops
	}
	s.hdrLen = s.l4 + udpLen
	s.size = uint16(len(b) - int(s.hdrLen))
	full := binary.BigEndian.Uint16(b[s.l4+udpCsumOff:])
	if !carried || f.Header.Super() || s.size == 0 || full == 0 && !f.Header.Partial() || int(binary.BigEndian.Uint16(b[s.l4+4:])) != len(b)-int(s.l4) {
		return alone
	}
	return joins
}

// readTCP leaves alone what has no payload and what has flags that mean one packet.
func (s *segment) readTCP(f *tap.Frame, b []byte, carried bool) fate {
	if len(b) < int(s.l4)+tcpMinLen {
		return stops
	}
	hdrLen := s.l4 + uint16(b[s.l4+12]>>4)*4
	flags := b[s.l4+13]
	if !carried || f.Header.Super() || hdrLen < s.l4+tcpMinLen || int(hdrLen) >= len(b) || flags&^(PSH|ECE) != ACK {
		return alone
	}
	s.hdrLen, s.size = hdrLen, uint16(len(b)-int(hdrLen))
	s.pushed = flags&PSH != 0
	s.last = s.pushed
	return joins
}

// flowHash mixes addresses and ports.
func flowHash(b []byte, s *segment) uint32 {
	const odd = 0x9e3779b97f4a7c15
	var h uint64
	if s.l4 == l4OfIPv4 {
		h = load64(b[26:])
	} else {
		h = load64(b[22:]) ^ bits.RotateLeft64(load64(b[30:]), 13) ^ bits.RotateLeft64(load64(b[38:]), 29) ^ bits.RotateLeft64(load64(b[46:]), 43)
	}
	ports := uint64(load32(b[s.l4:]))
	return uint32((h*odd ^ ports) * odd >> 32)
}

// sameFlow compares EtherType, addresses and ports of two frames of one protocol whose L4 header is at l4.
func sameFlow(a, b []byte, l4 uint16) bool {
	if l4 == l4OfIPv4 {
		return load64(a[26:]) == load64(b[26:]) && load32(a[34:]) == load32(b[34:])
	}
	return string(a[22:l4OfIPv6+4]) == string(b[22:l4OfIPv6+4])
}

// intact reports whether the packet's checksum is right, or the kernel's to vouch for.
func (s *segment) intact(f *tap.Frame) bool {
	b := f.Bytes()
	l4 := b[s.l4:]
	if f.Header.Partial() {
		at := s.csumOffset()
		return f.Header.CsumStart == s.l4 && f.Header.CsumOffset == at && sameSum(binary.BigEndian.Uint16(l4[at:]), s.seed(b, len(l4)))
	}
	return f.Header.Flags&tap.FlagDataValid != 0 || checksum.Checksum(l4, s.seed(b, len(l4))) == 0xffff
}

// seed is the folded sum of the pseudo-header of an L4 packet of l4Len bytes with the addresses in b.
func (s *segment) seed(b []byte, l4Len int) uint16 {
	rest := uint64(s.proto) + uint64(l4Len)
	if s.l4 == l4OfIPv4 {
		return fold64(load64(b[26:]), rest)
	}
	sum, c := bits.Add64(load64(b[22:]), load64(b[30:]), 0)
	sum, c = bits.Add64(sum, load64(b[38:]), c)
	sum, c = bits.Add64(sum, load64(b[46:]), c)
	return fold64(sum, c+rest)
}

// csumOffset is where in the L4 header its checksum is.
func (s *segment) csumOffset() uint16 {
	if s.proto == ProtoUDP {
		return udpCsumOff
	}
	return tcpCsumOff
}

// Short for what is written often. Functions, because a method value (load := binary.BigEndian.Uint64) is called, not inlined.

func load16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func load32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func load64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
