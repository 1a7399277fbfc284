package sched

import (
	"math/rand/v2"
	"testing"
)

// TestTwosSlowTwin: with the same draws the same pick as a walk over all servers that subtracts weights.
func TestTwosSlowTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(21, 22))
	for range 300 {
		servers := weights(make([]int32, 1+rnd.IntN(8))...)
		for _, s := range servers {
			s.Weight.Store(rnd.Int32N(10))
			s.Active.Store(rnd.Int32N(10))
		}
		fast := newTwos(servers)
		var draws []int64
		fast.draw = func(n int64) int64 {
			draws = append(draws, rnd.Int64N(n))
			return draws[len(draws)-1]
		}
		for range 20 {
			draws = draws[:0]
			got, want := fast.Pick(Request{}), -1
			if len(draws) == 2 {
				want = slowTwos(servers, draws[0], draws[1])
			}
			if got != want {
				t.Fatalf("draws %v: %d, the slow twin says %d", draws, got, want)
			}
		}
	}
}

// slowTwos decides between the servers that two draws fall on.
func slowTwos(servers []*Server, draws ...int64) int {
	var found []int
	for _, x := range draws {
		for i, s := range servers {
			if x -= int64(s.Weight.Load()); x < 0 {
				found = append(found, i)
				break
			}
		}
	}
	a, b := servers[found[0]], servers[found[1]]
	if float64(b.load())/float64(b.Weight.Load()) < float64(a.load())/float64(a.Weight.Load()) {
		return found[1]
	}
	return found[0]
}

// TestTwosDraws: a draw has the odds of the weights among the usable servers, by drawing again or by walking.
func TestTwosDraws(t *testing.T) {
	servers := weights(1, 2, 0, 3, 4)
	s := newTwos(servers)
	rnd := rand.New(rand.NewPCG(23, 24))
	s.draw = rnd.Int64N
	for _, overloaded := range []int{-1, 4} {
		if overloaded >= 0 {
			servers[overloaded].Overload.Store(true)
		}
		sum := int32(0)
		for _, server := range servers {
			if server.usable() {
				sum += server.Weight.Load()
			}
		}
		for name, one := range map[string]func() int{"draw": func() int { return s.one(&Request{}, s.odds.load()) }, "walk": func() int { return s.oneOfUsable(&Request{}) }} {
			count := make([]int, len(servers))
			for range 30000 {
				count[one()]++
			}
			for i, server := range servers {
				want := 0
				if server.usable() {
					want = 30000 * int(server.Weight.Load()) / int(sum)
				}
				if count[i] < want-400 || count[i] > want+400 {
					t.Errorf("%s: server %d drawn %d times, want %d", name, i, count[i], want)
				}
			}
		}
	}
}
