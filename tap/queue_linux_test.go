package tap

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pairQueue returns a queue on one end of a socket pair, which keeps frames apart as a TAP does, and the other end. It needs no rights.
func pairQueue(t testing.TB, vnet bool) (*tunQueue, int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	for _, fd := range pair {
		must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20))
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must(t, err)
	events, quiet, err := os.Pipe()
	must(t, err)
	p := &port{vnet: vnet, name: "pair", log: slog.New(slog.DiscardHandler), events: events}
	dev := &tunDevice{port: p, stop: stop, watcher: &watcher{p: p}}
	q := newTunQueue(dev, pair[0])
	t.Cleanup(func() {
		q.close()
		unix.Close(pair[1])
		unix.Close(stop)
		events.Close()
		quiet.Close()
	})
	return q, pair[1]
}

func (t *tunDevice) signalStop() { unix.Write(t.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func TestQueueRead(t *testing.T) {
	for _, vnet := range []bool{true, false} {
		q, peer := pairQueue(t, vnet)
		header := Header{}
		if vnet {
			header = Header{1, GSOTCPv6, 74, 1428, 54, 16}
		}
		send := func(b []byte) {
			f := NewFrame(header, b)
			if wire := f.wire(); vnet {
				unix.Write(peer, wire)
			} else {
				unix.Write(peer, wire[HeaderLen:])
			}
		}
		sizes := []int{60, 13, 14, 1514, MaxFrameLen, MaxFrameLen + 1, 0x1000, 61}
		for i, n := range sizes {
			send(bytes.Repeat([]byte{byte(i)}, n))
		}
		frames, err := q.Read(time.Second)
		must(t, err)
		var got []int
		for _, f := range frames {
			got = append(got, f.Len())
			if i := int(f.Bytes()[0]); f.Len() != sizes[i] || f.Header != header || addr(f.Bytes())%arenaAlign != 0 {
				t.Errorf("vnet %v: frame %d: %d bytes, %+v at %#x", vnet, i, f.Len(), f.Header, addr(f.Bytes()))
			}
			if bytes.Count(f.Bytes(), f.Bytes()[:1]) != f.Len() {
				t.Error("other bytes")
			}
		}
		var s Stats
		q.counters.sum(&s)
		if len(got) != 6 || s.RxTruncated != 2 || s.RxFrames != 6 || s.RxErrors != 0 {
			t.Errorf("vnet %v: frames of %v bytes, %+v", vnet, got, s)
		}
	}
}

func TestQueueBatches(t *testing.T) {
	q, peer := pairQueue(t, true)
	f := NewFrame(Header{}, make([]byte, 60))
	for range Batch + 6 {
		unix.Write(peer, f.wire())
	}
	for _, want := range []int{Batch, 6, 0} {
		if frames, err := q.Read(0); len(frames) != want || err != nil {
			t.Errorf("%d frames, %v, want %d", len(frames), err, want)
		}
	}
	f = NewFrame(Header{}, make([]byte, 65000))
	sent := 0
	for sent < 20 { // more than the arena holds; the socket's buffer holds fewer, so it is refilled
		if _, err := unix.Write(peer, f.wire()); err != nil {
			break
		}
		sent++
	}
	read := 0
	for read < sent {
		frames, err := q.Read(time.Second)
		must(t, err)
		if len(frames) == 0 || len(frames) > 16 {
			t.Fatalf("%d superpackets at once", len(frames))
		}
		read += len(frames)
	}
}

func TestQueueWaits(t *testing.T) {
	q, peer := pairQueue(t, true)
	if frames, err := q.Read(time.Millisecond); len(frames) != 0 || err != nil {
		t.Errorf("%d frames, %v", len(frames), err)
	}
	f, sent := probeFrame(), probeFrame()
	go unix.Write(peer, sent.wire())
	if frames, err := q.Read(time.Minute); len(frames) != 1 || err != nil {
		t.Errorf("%d frames, %v", len(frames), err)
	}
	go q.dev.signalStop()
	if _, err := q.Read(time.Minute); !errors.Is(err, ErrClosed) {
		t.Errorf("stopped: %v", err)
	}
	q.close()
	if _, err := q.Read(time.Minute); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if n := q.Write([]*Frame{&f}); n != 0 {
		t.Error("written after close")
	}
}

// TestQueueLone: after a frame that came alone, one that ends a sleep comes alone and those that came with it come next; nothing is lost or waits,
// and whoever does not wait gets all that is there.
func TestQueueLone(t *testing.T) {
	q, peer := pairQueue(t, true)
	f := probeFrame()
	send := func(n int) {
		for range n {
			unix.Write(peer, f.wire())
		}
	}
	read := func(wait time.Duration, want ...int) {
		t.Helper()
		for _, n := range want {
			if frames, err := q.Read(wait); len(frames) != n || err != nil {
				t.Errorf("%d frames, %v, want %d", len(frames), err, n)
			}
		}
	}
	for range 2 { // the first Read of all drains, the second polls before it does
		send(1)
		read(time.Minute, 1)
	}
	all := func(n int) {
		t.Helper()
		for n > 0 {
			frames, err := q.Read(time.Minute)
			must(t, err)
			n -= len(frames)
		}
		if n != 0 {
			t.Errorf("%d frames too many", -n)
		}
	}
	send(3)
	all(3)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	reader := unix.Gettid()
	for alone := false; !alone; { // until Read slept before the frames came
		send(1)
		all(1)
		var wg sync.WaitGroup
		wg.Go(func() {
			awaitSleep(reader)
			send(4)
		})
		frames, err := q.Read(time.Minute)
		must(t, err)
		alone = len(frames) == 1
		all(4 - len(frames))
		wg.Wait()
	}
	send(1)
	read(time.Minute, 1)
	send(2)
	read(0, 2, 0)
	send(1)
	read(time.Minute, 1)
	read(time.Millisecond, 0, 0)
	send(1)
	read(time.Minute, 1)
	q.dev.signalStop()
	if _, err := q.Read(time.Minute); !errors.Is(err, ErrClosed) {
		t.Errorf("stopped: %v", err)
	}
}

// awaitSleep waits, for as long as patience, until a thread of this process waits for something.
func awaitSleep(tid int) {
	for end := time.Now().Add(patience); !asleep(tid) && time.Now().Before(end); {
		runtime.Gosched()
	}
}

// asleep reports whether a thread of this process waits for something.
func asleep(tid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	_, state, _ := strings.Cut(string(b), ") ")
	return err == nil && strings.HasPrefix(state, "S")
}

// TestQueueFault: a broken descriptor lets the time pass instead of spinning, and stop still ends the wait.
func TestQueueFault(t *testing.T) {
	q, peer := pairQueue(t, true)
	unix.Close(peer) // reads return 0 from now on, and poll says ready
	peer, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	must(t, err)
	defer unix.Close(peer)
	var s Stats
	for range 3 {
		start := time.Now()
		if frames, err := q.Read(10 * time.Millisecond); len(frames) != 0 || err != nil {
			t.Errorf("%d frames, %v", len(frames), err)
		}
		if time.Since(start) < 9*time.Millisecond {
			t.Error("no pause")
		}
	}
	if q.counters.sum(&s); s.RxErrors == 0 || s.RxErrors > 6 {
		t.Errorf("%+v", s)
	}
	go q.dev.signalStop()
	if _, err := q.Read(time.Minute); err == nil {
		_, err = q.Read(time.Minute) // the first may have passed its 100 ms
		if !errors.Is(err, ErrClosed) {
			t.Errorf("stopped: %v", err)
		}
	}
}

func TestQueueWrite(t *testing.T) {
	for _, vnet := range []bool{true, false} {
		q, peer := pairQueue(t, vnet)
		h := Header{}
		if vnet {
			h = Header{1, GSOTCPv4, 54, 1448, 34, 16}
		}
		good, runt := NewFrame(h, bytes.Repeat([]byte{5}, 4000)), NewFrame(Header{}, make([]byte, 13))
		empty := NewFrame(Header{}, nil)
		if n := q.Write([]*Frame{&good, &runt, &empty, &good}); n != 2 {
			t.Errorf("%d written", n)
		}
		buf := make([]byte, 8000)
		n, err := unix.Read(peer, buf)
		must(t, err)
		want := good.wire()
		if !vnet {
			want = want[HeaderLen:]
		}
		if !bytes.Equal(buf[:n], want) {
			t.Errorf("vnet %v: wrote % x...", vnet, buf[:20])
		}
		var s Stats
		if q.counters.sum(&s); s.TxFrames != 2 || s.TxBytes != 8000 || s.TxInvalid != 2 {
			t.Errorf("%+v", s)
		}
		f := NewFrame(Header{}, make([]byte, 60000))
		for q.Write([]*Frame{&f}) == 1 {
			// Until the peer's buffer is full.
		}
		if q.counters.sum(&s); s.TxFull != 1 {
			t.Errorf("full: %+v", s)
		}
	}
}

func TestQueueRefused(t *testing.T) {
	tests := []struct {
		errno unix.Errno
		want  txTally
	}{
		{unix.EIO, txTally{down: 1}}, {unix.EBADFD, txTally{down: 1}}, {unix.EBADF, txTally{down: 1}},
		{unix.EAGAIN, txTally{full: 1}}, {unix.ENOBUFS, txTally{full: 1}}, {unix.ENOMEM, txTally{full: 1}},
		{unix.EINVAL, txTally{invalid: 1}}, {unix.EFAULT, txTally{invalid: 1}},
	}
	q, _ := pairQueue(t, true)
	log := &logBuffer{}
	q.dev.log = slog.New(slog.NewTextHandler(log, nil))
	f := NewFrame(Header{HdrLen: 99}, make([]byte, 60))
	for _, tt := range tests {
		var got txTally
		if q.refused(&f, tt.errno, &got); got != tt.want {
			t.Errorf("%v: %+v", tt.errno, got)
		}
	}
	if log.count("refused") != 1 || log.count("headers longer than the frame") != 1 {
		t.Errorf("log: %s", log)
	}
}

// TestQueueTogether writes from several goroutines while one reads and one closes, for the race detector.
func TestQueueTogether(t *testing.T) {
	q, peer := pairQueue(t, true)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			f := probeFrame()
			for range 1000 {
				q.Write([]*Frame{&f})
			}
		})
	}
	wg.Go(func() {
		for {
			if _, err := q.Read(time.Second); err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		f := probeFrame()
		for range 1000 {
			unix.Write(peer, f.wire())
		}
		q.dev.signalStop()
		q.close()
	})
	wg.Wait()
}

func TestQueueAllocs(t *testing.T) {
	for _, vnet := range []bool{true, false} {
		q, peer := pairQueue(t, vnet)
		in, buf := probeFrame(), make([]byte, 100)
		wire := in.wire()
		if !vnet {
			wire = wire[HeaderLen:]
		}
		out := make([]*Frame, 0, Batch)
		if n := testing.AllocsPerRun(50, func() {
			for range 8 {
				unix.Write(peer, wire)
			}
			frames, _ := q.Read(time.Second)
			out = out[:0]
			for i := range frames {
				out = append(out, &frames[i])
			}
			q.Write(out)
			for range 8 {
				unix.Read(peer, buf)
			}
			q.Read(time.Microsecond) // also when it waits
		}); n != 0 {
			t.Errorf("vnet %v: %v allocations for a batch", vnet, n)
		}
	}
}
