package sched

import "sync/atomic"

// rr is round robin: the first usable server after the last one picked. Weights matter only as zero or not.
type rr struct {
	servers []*Server
	next    atomic.Uint32 // place where the next pick starts to look; one behind the last: nothing was picked yet
}

func newRR(servers []*Server) *rr {
	r := &rr{servers: servers}
	r.next.Store(uint32(len(servers)))
	return r
}

// Pick moves on with one compare-and-swap. A pick that loses the race looks again from where the winner left off, so the sequence is the
// same for any number of workers: no server is given twice in a turn.
func (r *rr) Pick(q Request) int {
	for {
		start := r.next.Load()
		i := r.after(&q, int(start))
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
func (r *rr) after(q *Request, start int) int {
	for i := start; i < len(r.servers); i++ {
		if q.usable(r.servers[i]) {
			return i
		}
	}
	for i := range start {
		if q.usable(r.servers[i]) {
			return i
		}
	}
	return -1
}

// Update does nothing: weights are read at each pick.
func (r *rr) Update() {}
