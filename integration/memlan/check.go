package memlan

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// The judge of frames
//
// Check is told a frame and its virtio header and says whether a receiver would be right to accept it: lengths that agree, full sums, and a
// virtio header that describes what lies behind it; and the same of what a tunnel carries. It is written against gVisor's headers and whole sums only and shares no code with the path that it
// judges. It is slow and allocates.

// Offsets of checksum fields from the L4 header.
const (
	tcpChecksumOffset = 16
	udpChecksumOffset = 6
)

// Check returns what is wrong with a frame on a link of that MTU (bytes of L3; 0: any), nil when nothing is. Frames that are neither IPv4 nor IPv6 are right if they have no
// virtio header.
func Check(f *tap.Frame, mtu int) error {
	b := f.Bytes()
	if len(b) < header.EthernetMinimumSize {
		return errors.New("shorter than an Ethernet header")
	}
	et := header.Ethernet(b).Type()
	if et != header.IPv4ProtocolNumber && et != header.IPv6ProtocolNumber {
		if f.Header.Partial() || f.Header.Super() {
			return errors.New("partial, but not IP")
		}
		return nil
	}
	ip, err := parseIP(b)
	if err != nil {
		return err
	}
	if err := ip.checkTransport(f.Header); err != nil {
		return err
	}
	if err := ip.checkSize(f.Header, mtu); err != nil || f.Header.GSOType != tap.GSOUDPL4 {
		return cmp.Or(err, ip.checkTunnel())
	}
	for _, d := range datagrams(f) {
		if err := Check(&d, mtu); err != nil {
			return fmt.Errorf("a datagram of a superpacket: %w", err)
		}
	}
	return nil
}

// checkTunnel looks at what a tunnel's packet carries: it must be right as well, and complete.
func (p *ipPacket) checkTunnel() error {
	_, inner, err := packettest.Unwrap(p.frame[header.EthernetMinimumSize:])
	if errors.Is(err, packettest.ErrNoTunnel) {
		return nil
	}
	if err == nil {
		f := tap.NewFrame(tap.Header{}, frameOf(p.frame, inner))
		err = Check(&f, 0)
	}
	if err != nil {
		return fmt.Errorf("in a tunnel: %w", err)
	}
	return nil
}

// ipPacket is what the judge reads of an IP packet.
type ipPacket struct {
	frame    []byte // cut to the end of the packet
	six      bool
	proto    uint8
	fragment bool
	l4       int // offset of the L4 header in frame
	src, dst tcpip.Address
}

// readIP is parseIP for callers that do not care what is wrong.
func readIP(b []byte) *ipPacket {
	p, err := parseIP(b)
	if err != nil {
		return nil
	}
	return p
}

// parseIP reads and checks the IP header and, for IPv6, the extension headers.
func parseIP(b []byte) (*ipPacket, error) {
	if len(b) < header.EthernetMinimumSize {
		return nil, errors.New("shorter than an Ethernet header")
	}
	l3 := b[header.EthernetMinimumSize:]
	if header.Ethernet(b).Type() == header.IPv6ProtocolNumber {
		return parseIPv6(b, l3)
	}
	ip := header.IPv4(l3)
	if header.IPVersion(l3) != 4 || !ip.IsValid(len(l3)) || int(ip.HeaderLength()) > len(l3) || ip.HeaderLength() < header.IPv4MinimumSize ||
		ip.TotalLength() < uint16(ip.HeaderLength()) {
		return nil, errors.New("IPv4 header is malformed")
	}
	if !ip.IsChecksumValid() {
		return nil, errors.New("IPv4 header checksum is wrong")
	}
	p := &ipPacket{proto: ip.Protocol(), fragment: ip.More() || ip.FragmentOffset() != 0,
		l4: header.EthernetMinimumSize + int(ip.HeaderLength()), src: ip.SourceAddress(), dst: ip.DestinationAddress()}
	return p, p.cut(b, int(ip.TotalLength()))
}

