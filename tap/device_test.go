package tap

import (
	"runtime"
	"testing"
)

func TestQueueCount(t *testing.T) {
	cpus := min(runtime.GOMAXPROCS(0), MaxQueues)
	for n, want := range map[int]int{-1: cpus, 0: cpus, 1: 1, 5: 5, MaxQueues: MaxQueues, MaxQueues + 1: MaxQueues} {
		if got := queueCount(n); got != want {
			t.Errorf("%d wanted: %d opened, not %d", n, got, want)
		}
	}
}

func TestHealth(t *testing.T) {
	var h health
	h.up.Store(true)
	for _, up := range []bool{true, false, false, true, false} {
		h.setUp(up)
	}
	if h.setOutside(false) || !h.setOutside(true) || h.setOutside(true) || !h.setOutside(false) || !h.setOutside(true) {
		t.Error("wrong news of the bridge")
	}
	if h.setGone(false) || !h.setGone(true) || h.setGone(true) || !h.setGone(false) {
		t.Error("wrong news")
	}
	var s Stats
	if h.sum(&s); s != (Stats{Downs: 2, Ups: 1, Losses: 1, Reattaches: 1, BridgeLosses: 2, BridgeReturns: 1}) {
		t.Errorf("%+v", s)
	}
}

func TestCountersSum(t *testing.T) {
	var s Stats
	for range 2 { // two queues
		var c counters
		c.addRx(&rxTally{frames: 1, bytes: 2, errors: 3, truncated: 4})
		c.addTx(&txTally{frames: 5, bytes: 6, down: 7, invalid: 8, full: 9})
		c.sum(&s)
	}
	want := Stats{RxFrames: 2, RxBytes: 4, RxErrors: 6, RxTruncated: 8, TxFrames: 10, TxBytes: 12, TxDown: 14, TxInvalid: 16, TxFull: 18}
	if s != want {
		t.Errorf("%+v", s)
	}
}
