// Package packettest builds frames for tests: a packet is a literal of what is special about it, the rest has sane values.
// It is made of gVisor's headers (SCTP, which gVisor has not, apart) and full sums only, so it is an independent witness of what package stack does by hand.
package packettest

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/tap"
)

// MAC is a hardware address in wire order, the same type as stack.MAC.
type MAC = [6]byte

// The addresses of a frame whose Spec names none.
var (
	DefaultSrcMAC = MAC{0x02, 0, 0, 0, 0, 0x01}
	DefaultDstMAC = MAC{0x02, 0, 0, 0, 0, 0x02}
)

// Protocol numbers for Spec.Proto.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
	SCTP   = 132
)

// Spec says what is in a frame. The family is that of Src, which Dst must share; everything else may stay zero.
type Spec struct {
	SrcMAC, DstMAC MAC            // zero: the defaults above
	Src, Dst       netip.AddrPort // addresses; ports for TCP, UDP and SCTP
	Proto          uint8          // 0: TCP
	TTL            uint8          // 0: 64
	DF             bool           // IPv4 "don't fragment"
	ID             uint16         // IPv4 identification
	MF             bool           // IPv4: more fragments follow
	FragOffset     int            // IPv4: bytes, a multiple of 8; > 0: Payload follows the IP header, there is no L4 header
	IPOptions      []byte         // IPv4 options, a multiple of 4 bytes
	Ext            []byte         // IPv6 extension headers, whole and chained; the last one's next header is set to Proto by the caller
	ExtFirst       uint8          // IPv6: protocol number of the first header in Ext

	Flags      uint8  // TCP
	Seq, Ack   uint32 // TCP
	TCPOptions []byte // a multiple of 4 bytes

	ICMPType, ICMPCode uint8  // ICMP and ICMPv6
	ICMPID, ICMPSeq    uint16 // the four bytes that follow the ICMP checksum: identifier and sequence of an echo

	Tag uint32 // SCTP

	Payload []byte // SCTP: the chunks (see Chunk); none: one of data
	NoCsum  bool   // UDP: checksum 0
	Partial bool   // leave the L4 checksum to be completed, as a local kernel does
	GSOSize int    // > 0: a superpacket of segments with so many bytes of payload
}

// Frame builds the frame, with checksums and virtio header right.
func (s Spec) Frame() tap.Frame {
	s.setDefaults()
	l4 := s.l4()
	l3 := s.l3(len(l4))
	b := s.ethernet(header.IPv4ProtocolNumber)
	if s.is6() {
		b = s.ethernet(header.IPv6ProtocolNumber)
	}
	return tap.NewFrame(s.virtio(len(b)+len(l3)), append(append(b, l3...), l4...))
}

// Bytes is Frame without the virtio header.
func (s Spec) Bytes() []byte { f := s.Frame(); return f.Bytes() }

func (s *Spec) is6() bool { return s.Src.Addr().Is6() }

func (s *Spec) setDefaults() {
	if s.SrcMAC == (MAC{}) {
		s.SrcMAC = DefaultSrcMAC
	}
	if s.DstMAC == (MAC{}) {
		s.DstMAC = DefaultDstMAC
	}
	if s.Proto == 0 {
		s.Proto = TCP
	}
	if s.TTL == 0 {
		s.TTL = 64
	}
}

func (s *Spec) ethernet(proto tcpip.NetworkProtocolNumber) []byte {
	b := make([]byte, header.EthernetMinimumSize)
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(s.SrcMAC[:]), DstAddr: tcpip.LinkAddress(s.DstMAC[:]), Type: proto,
	})
	return b
}

// virtio describes the frame as a Linux TAP would, hdr_len included.
func (s *Spec) virtio(l4Off int) (h tap.Header) {
	csumOffset, l4Len := uint16(16), 20+len(s.TCPOptions)
	if s.Proto == UDP {
		csumOffset, l4Len = 6, 8
	}
	if s.Partial {
		h.Flags, h.CsumStart, h.CsumOffset = tap.FlagNeedsCsum, uint16(l4Off), csumOffset
	}
	if s.GSOSize == 0 {
		return h
	}
	h.GSOSize, h.HdrLen = uint16(s.GSOSize), uint16(l4Off+l4Len)
	switch {
	case s.Proto == UDP:
		h.GSOType = tap.GSOUDPL4
	case s.is6():
		h.GSOType = tap.GSOTCPv6
	default:
		h.GSOType = tap.GSOTCPv4
	}
	return h
}