func parseIPv6(b, l3 []byte) (*ipPacket, error) {
	ip := header.IPv6(l3)
	if header.IPVersion(l3) != 6 || len(l3) < header.IPv6MinimumSize {
		return nil, errors.New("IPv6 header is malformed")
	}
	p := &ipPacket{six: true, proto: ip.NextHeader(), l4: header.EthernetMinimumSize + header.IPv6MinimumSize,
		src: ip.SourceAddress(), dst: ip.DestinationAddress()}
	if err := p.cut(b, header.IPv6MinimumSize+int(ip.PayloadLength())); err != nil {
		return nil, err
	}
	return p, p.skipExtensions()
}

// cut trims the frame to n bytes of L3. Only a frame of Ethernet's minimal length may have more.
func (p *ipPacket) cut(b []byte, n int) error {
	const minFrame = 60
	end := header.EthernetMinimumSize + n
	if end > len(b) {
		return fmt.Errorf("IP says %d bytes, the frame has %d", n, len(b)-header.EthernetMinimumSize)
	}
	if end < len(b) && len(b) > minFrame {
		return fmt.Errorf("%d bytes behind the IP packet", len(b)-end)
	}
	p.frame = b[:end]
	return nil
}

// skipExtensions moves l4 behind the IPv6 extension headers (RFC 8200 section 4).
func (p *ipPacket) skipExtensions() error {
	const hopByHop, routing, fragment, auth, destination = 0, 43, 44, 51, 60
	for {
		rest := p.frame[p.l4:]
		switch p.proto {
		case hopByHop, routing, destination, fragment, auth:
		default:
			return nil
		}
		if len(rest) < 8 {
			return errors.New("IPv6 extension header is cut")
		}
		n, later := 8, false
		switch p.proto {
		case fragment:
			later = rest[2] != 0 || rest[3]&^7 != 0
			p.fragment = p.fragment || later || rest[3]&1 != 0
		case auth:
			n = (int(rest[1]) + 2) * 4
		default:
			n = (int(rest[1]) + 1) * 8
		}
		if len(rest) < n {
			return errors.New("IPv6 extension header is longer than the packet")
		}
		p.proto = rest[0]
		p.l4 += n
		if later {
			return nil
		}
	}
}

// pseudoHeader returns the folded sum of the pseudo-header.
func (p *ipPacket) pseudoHeader() uint16 {
	return header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(p.proto), p.src, p.dst, uint16(len(p.frame)-p.l4))
}

// checkTransport checks the L4 header's lengths and checksum. Fragments have none that could be checked.
func (p *ipPacket) checkTransport(h tap.Header) error {
	b := p.frame[p.l4:]
	if p.fragment {
		if h.Partial() || h.Super() {
			return errors.New("partial, but a fragment")
		}
		return nil
	}
	switch {
	case p.proto == uint8(header.TCPProtocolNumber):
		return p.checkTCP(h, b)
	case p.proto == uint8(header.UDPProtocolNumber):
		return p.checkUDP(h, b)
	case h.Partial() || h.Super():
		return fmt.Errorf("partial, but of protocol %d", p.proto)
	case p.proto == packettest.SCTP:
		return checkSCTP(b)
	case p.proto == uint8(header.ICMPv4ProtocolNumber) && !p.six:
		return sums("ICMP", checksum.Checksum(b, 0))
	case p.proto == uint8(header.ICMPv6ProtocolNumber) && p.six:
		return sums("ICMPv6", checksum.Checksum(b, p.pseudoHeader()))
	}
	return nil
}

// checkSCTP computes the CRC32c from the beginning, as nobody on the path does.
func checkSCTP(b []byte) error {
	if len(b) < 12 {
		return errors.New("SCTP header is cut short")
	}
	whole := append([]byte(nil), b...)
	copy(whole[8:12], []byte{0, 0, 0, 0})
	if want := crc32.Checksum(whole, crc32.MakeTable(crc32.Castagnoli)); binary.LittleEndian.Uint32(b[8:]) != want {
		return fmt.Errorf("SCTP checksum is wrong")
	}
	return nil
}

