package stack

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// The ends that tests use, one pair of each family.
var (
	client4, vip4, server4 = netip.MustParseAddrPort("192.0.2.7:40123"), netip.MustParseAddrPort("10.77.1.100:80"), netip.MustParseAddrPort("10.77.2.12:8000")
	client6, vip6, server6 = netip.MustParseAddrPort("[2001:db8::7]:40123"), netip.MustParseAddrPort("[2001:db8:1::100]:80"), netip.MustParseAddrPort("[fd00::12]:8000")
)

// family is what a table test runs over.
type family struct {
	name                string
	client, vip, server netip.AddrPort
	icmp                uint8 // protocol
	echo, reply         uint8 // types
	hdrLen              int
}

var families = []family{
	{"IPv4", client4, vip4, server4, ProtoICMP, 8, 0, 20},
	{"IPv6", client6, vip6, server6, ProtoICMPv6, 128, 129, 40},
}

// mustParse parses a frame that is expected to be fine.
func mustParse(t testing.TB, f *tap.Frame) Packet {
	t.Helper()
	var p Packet
	if r := Parse(f, &p); r != ReasonNone {
		t.Fatalf("Parse: %v, want none\n%x", r, f.Bytes())
	}
	return p
}

// withPort is a with another port.
func withPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}

// fixIPv4 makes the IPv4 header checksum of frame b right after a test has broken something else.
func fixIPv4(b []byte) {
	ip := header.IPv4(b[14:])
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
}

// pattern returns n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// randomSpec returns a packet of any kind that is right: both families, TCP, UDP, ICMP and others, options, extension headers, fragments,
// partial checksums, superpackets.
func randomSpec(r *rand.Rand) packettest.Spec {
	s := packettest.Spec{
		TTL: uint8(2 + r.IntN(250)), ID: uint16(r.Uint32()), Seq: r.Uint32(), Ack: r.Uint32(), Flags: uint8(r.Uint32()),
		ICMPID: uint16(r.Uint32()), ICMPSeq: uint16(r.Uint32()), Payload: randomBytes(r, r.IntN(100)*4),
		Proto: []uint8{ProtoTCP, ProtoTCP, ProtoUDP, ProtoUDP, ProtoICMP, ProtoSCTP}[r.IntN(6)],
	}
	s.Src, s.Dst = randomEnd(r, false), randomEnd(r, false)
	v6 := r.IntN(2) == 0
	if v6 {
		s.Src, s.Dst = randomEnd(r, true), randomEnd(r, true)
	}
	switch {
	case s.Proto == ProtoICMP && v6:
		s.Proto, s.ICMPType = ProtoICMPv6, uint8(128+r.IntN(3))
	case s.Proto == ProtoICMP:
		s.ICMPType = []uint8{0, 3, 8}[r.IntN(3)]
	case s.Proto == ProtoUDP:
		s.NoCsum = r.IntN(4) == 0
	case s.Proto == ProtoTCP:
		s.TCPOptions = make([]byte, 4*r.IntN(11))
	case s.Proto == ProtoSCTP:
		s.Tag = r.Uint32()
	}
	randomExtras(r, &s, v6)
	return s
}

// randomExtras adds what a packet need not have.
func randomExtras(r *rand.Rand, s *packettest.Spec, v6 bool) {
	if v6 && r.IntN(3) == 0 {
		s.ExtFirst, s.Ext = extDest, []byte{s.Proto, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	if !v6 && r.IntN(3) == 0 {
		s.IPOptions = []byte{ipv4OptNop, 7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0} // NOP, an empty record route, router alert
	}
	ports := s.Proto == ProtoTCP || s.Proto == ProtoUDP
	switch k := r.IntN(6); {
	case k == 0 && !v6:
		s.DF = true
	case k == 1 && !v6: // a first fragment
		s.MF, s.Payload, s.TCPOptions = true, randomBytes(r, 68), nil
		if s.Proto != ProtoTCP && s.Proto != ProtoSCTP {
			s.Payload = s.Payload[:64]
		}
	case k == 2 && !v6: // a later one
		s.FragOffset, s.Payload = 8*(8+r.IntN(1000)), randomBytes(r, 64)
	case k >= 3 && ports && !s.NoCsum:
		s.Partial = true
		if k == 5 {
			s.GSOSize, s.Flags = 1+r.IntN(200), s.Flags&^(SYN|RST)
		}
	}
}

func randomEnd(r *rand.Rand, v6 bool) netip.AddrPort {
	port := uint16(r.Uint32())
	if v6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(append([]byte{0x20, 1}, randomBytes(r, 14)...))), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(append([]byte{10}, randomBytes(r, 3)...))), port)
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Ends that are no single host.
var (
	netipGroup4    = netip.MustParseAddrPort("224.0.0.251:5353")
	netipBroadcast = netip.MustParseAddrPort("255.255.255.255:67")
	netipGroup6    = netip.MustParseAddrPort("[ff02::fb]:5353")
	netipNone6     = netip.MustParseAddrPort("[::]:0")
)
