package stack

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"tapdirector/tap"
)

// Describe returns one line about the frame b, made for people who know tcpdump: hardware addresses, then what is inside. Any bytes will do.
// It allocates: not for the path.
func Describe(b []byte) string {
	f := tap.NewFrame(tap.Header{}, b)
	var p Packet
	r := Parse(&f, &p)
	if r == ReasonShort {
		return fmt.Sprintf("%s, length %d", r, len(b))
	}
	src, dst := SrcMAC(b), DstMAC(b)
	macs := fmt.Sprintf("%s > %s", net.HardwareAddr(src[:]), net.HardwareAddr(dst[:]))
	switch {
	case r != ReasonNone:
		return fmt.Sprintf("%s: %s, length %d", macs, r, len(b))
	case p.Kind == KindARP:
		return macs + ": ARP " + describeARP(b[tap.EthernetLen:])
	case p.Kind == KindOther:
		return fmt.Sprintf("%s: EtherType 0x%04x, length %d", macs, binary.BigEndian.Uint16(b[12:]), len(b))
	}
	return macs + ": " + describeIP(f.Bytes(), &p)
}

func describeARP(a []byte) string {
	if len(a) < 28 || binary.BigEndian.Uint16(a[2:]) != etherIPv4 {
		return "malformed or not for IPv4"
	}
	sender, target := netip.AddrFrom4([4]byte(a[14:18])), netip.AddrFrom4([4]byte(a[24:28]))
	if binary.BigEndian.Uint16(a[6:]) == 1 {
		return fmt.Sprintf("who has %s, tell %s", target, sender)
	}
	return fmt.Sprintf("%s is at %s", sender, net.HardwareAddr(a[8:14]))
}

func describeIP(b []byte, p *Packet) string {
	src, dst := p.Src.Netip().String(), p.Dst.Netip().String()
	if p.Src.IsZero() {
		src = "::"
	}
	if p.HasPorts {
		src, dst = netip.AddrPortFrom(p.Src.Netip(), p.SrcPort).String(), netip.AddrPortFrom(p.Dst.Netip(), p.DstPort).String()
	}
	s := fmt.Sprintf("%s > %s %s, ttl %d", src, dst, describeL4(b, p), p.TTL)
	if p.Fragment && p.First {
		s += ", first fragment"
	}
	return s
}

func describeL4(b []byte, p *Packet) string {
	data := int(p.L3Len) - p.headersLen()
	switch {
	case p.Fragment && !p.First:
		return fmt.Sprintf("protocol %d, later fragment, length %d", p.Proto, data)
	case p.Proto == ProtoTCP:
		l4 := b[p.L4:]
		return fmt.Sprintf("TCP %s seq %d ack %d, length %d", tcpFlagNames(p.TCPFlags), binary.BigEndian.Uint32(l4[4:]),
			binary.BigEndian.Uint32(l4[8:]), data)
	case p.Proto == ProtoUDP:
		return fmt.Sprintf("UDP, length %d", data)
	case p.Proto == ProtoSCTP && p.HasPorts:
		return fmt.Sprintf("SCTP %s, length %d", chunkName(p.Event), data)
	case p.L4Len == icmpLen:
		return fmt.Sprintf("%s, length %d", describeICMP(b[p.L4:], p), data)
	}
	return fmt.Sprintf("protocol %d, length %d", p.Proto, data)
}

var icmpNames = map[[2]uint8]string{ // {protocol, type}
	{ProtoICMP, icmpEcho}: "echo request", {ProtoICMP, icmpEchoReply}: "echo reply",
	{ProtoICMP, 3}: "unreachable", {ProtoICMP, 5}: "redirect", {ProtoICMP, 11}: "time exceeded",
	{ProtoICMPv6, icmpv6Echo}: "echo request", {ProtoICMPv6, icmpv6EchoReply}: "echo reply",
	{ProtoICMPv6, 1}: "unreachable", {ProtoICMPv6, 2}: "packet too big", {ProtoICMPv6, 3}: "time exceeded",
	{ProtoICMPv6, 133}: "router solicitation", {ProtoICMPv6, 134}: "router advertisement", {ProtoICMPv6, 135}: "neighbour solicitation",
	{ProtoICMPv6, 136}: "neighbour advertisement", {ProtoICMPv6, icmpv6Redirect}: "redirect",
}

func describeICMP(l4 []byte, p *Packet) string {
	name := "ICMP"
	if p.Proto == ProtoICMPv6 {
		name = "ICMPv6"
	}
	if p.echo {
		return fmt.Sprintf("%s %s id %d seq %d", name, icmpNames[[2]uint8{p.Proto, p.ICMPType}], p.SrcPort, binary.BigEndian.Uint16(l4[6:]))
	}
	if s := icmpNames[[2]uint8{p.Proto, p.ICMPType}]; s != "" {
		return fmt.Sprintf("%s %s code %d", name, s, p.ICMPCode)
	}
	return fmt.Sprintf("%s type %d code %d", name, p.ICMPType, p.ICMPCode)
}

var chunkNames = [...]string{
	"DATA", "INIT", "INIT ACK", "SACK", "HEARTBEAT", "HEARTBEAT ACK", "ABORT", "SHUTDOWN", "SHUTDOWN ACK", "ERROR", "COOKIE ECHO", "COOKIE ACK",
	ChunkShutdownComplete: "SHUTDOWN COMPLETE",
}

// chunkName writes the type of an SCTP chunk as RFC 9260 does.
func chunkName(t uint8) string {
	if int(t) < len(chunkNames) && chunkNames[t] != "" {
		return chunkNames[t]
	}
	return fmt.Sprintf("chunk %d", t)
}

// tcpFlagNames writes flags as "SYN,ACK", "none" without any.
func tcpFlagNames(flags uint8) string {
	var names []string
	for i, n := range [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if flags>>i&1 != 0 {
			names = append(names, n)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}
