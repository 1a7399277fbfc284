package tap

import "time"

// memoryQueue is one queue of the fake.
type memoryQueue struct {
	m        *Memory
	index    int
	inbox    *inbox
	counters counters
}

func (q *memoryQueue) Read(wait time.Duration) ([]Frame, error) {
	var t rxTally
	frames, err := q.inbox.take(wait, &t)
	q.counters.addRx(&t)
	return frames, err
}

func (q *memoryQueue) Write(frames []*Frame) int {
	var t txTally
	if !q.m.health.up.Load() || q.m.closed.Load() {
		t.down = uint64(len(frames))
	} else {
		q.deliver(frames, &t)
	}
	q.counters.addTx(&t)
	return int(t.frames)
}

func (q *memoryQueue) deliver(frames []*Frame, t *txTally) {
	for _, f := range frames {
		if f.Len() > MaxFrameLen || f.Header.refusal(f.Len()) != "" || !q.m.offload.Carries(f.Header) {
			t.invalid++
			continue
		}
		t.frames++
		t.bytes += uint64(f.Len())
		if q.m.onWrite != nil {
			q.m.onWrite(q.index, f)
		}
	}
}
