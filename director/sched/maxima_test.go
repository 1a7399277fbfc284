package sched

import (
	"math/rand/v2"
	"testing"
)

// TestMaxima against looking at one after the other.
func TestMaxima(t *testing.T) {
	rnd := rand.New(rand.NewPCG(37, 38))
	for n := range 70 {
		m, weights := newMaxima(n), make([]int32, n)
		for range 20 {
			for i := range weights {
				weights[i] = rnd.Int32N(6)
				m.leaf(i, weights[i])
			}
			m.build()
			for from := range n + 3 {
				least := 1 + rnd.Int32N(6)
				want := -1
				for i := n - 1; i >= from; i-- {
					if weights[i] >= least {
						want = i
					}
				}
				if got := m.next(from, least); got != want {
					t.Fatalf("%v from %d, at least %d: %d, want %d", weights, from, least, got, want)
				}
			}
		}
	}
}

// BenchmarkWRROneHeavy is what the tree is for: nearly every level has one server.
func BenchmarkWRROneHeavy(b *testing.B) {
	servers := equals(1000)
	servers[500].Weight.Store(65535)
	s := mustNew(b, "wrr", servers)
	for b.Loop() {
		s.Pick(Request{})
	}
}
