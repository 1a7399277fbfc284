package tap

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestHeaderRoundTrip(t *testing.T) {
	tests := []struct {
		name string
		h    Header
		wire string
	}{
		{"ordinary", Header{}, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"partial TCP over IPv4", Header{Flags: 1, CsumStart: 34, CsumOffset: 16}, "\x01\x00\x00\x00\x00\x00\x22\x00\x10\x00"},
		{"super TCP over IPv6", Header{1, 4, 74, 1428, 54, 16}, "\x01\x04\x4a\x00\x94\x05\x36\x00\x10\x00"},
		{"with CWR", Header{1, 0x81, 54, 1448, 34, 16}, "\x01\x81\x36\x00\xa8\x05\x22\x00\x10\x00"},
		{"super UDP", Header{1, 5, 42, 1000, 34, 6}, "\x01\x05\x2a\x00\xe8\x03\x22\x00\x06\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := make([]byte, HeaderLen)
			tt.h.encode(b)
			if string(b) != tt.wire {
				t.Errorf("encoded % x, want % x", b, tt.wire)
			}
			if got := decodeHeader(b); got != tt.h {
				t.Errorf("decoded %+v, want %+v", got, tt.h)
			}
		})
	}
	for range 1000 {
		h := randomHeader()
		var b [HeaderLen]byte
		if h.encode(b[:]); decodeHeader(b[:]) != h {
			t.Fatalf("%+v does not survive", h)
		}
	}
}

func randomHeader() Header {
	return Header{uint8(rand.Uint32()), uint8(rand.Uint32()), uint16(rand.Uint32()), uint16(rand.Uint32()), uint16(rand.Uint32()), uint16(rand.Uint32())}
}

func TestRefusal(t *testing.T) {
	tests := []struct {
		name string
		h    Header
		n    int
		ok   bool
	}{
		{"ordinary", Header{}, 60, true},
		{"runt", Header{}, 13, false},
		{"smallest", Header{}, 14, true},
		{"checksum at the very end", Header{Flags: 1, CsumStart: 42, CsumOffset: 16}, 60, true},
		{"checksum beyond", Header{Flags: 1, CsumStart: 43, CsumOffset: 16}, 60, false},
		{"checksum far beyond", Header{Flags: 1, CsumStart: 65535, CsumOffset: 65535}, 60, false},
		{"checksum offsets without the flag", Header{CsumStart: 65535, CsumOffset: 65535}, 60, true},
		{"headers as long as the frame", Header{HdrLen: 60}, 60, true},
		{"headers longer than the frame", Header{HdrLen: 61}, 60, false},
		{"super", Header{1, GSOTCPv4, 54, 1448, 34, 16}, 9000, true},
		{"super with CWR", Header{1, GSOTCPv6 | GSOECN, 74, 1428, 54, 16}, 9000, true},
		{"super without size", Header{1, GSOTCPv4, 54, 0, 34, 16}, 9000, false},
		{"unknown type", Header{1, 9, 54, 1448, 34, 16}, 9000, false},
	}
	for _, tt := range tests {
		if reason := tt.h.refusal(tt.n); (reason == "") != tt.ok {
			t.Errorf("%s: %q", tt.name, reason)
		}
	}
}

func TestCarries(t *testing.T) {
	all := Offload{Csum: true, TSO4: true, TSO6: true, USO: true}
	tests := []struct {
		name string
		h    Header
		o    Offload // that is just enough
	}{
		{"ordinary", Header{}, Offload{}},
		{"vouched for", Header{Flags: FlagDataValid}, Offload{}},
		{"partial", Header{Flags: FlagNeedsCsum}, Offload{Csum: true}},
		{"TCP over IPv4", Header{Flags: FlagNeedsCsum, GSOType: GSOTCPv4}, Offload{TSO4: true}},
		{"TCP over IPv4 with CWR", Header{Flags: FlagNeedsCsum, GSOType: GSOTCPv4 | GSOECN}, Offload{TSO4: true}},
		{"TCP over IPv6", Header{Flags: FlagNeedsCsum, GSOType: GSOTCPv6}, Offload{TSO6: true}},
		{"UDP", Header{Flags: FlagNeedsCsum, GSOType: GSOUDPL4}, Offload{USO: true}},
	}
	for _, tt := range tests {
		if !all.Carries(tt.h) || !tt.o.Carries(tt.h) {
			t.Errorf("%s: not carried", tt.name)
		}
		if (Offload{}).Carries(tt.h) != (tt.o == Offload{}) {
			t.Errorf("%s: carried without offload", tt.name)
		}
	}
	if all.Carries(Header{GSOType: GSOUDP}) {
		t.Error("UFO is carried")
	}
}

func TestFrame(t *testing.T) {
	b := []byte("twelve bytes")
	f := NewFrame(Header{HdrLen: 7}, b)
	if !bytes.Equal(f.Bytes(), b) || f.Len() != 12 {
		t.Fatalf("%q", f.Bytes())
	}
	if &f.Bytes()[0] == &b[0] {
		t.Error("not a copy")
	}
	c := f.Clone()
	f.Trim(6)
	if string(f.Bytes()) != "twelve" || string(c.Bytes()) != "twelve bytes" || c.Header.HdrLen != 7 {
		t.Errorf("%q, its clone %q", f.Bytes(), c.Bytes())
	}
	if !f.Prepend(4) || f.Len() != 10 || string(f.Bytes()[4:]) != "twelve" {
		t.Errorf("%q", f.Bytes())
	}
	if !f.Prepend(-6) || string(f.Bytes()) != "elve" {
		t.Errorf("%q", f.Bytes())
	}
	for _, n := range []int{-5, Headroom, Headroom - HeaderLen + 3} {
		if f.Prepend(n) {
			t.Errorf("Prepend(%d) of %q with %d bytes before it", n, f.Bytes(), f.off())
		}
	}
	if !f.Prepend(Headroom - HeaderLen + 2) {
		t.Error("the room before the header cannot be had")
	}
	if w := f.wire(); len(w) != f.Len()+HeaderLen || decodeHeader(w) != f.Header {
		t.Errorf("% x", w)
	}
}
