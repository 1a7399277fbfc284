package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"tapdirector/stack"
)

// Which test says what of which scheduler. "Twin" is another, slower way to the same pick, over random servers; "share" that weights hold over many picks;
// "leave" what becomes of the others' clients when a server is drained. Those of no entry make no such promise.
//
//	        twin                      share                           leave
//	rr      TestRRSlowTwin            TestShare, TestConcurrentShare
//	wrr     TestWRRSlowTwin           TestShare, TestConcurrentShare
//	lc      TestLoadSlowTwins         TestShare
//	wlc     TestLoadSlowTwins         TestShare
//	sed     TestLoadSlowTwins         TestShare
//	nq      TestLoadSlowTwins         TestShare
//	fo      TestLoadSlowTwins
//	ovf     TestLoadSlowTwins
//	twos    TestTwosSlowTwin          TestShare, TestTwosDraws
//	sh      TestHashSequence          TestShare, TestSlotShares       TestDisruption, TestLeaving
//	dh      TestSlotsAreLVSs          TestDH                          TestLeaving
//	mh      TestMaglevSlowTwin        TestShare, TestMaglevShares     TestDisruption, TestLeaving
//	quic    that of mh; TestQUICServerID  TestShare                   TestLeaving, TestQUICDrain
//	lblc    TestLocalitySlowTwins                                     TestLeaving
//	lblcr   TestLocalitySlowTwins                                     TestLeaving
//
// And for every one of them with 1,000 servers: TestThousandServers (shares) and TestOnlyUsable; TestNoAllocs and BenchmarkPick (3 and 1,000) say what a pick
// costs, TestSequence what it is, pick by pick.

// property is what a scheduler promises.
type property struct {
	share  func(w int32) float64 // a server's part by its weight; nil: parts are not what it is about
	far    float64               // how far a server's connections may be from its part of 1,000 servers, of 1
	few    float64               // and by how many connections in any case
	leaves float64               // of the others' clients, how many may move when one server of n leaves; negative: it does not keep them
}

func byWeight(w int32) float64 { return float64(w) }

func alike(w int32) float64 { return float64(min(w, 1)) }

var properties = map[string]property{
	"rr":    {alike, 0, 1, -1},
	"wrr":   {byWeight, 0, 10, -1},
	"lc":    {alike, 0, 1, -1},
	"wlc":   {byWeight, 0, 2, -1},
	"sed":   {byWeight, 0, 2, -1},
	"nq":    {byWeight, 0, 2, -1},
	"twos":  {byWeight, 0.15, 6, -1},
	"fo":    {nil, 0, 0, -1},
	"ovf":   {nil, 0, 0, -1},
	"sh":    {byWeight, 0.7, 60, 0}, // a slot is 27 connections, and everybody has one
	"dh":    {alike, 0.5, 20, 0},
	"mh":    {byWeight, 0.3, 30, 0.03},
	"quic":  {byWeight, 0.3, 30, 0.03},
	"lblc":  {nil, 0, 0, 0},
	"lblcr": {nil, 0, 0, 0},
}

// TestEveryPropertyIsKnown: a scheduler that is added says what it promises.
func TestEveryPropertyIsKnown(t *testing.T) {
	for _, name := range Names() {
		if _, ok := properties[name]; !ok {
			t.Errorf("%s: no properties", name)
		}
	}
	if len(properties) != len(Names()) {
		t.Errorf("%d properties, %d schedulers", len(properties), len(Names()))
	}
}

// thousand makes servers of weights 1 to 10.
func thousand() []*Server {
	ws := make([]int32, 1000)
	for i := range ws {
		ws[i] = 1 + int32(i*7%10)
	}
	return weights(ws...)
}

