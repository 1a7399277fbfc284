package tap

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pairReader is a Reader of two queues, with their far ends.
type pairReader struct {
	Reader
	queues [2]*tunQueue
	peers  [2]int
	probe  Frame
}

func newPairReader(t *testing.T) *pairReader {
	r := &pairReader{probe: probeFrame()}
	for i := range r.queues {
		r.queues[i], r.peers[i] = pairQueue(t, true)
	}
	r.Reader = Together([]Queue{r.queues[0], r.queues[1]})
	return r
}

func (r *pairReader) send(queue, n int) {
	for range n {
		unix.Write(r.peers[queue], r.probe.wire())
	}
}

// want reads once, and expects so many frames of a queue.
func (r *pairReader) want(t *testing.T, wait time.Duration, queue, n int) {
	t.Helper()
	which, frames, err := r.Read(wait)
	if err != nil || len(frames) != n || n > 0 && which != queue {
		t.Errorf("%d frames of queue %d, %v, want %d of %d", len(frames), which, err, n, queue)
	}
}

// The Go scheduler does not hear of the first part of a wait; a collection of garbage ends without waiting for it, and does not end it.
func TestReaderDoze(t *testing.T) {
	r := newPairReader(t)
	r.Reader.(*poller).doze = patience
	thread, done := make(chan int, 1), make(chan int, 1)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		_, frames, err := r.Read(patience)
		if err != nil {
			t.Error(err)
		}
		done <- len(frames)
	}()
	awaitSleep(<-thread)
	runtime.GC()
	select {
	case n := <-done:
		t.Errorf("%d frames before one came: the collection waited for the end of the wait, or ended it", n)
	default:
		r.send(1, 1)
		if n := <-done; n != 1 {
			t.Errorf("%d frames, want 1", n)
		}
	}
}

// Whichever queue has a frame ends the wait, one by one and in turns.
func TestReaderLone(t *testing.T) {
	r := newPairReader(t)
	for i := range 6 {
		r.send(i/2%2, 1)
		r.want(t, time.Minute, i/2%2, 1)
	}
	r.send(1, 1)
	r.send(0, 1)
	got := [2]int{}
	for range 2 {
		which, frames, err := r.Read(time.Minute)
		must(t, err)
		got[which] += len(frames)
	}
	if got != [2]int{1, 1} {
		t.Errorf("frames of each queue: %v", got)
	}
	r.want(t, time.Millisecond, 0, 0)
	go r.send(1, 1)
	r.want(t, time.Minute, 1, 1)
}

// A queue that is never empty does not keep the other waiting.
func TestReaderFair(t *testing.T) {
	for busy := range 2 {
		r := newPairReader(t)
		r.send(busy, 2)
		r.want(t, time.Minute, busy, 2)
		r.send(1-busy, 1)
		reads := 0
		for found := false; !found; reads++ {
			r.send(busy, 2)
			which, frames, err := r.Read(time.Minute)
			must(t, err)
			found = which == 1-busy && len(frames) == 1
		}
		if reads > 2 {
			t.Errorf("queue %d was read %d times before the other one", busy, reads-1)
		}
	}
}

func TestReaderDoesNotWait(t *testing.T) {
	r := newPairReader(t)
	r.send(0, 3)
	r.send(1, 2)
	r.want(t, 0, 1, 2)
	r.want(t, 0, 0, 3)
	r.want(t, 0, 0, 0)
}

// A queue that is broken neither spins nor keeps the other from ending the wait.
func TestReaderFault(t *testing.T) {
	r := newPairReader(t)
	unix.Close(r.peers[0]) // reads return 0 from now on, and poll says ready
	var err error
	r.peers[0], err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	must(t, err)
	defer unix.Close(r.peers[0])
	for range 3 {
		start := time.Now()
		r.want(t, 10*time.Millisecond, 0, 0)
		if time.Since(start) < 9*time.Millisecond {
			t.Error("no pause")
		}
	}
	r.send(1, 1)
	r.want(t, time.Minute, 1, 1)
	var s Stats
	if r.queues[0].counters.sum(&s); s.RxErrors == 0 || s.RxErrors > 8 {
		t.Errorf("%+v", s)
	}
}

// As many queues as there can be interfaces are read together, the last as well; more are not.
func TestReaderMany(t *testing.T) {
	const far = maxTogether - 1
	queues, peer := make([]Queue, maxTogether), 0
	for i := range queues {
		queues[i], peer = pairQueue(t, true)
	}
	r, probe := Together(queues), probeFrame()
	r.Read(0)
	for range 3 {
		unix.Write(peer, probe.wire())
		if which, frames, err := r.Read(time.Minute); which != far || len(frames) != 1 || err != nil {
			t.Fatalf("%d frames of queue %d, %v", len(frames), which, err)
		}
	}
	if Together(append(queues, queues[0])) != nil {
		t.Error("one more than there are bits for")
	}
}

// The end of either device is the Reader's.
func TestReaderClosed(t *testing.T) {
	for i := range 2 {
		r := newPairReader(t)
		go r.queues[i].dev.signalStop()
		if _, _, err := r.Read(time.Minute); !errors.Is(err, ErrClosed) {
			t.Errorf("stopped: %v", err)
		}
		r.queues[i].close()
		if _, _, err := r.Read(time.Minute); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

func TestReaderAllocs(t *testing.T) {
	r := newPairReader(t)
	if n := testing.AllocsPerRun(50, func() {
		r.send(0, 3)
		r.send(1, 1)
		for range 4 {
			r.Read(time.Microsecond)
		}
	}); n != 0 {
		t.Errorf("%v allocations for four reads", n)
	}
}
