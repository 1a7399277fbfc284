package frag

import (
	"math/rand/v2"
	"testing"
	"time"
)

// The slow twin keeps a byte map of each datagram and every fragment it holds; it has no bounds.
type twin struct {
	life time.Duration
	all  map[Key]*twinDatagram
}

type twinDatagram struct {
	state    state
	deadline time.Duration
	owner    [1 << 16]uint8 // of each byte: 1 + number of the piece that holds it
	pieces   []*Fragment
	held     []int
	total    int
}

// take is what Take, followed by Learn for a first fragment, is expected to say, and the offsets that are released.
func (w *twin) take(f *Fragment, now time.Duration) (Result, []int) {
	d := w.all[f.Key]
	if d != nil && d.deadline <= now {
		d = nil
	}
	if d == nil {
		d = &twinDatagram{deadline: now + w.life}
		w.all[f.Key] = d
	}
	if d.state == killed {
		return Refused, nil
	}
	same := false
	for _, g := range d.pieces {
		same = same || g.Off == f.Off && g.Len == f.Len && g.More == f.More
	}
	if !same && d.contradicts(f) {
		d.state, d.deadline, d.held = killed, now+w.life, nil
		return Refused, nil
	}
	if !same {
		d.enter(f)
	}
	switch {
	case f.Off == 0:
		held := d.held
		d.state, d.deadline, d.held = known, now+w.life, nil
		w.finish(f.Key, d)
		return First, held
	case d.state == known:
		w.finish(f.Key, d)
		return Known, nil
	case same:
		return Refused, nil
	}
	d.held = append(d.held, int(f.Off))
	return Kept, nil
}

func (d *twinDatagram) contradicts(f *Fragment) bool {
	if f.Len == 0 || f.More && f.Len < minPiece || int(f.Head)+f.End() > 65535 || len(d.pieces) == maxPieces {
		return true
	}
	for _, o := range d.owner[f.Off:f.End()] {
		if o != 0 {
			return true
		}
	}
	for _, g := range d.pieces {
		if !g.More && (!f.More || f.End() >= g.End()) || !f.More && g.End() > f.End() {
			return true
		}
	}
	return false
}

func (d *twinDatagram) enter(f *Fragment) {
	d.pieces = append(d.pieces, f)
	for i := range d.owner[f.Off:f.End()] {
		d.owner[int(f.Off)+i] = uint8(len(d.pieces))
	}
	if !f.More {
		d.total = f.End()
	}
}

func (w *twin) finish(k Key, d *twinDatagram) {
	for _, o := range d.owner[:d.total] {
		if o == 0 {
			return
		}
	}
	if d.total > 0 {
		delete(w.all, k)
	}
}

// agree sends a fragment to the table and to its twin.
func agree(t *testing.T, table *Table[int], w *twin, f *Fragment, now time.Duration) {
	want, released := w.take(f, now)
	var fate int
	got := table.Take(f, now, &fate)
	if got != want {
		t.Fatalf("%+v at %v: %v, the twin says %v", f.Piece, now, got, want)
	}
	if got == Known && fate != 7 {
		t.Fatalf("fate %d, want 7", fate)
	}
	if got != First {
		return
	}
	fate = 7
	held := table.Learn(&f.Key, &fate, now)
	if len(held) != len(released) {
		t.Fatalf("%d released, the twin says %v", len(held), released)
	}
	for i := range held {
		if i > 0 && held[i-1].off >= held[i].off {
			t.Fatalf("released out of order: %d before %d", held[i-1].off, held[i].off)
		}
	}
}

// fragmentOf makes a fragment of five bytes: which datagram, where from, how long, is it the last.
func fragmentOf(b []byte) *Fragment {
	k := keyOf(4+2*int(b[0]>>7), uint32(b[0]&3))
	off := int(b[1]) << 8
	if b[4]&2 != 0 {
		off = int(b[1]&15) * 64 // close together
	}
	n := int(b[2])<<1 | int(b[3])<<8>>3
	last := b[4]&1 != 0
	if !last {
		n &^= 7
	}
	return part(k, off, off+min(n, 65535-off), last)
}

// FuzzTable compares the table with its twin on any fragments, and checks that everything is given back in the end.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 0, 32, 0, 2, 0, 1, 32, 0, 3})
	f.Add([]byte{0, 1, 32, 0, 3, 0, 0, 32, 0, 2})
	f.Add([]byte{0, 1, 32, 0, 2, 0, 0, 64, 0, 2, 0, 2, 9, 0, 3, 128, 0, 200, 0, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		table, w := New[int](roomy), &twin{life, map[Key]*twinDatagram{}}
		now := time.Duration(0)
		for ; len(b) >= 5 && now < 500*time.Second; b = b[5:] {
			agree(t, table, w, fragmentOf(b), now)
			now += time.Duration(b[4]>>4) * 100 * time.Millisecond
		}
		table.Expire(now + 2*life)
		(&user{Table: table}).empty(t)
	})
}

// The same at random: many small steps, so that datagrams complete, contradict and expire.
func TestTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		table, w := New[int](roomy), &twin{life, map[Key]*twinDatagram{}}
		now := time.Duration(0)
		for range 300 {
			f := part(keyOf(pick(r, 4, 6), uint32(r.IntN(3))), 0, 64, false)
			at := r.IntN(6)
			f.Off, f.Len, f.More = uint16(64*at), 64, at < 5
			if r.IntN(20) == 0 {
				f.Len, f.More = uint16(8*r.IntN(20)), r.IntN(2) == 0
			}
			agree(t, table, w, f, now)
			now += time.Duration(r.IntN(200)) * time.Millisecond
		}
	}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