func (p *ipPacket) checkTCP(h tap.Header, b []byte) error {
	if len(b) < header.TCPMinimumSize || int(header.TCP(b).DataOffset()) > len(b) || header.TCP(b).DataOffset() < header.TCPMinimumSize {
		return errors.New("TCP header is malformed")
	}
	if h.Partial() {
		return p.checkPartial(h, tcpChecksumOffset)
	}
	return sums("TCP", checksum.Checksum(b, p.pseudoHeader()))
}

func (p *ipPacket) checkUDP(h tap.Header, b []byte) error {
	if len(b) < header.UDPMinimumSize || int(header.UDP(b).Length()) != len(b) {
		return errors.New("UDP length is wrong")
	}
	if h.Partial() {
		return p.checkPartial(h, udpChecksumOffset)
	}
	if header.UDP(b).Checksum() == 0 {
		if p.six {
			return errors.New("UDP over IPv6 without a checksum")
		}
		return nil
	}
	return sums("UDP", checksum.Checksum(b, p.pseudoHeader()))
}

// sums wants the sum over a packet with its checksum to be all ones.
func sums(what string, sum uint16) error {
	if sum != 0xffff {
		return fmt.Errorf("%s checksum is wrong", what)
	}
	return nil
}

// checkPartial wants a virtio header that points at the checksum field, and the pseudo-header's sum in that field.
func (p *ipPacket) checkPartial(h tap.Header, field int) error {
	if int(h.CsumStart) != p.l4 || int(h.CsumOffset) != field {
		return fmt.Errorf("virtio header: csum_start %d, csum_offset %d; want %d, %d", h.CsumStart, h.CsumOffset, p.l4, field)
	}
	got, want := checksum.Checksum(p.frame[p.l4+field:][:2], 0), p.pseudoHeader()
	if got%0xffff != want%0xffff { // 0 and 0xffff are the same number
		return fmt.Errorf("partial checksum is %#04x, the pseudo-header's sum %#04x", got, want)
	}
	return nil
}

// checkSize wants packets, or the segments of a superpacket, that fit the link.
func (p *ipPacket) checkSize(h tap.Header, mtu int) error {
	l3Len := len(p.frame) - header.EthernetMinimumSize
	if h.Super() {
		if err := p.checkSuper(h); err != nil {
			return err
		}
		l3Len = min(l3Len, p.payload()-header.EthernetMinimumSize+int(h.GSOSize))
	}
	if mtu > 0 && l3Len > mtu {
		return fmt.Errorf("%d bytes of L3 on a link of MTU %d", l3Len, mtu)
	}
	return nil
}

// payload returns the offset of the L4 payload of TCP or UDP.
func (p *ipPacket) payload() int {
	if p.proto == uint8(header.UDPProtocolNumber) {
		return p.l4 + header.UDPMinimumSize
	}
	return p.l4 + int(header.TCP(p.frame[p.l4:]).DataOffset())
}

// checkSuper wants a segment size, and a type that is the packet's.
func (p *ipPacket) checkSuper(h tap.Header) error {
	want := uint8(tap.GSOTCPv4)
	switch {
	case p.proto == uint8(header.UDPProtocolNumber):
		want = tap.GSOUDPL4
	case p.six:
		want = tap.GSOTCPv6
	}
	switch {
	case h.GSOType&^tap.GSOECN != want:
		return fmt.Errorf("virtio header: gso_type %d, want %d", h.GSOType, want)
	case h.GSOSize == 0:
		return errors.New("virtio header: gso_size 0")
	case !h.Partial():
		return errors.New("a superpacket that is not partial")
	case int(h.HdrLen) > len(p.frame):
		return fmt.Errorf("virtio header: hdr_len %d of %d bytes", h.HdrLen, len(p.frame))
	}
	return nil
}
