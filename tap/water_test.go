package tap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fakeFile stands in for water's device: what is sent on in is read, what is written is kept.
type fakeFile struct {
	in     chan []byte // nil: a read that fails
	closed chan struct{}
	out    [][]byte
	err    error // what Write returns
}

func newFakeFile() *fakeFile {
	return &fakeFile{in: make(chan []byte, 10), closed: make(chan struct{})}
}

func (f *fakeFile) Read(b []byte) (int, error) {
	select {
	case frame := <-f.in:
		if frame == nil {
			return 0, errors.New("broken")
		}
		return copy(b, frame), nil
	case <-f.closed:
		return 0, os.ErrClosed
	}
}

func (f *fakeFile) Write(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	f.out = append(f.out, bytes.Clone(b))
	return len(b), nil
}

func (f *fakeFile) Close() error { close(f.closed); return nil }

var _ io.ReadWriteCloser = (*fakeFile)(nil)

func (q *waterQueue) stats() (s Stats) { q.counters.sum(&s); return s }

func TestWaterRead(t *testing.T) {
	file := newFakeFile()
	var faults atomic.Int32
	q := startWater(file, func() { faults.Add(1) })
	for _, n := range []int{60, 13, MaxFrameLen, MaxFrameLen + 1} {
		file.in <- make([]byte, n)
	}
	file.in <- nil // after which it goes on
	file.in <- bytes.Repeat([]byte{4}, 100)
	var got []int
	for len(got) < 3 {
		frames, err := q.Read(10 * time.Second)
		if err != nil || len(frames) == 0 {
			t.Fatalf("%v, %v so far", err, got)
		}
		for _, f := range frames {
			got = append(got, f.Len())
		}
	}
	if fmt.Sprint(got) != fmt.Sprint([]int{60, MaxFrameLen, 100}) {
		t.Errorf("frames of %v bytes", got)
	}
	if s := q.stats(); s.RxFrames != 3 || s.RxTruncated != 2 || s.RxErrors != 1 || faults.Load() != 1 {
		t.Errorf("%+v, %d faults", s, faults.Load())
	}
	if err := q.close(); err != nil {
		t.Error(err)
	}
	if _, err := q.Read(time.Minute); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	<-q.done
}

// TestWaterBackPressure: with nobody reading, the goroutine stops at the inbox's bound and still ends at close.
func TestWaterBackPressure(t *testing.T) {
	file := newFakeFile()
	q := startWater(file, func() {})
	const total = inboxFrames + 100
	go func() {
		for i := range total {
			select {
			case file.in <- append(make([]byte, 60), byte(i>>8), byte(i)):
			case <-file.closed:
				return
			}
		}
	}()
	for n := 0; n < total; {
		frames, err := q.Read(10 * time.Second)
		if err != nil || len(frames) == 0 {
			t.Fatalf("%d frames, then %v", n, err)
		}
		for _, f := range frames {
			if b := f.Bytes(); int(b[60])<<8|int(b[61]) != n {
				t.Fatalf("frame %d is number %d", n, int(b[60])<<8|int(b[61]))
			}
			n++
		}
	}
	for len(file.in) < cap(file.in) {
		select {
		case file.in <- make([]byte, 60):
		default:
		}
		q.inbox.put(Header{}, make([]byte, MaxFrameLen))
	}
	q.close()
	<-q.done
}

func TestWaterWrite(t *testing.T) {
	file := newFakeFile()
	q := startWater(file, func() {})
	defer q.close()
	good := NewFrame(Header{}, []byte("sixteen bytes it"))
	runt := NewFrame(Header{}, make([]byte, 13))
	partial := NewFrame(Header{Flags: FlagNeedsCsum}, make([]byte, 60))
	super := NewFrame(Header{GSOType: GSOTCPv4, GSOSize: 1000}, make([]byte, 6000))
	if n := q.Write([]*Frame{&good, &runt, &partial, &super, &good}); n != 2 || len(file.out) != 2 || string(file.out[1]) != "sixteen bytes it" {
		t.Errorf("%d written: %q", n, file.out)
	}
	for _, err := range []error{syscall.EINVAL, syscall.EIO, syscall.ENOBUFS, &os.PathError{Err: syscall.EAGAIN}, io.ErrClosedPipe} {
		file.err = err
		q.Write([]*Frame{&good})
	}
	want := Stats{TxFrames: 2, TxBytes: 32, TxInvalid: 4, TxFull: 2, TxDown: 2}
	if s := q.stats(); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}
