package director

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"tapdirector/tap"
)

// Threads
//
// Both directions of a connection come by queues of the same number: the kernel sends a flow to the queue that wrote its last packet the other way. So the workers of
// these queues share one thread. A request and its answer wake the same thread, whose caches know the connection; a busy one finds acknowledgements without being woken
// for them; and there are no more threads than CPUs. Where queues cannot be waited for together (tap.Together), each worker has a thread of its own.

// idle is how long a thread sleeps when nothing comes: only a bound on how late it notices that it should end.
const idle = time.Second

// thread runs workers.
type thread struct {
	workers []*worker
	reader  tap.Reader // of their queues
}

// newThreads spreads workers over threads.
func newThreads(workers []*worker) (threads []thread) {
	var byNumber [tap.MaxQueues][]*worker
	for _, w := range workers {
		byNumber[w.number] = append(byNumber[w.number], w)
	}
	for _, same := range byNumber {
		if len(same) == 0 {
			continue
		}
		if r := tap.Together(queuesOf(same)); r != nil {
			threads = append(threads, thread{same, r})
			continue
		}
		for i := range same {
			alone := same[i : i+1]
			threads = append(threads, thread{alone, tap.Together(queuesOf(alone))})
		}
	}
	return threads
}

func queuesOf(workers []*worker) []tap.Queue {
	queues := make([]tap.Queue, len(workers))
	for i, w := range workers {
		queues[i] = w.queue
	}
	return queues
}

// run is its loop; nil when ctx is cancelled or a device closed.
func (t *thread) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		which, frames, err := t.reader.Read(idle)
		if errors.Is(err, tap.ErrClosed) {
			return nil
		}
		w := t.workers[which]
		if err != nil {
			return fmt.Errorf("interface %q: %w", w.d.view.Load().ifaces[w.in].name, err)
		}
		if len(frames) > 0 {
			w.batch(frames)
		}
	}
	return nil
}
