package memlan

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

var (
	src4, dst4 = netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:80")
	src6, dst6 = netip.MustParseAddrPort("[2001:db8::1]:1000"), netip.MustParseAddrPort("[2001:db8::2]:80")
)

// goodSpecs are packets of each kind that the judge knows.
func goodSpecs() map[string]packettest.Spec {
	text := []byte("an odd payload.")
	big := make([]byte, 4000)
	hopByHop := []byte{packettest.TCP, 0, 1, 4, 0, 0, 0, 0}
	specs := map[string]packettest.Spec{
		"tcp":          {Payload: text, Flags: 0x10},
		"tcp options":  {Payload: text, Flags: 0x02, TCPOptions: []byte{2, 4, 5, 0xb4}},
		"tcp partial":  {Payload: text, Partial: true},
		"tcp super":    {Payload: big, Partial: true, GSOSize: 1400},
		"udp":          {Proto: packettest.UDP, Payload: text},
		"udp empty":    {Proto: packettest.UDP},
		"udp partial":  {Proto: packettest.UDP, Payload: text, Partial: true},
		"udp super":    {Proto: packettest.UDP, Payload: big, Partial: true, GSOSize: 1400},
		"other":        {Proto: 200, Payload: text},
		"udp no csum4": {Proto: packettest.UDP, Payload: text, NoCsum: true, Src: src4, Dst: dst4},
		"icmp4":        {Proto: packettest.ICMP, ICMPType: 8, Payload: text, Src: src4, Dst: dst4},
		"icmp6":        {Proto: packettest.ICMPv6, ICMPType: 128, Payload: text, Src: src6, Dst: dst6},
		"first4":       {Proto: packettest.UDP, Payload: make([]byte, 16), MF: true, Src: src4, Dst: dst4},
		"later4":       {Proto: packettest.UDP, Payload: text, FragOffset: 24, Src: src4, Dst: dst4},
		"options4":     {Payload: text, IPOptions: []byte{1, 1, 1, 0}, Src: src4, Dst: dst4},
		"extension6":   {Payload: text, Ext: hopByHop, ExtFirst: 0, Src: src6, Dst: dst6},
	}
	for name, s := range specs {
		if s.Src.IsValid() {
			continue
		}
		delete(specs, name)
		s.Src, s.Dst = src4, dst4
		specs[name+"4"] = s
		s.Src, s.Dst = src6, dst6
		specs[name+"6"] = s
	}
	return specs
}

