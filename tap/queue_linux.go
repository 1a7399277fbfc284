package tap

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// One queue of a TAP, the innermost loop of the whole program.
//
//	Read    read, read, ... until EAGAIN, the batch or the arena is full | nothing there: ppoll on the queue and the eventfd, once more
//	Write   write, write, ...
//
// Frames that come one by one, as in a round trip, need no read that finds nothing, neither before a sleep nor before they go on: when the last
// drain found one frame, the next Read begins with ppoll, and if that slept, it takes one frame. If it did not sleep, more came meanwhile.
//
// The reads and writes are raw system calls: the descriptor never blocks, so the Go scheduler need not hear of them, and
// telling it costs about as much as a small frame's read. ppoll blocks, so the scheduler is told: a garbage collection must not wait for a thread
// that sleeps in the kernel.
//
// The descriptor is read, written, polled and closed by different goroutines. The lock keeps its number alive meanwhile: every
// user shares it, close takes it alone.

// nap is the shortest sleep: a ppoll that finds a frame takes less.
const nap = 5 * time.Microsecond

type tunQueue struct {
	mu sync.RWMutex
	fd int // -1 after close

	dev    *tunDevice
	vnet   bool
	fault  bool // the last read failed: its descriptor is not worth polling
	lone   bool // the last batch that was drained to its end had one frame
	arena  *Arena
	frames [Batch]Frame
	polls  [2]unix.PollFd
	rest   unix.Timespec // what ppoll has yet to wait
	_      [arenaAlign]byte

	counters counters
}

func newTunQueue(t *tunDevice, fd int) *tunQueue {
	return &tunQueue{fd: fd, dev: t, vnet: t.vnet, arena: NewArena(arenaSize)}
}

// Read is for one goroutine, best one that is locked to its thread: a wake-up then costs no change of threads.
func (q *tunQueue) Read(wait time.Duration) ([]Frame, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.fd < 0 {
		return nil, ErrClosed
	}
	if !q.lone || wait <= 0 {
		if n := q.drain(); n > 0 || wait <= 0 {
			return q.frames[:n], nil
		}
	}
	slept, closing := q.await(wait)
	switch {
	case closing:
		return nil, ErrClosed
	case q.lone && slept:
		return q.frames[:q.take(1)], nil
	}
	return q.frames[:q.drain()], nil
}

// drain reads what is waiting.
func (q *tunQueue) drain() int {
	n := q.take(Batch)
	q.lone = n == 1
	return n
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

// await waits for a frame and reports whether it slept, and whether the device is being closed. A queue that is broken is not polled, as it would
// be ready at once and for ever: only the time passes.
func (q *tunQueue) await(wait time.Duration) (slept, closing bool) {
	q.polls[0] = unix.PollFd{Fd: int32(q.fd), Events: unix.POLLIN}
	q.polls[1] = unix.PollFd{Fd: int32(q.dev.stop), Events: unix.POLLIN}
	if q.fault {
		q.polls[0].Fd = -1
		wait = min(wait, faultPause)
	}
	q.rest = unix.NsecToTimespec(int64(wait))
	q.poll()
	if q.polls[0].Revents != 0 && q.polls[0].Revents&unix.POLLIN == 0 { // an error the next read may not tell: POLLERR of a device on its way out
		q.dev.watcher.poke()
		q.polls[0].Fd = -1
		q.rest = unix.NsecToTimespec(int64(min(wait, faultPause)))
		q.poll()
	}
	return int64(wait)-q.rest.Nano() > int64(nap), q.polls[1].Revents != 0
}

// poll waits until a descriptor is ready or the rest of the time has passed. A signal, which the Go runtime sends itself, does not end it: the
// kernel has written back what is left.
func (q *tunQueue) poll() {
	for {
		_, _, errno := unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&q.polls)), uintptr(len(q.polls)),
			uintptr(unsafe.Pointer(&q.rest)), 0, 0, 0)
		if errno != unix.EINTR {
			return
		}
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
