package tap

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

func addr(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// TestArenaProperties hands out frames of random sizes, some cut short, until it is full, and looks at every pair of neighbours.
func TestArenaProperties(t *testing.T) {
	for range 200 {
		a := NewArena(1 + rand.IntN(1<<18))
		for range 3 {
			a.Reset()
			frames := fill(t, a)
			for i, f := range frames {
				if addr(f.Bytes())%arenaAlign != 0 {
					t.Fatalf("frame %d is at %#x", i, addr(f.Bytes()))
				}
				if f.off() != Headroom || cap(f.buf) != len(f.buf) {
					t.Fatalf("frame %d: headroom %d, capacity %d of %d", i, f.off(), cap(f.buf), len(f.buf))
				}
				for _, b := range f.buf {
					if b != byte(i) {
						t.Fatalf("frame %d was written over by frame %d", i, b)
					}
				}
			}
		}
	}
}

// fill takes frames until one does not fit and marks all their bytes with their number.
func fill(t *testing.T, a *Arena) (frames []Frame) {
	for {
		n := rand.IntN(3000)
		fits := a.Fits(n)
		f, ok := a.Frame(n)
		if ok != fits {
			t.Fatalf("Fits says %v, Frame %v", fits, ok)
		}
		if !ok {
			return frames
		}
		if f.Len() != n {
			t.Fatalf("%d bytes instead of %d", f.Len(), n)
		}
		switch {
		case n > 0 && rand.IntN(2) == 0:
			a.giveBack(&f, rand.IntN(n))
		case rand.IntN(8) == 0:
			a.drop()
			continue
		}
		for i := range f.buf {
			f.buf[i] = byte(len(frames))
		}
		frames = append(frames, f)
	}
}

func TestArenaBounds(t *testing.T) {
	a := NewArena(MaxFrameLen + Headroom + 64)
	if _, ok := a.Frame(MaxFrameLen); !ok {
		t.Error("the largest frame does not fit where it should")
	}
	if _, ok := a.Frame(0); ok && a.used > len(a.mem) {
		t.Error("more handed out than there is")
	}
	a.Reset()
	if a.Fits(2 * MaxFrameLen) {
		t.Error("fits what cannot")
	}
	if _, ok := NewArena(0).Frame(0); ok {
		t.Error("a frame out of nothing")
	}
}

// TestArenaBatch: what doc.go says of a batch's size.
func TestArenaBatch(t *testing.T) {
	a := NewArena(arenaSize)
	count := func(n, batch int) (got int) {
		a.Reset()
		for got < batch {
			f, ok := a.Frame(MaxFrameLen + 1)
			if !ok {
				break
			}
			a.giveBack(&f, n)
			got++
		}
		return got
	}
	if n := count(EthernetLen+1500, Batch); n != Batch {
		t.Errorf("%d frames of full MTU", n)
	}
	if n := count(EthernetLen+9000, Batch); n != Batch {
		t.Errorf("%d jumbo frames", n)
	}
	if n := count(MaxFrameLen, Batch); n != 15 {
		t.Errorf("%d superpackets", n)
	}
}

func TestArenaAllocs(t *testing.T) {
	a := NewArena(arenaSize)
	if n := testing.AllocsPerRun(100, func() {
		a.Reset()
		f, _ := a.Frame(1500)
		a.giveBack(&f, 60)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