func TestCheckAccepts(t *testing.T) {
	for name, s := range goodSpecs() {
		f := s.Frame()
		if err := Check(&f, 1500); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	arp := packettest.ARP(1, packettest.DefaultSrcMAC, packettest.DefaultDstMAC, src4.Addr(), dst4.Addr())
	if err := Check(&arp, 1500); err != nil {
		t.Errorf("ARP: %v", err)
	}
	short := packettest.Spec{Src: src4, Dst: dst4}
	padded := tap.NewFrame(tap.Header{}, append(short.Bytes(), make([]byte, 60-54)...))
	if err := Check(&padded, 1500); err != nil {
		t.Errorf("padded to 60 bytes: %v", err)
	}
}

// TestCheckFindsEveryFlippedBit: no bit of a packet can change unnoticed, save where no sum covers it.
func TestCheckFindsEveryFlippedBit(t *testing.T) {
	for name, s := range goodSpecs() {
		s.Payload = s.Payload[:min(len(s.Payload), 16)]
		good := s.Frame()
		for bit := tap.EthernetLen * 8; bit < good.Len()*8; bit++ {
			f := good.Clone()
			f.Bytes()[bit/8] ^= 1 << (bit % 8)
			if Check(&f, 0) == nil && covered(name, &good, bit/8) {
				t.Errorf("%s: bit %d of byte %d flipped, and nothing found", name, bit%8, bit/8)
			}
		}
	}
}

// covered reports whether a sum covers a byte of a frame of goodSpecs.
func covered(name string, f *tap.Frame, at int) bool {
	ip := readIP(f.Bytes())
	switch {
	case ip.six && at < tap.EthernetLen+4: // traffic class, flow label
		return false
	case ip.six && (at == tap.EthernetLen+6 || at == tap.EthernetLen+7): // next header, which may become one without a sum; hop limit
		return false
	case ip.six && at >= tap.EthernetLen+40 && at < ip.l4: // extension headers
		return false
	case at < ip.l4:
		return !ip.six || ip.proto != 200
	}
	return !ip.fragment && ip.proto != 200 && !f.Header.Partial() && !strings.HasPrefix(name, "udp no csum")
}

// TestCheckRefuses has one fault a case, named by what the judge must say.
func TestCheckRefuses(t *testing.T) {
	tcp4 := packettest.Spec{Src: src4, Dst: dst4, Payload: make([]byte, 100)}
	super := packettest.Spec{Src: src6, Dst: dst6, Payload: make([]byte, 4000), Partial: true, GSOSize: 1400}
	udp6 := packettest.Spec{Src: src6, Dst: dst6, Proto: packettest.UDP, Payload: []byte("x"), NoCsum: true}
	for _, c := range []struct {
		want string
		spec packettest.Spec
		edit func(f *tap.Frame)
	}{
		{"Ethernet header", tcp4, func(f *tap.Frame) { f.Trim(13) }},
		{"malformed", tcp4, func(f *tap.Frame) { f.Trim(30) }},
		{"malformed", super, func(f *tap.Frame) { f.Trim(50) }},
		{"malformed", tcp4, func(f *tap.Frame) { f.Trim(100) }},
		{"the frame has", super, func(f *tap.Frame) { f.Trim(100) }},
		{"behind the IP packet", tcp4, func(f *tap.Frame) { *f = tap.NewFrame(f.Header, append(f.Bytes(), 0)) }},
		{"IPv4 header checksum", tcp4, func(f *tap.Frame) { f.Bytes()[22]-- }},
		{"TCP checksum", tcp4, func(f *tap.Frame) { f.Bytes()[60]++ }},
		{"TCP header", tcp4, func(f *tap.Frame) { f.Bytes()[46] = 0x40 }},
		{"TCP header", tcp4, func(f *tap.Frame) { f.Bytes()[46] = 0xf0; shrink(f, 40) }},
		{"without a checksum", udp6, func(*tap.Frame) {}},
		{"UDP length", udp6, func(f *tap.Frame) { f.Bytes()[59]++ }},
		{"csum_start", super, func(f *tap.Frame) { f.Header.CsumStart++ }},
		{"csum_offset", super, func(f *tap.Frame) { f.Header.CsumOffset = 6 }},
		{"partial checksum", super, func(f *tap.Frame) { f.Bytes()[70] ^= 1 }},
		{"gso_type", super, func(f *tap.Frame) { f.Header.GSOType = tap.GSOTCPv4 }},
		{"gso_size", super, func(f *tap.Frame) { f.Header.GSOSize = 0 }},
		{"MTU", super, func(f *tap.Frame) { f.Header.GSOSize = 1441 }},
		{"hdr_len", super, func(f *tap.Frame) { f.Header.HdrLen = 5000 }},
		{"MTU", super, func(f *tap.Frame) { f.Header.GSOType, f.Header.GSOSize = 0, 0 }},
		{"TCP checksum", super, func(f *tap.Frame) { f.Header.Flags = 0 }},
	} {
		f := c.spec.Frame()
		c.edit(&f)
		if err := Check(&f, 1500); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

// shrink cuts an IPv4 packet to n bytes and mends its IP header.
func shrink(f *tap.Frame, n int) {
	b := f.Bytes()
	old := binary.BigEndian.Uint16(b[16:])
	binary.BigEndian.PutUint16(b[16:], uint16(n))
	sum := uint32(binary.BigEndian.Uint16(b[24:])) + uint32(old) - uint32(n)
	binary.BigEndian.PutUint16(b[24:], uint16(sum+sum>>16))
	f.Trim(tap.EthernetLen + n)
}

// TestCheckNeverPanics feeds it good packets with random bytes in them, and random bytes.
func TestCheckNeverPanics(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range goodSpecs() {
		s.Payload = s.Payload[:min(len(s.Payload), 16)]
		good := s.Frame()
		for range 2000 {
			f := good.Clone()
			for range 1 + r.IntN(4) {
				f.Bytes()[r.IntN(f.Len())] = byte(r.Uint32())
			}
			f.Trim(r.IntN(f.Len() + 1))
			f.Header.CsumStart, f.Header.GSOType = uint16(r.Uint32()), uint8(r.Uint32())
			Check(&f, 1500)
			queueOf(f.Bytes())
		}
	}
}

func TestFaultsAreCounted(t *testing.T) {
	var l faults
	good := packettest.Spec{Src: src4, Dst: dst4, Partial: true}.Frame()
	l.judge("a", &good, 1500, true)
	if len(l.all()) != 0 {
		t.Errorf("faults of a good frame: %v", l.all())
	}
	l.judge("a", &good, 1500, false)
	l.judge("a", &good, 30, true)
	l.judge("a", &good, 30, true)
	if len(l.all()) != 2 || l.all()["a: 40 bytes of L3 on a link of MTU 30"] != 2 {
		t.Errorf("faults: %v", l.all())
	}
}

// TestQueueOfKeepsFlowsTogether: one queue a flow, several queues for many flows.
func TestQueueOfKeepsFlowsTogether(t *testing.T) {
	for _, ends := range [][2]netip.AddrPort{{src4, dst4}, {src6, dst6}} {
		used := map[int]bool{}
		for port := range uint16(64) {
			s := packettest.Spec{Src: netip.AddrPortFrom(ends[0].Addr(), 1024+port), Dst: ends[1]}
			q := queueOf(s.Bytes()) % 4
			s.Payload = []byte("more")
			if queueOf(s.Bytes())%4 != q {
				t.Error("two frames of a flow, two queues")
			}
			used[q] = true
		}
		if len(used) != 4 {
			t.Errorf("64 flows use %d of 4 queues", len(used))
		}
	}
}
