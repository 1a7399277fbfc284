package tap

import "unsafe"

// Arena
//
// An arena is one block of memory that frames are cut from in the order they come, and that is taken back as a whole:
//
//	| headroom | frame | pad | headroom | frame | pad | ...        free |
//	^ 64                     ^ 64                       ^ used
//
// Small frames lie close together, so a batch of 64 stays within the first two cache levels; a buffer of 64 KiB for each would
// spread them over megabytes and, all starting at the same offset of a page, let them evict each other from a handful of cache sets.
// Every frame starts on a cache line of its own (Headroom is a multiple of it). A frame's capacity ends where it ends, so that an
// append to it can never write over its neighbour.
//
// An Arena is for one goroutine.

// arenaAlign is the bytes of a cache line.
const arenaAlign = 64

// Arena hands out frames from one block of memory and takes them all back at once.
// The zero value is of no use: see NewArena.
type Arena struct {
	mem  []byte // its first byte is aligned, its length a multiple of arenaAlign
	used int    // bytes handed out, a multiple of arenaAlign
	last int    // where the frame handed out last begins, headroom included
}

// NewArena returns an arena of at least size bytes; one largest frame needs MaxFrameLen + Headroom + 64.
func NewArena(size int) *Arena {
	size = alignUp(size)
	mem := make([]byte, size+arenaAlign)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & (arenaAlign - 1)
	return &Arena{mem: mem[skip : skip+size : skip+size]}
}

// Reset takes all frames back: those handed out before are no longer valid.
func (a *Arena) Reset() { a.used = 0 }

// Fits reports whether a frame of n bytes can be had before the next Reset.
func (a *Arena) Fits(n int) bool { return a.used+Headroom+n <= len(a.mem) }

// Frame hands out a frame of n bytes whose contents are undefined; it reports false when the arena is used up.
func (a *Arena) Frame(n int) (Frame, bool) {
	if !a.Fits(n) {
		return Frame{}, false
	}
	a.last = a.used
	end := a.used + Headroom + n
	a.used = alignUp(end)
	buf := a.mem[a.last:end:end]
	return Frame{buf: buf, b: buf[Headroom:]}, true
}

// giveBack cuts f, the frame handed out last, to n bytes and takes the rest back: a read is offered room for the largest
// frame and keeps only what came.
func (a *Arena) giveBack(f *Frame, n int) {
	end := Headroom + n
	f.buf = f.buf[:end:end]
	f.b = f.buf[Headroom:]
	a.used = a.last + alignUp(end)
}

// drop takes the frame handed out last back as a whole.
func (a *Arena) drop() { a.used = a.last }

func alignUp(n int) int { return (n + arenaAlign - 1) &^ (arenaAlign - 1) }
