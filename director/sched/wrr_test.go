package sched

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// slowWRR is the slow twin of wrr: every level is visited, usable or not.
type slowWRR struct {
	servers              []*Server
	at, level, top, step int
}

func (w *slowWRR) update() {
	step, largest := 0, 0
	for _, s := range w.servers {
		weight := int(s.Weight.Load())
		largest = max(largest, weight)
		if weight > 0 {
			step = slowGCD(step, weight)
		}
	}
	w.at, w.step, w.top = -1, max(step, 1), 0
	if largest > 0 {
		w.top = largest - (w.step - 1)
	}
	if w.level == 0 || w.level > w.top {
		w.level = w.top
	} else if w.step > 1 {
		w.level = w.level/w.step*w.step + 1
	}
}

// slowGCD tries all divisors.
func slowGCD(a, b int) int {
	for d := max(a, b); d > 1; d-- {
		if a%d == 0 && b%d == 0 {
			return d
		}
	}
	return 1
}

func (w *slowWRR) pick() int {
	if w.top == 0 || !anyUsable(w.servers) {
		return -1
	}
	for {
		w.at++
		if w.at == len(w.servers) {
			w.at = -1
			if w.level -= w.step; w.level <= 0 {
				w.level = w.top
			}
			continue
		}
		s := w.servers[w.at]
		if int(s.Weight.Load()) >= w.level && !s.Overload.Load() {
			return w.at
		}
	}
}

func anyUsable(servers []*Server) bool {
	for _, s := range servers {
		if s.usable() {
			return true
		}
	}
	return false
}

// TestWRRSlowTwin runs both over random weights that change, overload included.
func TestWRRSlowTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		servers := weights(make([]int32, rnd.IntN(7))...)
		fast, slow := mustNew(t, "wrr", servers), &slowWRR{servers: servers}
		slow.update()
		for range 10 {
			shake(rnd, servers)
			fast.Update()
			slow.update()
			for n := range 50 {
				if n%10 == 9 && len(servers) > 0 {
					s := servers[rnd.IntN(len(servers))]
					s.Overload.Store(!s.Overload.Load())
				}
				if got, want := fast.Pick(ask(tuples["IPv4"])), slow.pick(); got != want {
					t.Fatalf("pick %d: %d, the slow twin says %d", n, got, want)
				}
			}
		}
	}
}

// shake gives every server a new weight, often with a common divisor or 0.
func shake(rnd *rand.Rand, servers []*Server) {
	unit := 1 + rnd.Int32N(5)
	for _, s := range servers {
		s.Weight.Store(rnd.Int32N(8) * unit)
		s.Overload.Store(rnd.IntN(5) == 0)
	}
}

func TestGCD(t *testing.T) {
	for a := range int32(40) {
		for b := range int32(40) {
			if a == 0 && b == 0 {
				continue
			}
			if got, want := gcd(a, b), int32(slowGCD(int(a), int(b))); got != want {
				t.Errorf("gcd(%d, %d) = %d, want %d", a, b, got, want)
			}
		}
	}
}

// TestConcurrentShare: for rr and wrr the number of picks is exact however many workers pick, because no turn is given twice.
func TestConcurrentShare(t *testing.T) {
	for name, want := range map[string][]int32{"rr": {3000, 3000, 3000}, "wrr": {4000, 3000, 2000}} {
		t.Run(name, func(t *testing.T) {
			servers := weights(4, 3, 2)
			s := mustNew(t, name, servers)
			concurrently(9, func() {
				for range 1000 {
					servers[s.Pick(ask(tuples["IPv4"]))].Active.Add(1)
				}
			})
			for i, w := range want {
				if got := servers[i].Active.Load(); got != w {
					t.Errorf("server %d got %d of 9000, want %d", i, got, w)
				}
			}
		})
	}
}

// TestConcurrentChanges is for the race detector: picks while weights, overload and counters change give a place in range or none.
func TestConcurrentChanges(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			servers := weights(4, 3, 2)
			s := mustNew(t, name, servers)
			concurrently(4, func() {
				rnd := rand.New(rand.NewPCG(5, 6))
				for range 100 {
					shake(rnd, servers)
					s.Update()
					if i := s.Pick(ask(tuples["IPv6"])); i < -1 || i >= len(servers) {
						t.Errorf("picked %d", i)
					} else if i >= 0 {
						servers[i].Inactive.Add(1)
					}
				}
			})
		})
	}
}

// concurrently runs f in n goroutines and waits for them.
func concurrently(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}
