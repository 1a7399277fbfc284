package stack

import (
	"encoding/hex"
	"strings"
	"testing"

	"tapdirector/tap"
)

// Golden packets as they lie on a wire, spaces between headers' fields, and what is said of them.
func TestDescribe(t *testing.T) {
	const eth = "020000000002 020000000001 "
	for _, tt := range []struct{ name, in, want string }{
		{
			"SYN of an IPv4 client",
			eth + "0800  45 00 002c 0001 4000 40 06 6d13 c0000207 0a4d0164  9cbb 0050 000003e8 00000000 60 02 fde8 2b92 0000 020405b4",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: 192.0.2.7:40123 > 10.77.1.100:80 TCP SYN seq 1000 ack 0, length 0, ttl 64",
		},
		{
			"UDP over IPv6 behind destination options",
			eth + "86dd  60000000 0013 3c 40 20010db8000000000000000000000007 20010db8000100000000000000000100  11 00 01 04 00000000  9cbb 0035 000b 420b 616263",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: [2001:db8::7]:40123 > [2001:db8:1::100]:53 UDP, length 3, ttl 64",
		},
		{
			"echo request",
			eth + "0800  45 00 001c 0000 0000 40 01 ad29 c0000207 0a4d0164  08 00 f7af 004d 0003",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: 192.0.2.7 > 10.77.1.100 ICMP echo request id 77 seq 3, length 0, ttl 64",
		},
		{
			"echo reply over IPv6",
			eth + "86dd  60000000 0008 3a 3f 20010db8000000000000000000000007 20010db8000100000000000000000100  81 00 21f3 004d 0003",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: 2001:db8::7 > 2001:db8:1::100 ICMPv6 echo reply id 77 seq 3, length 0, ttl 63",
		},
		{
			"first fragment",
			eth + "0800  45 00 0024 0007 2000 40 11 8d0a c0000207 0a4d0164  9cbb 0035 0400 0000 0102030405060708",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: 192.0.2.7:40123 > 10.77.1.100:53 UDP, length 8, ttl 64, first fragment",
		},
		{
			"later fragment",
			eth + "0800  45 00 0018 0007 0064 40 11 acb2 c0000207 0a4d0164  61626364",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: 192.0.2.7 > 10.77.1.100 protocol 17, later fragment, length 4, ttl 64",
		},
		{
			"a protocol without a name",
			eth + "0800  45 00 0018 0000 0000 40 2f acff c0000207 0a4d0164  61626364",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: 192.0.2.7 > 10.77.1.100 protocol 47, length 4, ttl 64",
		},
		{
			"ARP request",
			"ffffffffffff 020000000001 0806  0001 0800 06 04 0001 020000000001 0a4d0101 000000000000 0a4d0102",
			"02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff: ARP who has 10.77.1.2, tell 10.77.1.1",
		},
		{
			"ARP reply",
			eth + "0806  0001 0800 06 04 0002 020000000001 0a4d0101 020000000002 0a4d0102",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: ARP 10.77.1.1 is at 02:00:00:00:00:01",
		},
		{
			"an ICMP error",
			eth + "0800  45 00 001c 0000 0000 40 01 ad29 c0000207 0a4d0164  03 01 fcfe 0000 0000",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: 192.0.2.7 > 10.77.1.100 ICMP unreachable code 1, length 0, ttl 64",
		},
		{
			"an ICMP type without a name",
			eth + "0800  45 00 001c 0000 0000 40 01 ad29 c0000207 0a4d0164  2a 00 d5ff 0000 0000",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: 192.0.2.7 > 10.77.1.100 ICMP type 42 code 0, length 0, ttl 64",
		},
		{
			"address detection",
			"333300000001 020000000001 86dd  60000000 0018 3a ff 00000000000000000000000000000000 ff020000000000000000000000000001  87 00 7b16 00000000 fe800000000000000000000000000012",
			"02:00:00:00:00:01 > 33:33:00:00:00:01: :: > ff02::1 ICMPv6 neighbour solicitation code 0, length 16, ttl 255",
		},
		{"half an ARP", eth + "0806 0001", "02:00:00:00:00:01 > 02:00:00:00:00:02: ARP malformed or not for IPv4"},
		{"an EtherType we do not handle", eth + "88cc 0000", "02:00:00:00:00:01 > 02:00:00:00:00:02: EtherType 0x88cc, length 16"},
		{"a tag", eth + "8100 0001", "02:00:00:00:00:01 > 02:00:00:00:00:02: 802.1Q tag, length 16"},
		{
			"wrong IPv4 checksum",
			eth + "0800  45 00 0018 0000 0000 40 2f ad00 c0000207 0a4d0164  61626364",
			"02:00:00:00:00:01 > 02:00:00:00:00:02: bad IPv4 checksum, length 38",
		},
		{"nothing", "", "frame too short, length 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(tt.in, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if got := Describe(b); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
			f := tap.NewFrame(tap.Header{}, b)
			var p Packet
			if Parse(&f, &p) == ReasonNone && p.L4Len != 0 && !ChecksumOK(&f, &p) {
				t.Error("the checksum in the golden packet, computed by hand, is called wrong")
			}
		})
	}
}

func TestTCPFlagNames(t *testing.T) {
	for flags, want := range map[uint8]string{0: "none", SYN: "SYN", SYN | ACK: "SYN,ACK", 255: "FIN,SYN,RST,PSH,ACK,URG,ECE,CWR"} {
		if got := tcpFlagNames(flags); got != want {
			t.Errorf("flags %#x are %q, want %q", flags, got, want)
		}
	}
}
