package sched

// The schedulers that look at the load of every server: lc, wlc, sed and nq. Of equals the first wins.

// lc is least connection: the usable server with the smallest load.
type lc struct{ servers []*Server }

func newLC(servers []*Server) *lc { return &lc{servers} }

// Pick reads every server once.
func (l *lc) Pick(r Request) int {
	best, least := -1, int64(0)
	for i, s := range l.servers {
		if !r.usable(s) {
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

// least finds the smallest load over weight among the servers it is shown.
type least struct {
	place        int // -1: none yet
	load, weight int64
}

// none is what a search begins with.
var none = least{place: -1}

// show offers a server that has a load and a weight above 0. load/weight < l.load/l.weight is asked as load*l.weight < l.load*weight: with
// weights of 16 bits and loads of 40 the products fit in 63.
func (l *least) show(place int, load, weight int64) {
	if l.place < 0 || load*l.weight < l.load*weight {
		*l = least{place, load, weight}
	}
}

// wlc is weighted least connection: the usable server with the smallest load over weight.
type wlc struct{ servers []*Server }

func newWLC(servers []*Server) *wlc { return &wlc{servers} }

// Pick reads every server once.
func (l *wlc) Pick(r Request) int { return leastLoaded(&r, l.servers) }

// leastLoaded is wlc's rule.
func leastLoaded(r *Request, servers []*Server) int {
	best := none
	for i, s := range servers {
		if weight := s.Weight.Load(); weight > 0 && r.usable(s) {
			best.show(i, s.load(), int64(weight))
		}
	}
	return best.place
}

// Update does nothing: weights are read at each pick.
func (l *wlc) Update() {}

// sed is shortest expected delay: the usable server where this connection, together with the active ones, makes the smallest load over weight.
// A heavy idle server wins over a light idle one, where wlc takes the first.
type sed struct{ servers []*Server }

func newSED(servers []*Server) *sed { return &sed{servers} }

// Pick reads every server once.
func (l *sed) Pick(r Request) int {
	best := none
	for i, s := range l.servers {
		if weight := s.Weight.Load(); weight > 0 && r.usable(s) {
			best.show(i, int64(s.Active.Load())+1, int64(weight))
		}
	}
	return best.place
}

// Update does nothing: weights are read at each pick.
func (l *sed) Update() {}

// nq is never queue: the first usable server without an active connection, whatever its weight; when none is idle, sed.
type nq struct{ sed }

func newNQ(servers []*Server) *nq { return &nq{sed{servers}} }

// Pick reads every server once, and again when none is idle.
func (l *nq) Pick(r Request) int {
	for i, s := range l.servers {
		if s.Active.Load() == 0 && r.usable(s) {
			return i
		}
	}
	return l.sed.Pick(r)
}
