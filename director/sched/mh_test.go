package sched

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tapdirector/stack"
)

// clients are n tuples of a family, the same each time.
func clients(family string, n int) []*stack.Tuple {
	rnd := rand.New(rand.NewPCG(15, 16))
	tuples := make([]*stack.Tuple, n)
	for i := range tuples {
		tuples[i] = &stack.Tuple{Src: addrOf(family, rnd.Uint64N(1<<24)), Dst: addrOf(family, 1<<25), SrcPort: uint16(rnd.Uint32()), DstPort: 443, Proto: stack.ProtoUDP}
	}
	return tuples
}

// picks asks for every client. -1 is none.
func picks(s Scheduler, clients []*stack.Tuple) []int {
	got := make([]int, len(clients))
	for i, k := range clients {
		got[i] = s.Pick(ask(k))
	}
	return got
}

// equals makes n servers of weight 1.
func equals(n int) []*Server {
	ws := make([]int32, n)
	for i := range ws {
		ws[i] = 1
	}
	return weights(ws...)
}

// TestMHGolden pins the mapping: a change of it moves every client when one of two directors is updated.
func TestMHGolden(t *testing.T) {
	for _, tc := range []struct {
		family, scheduler string
		o                 Options
		want              string
	}{
		{"IPv4", "mh", Options{}, "ECDCCEEDCCCDEECECCDDEEEE"},
		{"IPv4", "mh", Options{Port: true}, "EECCEBCCECBCEDBEDCEEDDEE"},
		{"IPv6", "mh", Options{}, "BCEEAEDDECDCECDBEECDEEEC"},
		{"IPv6", "mh", Options{TableSize: 251}, "DDEEADEECEBCDEBBDDDEEADE"},
		{"IPv4", "quic", Options{}, "ECDCCEEDCCCDEECECCDDEEEE"},
	} {
		s := mustNewWith(t, tc.scheduler, weights(1, 2, 3, 4, 5), tc.o)
		got := ""
		for _, i := range picks(s, clients(tc.family, 24)) {
			got += string(rune('A' + i))
		}
		if got != tc.want {
			t.Errorf("%s %s %+v: %s, want %s", tc.family, tc.scheduler, tc.o, got, tc.want)
		}
	}
}

// TestMHOrder: two directors whose files list the servers in another order pick the same ones, usable or not.
func TestMHOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(17, 18))
	for _, name := range []string{"mh", "quic"} {
		for family := range tuples {
			here := weights(5, 1, 7, 0, 3, 3, 2)
			there := make([]*Server, len(here))
			for i, j := range rnd.Perm(len(here)) {
				there[j] = here[i]
			}
			s, u := mustNew(t, name, here), mustNew(t, name, there)
			for n, k := range clients(family, 5000) {
				if n%1000 == 999 {
					here[n/1000].Overload.Store(true)
				}
				if a, b := s.Pick(ask(k)), u.Pick(ask(k)); here[a] != there[b] {
					t.Fatalf("%s: client %v: server %d here, %d there", name, k.Src, here[a].Index, there[b].Index)
				}
			}
		}
	}
}

// TestMHHistory: the table depends on the weights that are, not on those that were.
func TestMHHistory(t *testing.T) {
	servers := weights(3, 1, 2, 5)
	s := mustNew(t, "mh", servers)
	before := picks(s, clients("IPv4", 2000))
	for _, ws := range [][]int32{{3, 0, 2, 5}, {1, 1, 1, 1}, {0, 0, 0, 0}, {3, 1, 2, 5}} {
		for i, w := range ws {
			servers[i].Weight.Store(w)
		}
		s.Update()
		fresh := picks(mustNew(t, "mh", weights(ws...)), clients("IPv4", 2000))
		for i, got := range picks(s, clients("IPv4", 2000)) {
			if got != fresh[i] {
				t.Fatalf("weights %v: client %d has server %d, in a new table %d", ws, i, got, fresh[i])
			}
			if ws[1] == 1 && ws[3] == 5 && got != before[i] {
				t.Fatalf("client %d did not come back to server %d", i, before[i])
			}
		}
	}
}

