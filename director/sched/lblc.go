package sched

import (
	"sync"
	"time"

	"tapdirector/stack"
)

// lblc and lblcr: locality-based least connection, for clusters of caches. A destination keeps its server, or its set of servers, so that what was
// fetched once is found there again; only when that server is overloaded while others have room does the destination move (lblc) or its set grow
// (lblcr). A new destination goes where wlc says.
//
// Both are of use where one service has many destinations, as in front of transparent proxies. A service with one VIP has one destination,
// and lblc gives it to one server until that one has more active connections than its weight: say so in weights.
//
// Memory is bounded: at most maxDestinations are remembered, a day after their last connection at most. When all are taken, those idle for
// six minutes make room, looked for once a minute; until then, more destinations go by wlc each time. (LVS has the same numbers, but its
// bound is soft.)
const (
	maxDestinations   = 16 * 1024
	destinationExpiry = 24 * time.Hour  // LVS: lblc_expiration, lblcr_expiration
	idleDestination   = 6 * time.Minute // may be forgotten when room is needed
	sweepInterval     = time.Minute
)

// destinations is what is remembered of each destination.
type destinations[V any] struct {
	known map[stack.Addr]destination[V]
	swept time.Duration // when room was looked for last
}

// destination is one of them.
type destination[V any] struct {
	used  time.Duration
	value V
}

// get returns what is known of a. It counts as use.
func (d *destinations[V]) get(a stack.Addr, now time.Duration) (v V, ok bool) {
	e, ok := d.known[a]
	if !ok || now-e.used > destinationExpiry {
		return v, false
	}
	e.used = now
	d.known[a] = e
	return e.value, true
}

// put remembers v of a if there is room.
func (d *destinations[V]) put(a stack.Addr, now time.Duration, v V) {
	if d.known == nil {
		d.known, d.swept = map[stack.Addr]destination[V]{}, now
	}
	if _, ok := d.known[a]; !ok && len(d.known) >= maxDestinations && !d.makeRoom(now) {
		return
	}
	d.known[a] = destination[V]{now, v}
}

// makeRoom forgets up to half of the destinations, those that are idle, and reports whether there were any.
func (d *destinations[V]) makeRoom(now time.Duration) bool {
	if now-d.swept < sweepInterval {
		return false
	}
	d.swept = now
	for a, e := range d.known {
		if now-e.used > idleDestination {
			delete(d.known, a)
		}
		if len(d.known) <= maxDestinations/2 {
			break
		}
	}
	return len(d.known) < maxDestinations
}

// overfull is LVS's test of whether a destination should leave s: more active connections than its weight, while some other usable server has less
// than half of its own weight.
func overfull(r *Request, s *Server, servers []*Server) bool {
	if s.Active.Load() <= s.Weight.Load() {
		return false
	}
	for _, other := range servers {
		if r.usable(other) && int64(other.Active.Load())*2 < int64(other.Weight.Load()) {
			return true
		}
	}
	return false
}

// lblc remembers one server of each destination.
type lblc struct {
	mu    sync.Mutex
	cache destinations[int32]

	servers []*Server
}

func newLBLC(servers []*Server) *lblc { return &lblc{servers: servers} }

// Pick keeps the destination's server, or gives it another.
func (l *lblc) Pick(r Request) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.cache.get(r.Tuple.Dst, r.Now); ok {
		if s := l.servers[i]; r.usable(s) && !overfull(&r, s, l.servers) {
			return int(i)
		}
	}
	i := leastLoaded(&r, l.servers)
	if i >= 0 {
		l.cache.put(r.Tuple.Dst, r.Now, int32(i))
	}
	return i
}

// Update does nothing: weights are read at each pick.
func (l *lblc) Update() {}
