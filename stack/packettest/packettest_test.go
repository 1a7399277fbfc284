package packettest

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/tap"
)

var ends = []struct{ src, dst netip.AddrPort }{
	{netip.MustParseAddrPort("192.0.2.7:40123"), netip.MustParseAddrPort("10.77.1.100:80")},
	{netip.MustParseAddrPort("[2001:db8::7]:40123"), netip.MustParseAddrPort("[2001:db8:1::100]:80")},
}

// The builder against gVisor's own validators.
func TestFrameIsValid(t *testing.T) {
	for _, e := range ends {
		for _, proto := range []uint8{TCP, UDP} {
			s := Spec{Src: e.src, Dst: e.dst, Proto: proto, Flags: 2, TTL: 9, Payload: []byte("odd"), TCPOptions: []byte{1, 1, 1, 1}}
			f := s.Frame()
			l4 := validL3(t, f.Bytes())
			src, dst := tcpip.AddrFromSlice(e.src.Addr().AsSlice()), tcpip.AddrFromSlice(e.dst.Addr().AsSlice())
			payload := checksum.Checksum([]byte("odd"), 0)
			if proto == TCP {
				tcp := header.TCP(l4)
				if tcp.DataOffset() != 24 || tcp.DestinationPort() != 80 || !tcp.IsChecksumValid(src, dst, payload, 3) {
					t.Errorf("%v: TCP %x", e.src, l4)
				}
				continue
			}
			udp := header.UDP(l4)
			if udp.Length() != 11 || udp.DestinationPort() != 80 || !udp.IsChecksumValid(src, dst, payload) {
				t.Errorf("%v: UDP %x", e.src, l4)
			}
		}
	}
}

// validL3 checks the IP header and returns what follows it.
func validL3(t *testing.T, b []byte) []byte {
	t.Helper()
	if header.IPVersion(b[14:]) == 4 {
		ip := header.IPv4(b[14:])
		if !ip.IsValid(len(ip)) || !ip.IsChecksumValid() || ip.TTL() != 9 {
			t.Errorf("IPv4 header %x", []byte(ip))
		}
		return ip.Payload()
	}
	ip := header.IPv6(b[14:])
	if !ip.IsValid(len(ip)) || ip.HopLimit() != 9 {
		t.Errorf("IPv6 header %x", []byte(ip))
	}
	return ip.Payload()
}

func TestFrameVirtio(t *testing.T) {
	data := make([]byte, 3000)
	for _, e := range ends {
		l4, tcpType := uint16(34), uint8(tap.GSOTCPv4)
		if e.src.Addr().Is6() {
			l4, tcpType = 54, tap.GSOTCPv6
		}
		for _, tt := range []struct {
			s    Spec
			want tap.Header
		}{
			{Spec{}, tap.Header{}},
			{Spec{Partial: true}, tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: l4, CsumOffset: 16}},
			{Spec{Proto: UDP, Partial: true}, tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: l4, CsumOffset: 6}},
			{Spec{GSOSize: 1000, Partial: true}, tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: l4, CsumOffset: 16, GSOType: tcpType, GSOSize: 1000, HdrLen: l4 + 20}},
			{Spec{Proto: UDP, GSOSize: 1000}, tap.Header{GSOType: tap.GSOUDPL4, GSOSize: 1000, HdrLen: l4 + 8}},
		} {
			tt.s.Src, tt.s.Dst, tt.s.Payload = e.src, e.dst, data
			if f := tt.s.Frame(); f.Header != tt.want {
				t.Errorf("%v: header %+v, want %+v", e.src, f.Header, tt.want)
			}
		}
	}
}

func TestARP(t *testing.T) {
	src, dst := MAC{2, 1}, MAC{2, 2}
	f := ARP(2, src, dst, ends[0].src.Addr(), ends[0].dst.Addr())
	arp := header.ARP(f.Bytes()[14:])
	if !arp.IsValid() || arp.Op() != header.ARPReply || MAC(arp.HardwareAddressSender()) != src || MAC(arp.HardwareAddressTarget()) != dst ||
		netip.AddrFrom4([4]byte(arp.ProtocolAddressTarget())) != ends[0].dst.Addr() {
		t.Errorf("%x", f.Bytes())
	}
}
