package sched

import "sync"

// wrr is weighted round robin by levels. Think of the weights as columns: a level is swept over the servers from first to last and takes
// each column that reaches it; below the last server the level sinks by step, and from the lowest it goes back to the top. So in one full
// cycle a server is picked weight/step times, heavy ones first: weights 4, 3, 2 give A A B A B C A B C.
//
// step is the greatest common divisor of the weights and the top is the largest weight - (step - 1), so that levels end at 1 and no sweep
// is in vain. A change of weights goes back to the first server but keeps the level, moved to a near one that the new step visits.
//
// A new wrr starts at the top. When servers come or go later the level stays (inherit.go), as in LVS, where this holds also for the first servers, so that its first
// cycle depends on the order of adding.
type wrr struct {
	mu      sync.Mutex
	at      int    // place of the last pick; -1: before the first server
	level   int32  // a weight that reaches it is taken
	top     int32  // the highest level; 0: no server has a weight
	step    int32  // from level to level; at least 1
	tallest maxima // of the weights, so that a level which few reach is not swept one by one
	servers []*Server
}

func newWRR(servers []*Server) *wrr {
	w := &wrr{servers: servers, tallest: newMaxima(len(servers))}
	w.Update()
	return w
}

// Pick continues the sweep after the last pick. The rest of the current level may hold no usable server; then the next level is swept from
// the first; when all that reach it are overloaded, the highest that a usable server reaches. Where none is usable the place stays.
func (w *wrr) Pick(r Request) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := w.sweepLocked(&r); i >= 0 {
		return i
	}
	at, level := w.at, w.level
	w.sinkLocked()
	if i := w.sweepLocked(&r); i >= 0 {
		return i
	}
	if w.skipLocked(&r) {
		return w.sweepLocked(&r)
	}
	w.at, w.level = at, level
	return -1
}

// sweepLocked takes the next usable server that reaches the level, or returns -1 at the end of the list.
func (w *wrr) sweepLocked(r *Request) int {
	if w.top == 0 {
		return -1
	}
	for i := w.tallest.next(w.at+1, w.level); i >= 0; i = w.tallest.next(i+1, w.level) {
		if r.usable(w.servers[i]) {
			w.at = i
			return i
		}
	}
	return -1
}

// sinkLocked goes to the next level, before its first server.
func (w *wrr) sinkLocked() {
	w.at = -1
	if w.level -= w.step; w.level <= 0 {
		w.level = w.top
	}
}

// skipLocked leaves out the levels above the heaviest usable server: one by one they could be 65535 sweeps in vain. False when there is no such
// level, because no server is usable or a weight has changed and Update is still to come.
func (w *wrr) skipLocked(r *Request) bool {
	level, heaviest := w.level, w.heaviest(r)
	if heaviest <= 0 {
		return false
	}
	if above := level - heaviest; above > 0 {
		level -= (above + w.step - 1) / w.step * w.step
	}
	if level <= 0 {
		return false
	}
	w.level = level
	return true
}

// heaviest returns the largest weight of a usable server, as of the last Update; 0 for none.
func (w *wrr) heaviest(r *Request) (heaviest int32) {
	for i, s := range w.servers {
		if weight := w.tallest.weight(i); weight > heaviest && r.usable(s) {
			heaviest = weight
		}
	}
	return heaviest
}

// Update recomputes top and step and goes back to the first server.
func (w *wrr) Update() {
	w.mu.Lock()
	defer w.mu.Unlock()
	step, largest := int32(0), int32(0)
	for i, s := range w.servers {
		w.tallest.leaf(i, s.Weight.Load())
		if weight := s.Weight.Load(); weight > 0 {
			step, largest = gcd(weight, step), max(largest, weight)
		}
	}
	w.tallest.build()
	w.at, w.step, w.top = -1, max(step, 1), 0
	if largest > 0 {
		w.top = largest - (w.step - 1)
	}
	switch {
	case w.level == 0 || w.level > w.top:
		w.level = w.top
	case w.step > 1:
		w.level = w.level/w.step*w.step + 1
	}
}

// gcd is Euclid's; gcd(a, 0) is a.
func gcd(a, b int32) int32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
