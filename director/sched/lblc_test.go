package sched

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tapdirector/stack"
)

// at is a request for a destination at a time.
func at(dst stack.Addr, now time.Duration) Request {
	return Request{Tuple: &stack.Tuple{Src: addr4(1), Dst: dst}, Now: now}
}

// TestDestinationsKeepTheirServer: whatever the load of the others, while there is no overload.
func TestDestinationsKeepTheirServer(t *testing.T) {
	for _, name := range []string{"lblc", "lblcr"} {
		for family := range tuples {
			servers := weights(100, 100, 100)
			s := mustNew(t, name, servers)
			home := map[uint64]int{}
			for n := range uint64(60) {
				home[n] = s.Pick(at(addrOf(family, n), 0))
				servers[home[n]].Active.Add(1)
			}
			for n, want := range home {
				servers[want].Active.Add(30)
				if got := s.Pick(at(addrOf(family, n), time.Hour)); got != want {
					t.Fatalf("%s: destination %d moved from %d to %d", name, n, want, got)
				}
				servers[want].Active.Add(-30)
			}
			for i, server := range servers {
				if n := server.Active.Load(); n != 20 {
					t.Errorf("%s: server %d has %d of 60 destinations", name, i, n)
				}
			}
		}
	}
}

// TestOverfull is LVS's condition, with its bounds.
func TestOverfull(t *testing.T) {
	for _, tc := range []struct {
		active, weight           int32
		otherActive, otherWeight int32
		overload                 bool
		want                     bool
	}{
		{10, 10, 0, 10, false, false},
		{11, 10, 0, 10, false, true},
		{11, 10, 4, 10, false, true},
		{11, 10, 5, 10, false, false},
		{11, 10, 0, 0, false, false},
		{11, 10, 0, 10, true, false},
		{11, 10, 1 << 30, 1, false, false},
	} {
		servers := weights(tc.weight, tc.otherWeight)
		servers[0].Active.Store(tc.active)
		servers[1].Active.Store(tc.otherActive)
		servers[1].Overload.Store(tc.overload)
		if got := overfull(&Request{}, servers[0], servers); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

// TestDestinationsExpire a day after their last connection, not after their first.
func TestDestinationsExpire(t *testing.T) {
	for _, name := range []string{"lblc", "lblcr"} {
		servers := weights(1, 1)
		s := mustNew(t, name, servers)
		dst, now := addrOf("IPv4", 1), time.Duration(0)
		pick := func(after time.Duration) int {
			now += after
			return s.Pick(at(dst, now))
		}
		if got := pick(0); got != 0 {
			t.Fatalf("%s: first pick %d", name, got)
		}
		servers[0].Active.Store(1) // the other is lighter now, but this one is not overfull
		for range 3 {
			if got := pick(24 * time.Hour); got != 0 {
				t.Errorf("%s: forgotten after %v", name, now)
			}
		}
		if got := pick(24*time.Hour + 1); got != 1 {
			t.Errorf("%s: remembered for more than a day: %d", name, got)
		}
	}
}

// TestSetShrinks: a set that has not changed for a day loses its most loaded server, one each day.
func TestSetShrinks(t *testing.T) {
	servers := weights(1, 1, 1)
	s := newLBLCR(servers)
	dst := addrOf("IPv6", 1)
	for i := range servers {
		if got := s.Pick(at(dst, 0)); got != i {
			t.Fatalf("picked %d to grow the set, want %d", got, i)
		}
		servers[i].Active.Store(2)
	}
	for i, active := range []int32{5, 3, 4} {
		servers[i].Active.Store(active)
	}
	day := destinationExpiry
	for _, step := range []struct {
		now  time.Duration
		size int
	}{{day, 3}, {day + 1, 2}, {2 * day, 2}, {2*day + 2, 1}, {3 * day, 1}, {3*day + 4, 1}} {
		if got := s.Pick(at(dst, step.now)); got != 1 {
			t.Errorf("at %v: picked %d, want the least loaded of the set", step.now, got)
		}
		if got := len(s.cache.known[dst].value.places); got != step.size {
			t.Errorf("at %v: %d servers in the set, want %d", step.now, got, step.size)
		}
	}
}

// TestDrainedLeavesFirst: of a set, a server without weight goes before a loaded one.
func TestDrainedLeavesFirst(t *testing.T) {
	servers := weights(1, 0, 1)
	servers[0].Active.Store(9)
	if got := newLBLCR(servers).mostOf([]int32{2, 0, 1}); got != 2 {
		t.Errorf("place %d of the set", got)
	}
	if got := newLBLCR(servers).mostOf([]int32{2, 0}); got != 1 {
		t.Errorf("place %d of the set", got)
	}
}

// TestDestinationsAreBounded: a full cache takes no more until some are idle, and then looks for room once a minute.
func TestDestinationsAreBounded(t *testing.T) {
	for _, name := range []string{"lblc", "lblcr"} {
		s := mustNew(t, name, weights(1, 1))
		size := func() int {
			if l, ok := s.(*lblc); ok {
				return len(l.cache.known)
			}
			return len(s.(*lblcr).cache.known)
		}
		n := uint64(0)
		more := func(count int, now time.Duration) {
			for range count {
				n++
				if got := s.Pick(at(addrOf("IPv4", n), now)); got < 0 {
					t.Fatalf("%s: no server", name)
				}
			}
		}
		more(maxDestinations+100, time.Second)
		if got := size(); got != maxDestinations {
			t.Errorf("%s: %d destinations, want %d", name, got, maxDestinations)
		}
		more(100, 5*time.Minute)
		if got := size(); got != maxDestinations {
			t.Errorf("%s: %d destinations while none is idle, want %d", name, got, maxDestinations)
		}
		more(1, 7*time.Minute)
		if got := size(); got != maxDestinations/2+1 {
			t.Errorf("%s: %d destinations after a sweep, want %d", name, got, maxDestinations/2+1)
		}
	}
}

// TestLocalitySlowTwins: random picks, weights and loads, against the rules written down one after the other.
func TestLocalitySlowTwins(t *testing.T) {
	rnd := rand.New(rand.NewPCG(39, 40))
	for range 200 {
		servers := weights(make([]int32, 1+rnd.IntN(6))...)
		one, many := mustNew(t, "lblc", servers), mustNew(t, "lblcr", servers)
		slow := slowLocality{servers: servers, home: map[stack.Addr]int{}, sets: map[stack.Addr][]int{}, changed: map[stack.Addr]time.Duration{}}
		now := time.Duration(0)
		for n := range 200 {
			if n%10 == 0 {
				for _, s := range servers {
					s.Weight.Store(rnd.Int32N(5))
					s.Active.Store(rnd.Int32N(12))
					s.Overload.Store(rnd.IntN(6) == 0)
				}
			}
			now += time.Duration(rnd.IntN(4)) * time.Hour
			r := at(addrOf("IPv6", rnd.Uint64N(2)), now)
			if got, want := one.Pick(r), slow.lblc(r); got != want {
				t.Fatalf("lblc, pick %d: %d, the slow twin says %d", n, got, want)
			}
			if got, want := many.Pick(r), slow.lblcr(r); got != want {
				t.Fatalf("lblcr, pick %d: %d, the slow twin says %d", n, got, want)
			}
		}
	}
}

// slowLocality remembers for ever: its picks are never a day apart.
type slowLocality struct {
	servers []*Server
	home    map[stack.Addr]int
	sets    map[stack.Addr][]int
	changed map[stack.Addr]time.Duration
}

// least is wlc over all.
func (l *slowLocality) least() int {
	return slowLeast(l.servers, (*Server).load, func(s *Server) int64 { return int64(s.Weight.Load()) })
}

// stays reports whether a destination may stay on server i.
func (l *slowLocality) stays(i int) bool {
	s := l.servers[i]
	room := slices.ContainsFunc(l.servers, func(o *Server) bool { return o.usable() && 2*o.Active.Load() < o.Weight.Load() })
	return s.usable() && !(s.Active.Load() > s.Weight.Load() && room)
}

func (l *slowLocality) lblc(r Request) int {
	i, known := l.home[r.Tuple.Dst]
	if known && l.stays(i) {
		return i
	}
	if i = l.least(); i >= 0 {
		l.home[r.Tuple.Dst] = i
	}
	return i
}

func (l *slowLocality) lblcr(r Request) int {
	dst := r.Tuple.Dst
	set := l.sets[dst]
	i := -1
	// Of equals the one that joined first.
	for _, m := range set {
		if l.servers[m].usable() && (i < 0 || l.pressure(m) < l.pressure(i)) {
			i = m
		}
	}
	if len(set) > 1 && r.Now-l.changed[dst] > destinationExpiry {
		most := slices.MaxFunc(slices.Clone(set), func(a, b int) int {
			return cmp.Or(cmp.Compare(l.pressure(a), l.pressure(b)), cmp.Compare(slices.Index(set, b), slices.Index(set, a)))
		})
		set = slices.DeleteFunc(slices.Clone(set), func(m int) bool { return m == most })
		l.sets[dst], l.changed[dst] = set, r.Now
	}
	if i >= 0 && l.stays(i) {
		return i
	}
	if i = l.least(); i >= 0 && !slices.Contains(set, i) {
		l.sets[dst], l.changed[dst] = append(slices.Clone(set), i), r.Now
	}
	return i
}

// pressure is load over weight.
func (l *slowLocality) pressure(i int) float64 {
	s := l.servers[i]
	if s.Weight.Load() == 0 {
		return math.Inf(1)
	}
	return float64(s.load()) / float64(s.Weight.Load())
}