// TestDisruption: how many of the clients of the other servers change theirs when one of n leaves (weight 0), is overloaded, or is added. For mh
// it is a few, and fewer the larger the table; for sh everybody when a server is added, nobody when one of weight 1 drains.
func TestDisruption(t *testing.T) {
	for _, tc := range []struct {
		name                 string
		n, size              int
		leaves, added, atAll float64 // of 1: the others' clients that move when one leaves; all that move when one is added; at least, too
	}{
		{"mh", 3, 4093, 0.01, 0.27, 0},
		{"mh", 3, 16381, 0.015, 0.27, 0},
		{"mh", 10, 4093, 0.02, 0.12, 0},
		{"mh", 10, 16381, 0.01, 0.11, 0},
		{"mh", 10, 65521, 0.005, 0.11, 0},
		{"mh", 100, 16381, 0.02, 0.03, 0},
		{"mh", 100, 131071, 0.007, 0.015, 0},
		{"mh", 1000, 131071, 0.01, 0.01, 0},
		{"sh", 3, 0, 0, 1, 0.6},
		{"sh", 10, 0, 0, 1, 0.8},
		{"sh", 100, 0, 0, 1, 0.7},
	} {
		t.Run(fmt.Sprintf("%s/servers=%d/slots=%d", tc.name, tc.n, tc.size), func(t *testing.T) {
			o := Options{Fallback: true, TableSize: tc.size}
			cs := clients("IPv4", 20000)
			servers := equals(tc.n + 1)
			s := mustNewWith(t, tc.name, servers[:tc.n], o)
			before := picks(s, cs)

			added := moved(before, picks(mustNewWith(t, tc.name, servers, o), cs), -1)
			if added > tc.added || added < tc.atAll {
				t.Errorf("one added: %.2f %% of the clients moved", 100*added)
			}
			gone := tc.n / 2
			servers[gone].Overload.Store(true)
			if m := moved(before, picks(s, cs), gone); m != 0 {
				t.Errorf("one overloaded: %.2f %% of the others' clients moved", 100*m)
			}
			servers[gone].Overload.Store(false)
			servers[gone].Weight.Store(0)
			s.Update()
			left := moved(before, picks(s, cs), gone)
			if left > tc.leaves {
				t.Errorf("one left: %.2f %% of the others' clients moved", 100*left)
			}
			t.Logf("one left: %.2f %% of the others' clients moved; one added: %.2f %% of all", 100*left, 100*added)
		})
	}
}

// moved is the share of the clients, but those of server gone, that changed their server.
func moved(before, after []int, gone int) float64 {
	others, changed := 0, 0
	for i := range before {
		if before[i] == gone {
			continue
		}
		others++
		if before[i] != after[i] {
			changed++
		}
	}
	return float64(changed) / float64(others)
}

// TestFallback: the clients of a server that takes none are spread over the others by weight, or get none.
func TestFallback(t *testing.T) {
	for _, name := range []string{"sh", "mh", "quic"} {
		for family := range tuples {
			servers := weights(1, 1, 1, 3)
			with, without := mustNew(t, name, servers), mustNewWith(t, name, servers, Options{})
			cs := clients(family, 20000)
			before := picks(without, cs)
			servers[0].Overload.Store(true)
			spread := make([]int, len(servers))
			for i, k := range cs {
				a, b := with.Pick(ask(k)), without.Pick(ask(k))
				switch {
				case before[i] != 0 && (a != before[i] || b != before[i]):
					t.Fatalf("%s: a client of server %d moved to %d or %d", name, before[i], a, b)
				case before[i] == 0 && b != -1:
					t.Fatalf("%s: server %d without the fallback", name, b)
				case before[i] == 0:
					spread[a]++
				}
			}
			total := spread[1] + spread[2] + spread[3]
			for i, share := range []float64{0, 0.2, 0.2, 0.6} {
				if got := float64(spread[i]) / float64(total); got < share-0.08 || got > share+0.08 {
					t.Errorf("%s %s: server %d got %.2f of the clients of server 0, want %.2f", name, family, i, got, share)
				}
			}
		}
	}
}

// TestFallbackOfMany: with all servers but one overloaded, every client finds it.
func TestFallbackOfMany(t *testing.T) {
	for _, name := range []string{"sh", "dh", "mh", "quic"} {
		servers := equals(1000)
		for i, s := range servers {
			s.Overload.Store(i != 777)
		}
		s := mustNew(t, name, servers)
		for _, k := range clients("IPv6", 200) {
			if got := s.Pick(ask(k)); got != 777 {
				t.Fatalf("%s: picked %d", name, got)
			}
		}
	}
}

// TestHashPort: without it a client's port does not matter, with it its connections spread.
func TestHashPort(t *testing.T) {
	for _, name := range []string{"sh", "mh", "quic"} {
		for family, k := range tuples {
			for _, port := range []bool{false, true} {
				s := mustNewWith(t, name, equals(8), Options{Port: port})
				seen := map[int]bool{}
				c := *k
				for c.SrcPort = 1024; c.SrcPort < 1524; c.SrcPort++ {
					seen[s.Pick(ask(&c))] = true
				}
				if want := map[bool]int{false: 1, true: 8}[port]; len(seen) != want {
					t.Errorf("%s %s, port %v: %d servers, want %d", name, family, port, len(seen), want)
				}
			}
		}
	}
}

// TestHashSpreads: addresses in a row, which is how clients come, do not fall into the same slots.
func TestHashSpreads(t *testing.T) {
	for family := range tuples {
		count := make([]int, 64)
		for i := range uint64(64000) {
			count[hash(seedClient, addrOf(family, i), 0)%64]++
		}
		for slot, n := range count {
			if n < 850 || n > 1150 {
				t.Errorf("%s: %d of 64000 in slot %d of 64", family, n, slot)
			}
		}
	}
}
