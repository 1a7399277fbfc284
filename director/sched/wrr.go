package sched

import "sync"

// wrr is weighted round robin by levels. Think of the weights as columns: a level is swept over the servers from first to last and takes
// each column that reaches it; below the last server the level sinks by step, and from the lowest it goes back to the top. So in one full
// cycle a server is picked weight/step times, heavy ones first: weights 4, 3, 2 give A A B A B C A B C.
//
// step is the greatest common divisor of the weights and the top is the largest weight - (step - 1), so that levels end at 1 and no sweep
// is in vain. A change of weights goes back to the first server but keeps the level, moved to a near one that the new step visits.
//
// LVS keeps the level also when servers are added, so that its first cycle depends on the order of adding; a new wrr starts at the top.
type wrr struct {
	mu      sync.Mutex
	at      int   // place of the last pick; -1: before the first server
	level   int32 // a weight that reaches it is taken
	top     int32 // the highest level; 0: no server has a weight
	step    int32 // from level to level; at least 1
	servers []*Server
}

func newWRR(servers []*Server) *wrr {
	w := &wrr{servers: servers}
	w.Update()
	return w
}

// Pick continues the sweep after the last pick. The rest of the current level may hold no usable server; then the next level that
// does is swept from the first. A third sweep is needed only when servers change under our hands.
func (w *wrr) Pick(Request) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	const sweeps = 3
	for range sweeps {
		if i := w.sweepLocked(); i >= 0 {
			return i
		}
		if !w.sinkLocked() {
			return -1
		}
	}
	return -1
}

// sweepLocked takes the next server that reaches the level, or returns -1 at the end of the list.
func (w *wrr) sweepLocked() int {
	if w.top == 0 {
		return -1
	}
	for i := w.at + 1; i < len(w.servers); i++ {
		s := w.servers[i]
		if s.Weight.Load() >= w.level && !s.Overload.Load() {
			w.at = i
			return i
		}
	}
	return -1
}

// sinkLocked goes to the next level that some usable server reaches, before its first server; false when there is none. Levels above the
// heaviest usable server are skipped at once: one by one they could be 65535 sweeps in vain.
func (w *wrr) sinkLocked() bool {
	heaviest := w.heaviest()
	if heaviest <= 0 || w.top == 0 {
		return false
	}
	w.at = -1
	w.level -= w.step
	if w.level <= 0 {
		w.level = w.top
	}
	if above := w.level - heaviest; above > 0 {
		w.level -= (above + w.step - 1) / w.step * w.step
	}
	return w.level > 0
}

// heaviest returns the largest weight of a usable server, 0 for none.
func (w *wrr) heaviest() (max int32) {
	for _, s := range w.servers {
		if weight := s.Weight.Load(); weight > max && !s.Overload.Load() {
			max = weight
		}
	}
	return max
}

// Update recomputes top and step and goes back to the first server.
func (w *wrr) Update() {
	w.mu.Lock()
	defer w.mu.Unlock()
	step, largest := int32(0), int32(0)
	for _, s := range w.servers {
		if weight := s.Weight.Load(); weight > 0 {
			step, largest = gcd(weight, step), max(largest, weight)
		}
	}
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
