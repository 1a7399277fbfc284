package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"tapdirector/stack/packettest"
)

// A payload that is replaced by a longer, shorter or empty one leaves a packet that is right in every length and checksum, whole and unfinished.
func TestReplacePayload(t *testing.T) {
	for _, fam := range families {
		for _, partial := range []bool{false, true} {
			for _, options := range [][]byte{nil, {1, 1, 1, 1}} {
				for _, n := range []int{0, 1, 9, 10, 11, 40} {
					s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK | URG, TCPOptions: options, Partial: partial, Seq: 77, Payload: []byte("0123456789")}
					f := s.Frame()
					p := mustParse(t, &f)
					payload := bytes.Repeat([]byte{'x', 0xff, 7}, 20)[:n]
					if !ReplacePayload(&f, &p, payload) {
						t.Fatalf("%s, %d bytes: refused", fam.name, n)
					}
					p.SetNumbers(f.Bytes(), partial, 0xfffffff0, 99)
					p.ClearFlags(f.Bytes(), partial, URG)
					q := mustParse(t, &f)
					if seq, ack := q.Numbers(f.Bytes()); !bytes.Equal(q.Payload(f.Bytes()), payload) || q != p || !ChecksumOK(&f, &q) || seq != 0xfffffff0 || ack != 99 || q.TCPFlags != ACK {
						t.Errorf("%s, partial %v, %d bytes: %+v, was %+v; checksum right %v", fam.name, partial, n, q, p, ChecksumOK(&f, &q))
					}
					if CompleteChecksum(&f, &q); !ChecksumOK(&f, &q) {
						t.Errorf("%s, partial %v, %d bytes: wrong when completed", fam.name, partial, n)
					}
				}
			}
		}
	}
}

// A packet too long for its header, or its frame's headroom, stays as it is.
func TestReplacePayloadRefuses(t *testing.T) {
	for _, n := range []int{1000, 65535} {
		f := packettest.Spec{Src: families[0].client, Dst: families[0].vip, Flags: ACK, Payload: []byte("0123456789")}.Frame()
		p := mustParse(t, &f)
		before := bytes.Clone(f.Bytes())
		if ReplacePayload(&f, &p, make([]byte, n)) || !bytes.Equal(before, f.Bytes()) {
			t.Errorf("%d bytes: taken, or changed", n)
		}
	}
}

// Edges of SACK blocks are read and written at even and odd places, and a wrong checksum stays wrong.
func TestSACKs(t *testing.T) {
	for _, fam := range families {
		for blocks := range 4 {
			for _, odd := range []bool{false, true} {
				t.Run(fmt.Sprint(fam.name, blocks, odd), func(t *testing.T) {
					o := []byte{1, 1}
					if odd {
						o = []byte{1}
					}
					o = append(o, 5, byte(2+8*blocks))
					for i := range uint32(2 * blocks) {
						o = binary.BigEndian.AppendUint32(o, 1000*i)
					}
					o = append(o, make([]byte, (4-len(o)%4)%4)...)
					f := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK, TCPOptions: o}.Frame()
					p := mustParse(t, &f)
					var edges, again [MaxSACKs]uint32
					n, at := p.SACKs(f.Bytes(), &edges)
					if n != 2*blocks {
						t.Fatalf("%d edges, want %d", n, 2*blocks)
					}
					for i := range n {
						edges[i] += 0xfedcba98
					}
					p.SetSACKs(f.Bytes(), false, at, edges[:n])
					if m, _ := p.SACKs(f.Bytes(), &again); m != n || again != edges || !ChecksumOK(&f, &p) {
						t.Errorf("%v, want %v; checksum right %v", again, edges, ChecksumOK(&f, &p))
					}
				})
			}
		}
	}
}
