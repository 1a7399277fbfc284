package tap

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// slowInbox is the slow twin: a slice of clones, with the same bounds.
type slowInbox struct{ frames []Frame }

func (s *slowInbox) take(n int) []Frame {
	out := s.frames[:min(n, len(s.frames))]
	s.frames = s.frames[len(out):]
	return out
}

// TestInboxTwin puts and takes at random, with sizes that make the ring wrap and fill up.
func TestInboxTwin(t *testing.T) {
	in, slow := newInbox(), &slowInbox{}
	refused := 0
	for step := range 20000 {
		if rand.IntN(80) == 0 {
			var tally rxTally
			got, err := in.take(0, &tally)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, slow.take(len(got)))
			continue
		}
		size := 14 + rand.IntN(2000)
		if rand.IntN(20) == 0 {
			size = rand.IntN(MaxFrameLen + 1)
		}
		f := NewFrame(Header{HdrLen: uint16(step)}, bytes.Repeat([]byte{byte(step)}, size))
		if in.put(f.Header, f.Bytes()) {
			slow.frames = append(slow.frames, f)
		} else {
			refused++
		}
		if used := spread(slow.frames); used > inboxBytes || len(slow.frames) > inboxFrames {
			t.Fatalf("holds %d frames of %d bytes", len(slow.frames), used)
		}
	}
	for len(slow.frames) > 0 {
		var tally rxTally
		got, err := in.take(0, &tally)
		if err != nil || len(got) == 0 {
			t.Fatalf("%d frames are lost (%v)", len(slow.frames), err)
		}
		same(t, got, slow.take(len(got)))
	}
	if refused == 0 {
		t.Error("it never filled up: the test tests nothing")
	}
}

func spread(frames []Frame) (n int) {
	for i := range frames {
		n += frames[i].Len()
	}
	return n
}

func same(t *testing.T, got, want []Frame) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d frames instead of %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Header != want[i].Header || !bytes.Equal(got[i].Bytes(), want[i].Bytes()) {
			t.Fatalf("frame %d differs", i)
		}
	}
}

func TestInboxFull(t *testing.T) {
	for _, size := range []int{60, 1514, MaxFrameLen} {
		in := newInbox()
		b, n := make([]byte, size), 0
		for in.put(Header{}, b) {
			n++
		}
		if want := min(inboxFrames, inboxBytes/size); n != want {
			t.Errorf("%d frames of %d bytes fit, want %d", n, size, want)
		}
		var tally rxTally
		got, _ := in.take(0, &tally)
		if tally.frames != uint64(len(got)) || tally.bytes != uint64(len(got)*size) {
			t.Errorf("%d frames counted as %+v", len(got), tally)
		}
		if !in.put(Header{}, b) {
			t.Error("no room after some were taken")
		}
	}
	if newInbox().put(Header{}, nil) {
		t.Error("took an empty frame")
	}
}

func TestInboxWaits(t *testing.T) {
	in := newInbox()
	var tally rxTally
	if got, err := in.take(time.Millisecond, &tally); len(got) != 0 || err != nil {
		t.Errorf("%d frames, %v", len(got), err)
	}
	go in.put(Header{}, []byte("a frame at last"))
	if got, err := in.take(time.Minute, &tally); len(got) != 1 || err != nil {
		t.Errorf("%d frames, %v", len(got), err)
	}
	go in.close()
	for range 2 {
		if _, err := in.take(time.Minute, &tally); !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	}
	if in.put(Header{}, []byte("too late")) {
		t.Error("put after close")
	}
}
