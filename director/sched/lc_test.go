package sched

import (
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestLoadSlowTwins checks the schedulers that look at every server against exact fractions.
func TestLoadSlowTwins(t *testing.T) {
	one := func(*Server) int64 { return 1 }
	weight := func(s *Server) int64 { return int64(s.Weight.Load()) }
	twins := map[string]func([]*Server) int{
		"lc":  func(s []*Server) int { return slowLeast(s, (*Server).load, one) },
		"wlc": func(s []*Server) int { return slowLeast(s, (*Server).load, weight) },
		"sed": func(s []*Server) int { return slowLeast(s, plusOne, weight) },
		"nq":  slowNQ,
		"fo":  func(s []*Server) int { return slowHeaviest(s, func(*Server) bool { return true }) },
		"ovf": func(s []*Server) int {
			return slowHeaviest(s, func(s *Server) bool { return s.Active.Load() <= s.Weight.Load() })
		},
	}
	rnd := rand.New(rand.NewPCG(25, 26))
	for range 2000 {
		servers := weights(make([]int32, rnd.IntN(7))...)
		largest := []int32{4, 1 << 16, 1 << 30}[rnd.IntN(3)]
		for _, s := range servers {
			s.Weight.Store(rnd.Int32N(min(largest, 1<<16)))
			s.Active.Store(rnd.Int32N(largest) / (1 + rnd.Int32N(2)*largest/3))
			s.Inactive.Store(rnd.Int32N(largest))
			s.Overload.Store(rnd.IntN(4) == 0)
		}
		for name, twin := range twins {
			if got, want := mustNew(t, name, servers).Pick(Request{}), twin(servers); got != want {
				t.Fatalf("%s: %d, the slow twin says %d", name, got, want)
			}
		}
	}
}

func plusOne(s *Server) int64 { return int64(s.Active.Load()) + 1 }

// slowLeast is the first usable server of the smallest load/weight.
func slowLeast(servers []*Server, load, weight func(*Server) int64) int {
	best, least := -1, new(big.Rat)
	for i, s := range servers {
		if !s.usable() {
			continue
		}
		if ratio := big.NewRat(load(s), weight(s)); best < 0 || ratio.Cmp(least) < 0 {
			best, least = i, ratio
		}
	}
	return best
}

func slowNQ(servers []*Server) int {
	for i, s := range servers {
		if s.usable() && s.Active.Load() == 0 {
			return i
		}
	}
	return slowLeast(servers, plusOne, func(s *Server) int64 { return int64(s.Weight.Load()) })
}

// slowHeaviest is the first usable server of the largest weight among those with room.
func slowHeaviest(servers []*Server, room func(*Server) bool) int {
	best := -1
	for i, s := range servers {
		if s.usable() && room(s) && (best < 0 || s.Weight.Load() > servers[best].Weight.Load()) {
			best = i
		}
	}
	return best
}
