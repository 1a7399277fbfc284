package tap

import (
	"errors"
	"io"
	"sync"
	"syscall"
	"time"
)

// The water driver: github.com/songgao/water's device behind the same Queue. One queue, no virtio header, so no offload.
//
// All that is sure of its device on every platform is a Read that blocks and a Write. So a goroutine reads for as long as the device
// is open and puts the frames in an inbox, from which Queue.Read takes what is waiting, in batches and for as long as it likes. When the
// inbox is full the goroutine stops reading, and the kernel drops, as it would for a slow reader of its own.

// closeWait is how long close waits for the reading goroutine: closing wakes a blocked read on Linux and Windows, elsewhere the next
// frame may have to.
const closeWait = 500 * time.Millisecond

// waterQueue is the one queue of a water device, and the device's life.
type waterQueue struct {
	file     io.ReadWriteCloser
	inbox    *inbox
	counters counters
	onFault  func() // called when a read failed: the device may be gone

	ending sync.Once
	quit   chan struct{} // closed by end
	done   chan struct{} // closed when the reading goroutine has ended
}

// startWater starts to read from an open device.
func startWater(file io.ReadWriteCloser, onFault func()) *waterQueue {
	q := &waterQueue{file: file, inbox: newInbox(), onFault: onFault, quit: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

// run moves frames from the device to the inbox until the device is closed.
func (q *waterQueue) run() {
	defer close(q.done)
	buf := make([]byte, MaxFrameLen+1)
	for {
		n, err := q.file.Read(buf)
		if q.stopping() {
			return
		}
		switch {
		case err != nil || n == 0:
			q.counters.rxErrors.Add(1)
			q.onFault()
			q.pause()
		case n < EthernetLen || n > MaxFrameLen:
			q.counters.rxTruncated.Add(1)
		default:
			q.hand(buf[:n])
		}
	}
}

func (q *waterQueue) stopping() bool {
	select {
	case <-q.quit:
		return true
	default:
		return false
	}
}

// pause keeps a device that is gone from being asked in a spin.
func (q *waterQueue) pause() {
	select {
	case <-q.quit:
	case <-time.After(faultPause):
	}
}

// hand puts one frame in the inbox and waits for room if there is none.
func (q *waterQueue) hand(b []byte) {
	for !q.inbox.put(Header{}, b) {
		select {
		case <-q.inbox.space:
		case <-q.quit:
			return
		}
	}
}

func (q *waterQueue) Read(wait time.Duration) ([]Frame, error) {
	var t rxTally
	frames, err := q.inbox.take(wait, &t)
	q.counters.addRx(&t)
	return frames, err
}

func (q *waterQueue) Write(frames []*Frame) int {
	var t txTally
	for _, f := range frames {
		if f.Len() < EthernetLen || f.Header.unfinished() {
			t.invalid++
			continue
		}
		if _, err := q.file.Write(f.Bytes()); err != nil {
			refusedBy(err, &t)
			continue
		}
		t.frames++
		t.bytes += uint64(f.Len())
	}
	q.counters.addTx(&t)
	return int(t.frames)
}

// refusedBy counts a frame that the device did not take by its cause.
func refusedBy(err error, t *txTally) {
	switch {
	case errors.Is(err, syscall.EINVAL):
		t.invalid++
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		t.full++
	default:
		t.down++
	}
}

// end makes Read return ErrClosed from now on.
func (q *waterQueue) end() {
	q.ending.Do(func() {
		close(q.quit)
		q.inbox.close()
	})
}

// close is called once.
func (q *waterQueue) close() error {
	q.end()
	err := q.file.Close()
	select {
	case <-q.done:
	case <-time.After(closeWait):
	}
	return err
}
