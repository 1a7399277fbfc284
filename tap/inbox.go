package tap

import (
	"sync"
	"time"
)

// Inbox
//
// An inbox is a bounded queue of frames in memory: many goroutines put, one takes. It is the inner half of every queue that has
// no file descriptor to read when it wants: the fake's, and water's, whose device only has a blocking Read.
//
//	put copies the frame into a ring of bytes ........ take copies a batch out of it into its arena
//
// Two copies are the price of the same ownership rule as the real queue's: what take returns is borrowed until the next take, and
// what was put belongs to its owner again at once. The ring starts over whenever it runs empty, so that a short queue stays in
// the cache. Nothing is allocated after newInbox.

const (
	inboxBytes  = 4 << 20 // 64 superpackets
	inboxFrames = 1024    // near the 1,000 of a TAP's txqueuelen
	arenaSize   = 1 << 20 // of one queue's arena: 15 superpackets, or a batch of anything smaller
)

// record is where one frame lies in the ring.
type record struct {
	header   Header
	start, n int
}

type inbox struct {
	ready chan struct{} // holds a token when there may be something to take
	space chan struct{} // holds a token when something was taken

	mu      sync.Mutex
	mem     []byte
	records []record
	head    int // the oldest record
	count   int // how many records there are
	free    int // where the next frame's bytes go, if they fit
	closed  bool

	// Only take uses these.
	arena  *Arena
	frames [Batch]Frame
	timer  *time.Timer
}

func newInbox() *inbox {
	in := &inbox{
		ready:   make(chan struct{}, 1),
		space:   make(chan struct{}, 1),
		mem:     make([]byte, inboxBytes),
		records: make([]record, inboxFrames),
		arena:   NewArena(arenaSize),
		timer:   time.NewTimer(time.Hour),
	}
	in.timer.Stop()
	return in
}

// put copies the frame b in; it reports false when there is no room, after close, and for an empty frame.
func (in *inbox) put(h Header, b []byte) bool {
	in.mu.Lock()
	start, ok := in.place(len(b))
	if !ok || in.closed || len(b) == 0 {
		in.mu.Unlock()
		return false
	}
	copy(in.mem[start:], b)
	in.records[(in.head+in.count)%inboxFrames] = record{h, start, len(b)}
	in.free = start + len(b)
	in.count++
	first := in.count == 1
	in.mu.Unlock()
	if first {
		signal(in.ready)
	}
	return true
}

// place finds n bytes in a row: behind the newest frame, or at the start when the end of the ring is too short.
func (in *inbox) place(n int) (int, bool) {
	if in.count == 0 {
		return 0, n <= len(in.mem)
	}
	oldest := in.records[in.head].start
	switch {
	case in.count == inboxFrames:
		return 0, false
	case in.free <= oldest: // wrapped: the gap between newest and oldest is all there is
		return in.free, n <= oldest-in.free
	case n <= len(in.mem)-in.free:
		return in.free, true
	}
	return 0, n <= oldest
}

// take is Queue.Read.
func (in *inbox) take(wait time.Duration, t *rxTally) ([]Frame, error) {
	in.arena.Reset()
	for {
		n, err := in.drain(t)
		if n > 0 || err != nil || wait <= 0 {
			return in.frames[:n], err
		}
		in.timer.Reset(wait)
		select {
		case <-in.ready:
			in.timer.Stop()
		case <-in.timer.C:
			return nil, nil
		}
	}
}

// drain moves what is there into the arena, at most a batch.
func (in *inbox) drain(t *rxTally) (n int, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return 0, ErrClosed
	}
	for n < Batch && in.count > 0 {
		r := &in.records[in.head]
		f, ok := in.arena.Frame(r.n)
		if !ok {
			break
		}
		f.Header = r.header
		copy(f.Bytes(), in.mem[r.start:r.start+r.n])
		in.frames[n] = f
		n++
		t.bytes += uint64(r.n)
		in.head = (in.head + 1) % inboxFrames
		in.count--
	}
	t.frames += uint64(n)
	if n > 0 {
		signal(in.space)
	}
	return n, nil
}

// close makes take return ErrClosed from now on, also the one that waits.
func (in *inbox) close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	signal(in.ready)
	signal(in.space)
}

// signal leaves a token unless one is there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
		// Nothing to do: whoever waits is woken by the token that is there.
	}
}
