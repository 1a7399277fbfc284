package sched

import (
	"slices"
	"sync"
	"time"
)

// lblcr, lblc with replication: a destination that is asked for much gets a set of servers, which grows by the least loaded of all when the least
// loaded of the set is overfull, and loses its most loaded one when it has not changed for a day. See lblc.go.
type lblcr struct {
	mu    sync.Mutex
	cache destinations[serverSet]

	servers []*Server
}

// serverSet is the servers of one destination.
type serverSet struct {
	places   []int32
	modified time.Duration
}

func newLBLCR(servers []*Server) *lblcr { return &lblcr{servers: servers} }

// Pick takes the least loaded of the destination's set, or adds to it.
func (l *lblcr) Pick(r Request) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	set, known := l.cache.get(r.Tuple.Dst, r.Now)
	i := l.leastOf(&r, set.places)
	if len(set.places) > 1 && r.Now-set.modified > destinationExpiry {
		set.places = slices.Delete(set.places, l.mostOf(set.places), l.mostOf(set.places)+1)
		set.modified = r.Now
		l.cache.put(r.Tuple.Dst, r.Now, set)
	}
	if known && i >= 0 && !overfull(&r, l.servers[i], l.servers) {
		return i
	}
	if i = leastLoaded(&r, l.servers); i < 0 {
		return -1
	}
	if !slices.Contains(set.places, int32(i)) {
		set.places, set.modified = append(set.places, int32(i)), r.Now
		l.cache.put(r.Tuple.Dst, r.Now, set)
	}
	return i
}

// leastOf is wlc among some servers.
func (l *lblcr) leastOf(r *Request, places []int32) int {
	best := none
	for _, i := range places {
		if s := l.servers[i]; r.usable(s) {
			best.show(int(i), s.load(), int64(s.Weight.Load()))
		}
	}
	return best.place
}

// mostOf returns where in places the server with the largest load over weight is; one without weight counts as full.
func (l *lblcr) mostOf(places []int32) int {
	most, load, weight := 0, int64(-1), int64(1)
	for at, i := range places {
		s := l.servers[i]
		w := int64(s.Weight.Load())
		if w <= 0 {
			return at
		}
		if load*w < s.load()*weight {
			most, load, weight = at, s.load(), w
		}
	}
	return most
}

// Update does nothing: weights are read at each pick.
func (l *lblcr) Update() {}
