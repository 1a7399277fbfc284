package sched

import "tapdirector/stack"

// lc is least connection: the usable server with the smallest load; the first of equals.
type lc struct{ servers []*Server }

func newLC(servers []*Server) Scheduler { return &lc{servers} }

// Pick reads every server once.
func (l *lc) Pick(*stack.Tuple) int {
	best, least := -1, int64(0)
	for i, s := range l.servers {
		if !s.usable() {
			continue
		}
		if load := s.load(); best < 0 || load < least {
			best, least = i, load
		}
	}
	return best
}

// Update does nothing: weights are read at each pick.
func (l *lc) Update() {}

// wlc is weighted least connection: the usable server with the smallest load over weight; the first of equals.
type wlc struct{ servers []*Server }

func newWLC(servers []*Server) Scheduler { return &wlc{servers} }

// Pick reads every server once. load/weight < least/leastWeight is asked as load*leastWeight < least*weight: with weights of 16 bits
// and loads of 40 the products fit in 63.
func (l *wlc) Pick(*stack.Tuple) int {
	best, least, leastWeight := -1, int64(0), int64(0)
	for i, s := range l.servers {
		weight := int64(s.Weight.Load())
		if weight <= 0 || s.Overload.Load() {
			continue
		}
		if load := s.load(); best < 0 || load*leastWeight < least*weight {
			best, least, leastWeight = i, load, weight
		}
	}
	return best
}

// Update does nothing: weights are read at each pick.
func (l *wlc) Update() {}
