package neigh

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
)

// TestQuestion checks whom we ask as, and that what we send is what the RFCs want, judged by the independent parser.
func TestQuestion(t *testing.T) {
	dips := prefixes("10.77.9.1/24", "10.77.1.1/24", "2001:db8:9::1/64", "2001:db8:1::1/64")
	tests := []struct {
		name      string
		addresses []netip.Prefix
		target    string
		to        stack.MAC
		wantFrom  string
		wantDst   string // IPv6 only
		wantMAC   stack.MAC
	}{
		{"prefix", dips, "10.77.1.12", stack.MAC{}, "10.77.1.1", "", everyone},
		{"no prefix: the first DIP", dips, "10.77.3.12", stack.MAC{}, "10.77.9.1", "", everyone},
		{"no DIP", nil, "10.77.1.12", stack.MAC{}, "0.0.0.0", "", everyone},
		{"only the other family", dips[2:], "10.77.1.12", stack.MAC{}, "0.0.0.0", "", everyone},
		{"unicast", dips, "10.77.1.12", server1, "10.77.1.1", "", server1},
		{"prefix", dips, "2001:db8:1::12", stack.MAC{}, "2001:db8:1::1", "ff02::1:ff00:12", stack.MAC{0x33, 0x33, 0xff, 0, 0, 0x12}},
		{"no prefix: link-local", dips, "2001:db8:3::12", stack.MAC{}, "fe80::ff:fe00:aa01", "ff02::1:ff00:12", stack.MAC{0x33, 0x33, 0xff, 0, 0, 0x12}},
		{"no DIP", nil, "2001:db8:1::12", stack.MAC{}, "fe80::ff:fe00:aa01", "ff02::1:ff00:12", stack.MAC{0x33, 0x33, 0xff, 0, 0, 0x12}},
		{"link-local gateway", dips, "fe80::1", stack.MAC{}, "fe80::ff:fe00:aa01", "ff02::1:ff00:1", stack.MAC{0x33, 0x33, 0xff, 0, 0, 1}},
		{"unicast", dips, "2001:db8:1::12", server1, "2001:db8:1::1", "2001:db8:1::12", server1},
	}
	for _, tt := range tests {
		t.Run(tt.target+" "+tt.name, func(t *testing.T) {
			l := newLAN(t, func(o *Options) { o.Links[0].Addresses = tt.addresses })
			target := netip.MustParseAddr(tt.target)
			l.ask(question{key{stack.AddrFrom(target), 0}, tt.to})
			out := l.take()
			wantQuestion(t, out, target, tt.wantMAC)
			f := out[0].frame
			if stack.SrcMAC(f.Bytes()) != ownMAC {
				t.Error("the question is not from our MAC")
			}
			var p stack.Packet
			if r := stack.Parse(&f, &p); r != stack.ReasonNone || !stack.ChecksumOK(&f, &p) {
				t.Fatalf("our own question is refused: %v", r)
			}
			if target.Is4() {
				checkARP(t, header.ARP(f.Bytes()[14:]), tt.wantFrom)
				return
			}
			if p.Src.String() != tt.wantFrom || p.Dst.String() != tt.wantDst || p.TTL != 255 || p.ICMPType != 135 {
				t.Errorf("asked %v -> %v, hop limit %d, type %d", p.Src, p.Dst, p.TTL, p.ICMPType)
			}
			if m := ndMessage(f.Bytes(), &p); m == nil || stack.MAC(m[24+2:]) != ownMAC || m[24] != 1 {
				t.Error("the source link-layer address is missing")
			}
		})
	}
}

func checkARP(t *testing.T, a header.ARP, from string) {
	t.Helper()
	sender, _ := netip.AddrFromSlice(a.ProtocolAddressSender())
	if !a.IsValid() || a.Op() != header.ARPRequest || sender.String() != from || stack.MAC(a.HardwareAddressSender()) != ownMAC {
		t.Errorf("asked as %v (%x), want %s", sender, a.HardwareAddressSender(), from)
	}
}
