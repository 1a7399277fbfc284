package stack

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// ext6 builds IPv6 extension headers: the protocols in order, the last names what follows; the fragment header has this word and identification.
func ext6(word uint16, id uint32, protos ...uint8) (b []byte) {
	for i, proto := range protos[:len(protos)-1] {
		h := make([]byte, 8)
		switch proto {
		case extFragment:
			binary.BigEndian.PutUint16(h[2:], word)
			binary.BigEndian.PutUint32(h[4:], id)
		case extAuth:
			h = make([]byte, 16)
			h[1] = 2
		case extDest, extHopByHop:
			h = make([]byte, 24)
			h[1] = 2
			h[2], h[3] = 1, 20 // PadN
		}
		h[0] = protos[i+1]
		b = append(b, h...)
	}
	return b
}

func TestPieceIPv4(t *testing.T) {
	for _, c := range []struct {
		name string
		spec packettest.Spec
		want Piece
	}{
		{"first", packettest.Spec{ID: 7, MF: true, Payload: make([]byte, 1464)}, Piece{ID: 7, Head: 20, Len: 1472, Proto: ProtoUDP, More: true}},
		{"middle", packettest.Spec{ID: 0xffff, MF: true, FragOffset: 1480, Payload: make([]byte, 1480)},
			Piece{ID: 0xffff, Head: 20, Off: 1480, Len: 1480, Proto: ProtoUDP, More: true}},
		{"last, with options", packettest.Spec{ID: 1, FragOffset: 65400, IPOptions: []byte{1, 1, 1, 1}, Payload: make([]byte, 9)},
			Piece{ID: 1, Head: 24, Off: 65400, Len: 9, Proto: ProtoUDP}},
	} {
		c.spec.Src, c.spec.Dst, c.spec.Proto = client4, vip4, ProtoUDP
		f := c.spec.Frame()
		p := mustParse(t, &f)
		if got := p.Piece(f.Bytes()); !p.Fragment || got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestPieceIPv6(t *testing.T) {
	for _, c := range []struct {
		name  string
		chain []uint8
		word  uint16
		want  Piece
	}{
		{"first", []uint8{extFragment, ProtoUDP}, 1, Piece{ID: 9, Len: 8 + 16, Proto: ProtoUDP, More: true}},
		{"later", []uint8{extFragment, ProtoUDP}, 1232 | 1, Piece{ID: 9, Off: 1232, Len: 8 + 16, Proto: ProtoUDP, More: true}},
		{"last", []uint8{extFragment, ProtoUDP}, 1232, Piece{ID: 9, Off: 1232, Len: 8 + 16, Proto: ProtoUDP}},
		{"headers before", []uint8{extHopByHop, extAuth, extFragment, ProtoUDP}, 80 | 1, Piece{ID: 9, Head: 24 + 16, Off: 80, Len: 8 + 16, Proto: ProtoUDP, More: true}},
		{"headers behind", []uint8{extFragment, extDest, ProtoUDP}, 1, Piece{ID: 9, Len: 24 + 8 + 16, Proto: extDest, More: true}},
	} {
		s := packettest.Spec{Src: client6, Dst: vip6, Proto: ProtoUDP, Payload: make([]byte, 16), Ext: ext6(c.word, 9, c.chain...), ExtFirst: c.chain[0]}
		f := s.Frame()
		p := mustParse(t, &f)
		if got := p.Piece(f.Bytes()); !p.Fragment || got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// Whatever Parse takes for a fragment has a piece, and it lies within the packet.
func TestPieceOfAnythingThatParses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []uint8{extHopByHop, extRouting, extFragment, extAuth, extDest, ProtoUDP, ProtoTCP, ProtoICMPv6}
	for range 20000 {
		chain := []uint8{kinds[r.IntN(5)]}
		for len(chain) < 1+r.IntN(5) {
			chain = append(chain, kinds[r.IntN(len(kinds))])
		}
		chain = append(chain, ProtoUDP)
		s := packettest.Spec{Src: client6, Dst: vip6, Proto: ProtoUDP, Payload: make([]byte, 8*r.IntN(8)), ExtFirst: chain[0],
			Ext: ext6(uint16(r.Uint32()), r.Uint32(), chain...)}
		checkPiece(t, s.Frame())
		s = packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: make([]byte, 8*r.IntN(8)), FragOffset: 8 * r.IntN(8192), MF: r.IntN(2) == 0}
		checkPiece(t, s.Frame())
	}
}

func checkPiece(t *testing.T, f tap.Frame) {
	t.Helper()
	var p Packet
	if Parse(&f, &p) != ReasonNone || !p.Fragment {
		return
	}
	q := p.Piece(f.Bytes())
	if uint32(q.Len) > p.L3Len || (q.Off == 0) != p.First || q.More && (q.Len%8 != 0) {
		t.Fatalf("%+v of %x", q, f.Bytes())
	}
}
