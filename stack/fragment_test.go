package stack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

func TestFragmentIPv4(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    packettest.Spec
		mtu  int
		want []int // bytes of L3
	}{
		{"fits", packettest.Spec{Payload: pattern(100)}, 120 + 8, []int{128}},
		{"fits, partial", packettest.Spec{Payload: pattern(100), Partial: true}, 1500, []int{128}},
		{"two pieces", packettest.Spec{Payload: pattern(1492)}, 1500 - 1, []int{20 + 1472, 20 + 28}},
		{"pieces are multiples of 8", packettest.Spec{Payload: pattern(92)}, 20 + 47, []int{60, 60, 40}},
		{"partial", packettest.Spec{Payload: pattern(192), Partial: true}, 120, []int{116, 116, 28}},
		{"options", packettest.Spec{Payload: pattern(192), IPOptions: []byte{7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 1}}, 132, []int{32 + 96, 24 + 96, 24 + 8}},
		{"a first fragment", packettest.Spec{Payload: pattern(192), MF: true}, 120, []int{116, 116, 28}},
		{"a later fragment", packettest.Spec{Payload: pattern(192), MF: true, FragOffset: 800}, 120, []int{116, 116}},
		{"the last fragment", packettest.Spec{Payload: pattern(193), FragOffset: 800}, 120, []int{116, 116, 21}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.Src, tt.s.Dst, tt.s.Proto, tt.s.ID = client4, vip4, ProtoUDP, 77
			f := tt.s.Frame()
			p := mustParse(t, &f)
			got := checkFragments(t, &f, &p, tt.mtu, tap.NewArena(1<<16))
			if len(got) != len(tt.want) {
				t.Fatalf("%d pieces, want %v", len(got), tt.want)
			}
			for i := range got {
				if n := got[i].Len() - 14; n != tt.want[i] {
					t.Errorf("piece %d has %d bytes, want %d", i, n, tt.want[i])
				}
			}
		})
	}
}

// checkFragments cuts f and puts it together again, as a receiver would.
func checkFragments(t *testing.T, f *tap.Frame, p *Packet, mtu int, a *tap.Arena) (got []tap.Frame) {
	t.Helper()
	if !FragmentIPv4(f, p, mtu, a, collect(&got)) {
		return nil
	}
	whole := header.IPv4(f.Bytes()[p.L3:])
	off := int(whole.FragmentOffset())
	var data []byte
	for i := range got {
		mustParse(t, &got[i])
		h := header.IPv4(got[i].Bytes()[14:])
		if int(h.TotalLength()) > mtu || h.ID() != whole.ID() || int(h.FragmentOffset()) != off+len(data) {
			t.Fatalf("piece %d of %x: %x", i, whole, h)
		}
		last := i == len(got)-1
		if h.More() != (!last || whole.More()) {
			t.Fatalf("piece %d of %d: more fragments is %v", i, len(got), h.More())
		}
		data = append(data, h.Payload()...)
	}
	if f.Header.Partial() || !bytes.Equal(data, whole.Payload()) {
		t.Fatalf("pieces make %d bytes of %d", len(data), len(whole.Payload()))
	}
	return got
}

// Options with the "copied" bit are in every piece, the others in the first only.
func TestFragmentOptions(t *testing.T) {
	for _, tt := range []struct {
		name       string
		opts, want []byte
	}{
		{"two of four", []byte{ipv4OptNop, 7, 3, 4, 148, 4, 0, 9, 136, 4, 0, 1}, []byte{148, 4, 0, 9, 136, 4, 0, 1}},
		{"padded", []byte{ipv4OptNop, 136, 5, 1, 2, 3, ipv4OptEnd, 99}, []byte{136, 5, 1, 2, 3, 0, 0, 0}},
		{"none", []byte{7, 7, 4, 0, 0, 0, 0, ipv4OptEnd}, []byte{}},
	} {
		s := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(100), IPOptions: tt.opts}
		f := s.Frame()
		p := mustParse(t, &f)
		got := checkFragments(t, &f, &p, 32+64, tap.NewArena(1<<12))
		if len(got) != 2 {
			t.Fatalf("%s: %d pieces", tt.name, len(got))
		}
		for i, want := range [][]byte{tt.opts, tt.want} {
			if o := header.IPv4(got[i].Bytes()[14:]).Options(); !bytes.Equal(o, want) {
				t.Errorf("%s: options of piece %d: %x, want %x", tt.name, i, []byte(o), want)
			}
		}
	}
}

func TestFragmentRefuses(t *testing.T) {
	big := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(2000)}
	df, six, super := big, big, big
	df.DF = true
	six.Src, six.Dst = client6, vip6
	super.Partial, super.GSOSize = true, 500
	for _, tt := range []struct {
		name               string
		s                  packettest.Spec
		mtu, arena, pieces int
	}{
		{"don't fragment", df, 1500, 1 << 16, 0},
		{"IPv6", six, 1500, 1 << 16, 0},
		{"superpacket", super, 1500, 1 << 16, 0},
		{"no room for 8 bytes", big, 27, 1 << 16, 0},
		{"arena too small", big, 1500, 2048, 1},
	} {
		f := tt.s.Frame()
		p := mustParse(t, &f)
		n := 0
		if FragmentIPv4(&f, &p, tt.mtu, tap.NewArena(tt.arena), func(*tap.Frame) { n++ }) || n != tt.pieces {
			t.Errorf("%s: not refused, or %d pieces instead of %d", tt.name, n, tt.pieces)
		}
	}
}

func TestFragmentRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	a := tap.NewArena(1 << 20)
	n := 0
	for range 5000 {
		s := randomSpec(r)
		f := s.Frame()
		p := mustParse(t, &f)
		a.Reset()
		if len(checkFragments(t, &f, &p, 132+r.IntN(200), a)) > 1 {
			n++
		}
	}
	if n < 100 {
		t.Errorf("only %d packets were cut", n)
	}
}

// The pieces of a partial packet carry its completed checksum.
func TestFragmentCompletes(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(992), Partial: true}
	f := s.Frame()
	p := mustParse(t, &f)
	got := checkFragments(t, &f, &p, 500, tap.NewArena(1<<16))
	s.Partial = false
	want := binary.BigEndian.Uint16(s.Bytes()[p.csum:])
	if c := binary.BigEndian.Uint16(got[0].Bytes()[p.csum:]); c != want {
		t.Errorf("checksum %#x, want %#x", c, want)
	}
}
