package main

import (
	"encoding/binary"
	"net/netip"
)

// Packets that the load makes itself, without payload: datagrams and SYNs.

const (
	ethernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	udpHeader      = 8
	tcpHeader      = 20
	rawPacketMax   = ipv6Header + tcpHeader

	firstPort = 1024 // that a packet is from; those below belong to services

	protocolTCP = 6
	protocolUDP = 17
)

// putDatagram writes an IP packet with an empty datagram and returns its length.
func putDatagram(b []byte, from, to netip.AddrPort) int {
	l3 := putIP(b, from.Addr(), to.Addr(), protocolUDP, udpHeader)
	udp := b[l3 : l3+udpHeader]
	putPorts(udp, from, to)
	binary.BigEndian.PutUint16(udp[4:], udpHeader)
	sum := l4Sum(b[:l3], udp, protocolUDP)
	if sum == 0 {
		sum = 0xffff // 0 would say that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return l3 + udpHeader
}

// putSYN writes an IP packet with the first segment of a connection and returns its length.
func putSYN(b []byte, from, to netip.AddrPort, sequence uint32) int {
	l3 := putIP(b, from.Addr(), to.Addr(), protocolTCP, tcpHeader)
	tcp := b[l3 : l3+tcpHeader]
	putPorts(tcp, from, to)
	binary.BigEndian.PutUint32(tcp[4:], sequence)
	copy(tcp[12:], []byte{tcpHeader / 4 << 4, 0x02, 0xff, 0xff}) // SYN, window
	binary.BigEndian.PutUint16(tcp[16:], l4Sum(b[:l3], tcp, protocolTCP))
	return l3 + tcpHeader
}

// putPorts begins an L4 header of zeros.
func putPorts(l4 []byte, from, to netip.AddrPort) {
	clear(l4)
	binary.BigEndian.PutUint16(l4, from.Port())
	binary.BigEndian.PutUint16(l4[2:], to.Port())
}

// putIP writes an IP header of either family and returns its length.
func putIP(b []byte, from, to netip.Addr, protocol byte, l4Len int) int {
	if to.Is6() {
		src, dst := from.As16(), to.As16()
		copy(b, []byte{0x60, 0, 0, 0, 0, byte(l4Len), protocol, 64})
		copy(b[8:], src[:])
		copy(b[24:], dst[:])
		return ipv6Header
	}
	src, dst := from.As4(), to.As4()
	copy(b, []byte{0x45, 0, 0, byte(ipv4Header + l4Len), 0, 0, 0x40, 0, 64, protocol, 0, 0})
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], folded(words(b[:ipv4Header])))
	return ipv4Header
}

// l4Sum is the checksum of an L4 header, whose own is 0, behind an IP header.
func l4Sum(ip, l4 []byte, protocol byte) uint16 {
	addresses := ip[8:]
	if len(ip) == ipv4Header {
		addresses = ip[12:]
	}
	return folded(uint32(protocol) + uint32(len(l4)) + words(addresses) + words(l4))
}

// words adds up 16-bit words.
func words(b []byte) (sum uint32) {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return sum
}

// folded is the complement of a sum in 16 bits.
func folded(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