// TestThousandServers: of many connections of both families, all kept, each of 1,000 servers has its part. Those that come by chance need more of them.
func TestThousandServers(t *testing.T) {
	for _, name := range Names() {
		p, picks := properties[name], 11000 // 2 for each weight
		if p.share == nil {
			continue
		}
		if p.far > 0 {
			picks *= 10
		}
		t.Run(name, func(t *testing.T) {
			servers := thousand()
			s := mustNewWith(t, name, servers, Options{Fallback: true, TableSize: 131071})
			total := 0.0
			for _, server := range servers {
				total += p.share(server.Weight.Load())
			}
			rnd := rand.New(rand.NewPCG(41, 42))
			for n := range picks {
				family := []string{"IPv4", "IPv6"}[n%2]
				k := stack.Tuple{Src: addrOf(family, rnd.Uint64()>>8), Dst: addrOf(family, rnd.Uint64()>>8), SrcPort: uint16(rnd.Uint32()), DstPort: 80, Proto: stack.ProtoTCP}
				servers[s.Pick(ask(&k))].Active.Add(1)
			}
			for i, server := range servers {
				want := float64(picks) * p.share(server.Weight.Load()) / total
				slack := p.few + p.far*want
				if got := float64(server.Active.Load()); got < want-slack || got > want+slack {
					t.Fatalf("server %d of weight %d got %v connections, want %.1f, give or take %.1f", i, server.Weight.Load(), got, want, slack)
				}
			}
		})
	}
}

// TestLeaving: when one of n servers is drained, its clients (or destinations) go to others, no other's move, or hardly any; and when it is back, all are
// where they were, with schedulers that remember nothing.
func TestLeaving(t *testing.T) {
	for _, name := range Names() {
		p := properties[name]
		if p.leaves < 0 {
			continue
		}
		for _, n := range []int{3, 100, 1000} {
			t.Run(fmt.Sprintf("%s/servers=%d", name, n), func(t *testing.T) {
				cs := clients("IPv6", 5000)
				for i, k := range cs {
					k.Dst = addrOf("IPv6", uint64(i)*7919) // each is a destination, too
				}
				servers := equals(n)
				s := mustNewWith(t, name, servers, Options{Fallback: true, TableSize: 131071})
				before := picks(s, cs)
				gone := before[0]
				servers[gone].Weight.Store(0)
				s.Update()
				drained := picks(s, cs)
				if slices.Contains(drained, gone) || slices.Contains(drained, -1) {
					t.Errorf("clients of drained server %d went there or nowhere", gone)
				}
				if m := moved(before, drained, gone); m > p.leaves {
					t.Errorf("%.2f %% of the others' clients moved, want at most %.2f", 100*m, 100*p.leaves)
				}
				servers[gone].Weight.Store(1)
				s.Update()
				if m := moved(before, picks(s, cs), -1); m != 0 && name != "lblc" && name != "lblcr" {
					t.Errorf("%.2f %% of the clients are elsewhere when the server is back", 100*m)
				}
			})
		}
	}
}

// TestOnlyUsable: of 1,000 servers, most of them drained or overloaded and other ones all the time, none but a usable one is picked.
func TestOnlyUsable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(43, 44))
	for _, name := range Names() {
		servers := thousand()
		s := mustNew(t, name, servers)
		for round := range 20 {
			for i, server := range servers {
				server.Weight.Store(int32(max(0, rnd.IntN(12)-8)))
				server.Overload.Store(rnd.IntN(4) == 0)
				server.Active.Store(rnd.Int32N(3))
				if i == round {
					server.Weight.Store(10)
					server.Overload.Store(false)
				}
			}
			s.Update()
			for range 50 {
				k := stack.Tuple{Src: addrOf("IPv4", rnd.Uint64N(1<<24)), Dst: addrOf("IPv4", rnd.Uint64N(1<<24)), SrcPort: uint16(rnd.Uint32()), DstPort: 80}
				if i := s.Pick(ask(&k)); i < 0 || !servers[i].usable() {
					t.Fatalf("%s, round %d: picked %d", name, round, i)
				}
			}
		}
	}
}

// TestRRSlowTwin: the next usable one behind the last, whatever becomes of weights and overload between picks.
func TestRRSlowTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(45, 46))
	for range 300 {
		servers := weights(make([]int32, rnd.IntN(7))...)
		s, last := mustNew(t, "rr", servers), -1
		for n := range 200 {
			if n%10 == 0 {
				shake(rnd, servers)
				s.Update()
			}
			want := -1
			for step := 1; step <= len(servers) && want < 0; step++ {
				if i := (last + step) % len(servers); servers[i].usable() {
					want = i
				}
			}
			if want >= 0 {
				last = want
			}
			if got := s.Pick(Request{}); got != want {
				t.Fatalf("pick %d: %d, the slow twin says %d", n, got, want)
			}
		}
	}
}
