package packettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Outer is what the headers around a tunnelled packet say.
type Outer struct {
	Kind             string // "ipip", "gue" or "gre"
	Src, Dst         netip.Addr
	TOS, TTL         uint8
	DF               bool   // IPv4
	ID               uint16 // IPv4
	FlowLabel        uint32 // IPv6
	SrcPort, DstPort uint16 // gue
	Csum             bool   // gue and gre: there is a checksum, and it is right
	Len              int    // bytes of headers
}

// ErrNoTunnel is Unwrap's error for a packet that is whole in itself: no IPIP, GRE, nor UDP to the port of GUE.
var ErrNoTunnel = errors.New("not a tunnel's packet")

// GUEPort is the UDP port that Unwrap takes for GUE's.
const GUEPort = 6080

// Unwrap takes an IP packet out of a tunnel, as the tunnel's end would: it checks every length and checksum, and returns the inner IP packet, which shares
// memory with ip. Other errors than ErrNoTunnel say what is wrong.
func Unwrap(ip []byte) (o Outer, inner []byte, err error) {
	proto, l4, err := o.readIP(ip)
	if err != nil {
		return o, nil, err
	}
	next := uint8(0)
	switch proto {
	case 4, 41:
		o.Kind, next, inner = "ipip", proto, l4
	case 17:
		next, inner, err = o.readGUE(l4)
	case 47:
		next, inner, err = o.readGRE(l4)
	default:
		return o, nil, ErrNoTunnel
	}
	if err != nil {
		return o, nil, err
	}
	o.Len = len(ip) - len(inner)
	return o, inner, checkInner(next, inner)
}

// UnwrapPayload is Unwrap for an end whose kernel has taken off the outer IP header, of that protocol, and for GUE the UDP header.
func UnwrapPayload(proto uint8, b []byte) (inner []byte, err error) {
	next := proto
	switch proto {
	case 4, 41:
		inner = b
	case 17:
		next, inner, err = readGUEHeader(b)
	case 47:
		next, inner, err = new(Outer).readGRE(b)
	default:
		err = ErrNoTunnel
	}
	if err != nil {
		return nil, err
	}
	return inner, checkInner(next, inner)
}

// readIP reads the outer IP header.
func (o *Outer) readIP(b []byte) (proto uint8, l4 []byte, err error) {
	switch {
	case header.IPVersion(b) == 4 && len(b) >= header.IPv4MinimumSize:
		ip := header.IPv4(b)
		if !ip.IsValid(len(b)) || int(ip.TotalLength()) != len(b) || !ip.IsChecksumValid() {
			return 0, nil, errors.New("outer IPv4 header is wrong")
		}
		o.TOS, _ = ip.TOS()
		o.TTL, o.DF, o.ID = ip.TTL(), ip.Flags()&header.IPv4FlagDontFragment != 0, ip.ID()
		o.Src, o.Dst = netip.AddrFrom4(ip.SourceAddress().As4()), netip.AddrFrom4(ip.DestinationAddress().As4())
		if ip.More() || ip.FragmentOffset() != 0 {
			return 0, nil, ErrNoTunnel
		}
		return ip.Protocol(), ip.Payload(), nil
	case header.IPVersion(b) == 6 && len(b) >= header.IPv6MinimumSize:
		ip := header.IPv6(b)
		if !ip.IsValid(len(b)) || int(ip.PayloadLength()) != len(b)-header.IPv6MinimumSize {
			return 0, nil, errors.New("outer IPv6 header is wrong")
		}
		o.TOS, o.FlowLabel = ip.TOS()
		o.TTL = ip.HopLimit()
		o.Src, o.Dst = netip.AddrFrom16(ip.SourceAddress().As16()), netip.AddrFrom16(ip.DestinationAddress().As16())
		return ip.NextHeader(), ip.Payload(), nil
	}
	return 0, nil, ErrNoTunnel
}

// readGUE reads UDP and GUE headers.
func (o *Outer) readGUE(b []byte) (next uint8, inner []byte, err error) {
	udp := header.UDP(b)
	if len(b) < header.UDPMinimumSize || udp.DestinationPort() != GUEPort {
		return 0, nil, ErrNoTunnel
	}
	o.Kind, o.SrcPort, o.DstPort, o.Csum = "gue", udp.SourcePort(), udp.DestinationPort(), udp.Checksum() != 0
	src, dst := tcpip.AddrFromSlice(o.Src.AsSlice()), tcpip.AddrFromSlice(o.Dst.AsSlice())
	if int(udp.Length()) != len(b) || len(b) < header.UDPMinimumSize+4 {
		return 0, nil, errors.New("GUE: UDP length is wrong")
	}
	if o.Csum && checksum.Checksum(b, header.PseudoHeaderChecksum(17, src, dst, uint16(len(b)))) != 0xffff {
		return 0, nil, errors.New("GUE: UDP checksum is wrong")
	}
	return readGUEHeader(b[header.UDPMinimumSize:])
}

// readGUEHeader reads what stands behind the UDP header.
func readGUEHeader(b []byte) (next uint8, inner []byte, err error) {
	if len(b) < 4 || b[0] != 0 || b[2] != 0 || b[3] != 0 {
		return 0, nil, fmt.Errorf("GUE header %x: variant 0 without options expected", b[:min(len(b), 4)])
	}
	return b[1], b[4:], nil
}

// readGRE reads a GRE header.
func (o *Outer) readGRE(b []byte) (next uint8, inner []byte, err error) {
	if len(b) < 4 || b[0]&0x7f != 0 || b[1] != 0 {
		return 0, nil, errors.New("GRE header is wrong")
	}
	o.Kind, o.Csum, inner = "gre", b[0]&0x80 != 0, b[4:]
	if o.Csum {
		if len(b) < 8 || checksum.Checksum(b, 0) != 0xffff {
			return 0, nil, errors.New("GRE checksum is wrong")
		}
		inner = b[8:]
	}
	switch binary.BigEndian.Uint16(b[2:]) {
	case 0x0800:
		return 4, inner, nil
	case 0x86dd:
		return 41, inner, nil
	}
	return 0, nil, errors.New("GRE carries no IP")
}

// checkInner wants the packet to be of the family that the header in front says.
func checkInner(next uint8, inner []byte) error {
	if v := header.IPVersion(inner); v == 4 && next == 4 || v == 6 && next == 41 {
		return nil
	}
	return fmt.Errorf("inside is no packet of protocol %d", next)
}
