package sched

import "sync/atomic"

// rr is round robin: the first usable server after the last one picked. Weights matter only as zero or not.
type rr struct {
	servers []*Server
	next    atomic.Uint32 // place where the next pick starts to look
}

func newRR(servers []*Server) *rr { return &rr{servers: servers} }

// Pick moves on with one compare-and-swap. A pick that loses the race looks again from where the winner left off, so the sequence is the
// same for any number of workers: no server is given twice in a turn.
func (r *rr) Pick(Request) int {
	for {
		start := r.next.Load()
		i := r.after(int(start))
		if i < 0 {
			return -1
		}
		next := uint32(i + 1)
		if int(next) == len(r.servers) {
			next = 0
		}
		if r.next.CompareAndSwap(start, next) {
			return i
		}
	}
}

// after returns the first usable server from start on, going round once.
func (r *rr) after(start int) int {
	for i := start; i < len(r.servers); i++ {
		if r.servers[i].usable() {
			return i
		}
	}
	for i := range start {
		if r.servers[i].usable() {
			return i
		}
	}
	return -1
}

// Update does nothing: weights are read at each pick.
func (r *rr) Update() {}
