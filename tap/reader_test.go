package tap

import (
	"testing"
	"time"
)

// Queues in memory are read one by one: a Reader has one of them.
func TestTogether(t *testing.T) {
	d, far := NewMemory(MemoryOptions{Queues: 2})
	defer d.Close()
	if r := Together(d.Queues); r != nil {
		t.Errorf("a reader of two queues in memory: %T", r)
	}
	r := Together(d.Queues[1:])
	f := probeFrame()
	f.Header = Header{}
	far.Send(1, &f)
	which, frames, err := r.Read(time.Minute)
	if which != 0 || len(frames) != 1 || err != nil {
		t.Errorf("%d frames of queue %d, %v", len(frames), which, err)
	}
}
