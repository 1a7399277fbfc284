package director

import (
	"testing"

	"tapdirector/tap"
)

// Workers share a thread where one can wait for their queues, and those of one number only.
func TestThreads(t *testing.T) {
	w := newWorld(t, worldSpec{queues: 2})
	if n := w.Threads(); n != len(w.workers) {
		t.Errorf("%d threads for %d queues in memory", n, len(w.workers))
	}
	seen := map[*worker]bool{}
	for _, th := range w.threads {
		for _, k := range th.workers {
			seen[k] = true
			if k.number != th.workers[0].number || k.queue != tap.Queue(w.devices[k.in].Queues[k.number]) {
				t.Errorf("worker %d of interface %d is on the thread of number %d", k.number, k.in, th.workers[0].number)
			}
		}
	}
	if len(seen) != len(w.workers) {
		t.Errorf("%d workers of %d have a thread", len(seen), len(w.workers))
	}
}
