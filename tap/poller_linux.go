package tap

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Waiting for the queues of one goroutine, and reading them in turn.
//
//	Read    a queue that is ready: read, read, ... until EAGAIN, the batch or the arena is full
//	        none is ready: ppoll on all of them, then also on the eventfds of their devices, once more
//
// A queue that had several frames is likely to have more, and the others too: after it all count as ready. So a busy goroutine makes no ppoll, none of its
// queues waits for another one to be empty, and what it costs is a read that finds nothing for each batch.
//
// Frames that come one by one, as in a round trip, need no read that finds nothing, neither before a sleep nor before they go on: a queue in which one
// frame was found is not ready until ppoll says so, and if that slept, one frame is taken. If it did not sleep, more came meanwhile.
//
// Of a ppoll that may sleep for long the Go scheduler is told, so that a garbage collection does not wait for it. But what the scheduler does about each of them costs a tenth
// of the way of a frame that comes alone. So the first ppoll of a wait is short, and the scheduler does not hear of it: who waits for this goroutine
// meanwhile, a collection for one, sends its thread a signal, as it does to one that computes. The eventfds cost as much to poll as the queues; they are left
// to the ppoll after that.

// nap is the shortest sleep: a ppoll that finds a frame takes less.
const nap = 5 * time.Microsecond

// dozing is how long a wait is for queues only: less than what the runtime lets a goroutine compute before it sends a signal (10 ms), and long enough to be no timer that is
// set anew for each frame: the CPU's timer is set for the first that will end, and the clock's tick of 4 ms comes before.
const dozing = 8 * time.Millisecond

// poller reads queues for one goroutine.
type poller struct {
	queues []*tunQueue
	polls  []unix.PollFd // of the queues, then of their devices' ends
	rest   unix.Timespec // what ppoll has yet to wait
	ready  uint64        // queues that may have frames, a bit for each
	last   int           // the queue that was read last
	lone   bool          // the batch that was last drained to its end had one frame
	slept  bool          // the last wait did
	doze   time.Duration // dozing
}

// maxTogether is how many queues a poller has bits for.
const maxTogether = 64

func newPoller(queues []*tunQueue) *poller {
	p := &poller{queues: queues, polls: make([]unix.PollFd, 2*len(queues)), doze: dozing}
	p.ready = p.all()
	return p
}

// together returns a poller where each queue is one of the linux driver, and there is a bit for each.
func together(queues []Queue) Reader {
	if len(queues) > maxTogether {
		return nil
	}
	own := make([]*tunQueue, len(queues))
	for i, q := range queues {
		t, ok := q.(*tunQueue)
		if !ok {
			return nil
		}
		own[i] = t
	}
	return newPoller(own)
}

func (p *poller) all() uint64 { return 1<<len(p.queues) - 1 }

// Read is for one goroutine, best one that is locked to its thread: a wake-up then costs no change of threads.
func (p *poller) Read(wait time.Duration) (which int, frames []Frame, err error) {
	open := p.lock()
	defer p.unlock()
	if !open {
		return 0, nil, ErrClosed
	}
	if wait <= 0 {
		p.ready, p.slept = p.all(), false
	}
	n := p.take()
	if n == 0 && wait > 0 {
		if p.await(wait) {
			return 0, nil, ErrClosed
		}
		n = p.take()
	}
	return p.last, p.queues[p.last].frames[:n], nil
}

// lock keeps the queues' descriptors alive until unlock; false when one is closed already.
func (p *poller) lock() bool {
	open := true
	for _, q := range p.queues {
		q.mu.RLock()
		open = open && q.fd >= 0
	}
	return open
}

func (p *poller) unlock() {
	for _, q := range p.queues {
		q.mu.RUnlock()
	}
}

// take reads the queues that are ready, in turn, until one has frames: it is p.last then.
func (p *poller) take() (n int) {
	for n == 0 && p.ready != 0 {
		if p.last++; p.last >= len(p.queues) {
			p.last = 0
		}
		if bit := uint64(1) << p.last; p.ready&bit != 0 {
			p.ready &^= bit
			n = p.read(p.queues[p.last])
		}
	}
	return n
}

// read reads what is waiting in a queue.
func (p *poller) read(q *tunQueue) int {
	if p.lone && p.slept {
		return q.take(1)
	}
	n := q.take(Batch)
	if n > 1 {
		p.ready = p.all()
	}
	p.lone = n == 1
	return n
}

// await waits for a frame and reports whether a device is being closed.
func (p *poller) await(wait time.Duration) (closing bool) {
	for i, q := range p.queues {
		p.polls[i] = unix.PollFd{Fd: int32(q.fd), Events: unix.POLLIN}
		if q.fault { // not polled, as it would be ready at once and for ever: only the time passes
			p.polls[i].Fd = -1
			wait = min(wait, faultPause)
		}
	}
	found, waited := p.watch(min(wait, p.doze))
	if !found && waited < wait {
		waited += p.sleep(wait - waited)
		closing = p.closing()
	}
	p.slept = waited > nap
	for i, q := range p.queues {
		if r := p.polls[i].Revents; r&unix.POLLIN != 0 || q.fault {
			p.ready |= 1 << i
		} else if r != 0 { // an error the next read may not tell: POLLERR of a device on its way out
			q.fault = true
			q.dev.watcher.poke()
		}
	}
	return closing
}

// watch waits for the queues. A signal, which the Go runtime sends when it waits for this goroutine, does not end it: the kernel has written back what is left.
func (p *poller) watch(wait time.Duration) (found bool, waited time.Duration) {
	p.rest = unix.NsecToTimespec(int64(wait))
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(p.polls))), uintptr(len(p.queues)),
			uintptr(unsafe.Pointer(&p.rest)), 0, 0, 0)
		if errno != unix.EINTR {
			return errno == 0 && n > 0, wait - time.Duration(p.rest.Nano())
		}
		runtime.Gosched()
	}
}

// sleep waits for the queues and for the ends of their devices, and returns how long.
func (p *poller) sleep(wait time.Duration) (waited time.Duration) {
	for i, q := range p.queues {
		p.polls[len(p.queues)+i] = unix.PollFd{Fd: int32(q.dev.stop), Events: unix.POLLIN}
	}
	p.rest = unix.NsecToTimespec(int64(wait))
	for {
		_, _, errno := unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(p.polls))), uintptr(len(p.polls)),
			uintptr(unsafe.Pointer(&p.rest)), 0, 0, 0)
		if errno != unix.EINTR {
			return wait - time.Duration(p.rest.Nano())
		}
	}
}

// closing reports whether sleep found the end of a device.
func (p *poller) closing() bool {
	for _, end := range p.polls[len(p.queues):] {
		if end.Revents != 0 {
			return true
		}
	}
	return false
}
