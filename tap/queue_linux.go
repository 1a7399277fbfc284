package tap

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// One queue of a TAP, the innermost loop of the whole program.
//
//	take    read, read, ... until EAGAIN, the limit, or the arena is full; who waits before it: poller_linux.go
//	Write   write, write, ...
//
// The reads and writes are raw system calls: the descriptor never blocks, so the Go scheduler need not hear of them, and
// telling it costs about as much as a small frame's read.
//
// The descriptor is read, written, polled and closed by different goroutines. The lock keeps its number alive meanwhile: every
// user shares it, close takes it alone.

type tunQueue struct {
	mu sync.RWMutex
	fd int // -1 after close

	dev    *tunDevice
	vnet   bool
	fault  bool // the last read failed: its descriptor is not worth polling
	arena  *Arena
	frames [Batch]Frame
	alone  *poller // of this queue only, for Read
	_      [arenaAlign]byte

	counters counters
}

func newTunQueue(t *tunDevice, fd int) *tunQueue {
	q := &tunQueue{fd: fd, dev: t, vnet: t.vnet, arena: NewArena(arenaSize)}
	q.alone = newPoller([]*tunQueue{q})
	return q
}

func (q *tunQueue) Read(wait time.Duration) ([]Frame, error) {
	_, frames, err := q.alone.Read(wait)
	return frames, err
}

// take reads at most limit frames into the arena, taken back as a whole before.
func (q *tunQueue) take(limit int) int {
	var t rxTally
	q.arena.Reset()
	q.fault = false
	n := 0
	for n < limit {
		f, ok := q.arena.Frame(MaxFrameLen + 1) // a frame that fills it all may have been cut
		if !ok {
			break
		}
		got, errno := q.readFrame(&f)
		if errno != 0 || got == 0 {
			q.arena.drop()
			q.failed(errno, &t)
			break
		}
		if !q.accept(&f, got) {
			q.arena.drop()
			t.truncated++
			continue
		}
		q.frames[n] = f
		n++
		t.bytes += uint64(f.Len())
	}
	t.frames = uint64(n)
	q.counters.addRx(&t)
	return n
}

// readFrame reads one frame so that it lies behind the headroom, and its virtio header at the headroom's end.
func (q *tunQueue) readFrame(f *Frame) (int, unix.Errno) {
	b := f.buf[Headroom:]
	if q.vnet {
		b = f.buf[Headroom-HeaderLen:]
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(q.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

// accept cuts the frame to the n bytes that came. It reports false for one that is too short, or that was too long.
func (q *tunQueue) accept(f *Frame, n int) bool {
	if q.vnet {
		f.Header = decodeHeader(f.buf[Headroom-HeaderLen:])
		n -= HeaderLen
	}
	if n < EthernetLen || n > MaxFrameLen {
		return false
	}
	q.arena.giveBack(f, n)
	return true
}

// failed tells an empty queue from a broken one.
func (q *tunQueue) failed(errno unix.Errno, t *rxTally) {
	if errno == unix.EAGAIN {
		return
	}
	q.fault = true
	if !q.dev.health.gone.Load() {
		t.errors++
		q.dev.watcher.poke()
	}
}

// Write may be called by several goroutines: the kernel takes each frame as a whole.
func (q *tunQueue) Write(frames []*Frame) int {
	var t txTally
	q.mu.RLock()
	for _, f := range frames {
		q.writeFrame(f, &t)
	}
	q.mu.RUnlock()
	q.counters.addTx(&t)
	return int(t.frames)
}

func (q *tunQueue) writeFrame(f *Frame, t *txTally) {
	b := f.Bytes()
	if q.vnet {
		b = f.wire()
	}
	if f.Len() < EthernetLen || !q.vnet && f.Header.unfinished() {
		t.invalid++
		return
	}
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(q.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		q.refused(f, errno, t)
		return
	}
	t.frames++
	t.bytes += uint64(f.Len())
}

// refused counts a frame that the kernel did not take by its cause.
func (q *tunQueue) refused(f *Frame, errno unix.Errno, t *txTally) {
	switch errno {
	case unix.EIO, unix.EBADFD, unix.EBADF, unix.ENOLINK, unix.ENETDOWN, unix.ENODEV:
		t.down++
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		t.full++
	default:
		t.invalid++
		q.dev.invalid.Do(func() { q.dev.reportInvalid(f, errno) })
	}
}

// reportInvalid logs the first frame the kernel refused: it is a bug of ours, and all we will learn of it.
func (t *tunDevice) reportInvalid(f *Frame, errno unix.Errno) {
	t.log.Warn("tap refused a frame; further ones are only counted", "tap", t.name, "error", errno.Error(),
		"reason", f.Header.refusal(f.Len()), "header", f.Header, "len", f.Len())
}

// close waits until nobody uses the descriptor.
func (q *tunQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	unix.Close(q.fd)
	q.fd = -1
}
