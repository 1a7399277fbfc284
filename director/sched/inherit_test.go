package sched

import (
	"testing"
	"time"

	"tapdirector/stack"
)

// askFor asks n times for a destination.
func askFor(s Scheduler, n int, dst byte) (places []int) {
	t := stack.Tuple{Src: stack.AddrFrom4([]byte{10, 0, 0, 1}), Dst: stack.AddrFrom4([]byte{10, 9, 9, dst})}
	for range n {
		places = append(places, s.Pick(Request{Tuple: &t, Now: time.Second}))
	}
	return places
}

// inherited makes a scheduler over servers after another one over the places of them that old has, which was asked first times.
func inherited(t *testing.T, name string, servers []*Server, old, now []int, first int) Scheduler {
	t.Helper()
	pick := func(places []int) (list []*Server) {
		for _, i := range places {
			list = append(list, servers[i])
		}
		return list
	}
	last, err := New(name, pick(old), Options{})
	if err != nil {
		t.Fatal(err)
	}
	askFor(last, first, 1)
	next, err := New(name, pick(now), Options{})
	if err != nil {
		t.Fatal(err)
	}
	Inherit(next, last, func(i int) int {
		for at, s := range now {
			if s == old[i] {
				return at
			}
		}
		return -1
	})
	return next
}

// rr goes on behind the last server that was picked.
func TestInheritRR(t *testing.T) {
	for _, c := range []struct {
		old, now []int
		first    int // picks before
		want     int // the next server
	}{
		{[]int{0, 1, 2}, []int{0, 1, 2, 3}, 0, 0}, // nothing was picked yet
		{[]int{0, 1, 2}, []int{0, 1, 2, 3}, 2, 2},
		{[]int{0, 1, 2}, []int{0, 1, 2, 3}, 3, 3}, // one more at the end of the turn
		{[]int{0, 1, 2}, []int{3, 0, 1, 2}, 1, 1},
		{[]int{0, 1, 2}, []int{0, 2}, 2, 2},    // the last one picked left
		{[]int{0, 1, 2}, []int{1, 2}, 1, 1},    // so did the first
		{[]int{0, 1, 2}, []int{2, 1, 0}, 1, 2}, // another order
		{[]int{0, 1}, []int{2, 3}, 1, 2},       // nobody stayed
		{[]int{0, 1}, []int{}, 1, -1},
		{[]int{}, []int{0, 1}, 0, 0},
	} {
		s := inherited(t, "rr", weights(1, 1, 1, 1), c.old, c.now, c.first)
		got := askFor(s, 1, 1)[0]
		if got >= 0 {
			got = c.now[got]
		}
		if got != c.want {
			t.Errorf("%v after %d picks becomes %v: server %d, want %d", c.old, c.first, c.now, got, c.want)
		}
	}
}

// wrr keeps its level, as LVS does: 4, 1 after two picks at the levels 4 and 3 goes on at 3 with the one of weight 3 that was added.
func TestInheritWRR(t *testing.T) {
	s := inherited(t, "wrr", weights(4, 1, 3), []int{0, 1}, []int{0, 1, 2}, 2)
	if got := askFor(s, 5, 1); got[0] != 0 || got[1] != 2 || got[2] != 0 || got[3] != 2 || got[4] != 0 {
		t.Errorf("picks %v, want 0 2 0 2 0", got)
	}
}

// lblc and lblcr keep what they know of destinations whose servers stay.
func TestInheritDestinations(t *testing.T) {
	for _, name := range []string{"lblc", "lblcr"} {
		servers := weights(1, 1, 1)
		servers[0].Inactive.Store(2) // destination 1 goes to server 1 at first
		servers[2].Inactive.Store(2)
		s := inherited(t, name, servers, []int{0, 1, 2}, []int{2, 0, 1}, 1)
		servers[1].Inactive.Store(9) // a new one would not
		if got := askFor(s, 1, 1)[0]; got != 2 {
			t.Errorf("%s: a known destination goes to place %d, want 2", name, got)
		}
		if got := askFor(s, 1, 2)[0]; got == 2 {
			t.Errorf("%s: a new destination goes to the most loaded", name)
		}
		gone := inherited(t, name, weights(1, 1, 1), []int{0, 1}, []int{1, 2}, 1)
		if got := askFor(gone, 1, 1)[0]; got < 0 {
			t.Errorf("%s: no server for a destination whose server left", name)
		}
	}
}

// A dead server is never picked while another can be, by any scheduler; when there is no other, a request that says so gets it.
func TestDead(t *testing.T) {
	for _, name := range Names() {
		servers := weights(3, 3, 3)
		s, err := New(name, servers, Options{Fallback: true})
		if err != nil {
			t.Fatal(err)
		}
		servers[1].Dead.Store(true)
		tuple := stack.Tuple{}
		for i := range 300 {
			tuple.Src, tuple.Dst = stack.AddrFrom4([]byte{10, 0, byte(i >> 8), byte(i)}), stack.AddrFrom4([]byte{10, 1, byte(i >> 8), byte(i)})
			if got := s.Pick(Request{Tuple: &tuple}); got != 0 && got != 2 {
				t.Fatalf("%s picks %d, server 1 being dead", name, got)
			}
		}
		servers[0].Dead.Store(true)
		servers[2].Overload.Store(true)
		if got := s.Pick(Request{Tuple: &tuple}); got >= 0 {
			t.Errorf("%s picks %d of dead and overloaded servers", name, got)
		}
		if got := s.Pick(Request{Tuple: &tuple, Dead: true}); got != 0 && got != 1 {
			t.Errorf("%s picks %d, want a dead one", name, got)
		}
		servers[0].Dead.Store(false)
		if got := s.Pick(Request{Tuple: &tuple}); got != 0 {
			t.Errorf("%s picks %d, want the one that is back", name, got)
		}
	}
}