// l3 builds the IP header in front of l4Len bytes.
func (s *Spec) l3(l4Len int) []byte {
	src, dst := tcpip.AddrFromSlice(s.Src.Addr().AsSlice()), tcpip.AddrFromSlice(s.Dst.Addr().AsSlice())
	if s.is6() {
		b := make([]byte, header.IPv6MinimumSize)
		next := s.Proto
		if len(s.Ext) > 0 {
			next = s.ExtFirst
		}
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(s.Ext) + l4Len),
			TransportProtocol: tcpip.TransportProtocolNumber(next), HopLimit: s.TTL, SrcAddr: src, DstAddr: dst})
		return append(b, s.Ext...)
	}
	b := make([]byte, header.IPv4MinimumSize+len(s.IPOptions))
	copy(b[header.IPv4MinimumSize:], s.IPOptions)
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(b) + l4Len), ID: s.ID, TTL: s.TTL, Protocol: s.Proto,
		FragmentOffset: uint16(s.FragOffset), Flags: s.ipFlags(), SrcAddr: src, DstAddr: dst})
	ip.SetHeaderLength(uint8(len(b)))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	return b
}

func (s *Spec) ipFlags() (flags uint8) {
	if s.DF {
		flags |= header.IPv4FlagDontFragment
	}
	if s.MF {
		flags |= header.IPv4FlagMoreFragments
	}
	return flags
}

// l4 builds the L4 header and payload, checksum and all.
func (s *Spec) l4() []byte {
	if s.FragOffset > 0 {
		return s.Payload
	}
	switch s.Proto {
	case TCP:
		return s.tcp()
	case UDP:
		return s.udp()
	case ICMP, ICMPv6:
		return s.icmp()
	case SCTP:
		return s.sctp()
	}
	return s.Payload
}

func (s *Spec) tcp() []byte {
	b := make([]byte, header.TCPMinimumSize+len(s.TCPOptions))
	header.TCP(b).Encode(&header.TCPFields{SrcPort: s.Src.Port(), DstPort: s.Dst.Port(), SeqNum: s.Seq, AckNum: s.Ack,
		DataOffset: uint8(len(b)), Flags: header.TCPFlags(s.Flags), WindowSize: 65000})
	copy(b[header.TCPMinimumSize:], s.TCPOptions)
	b = append(b, s.Payload...)
	header.TCP(b).SetChecksum(s.sum(b))
	return b
}

func (s *Spec) udp() []byte {
	b := make([]byte, header.UDPMinimumSize, header.UDPMinimumSize+len(s.Payload))
	b = append(b, s.Payload...)
	header.UDP(b).Encode(&header.UDPFields{SrcPort: s.Src.Port(), DstPort: s.Dst.Port(), Length: uint16(len(b))})
	if s.NoCsum {
		return b
	}
	sum := s.sum(b)
	if sum == 0 {
		sum = 0xffff
	}
	header.UDP(b).SetChecksum(sum)
	return b
}

// sum is what the checksum field of an L4 packet holds whose field is still 0: the folded pseudo-header, or the full checksum.
func (s *Spec) sum(l4 []byte) uint16 {
	seed := s.pseudoHeader(len(l4))
	if s.Partial {
		return seed
	}
	return ^checksum.Checksum(l4, seed)
}

func (s *Spec) pseudoHeader(l4Len int) uint16 {
	src, dst := tcpip.AddrFromSlice(s.Src.Addr().AsSlice()), tcpip.AddrFromSlice(s.Dst.Addr().AsSlice())
	return header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(s.Proto), src, dst, uint16(l4Len))
}

func (s *Spec) icmp() []byte {
	b := make([]byte, 8, 8+len(s.Payload))
	b = append(b, s.Payload...)
	b[0], b[1] = s.ICMPType, s.ICMPCode
	header.ICMPv4(b).SetIdent(s.ICMPID)
	header.ICMPv4(b).SetSequence(s.ICMPSeq)
	var seed uint16
	if s.Proto == ICMPv6 {
		seed = s.pseudoHeader(len(b))
	}
	header.ICMPv4(b).SetChecksum(^checksum.Checksum(b, seed))
	return b
}

// ARP builds an ARP frame for IPv4 over Ethernet from a host to dst: op 1 asks who has target, op 2 says that sender has it.
func ARP(op uint16, srcMAC, dstMAC MAC, sender, target netip.Addr) tap.Frame {
	s := Spec{SrcMAC: srcMAC, DstMAC: dstMAC}
	b := append(s.ethernet(header.ARPProtocolNumber), make([]byte, header.ARPSize)...)
	arp := header.ARP(b[header.EthernetMinimumSize:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPOp(op))
	copy(arp.HardwareAddressSender(), srcMAC[:])
	copy(arp.ProtocolAddressSender(), sender.AsSlice())
	copy(arp.ProtocolAddressTarget(), target.AsSlice())
	if op == 2 {
		copy(arp.HardwareAddressTarget(), dstMAC[:])
	}
	return tap.NewFrame(tap.Header{}, b)
}
