package main

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// TestRawPackets: gVisor finds the packets whole and their checksums right, whichever the source.
func TestRawPackets(t *testing.T) {
	for _, ends := range [][2]string{{"198.18.0.7:1024", "10.77.1.100:80"}, {"[2001:2::3]:65535", "[2001:db8:77:1::100]:80"}} {
		from, to := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		for i := range 5000 {
			from = netip.AddrPortFrom(from.Addr(), uint16(firstPort+13*i))
			b := make([]byte, rawPacketMax)
			checkRaw(t, b[:putDatagram(b, from, to)], from, to)
			checkRaw(t, b[:putSYN(b, from, to, uint32(i)<<16)], from, to)
		}
	}
}

func checkRaw(t *testing.T, b []byte, from, to netip.AddrPort) {
	t.Helper()
	var network header.Network = header.IPv6(b)
	if to.Addr().Is4() {
		ip := header.IPv4(b)
		if !ip.IsValid(len(b)) || !ip.IsChecksumValid() || int(ip.TotalLength()) != len(b) {
			t.Fatalf("% x", b)
		}
		network = ip
	} else if ip := header.IPv6(b); !ip.IsValid(len(b)) || int(ip.PayloadLength())+header.IPv6MinimumSize != len(b) {
		t.Fatalf("% x", b)
	}
	l4 := network.Payload()
	pseudo := header.PseudoHeaderChecksum(network.TransportProtocol(), network.SourceAddress(), network.DestinationAddress(), uint16(len(l4)))
	ports := header.UDP(l4)
	if checksum.Checksum(l4, pseudo) != 0xffff || ports.SourcePort() != from.Port() || ports.DestinationPort() != to.Port() {
		t.Fatalf("% x", b)
	}
	if network.TransportProtocol() == header.TCPProtocolNumber {
		if tcp := header.TCP(l4); tcp.Flags() != header.TCPFlagSyn || int(tcp.DataOffset()) != len(l4) {
			t.Fatalf("% x", b)
		}
	} else if ports.Checksum() == 0 {
		t.Fatalf("no checksum: % x", b)
	}
}
