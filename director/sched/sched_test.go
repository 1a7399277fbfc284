package sched

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"tapdirector/stack"
)

// tuples are a client's first packets in both families: what a scheduler answers must not depend on the family.
var tuples = map[string]*stack.Tuple{
	"IPv4": tuple("10.77.1.7", "10.77.1.100"),
	"IPv6": tuple("2001:db8:1::7", "2001:db8:1::100"),
}

func tuple(src, dst string) *stack.Tuple {
	return &stack.Tuple{Src: stack.AddrFrom(netip.MustParseAddr(src)), Dst: stack.AddrFrom(netip.MustParseAddr(dst)),
		SrcPort: 40000, DstPort: 80, Proto: stack.ProtoTCP}
}

// weights makes idle servers.
func weights(ws ...int32) []*Server {
	servers := make([]*Server, len(ws))
	for i, w := range ws {
		servers[i] = &Server{Index: i}
		servers[i].Weight.Store(w)
	}
	return servers
}

func mustNew(t testing.TB, name string, servers []*Server) Scheduler {
	t.Helper()
	s, err := New(name, servers)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// letters picks n times and writes the picks as A, B, C; "-" is none. With count each pick becomes an active connection.
func letters(s Scheduler, k *stack.Tuple, servers []*Server, count bool, n int) string {
	var b strings.Builder
	for range n {
		i := s.Pick(k)
		if i < 0 {
			b.WriteByte('-')
			continue
		}
		b.WriteByte('A' + byte(i))
		if count {
			servers[i].Active.Add(1)
		}
	}
	return b.String()
}

func TestSequence(t *testing.T) {
	for _, tc := range []struct {
		name     string
		sched    string
		weights  []int32
		overload []int
		active   []int32
		inactive []int32
		count    bool
		want     string
	}{
		{name: "rr goes round", sched: "rr", weights: []int32{1, 1, 1}, want: "ABCABCA"},
		{name: "rr ignores how large a weight is", sched: "rr", weights: []int32{9, 1, 65535}, want: "ABCABC"},
		{name: "rr skips weight 0", sched: "rr", weights: []int32{1, 0, 1}, want: "ACACA"},
		{name: "rr skips overload", sched: "rr", weights: []int32{1, 1, 1}, overload: []int{0}, want: "BCBCB"},
		{name: "rr alone", sched: "rr", weights: []int32{1}, want: "AAA"},
		{name: "rr none usable", sched: "rr", weights: []int32{0, 1}, overload: []int{1}, want: "---"},
		{name: "rr no server", sched: "rr", want: "--"},

		{name: "wrr as in LVS's manual", sched: "wrr", weights: []int32{4, 3, 2}, want: "AABABCABC" + "AABABCABC"},
		{name: "wrr equal weights are rr", sched: "wrr", weights: []int32{7, 7, 7}, want: "ABCABC"},
		{name: "wrr by the common divisor", sched: "wrr", weights: []int32{200, 100}, want: "AABAAB"},
		{name: "wrr heavy one last", sched: "wrr", weights: []int32{1, 3}, want: "BBABBBAB"},
		{name: "wrr skips weight 0", sched: "wrr", weights: []int32{0, 2, 1}, want: "BBCBBC"},
		{name: "wrr skips overload", sched: "wrr", weights: []int32{4, 3, 2}, overload: []int{0}, want: "BBCBC" + "BBCBC"},
		{name: "wrr a huge overloaded weight costs nothing", sched: "wrr", weights: []int32{65535, 1}, overload: []int{0}, want: "BBBB"},
		{name: "wrr alone", sched: "wrr", weights: []int32{5}, want: "AAA"},
		{name: "wrr all 0", sched: "wrr", weights: []int32{0, 0}, want: "---"},
		{name: "wrr all overloaded", sched: "wrr", weights: []int32{3, 2}, overload: []int{0, 1}, want: "---"},
		{name: "wrr no server", sched: "wrr", want: "--"},

		{name: "lc first of equals", sched: "lc", weights: []int32{1, 1, 1}, want: "AAA"},
		{name: "lc fills evenly", sched: "lc", weights: []int32{1, 1, 1}, count: true, want: "ABCABCA"},
		{name: "lc ignores how large a weight is", sched: "lc", weights: []int32{1, 100}, count: true, want: "ABABAB"},
		{name: "lc least load", sched: "lc", weights: []int32{1, 1, 1}, active: []int32{3, 1, 2}, want: "BB"},
		{name: "lc an active connection is 256 inactive ones", sched: "lc", weights: []int32{1, 1}, active: []int32{1, 0}, inactive: []int32{0, 255}, want: "B"},
		{name: "lc 256 inactive ones are an active connection", sched: "lc", weights: []int32{1, 1}, active: []int32{1, 0}, inactive: []int32{0, 257}, want: "A"},
		{name: "lc skips weight 0 and overload", sched: "lc", weights: []int32{0, 1, 1}, overload: []int{1}, active: []int32{0, 0, 9}, want: "CC"},
		{name: "lc none usable", sched: "lc", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "lc no server", sched: "lc", want: "--"},

		{name: "wlc first of equals", sched: "wlc", weights: []int32{1, 1}, want: "AA"},
		{name: "wlc all idle: the first, whatever the weight", sched: "wlc", weights: []int32{1, 9}, want: "A"},
		{name: "wlc 3 to 1", sched: "wlc", weights: []int32{3, 1}, count: true, want: "ABAAABAA"},
		{name: "wlc equal load over weight: the first", sched: "wlc", weights: []int32{1, 2}, active: []int32{2, 4}, want: "A"},
		{name: "wlc load over weight", sched: "wlc", weights: []int32{1, 4}, active: []int32{2, 7}, want: "B"},
		{name: "wlc weight 0 never wins", sched: "wlc", weights: []int32{0, 1}, active: []int32{0, 1000}, want: "BB"},
		{name: "wlc skips overload", sched: "wlc", weights: []int32{100, 1}, overload: []int{0}, active: []int32{0, 1000}, want: "BB"},
		{name: "wlc the largest numbers do not overflow", sched: "wlc", weights: []int32{65535, 65534},
			active: []int32{1<<31 - 1, 1<<31 - 1}, inactive: []int32{1<<31 - 1, 1<<31 - 1}, want: "A"},
		{name: "wlc none usable", sched: "wlc", weights: []int32{0, 0}, want: "--"},
		{name: "wlc no server", sched: "wlc", want: "--"},
	} {
		for family, k := range tuples {
			t.Run(tc.name+"/"+family, func(t *testing.T) {
				servers := weights(tc.weights...)
				for _, i := range tc.overload {
					servers[i].Overload.Store(true)
				}
				for i := range tc.active {
					servers[i].Active.Store(tc.active[i])
				}
				for i := range tc.inactive {
					servers[i].Inactive.Store(tc.inactive[i])
				}
				s := mustNew(t, tc.sched, servers)
				if got := letters(s, k, servers, tc.count, len(tc.want)); got != tc.want {
					t.Errorf("picked %s, want %s", got, tc.want)
				}
			})
		}
	}
}

// TestChanges changes weights and overload under a running scheduler.
func TestChanges(t *testing.T) {
	set := func(ws ...int32) func([]*Server) {
		return func(servers []*Server) {
			for i, w := range ws {
				servers[i].Weight.Store(w)
			}
		}
	}
	overload := func(i int, on bool) func([]*Server) {
		return func(servers []*Server) { servers[i].Overload.Store(on) }
	}
	type step struct {
		change func([]*Server)
		want   string
	}
	for _, tc := range []struct {
		name, sched string
		steps       []step
	}{
		{"rr keeps its place", "rr", []step{{set(1, 1, 1), "AB"}, {set(1, 1, 0), "ABA"}, {set(1, 1, 1), "BCA"}}},
		{"rr comes back from none", "rr", []step{{set(0, 0, 0), "-"}, {set(1, 1, 1), "ABC"}}},
		{"wrr goes to the first server at the same level", "wrr", []step{{set(4, 3, 2), "AAB"}, {set(4, 3, 2), "ABABCABC"}}},
		{"wrr a lower top", "wrr", []step{{set(4, 3, 4), "A"}, {set(1, 1, 2), "CABC"}}},
		{"wrr the level fits the new step", "wrr", []step{{set(5, 4, 0), "AAB"}, {set(6, 3, 0), "AAB"}}},
		{"wrr comes back from none", "wrr", []step{{set(0, 0, 0), "--"}, {set(2, 1, 0), "AAB"}}},
		{"wrr overload comes and goes", "wrr", []step{{set(2, 1, 1), "A"}, {overload(0, true), "BCBC"}, {overload(0, false), "ABCA"}}},
		{"lc follows at once", "lc", []step{{set(1, 1, 1), "A"}, {set(0, 1, 1), "B"}, {overload(1, true), "C"}}},
		{"wlc follows at once", "wlc", []step{{set(1, 1, 1), "A"}, {set(0, 1, 1), "B"}, {overload(1, true), "C"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			servers := weights(0, 0, 0)
			s := mustNew(t, tc.sched, servers)
			for i, st := range tc.steps {
				st.change(servers)
				s.Update()
				if got := letters(s, tuples["IPv4"], servers, false, len(st.want)); got != st.want {
					t.Fatalf("step %d: picked %s, want %s", i, got, st.want)
				}
			}
		})
	}
}

func TestNew(t *testing.T) {
	if got := Names(); !slices.Equal(got, []string{"rr", "wrr", "lc", "wlc"}) {
		t.Errorf("Names() = %v", got)
	}
	for _, name := range Names() {
		if s, err := New(name, nil); err != nil || s == nil {
			t.Errorf("New(%q) = %v, %v", name, s, err)
		}
	}
	if _, err := New("maglev", nil); err == nil || err.Error() != `no scheduler "maglev": there are rr, wrr, lc, wlc` {
		t.Errorf("New(maglev): %v", err)
	}
}

// TestOwnSlice: the caller may use its slice again.
func TestOwnSlice(t *testing.T) {
	for _, name := range Names() {
		servers := weights(1, 1)
		s := mustNew(t, name, servers)
		clear(servers)
		if i := s.Pick(tuples["IPv6"]); i != 0 {
			t.Errorf("%s picked %d after the slice was cleared, want 0", name, i)
		}
	}
}

// TestServerFillsACacheLine is what keeps the counters of two servers apart.
func TestServerFillsACacheLine(t *testing.T) {
	if size := unsafe.Sizeof(Server{}); size != 64 {
		t.Errorf("a Server has %d bytes, want 64", size)
	}
}

// TestShare: over many picks each server gets its share of the weights, for random weights.
func TestShare(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, name := range Names() {
		for round := range 20 {
			ws := make([]int32, 1+rnd.IntN(10))
			for i := range ws {
				ws[i] = rnd.Int32N(50)
			}
			ws[rnd.IntN(len(ws))] = 1 + rnd.Int32N(50)
			t.Run(fmt.Sprintf("%s/%d", name, round), func(t *testing.T) { checkShare(t, name, ws) })
		}
	}
}

// checkShare keeps every connection it makes, so that the schedulers that look at load are asked for the same share as those that count.
func checkShare(t *testing.T, name string, ws []int32) {
	const picks = 20000
	servers := weights(ws...)
	s := mustNew(t, name, servers)
	for range picks {
		servers[s.Pick(tuples["IPv4"])].Active.Add(1)
	}
	total := 0.0
	share := func(i int) float64 {
		if name == "rr" || name == "lc" {
			return float64(min(ws[i], 1))
		}
		return float64(ws[i])
	}
	for i := range ws {
		total += share(i)
	}
	for i, server := range servers {
		want := picks * share(i) / total
		// A cycle of wrr that was cut off, or a last round of the others, is at most one weight away.
		if got := float64(server.Active.Load()); got < want-51 || got > want+51 {
			t.Errorf("weights %v: server %d got %v connections, want %.0f", ws, i, got, want)
		}
	}
}

func TestNoAllocs(t *testing.T) {
	for _, name := range Names() {
		servers := weights(4, 3, 2, 0)
		s := mustNew(t, name, servers)
		if n := testing.AllocsPerRun(100, func() { s.Pick(tuples["IPv6"]); s.Update() }); n != 0 {
			t.Errorf("%s: %v allocations per pick", name, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, name := range Names() {
		for _, n := range []int{3, 1000} {
			servers := weights(make([]int32, n)...)
			for i, s := range servers {
				s.Weight.Store(int32(1 + i%10))
				s.Active.Store(int32(i * 7919 % 1000))
			}
			s := mustNew(b, name, servers)
			b.Run(fmt.Sprintf("%s/servers=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s.Pick(tuples["IPv4"])
				}
			})
		}
	}
}
