package stack

// IANA protocol numbers that the path knows.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
	ProtoSCTP   = 132
)

// TCP flag bits as they lie in byte 13 of the header.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Kind is what an Ethernet frame carries.
type Kind uint8

// The kinds that Parse tells apart.
const (
	KindOther Kind = iota // an EtherType we do not handle
	KindARP
	KindIPv4
	KindIPv6
)

// Packet is what one validating parse says of a frame: a flat value of offsets and fields; it holds no pointer into the frame.
// Offsets count from the first byte of the Ethernet header.
type Packet struct {
	Tuple // addresses always valid for IP; ports when HasPorts (or ICMP echo: the identifier in both)
	Own

	Kind     Kind
	TTL      uint8 // IPv4 TTL, IPv6 hop limit
	ICMPType uint8 // ICMP and ICMPv6 only
	ICMPCode uint8
	HasPorts bool // the L4 header is here, whole, and has ports: TCP, UDP, SCTP
	DF       bool // IPv4 "don't fragment"; true for every IPv6 packet
	Fragment bool // any part of a fragmented datagram
	echo     bool // ICMP echo or its reply: the "port" is the identifier

	L3    uint16 // offset of the IP header
	L4    uint16 // offset of the L4 header; for a later fragment, of its payload
	L4Len uint16 // header bytes of L4, options included; 8 for UDP and ICMP, 12 for SCTP; 0 for what has no header that we know
	csum  uint16 // offset of the Internet checksum of L4; 0 without one that we know
}

// Own is what each of the packets that are alike (alike.go) has of its own.
type Own struct {
	L3Len    uint32 // bytes from L3 to the end of the packet: IPv4 total length, IPv6 40 + payload length. The frame is trimmed to it.
	TCPFlags uint8  // TCP only
	Event    uint8  // what the packet does to its connection's state: TCP's flags; of SCTP the type of the chunk that counts (sctp.go)
	NoCsum   bool   // there is no Internet checksum of L4: UDP with checksum 0, SCTP
	First    bool   // Fragment with offset 0; here, where packets that are alike have none, because there is room
}
