package ftp

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// slowNumbers is numbers' slow twin: it writes down for every old byte where it goes.
type slowNumbers struct {
	start uint32
	new   []uint32 // of each old byte: the number of the first new byte that it, or the text it became part of, stands for
	out   []byte
}

// The twin of random edits: each number that is in use translates alike, both ways.
func TestNumbersTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var n numbers
		start := r.Uint32()
		slow := slowNumbers{start: start}
		n.base = r.Uint32N(200) - 100
		base := n.base
		type span struct{ at, end, newAt, newEnd uint32 }
		var spans []span
		at := start
		put := func(b ...byte) {
			for _, c := range b {
				slow.new = append(slow.new, start+base+uint32(len(slow.out)))
				slow.out = append(slow.out, c)
			}
		}
		for range maxEdits {
			for range r.IntN(20) {
				put(byte(r.Uint32()))
				at++
			}
			cut, text := 1+r.Uint32N(10), make([]byte, 1+r.IntN(10))
			for i := range text {
				text[i] = byte(r.Uint32())
			}
			e := n.add(at, at+cut)
			e.n = uint8(copy(e.text[:], text))
			e.held = at + r.Uint32N(cut+1)
			first := start + base + uint32(len(slow.out))
			for range cut {
				slow.new = append(slow.new, first)
			}
			slow.out = append(slow.out, text...)
			spans = append(spans, span{at, at + cut, first, first + uint32(len(text))})
			at += cut
		}
		put(1, 2, 3)
		slow.new = append(slow.new, start+base+uint32(len(slow.out)))
		back := map[uint32]uint32{} // of numbers in front of a whole old byte
		for i, to := range slow.new {
			if got := n.sent(start + uint32(i)); got != to {
				t.Fatalf("byte %d goes to %d, want %d: %+v", i, got-start, to-start, spans)
			}
			back[to] = start + uint32(i)
		}
		for new := start + base; new != start+base+uint32(len(slow.out))+1; new++ {
			ack, left, right := back[new], back[new], back[new]
			for i, s := range spans {
				if new-s.newAt < s.newEnd-s.newAt { // in the text
					ack, right = n.edits[i].held, s.at
					if left = s.end; new == s.newAt {
						left = s.at
					}
				}
				if new == s.newEnd {
					ack, left, right = s.end, s.end, s.end
				}
			}
			for i, s := range spans { // an edit right behind another
				if new == s.newAt {
					ack, left, right = n.edits[i].held, s.at, s.at
					if i > 0 && spans[i-1].end == s.at {
						left, right = s.at, s.at
					}
				}
			}
			if got := n.acked(new); got != ack {
				t.Fatalf("%d acknowledges %d, want %d: %+v", new-start, got-start, ack-start, spans)
			}
			if l, r := n.edge(new, true), n.edge(new, false); l != left || r != right {
				t.Fatalf("a block from %d begins at %d, want %d; one to it ends at %d, want %d: %+v", new-start, l-start, left-start, r-start, right-start, spans)
			}
		}
	}
}

// Pieces of a stream with edits, cut anywhere, make the same new bytes.
func TestRewriteInPieces(t *testing.T) {
	old := []byte("0123456789abcdefghij")
	var n numbers
	for _, e := range []struct {
		at, end uint32
		text    string
	}{{3, 5, "XYZ"}, {5, 9, "-"}, {15, 16, "====="}} {
		x := n.add(e.at, e.end)
		x.n = uint8(copy(x.text[:], e.text))
	}
	want := []byte("012XYZ-9abcde=====ghij")
	for from := range len(old) {
		for to := from + 1; to <= len(old); to++ {
			a, b := n.sent(uint32(from)), n.sent(uint32(to))
			for i := range n.count {
				if e := &n.edits[i]; before(e.at, uint32(to)) && before(uint32(to), e.end) {
					b += uint32(e.n) // all of a text of which the piece has some
				}
			}
			got := n.rewrite(nil, uint32(from), old[from:to])
			if !bytes.Equal(got, want[a:b]) {
				t.Errorf("%d to %d is %q, want %q", from, to, got, want[a:b])
			}
			if n.clean(uint32(from), uint32(to)) && !bytes.Equal(got, old[from:to]) {
				t.Errorf("%d to %d is clean, but becomes %q", from, to, got)
			}
		}
	}
}

// There is room for an edit when the receiver has the first whole, and what is numbered from then on stays as it was.
func TestEditsAreForgotten(t *testing.T) {
	var n numbers
	for i := range uint32(maxEdits) {
		e := n.add(100*i, 100*i+10)
		e.n = 12
	}
	before := n.sent(1000)
	for _, ack := range []uint32{0, 11} {
		n.hear(ack, 0)
		if n.add(900, 910) != nil {
			t.Fatalf("room, though only %d is acknowledged", ack)
		}
	}
	n.hear(12, 0)
	e := n.add(900, 910)
	if e == nil {
		t.Fatal("no room")
	}
	e.n = 10
	if n.sent(1000) != before || n.acked(before) != 1000 || n.sent(105) != 102+0 {
		t.Errorf("1000 is %d, was %d; 105 is %d", n.sent(1000), before, n.sent(105))
	}
}
