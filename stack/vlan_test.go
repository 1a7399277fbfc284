package stack_test

import (
	"bytes"
	"net/netip"
	"testing"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// tagSpecs are packets that a tag goes on and comes off.
func tagSpecs() map[string]packettest.Spec {
	specs := map[string]packettest.Spec{}
	for family, addrs := range map[string][2]string{"IPv4": {"10.0.0.1:1024", "10.0.0.2:80"}, "IPv6": {"[2001:db8::1]:1024", "[2001:db8::2]:80"}} {
		base := packettest.Spec{SrcMAC: stack.MAC{2, 0, 0, 0, 0, 1}, DstMAC: stack.MAC{2, 0, 0, 0, 0, 2}, Proto: packettest.TCP, Flags: stack.ACK,
			Src: netip.MustParseAddrPort(addrs[0]), Dst: netip.MustParseAddrPort(addrs[1]), Payload: make([]byte, 4000)}
		specs[family+" whole"] = base
		base.Partial = true
		specs[family+" partial"] = base
		base.GSOSize = 1000
		specs[family+" super"] = base
	}
	return specs
}

// A tag goes on between the MACs and the EtherType, and the virtio header stays in step; off again, the frame is what it was and parses.
func TestTag(t *testing.T) {
	for name, s := range tagSpecs() {
		f, was := s.Frame(), s.Frame()
		if !stack.PushTag(&f, 100) {
			t.Fatal(name)
		}
		b, plain := f.Bytes(), was.Bytes()
		if !bytes.Equal(b[:12], plain[:12]) || !bytes.Equal(b[12:16], []byte{0x81, 0, 0, 100}) || !bytes.Equal(b[16:], plain[12:]) {
			t.Errorf("%s: % x", name, b[:20])
		}
		if h := was.Header; h.Partial() && f.Header.CsumStart != h.CsumStart+4 || h.HdrLen > 0 && f.Header.HdrLen != h.HdrLen+4 {
			t.Errorf("%s: header %+v, was %+v", name, f.Header, h)
		}
		var p stack.Packet
		if g := f.Clone(); stack.Parse(&g, &p) != stack.ReasonVLAN {
			t.Errorf("%s: Parse takes a tag", name)
		}
		b[14] |= 0xe0 // priority 7
		if vlan, ok := stack.PopTag(&f); vlan != 100 || !ok {
			t.Fatalf("%s: VLAN %d, %v", name, vlan, ok)
		}
		if !bytes.Equal(f.Bytes(), plain) {
			t.Errorf("%s: not what it was", name)
		}
		if h := was.Header; h.Partial() && f.Header != h {
			t.Errorf("%s: header %+v, was %+v", name, f.Header, h)
		}
		if r := stack.Parse(&f, &p); r != stack.ReasonNone {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// What has no tag that says a VLAN stays as it is.
func TestPopTagRefuses(t *testing.T) {
	macs := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	rest := append([]byte{8, 0}, make([]byte, 46)...)
	for _, tc := range []struct {
		name  string
		frame []byte
		vlan  uint16
		ok    bool
		inner stack.Reason // of what is left
	}{
		{"no tag", append(macs, rest...), 0, true, stack.ReasonIPv4Header},
		{"empty", nil, 0, true, stack.ReasonShort},
		{"cut before the tag", append(macs, 0x81), 0, true, stack.ReasonShort},
		{"cut in the tag", append(macs, 0x81, 0, 0), 0, false, stack.ReasonVLAN},
		{"cut behind the tag", append(macs, 0x81, 0, 0, 1), 0, false, stack.ReasonVLAN},
		{"priority only", append(append(macs, 0x81, 0, 0xe0, 0), rest...), 0, false, stack.ReasonVLAN},
		{"802.1ad", append(append(macs, 0x88, 0xa8, 0, 1), rest...), 0, true, stack.ReasonVLAN},
		{"two tags", append(append(macs, 0x81, 0, 0, 7, 0x81, 0, 0, 8), rest...), 7, true, stack.ReasonVLAN},
		{"the largest", append(append(macs, 0x81, 0, 0x0f, 0xff), rest...), 4095, true, stack.ReasonIPv4Header},
	} {
		f := tap.NewFrame(tap.Header{}, bytes.Clone(tc.frame))
		vlan, ok := stack.PopTag(&f)
		if vlan != tc.vlan || ok != tc.ok {
			t.Errorf("%s: VLAN %d, %v; want %d, %v", tc.name, vlan, ok, tc.vlan, tc.ok)
		}
		if vlan == 0 && !bytes.Equal(f.Bytes(), tc.frame) {
			t.Errorf("%s: changed", tc.name)
		}
		var p stack.Packet
		if r := stack.Parse(&f, &p); r != tc.inner {
			t.Errorf("%s: what is left is %v, want %v", tc.name, r, tc.inner)
		}
	}
	full := tap.NewFrame(tap.Header{}, make([]byte, 60))
	for full.Prepend(4) {
	}
	if n := full.Len(); stack.PushTag(&full, 1) || full.Len() != n {
		t.Error("a tag without headroom")
	}
}

// FuzzPopTag: whatever the frame, a tag that came off and goes on again gives the same frame, and nothing panics behind it.
func FuzzPopTag(f *testing.F) {
	for _, s := range tagSpecs() {
		g := s.Frame()
		stack.PushTag(&g, 100)
		f.Add(g.Bytes()[:100], g.Header.Flags, g.Header.GSOType, g.Header.GSOSize, g.Header.CsumStart, g.Header.CsumOffset, g.Header.HdrLen)
	}
	f.Fuzz(func(t *testing.T, b []byte, flags, gso uint8, size, start, off, hdr uint16) {
		h := tap.Header{Flags: flags, GSOType: gso, GSOSize: size, CsumStart: start, CsumOffset: off, HdrLen: hdr}
		g := tap.NewFrame(h, b)
		vlan, ok := stack.PopTag(&g)
		var p stack.Packet
		again := g.Clone()
		stack.Parse(&again, &p)
		if !ok || vlan == 0 {
			if !bytes.Equal(g.Bytes(), b) || g.Header != h {
				t.Fatal("changed without a tag")
			}
			return
		}
		if !stack.PushTag(&g, vlan) {
			t.Fatal("no headroom")
		}
		want := bytes.Clone(b)
		want[14] &= 0x0f
		if !bytes.Equal(g.Bytes(), want) || h.Partial() && g.Header.CsumStart != start {
			t.Fatalf("% x, want % x", g.Bytes(), want)
		}
	})
}
