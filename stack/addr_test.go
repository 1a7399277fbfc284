package stack

import (
	"net/netip"
	"testing"
)

func TestAddr(t *testing.T) {
	for _, tt := range []struct {
		in   string
		is4  bool
		text string
	}{
		{"192.0.2.7", true, "192.0.2.7"}, {"0.0.0.0", true, "0.0.0.0"}, {"255.255.255.255", true, "255.255.255.255"},
		{"2001:db8::7", false, "2001:db8::7"}, {"::", false, "none"}, {"::1", false, "::1"}, {"ff02::1", false, "ff02::1"},
		{"::ffff:10.0.0.1", true, "10.0.0.1"},
	} {
		n := netip.MustParseAddr(tt.in)
		a := AddrFrom(n)
		if a.Is4() != tt.is4 || a.String() != tt.text || a.Netip() != n.Unmap() {
			t.Errorf("%s: Is4 %v, String %q, Netip %v", tt.in, a.Is4(), a, a.Netip())
		}
		b := make([]byte, n.Unmap().BitLen()/8)
		a.Put(b)
		back := AddrFrom4(b)
		if len(b) == 16 {
			back = AddrFrom16(b)
		}
		if back != a || AddrFrom16(func() []byte { x := a.As16(); return x[:] }()) != a {
			t.Errorf("%s: Put and back gives %v", tt.in, back)
		}
	}
	if a := AddrFrom(netip.Addr{}); !a.IsZero() {
		t.Errorf("an invalid address is %v", a)
	}
}

func TestTupleReverse(t *testing.T) {
	for _, fam := range families {
		k := Tuple{Src: AddrFrom(fam.client.Addr()), Dst: AddrFrom(fam.vip.Addr()), SrcPort: 1, DstPort: 2, Proto: ProtoTCP}
		r := k.Reverse()
		if r.Src != k.Dst || r.Dst != k.Src || r.SrcPort != 2 || r.DstPort != 1 || r.Proto != ProtoTCP || r.Reverse() != k {
			t.Errorf("%+v reversed is %+v", k, r)
		}
	}
}

// Mask against the standard library, both families, every length.
func TestMask(t *testing.T) {
	for _, s := range []string{"255.255.255.255", "10.77.1.130", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8:1:2:3:4:5:6"} {
		a := netip.MustParseAddr(s)
		for bits := range a.BitLen() + 1 {
			if got, want := AddrFrom(a).Mask(bits), AddrFrom(netip.PrefixFrom(a, bits).Masked().Addr()); got != want {
				t.Errorf("%v/%d: %v, want %v", a, bits, got, want)
			}
		}
	}
}
