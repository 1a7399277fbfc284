package sched

import (
	"encoding/binary"
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

// ask is a request that only has a tuple.
func ask(k *stack.Tuple) Request { return Request{Tuple: k} }

func addr4(a uint32) stack.Addr {
	return stack.AddrFrom4([]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

// addrOf is address number n of a family.
func addrOf(family string, n uint64) stack.Addr {
	if family == "IPv4" {
		return addr4(0x0b000000 + uint32(n))
	}
	return stack.AddrFrom16(binary.BigEndian.AppendUint64([]byte{0x20, 1, 0xd, 0xb8, 0, 9, 0, 0}, n))
}

func tuple(src, dst string) *stack.Tuple {
	return &stack.Tuple{Src: stack.AddrFrom(netip.MustParseAddr(src)), Dst: stack.AddrFrom(netip.MustParseAddr(dst)),
		SrcPort: 40000, DstPort: 80, Proto: stack.ProtoTCP}
}

// weights makes idle servers with addresses of their own.
func weights(ws ...int32) []*Server {
	servers := make([]*Server, len(ws))
	for i, w := range ws {
		servers[i] = &Server{Index: i, Addr: addr4(0x0a4d0200 + uint32(i)), Port: 8000, QUICID: 0x0a4d0200 + uint64(i)}
		servers[i].Weight.Store(w)
	}
	return servers
}

// usual is what lb.toml says by default.
var usual = Options{Fallback: true}

func mustNew(t testing.TB, name string, servers []*Server) Scheduler {
	t.Helper()
	return mustNewWith(t, name, servers, usual)
}

func mustNewWith(t testing.TB, name string, servers []*Server, o Options) Scheduler {
	t.Helper()
	s, err := New(name, servers, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// letters picks n times and writes the picks as A, B, C; "-" is none. With count each pick becomes an active connection.
func letters(s Scheduler, k *stack.Tuple, servers []*Server, count bool, n int) string {
	var b strings.Builder
	for range n {
		i := s.Pick(ask(k))
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

		{name: "sed all idle: the heaviest", sched: "sed", weights: []int32{1, 9}, want: "B"},
		{name: "sed first of equals", sched: "sed", weights: []int32{2, 2}, want: "AA"},
		{name: "sed 3 to 1", sched: "sed", weights: []int32{3, 1}, count: true, want: "AAABAAAB"},
		{name: "sed ignores inactive connections", sched: "sed", weights: []int32{1, 1}, inactive: []int32{1000, 0}, want: "A"},
		{name: "sed skips weight 0 and overload", sched: "sed", weights: []int32{0, 9, 1}, overload: []int{1}, active: []int32{0, 0, 50}, want: "C"},
		{name: "sed the largest numbers do not overflow", sched: "sed", weights: []int32{65534, 65535}, active: []int32{1<<31 - 1, 1<<31 - 1}, want: "B"},
		{name: "sed none usable", sched: "sed", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "sed no server", sched: "sed", want: "--"},

		{name: "nq the first idle one, whatever its weight", sched: "nq", weights: []int32{1, 9}, want: "AA"},
		{name: "nq every idle one, then sed", sched: "nq", weights: []int32{3, 1}, count: true, want: "ABAAAAAB"},
		{name: "nq inactive connections do not make it busy", sched: "nq", weights: []int32{1, 9}, active: []int32{0, 1}, inactive: []int32{1000}, want: "A"},
		{name: "nq skips idle ones that are not usable", sched: "nq", weights: []int32{0, 1, 1}, overload: []int{1}, active: []int32{0, 0, 7}, want: "C"},
		{name: "nq none usable", sched: "nq", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "nq no server", sched: "nq", want: "--"},

		{name: "fo the heaviest", sched: "fo", weights: []int32{1, 3, 2}, count: true, want: "BBBBBB"},
		{name: "fo first of equals", sched: "fo", weights: []int32{1, 2, 2}, want: "BB"},
		{name: "fo the next when it is overloaded", sched: "fo", weights: []int32{1, 3, 2}, overload: []int{1}, want: "CC"},
		{name: "fo none usable", sched: "fo", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "fo no server", sched: "fo", want: "--"},

		{name: "ovf fills one after the other, one beyond its weight", sched: "ovf", weights: []int32{1, 2}, count: true, want: "BBBAA--"},
		{name: "ovf first of equals", sched: "ovf", weights: []int32{2, 2}, want: "AA"},
		{name: "ovf inactive connections do not fill", sched: "ovf", weights: []int32{2, 1}, inactive: []int32{99}, want: "A"},
		{name: "ovf skips overload", sched: "ovf", weights: []int32{2, 1}, overload: []int{0}, want: "B"},
		{name: "ovf none usable", sched: "ovf", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "ovf no server", sched: "ovf", want: "--"},

		{name: "twos alone", sched: "twos", weights: []int32{0, 5, 0}, want: "BBBB"},
		{name: "twos finds the one that is left", sched: "twos", weights: []int32{65535, 1, 65535}, overload: []int{0, 2}, want: "BBBB"},
		{name: "twos none usable", sched: "twos", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "twos no server", sched: "twos", want: "--"},

		{name: "lblc stays until more active than weight while another has room", sched: "lblc", weights: []int32{2, 3}, count: true, want: "AAABBBBB"},
		{name: "lblc none usable", sched: "lblc", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "lblc no server", sched: "lblc", want: "--"},

		{name: "lblcr grows the set", sched: "lblcr", weights: []int32{2, 3}, count: true, want: "AAABBBBB"},
		{name: "lblcr none usable", sched: "lblcr", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "lblcr no server", sched: "lblcr", want: "--"},

		{name: "sh none usable", sched: "sh", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "sh no server", sched: "sh", want: "--"},
		{name: "dh none usable", sched: "dh", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "dh no server", sched: "dh", want: "--"},
		{name: "mh none usable", sched: "mh", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "mh no weight", sched: "mh", weights: []int32{0, 0}, want: "--"},
		{name: "mh no server", sched: "mh", want: "--"},
		{name: "quic none usable", sched: "quic", weights: []int32{0, 1}, overload: []int{1}, want: "--"},
		{name: "quic no server", sched: "quic", want: "--"},
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
		{"fo ranks anew", "fo", []step{{set(1, 2, 3), "C"}, {set(3, 2, 0), "A"}, {overload(0, true), "B"}, {overload(0, false), "A"}}},
		{"ovf ranks anew", "ovf", []step{{set(1, 2, 3), "C"}, {set(3, 2, 0), "A"}, {overload(0, true), "B"}}},
		{"twos follows Update", "twos", []step{{set(0, 1, 0), "BB"}, {set(0, 0, 1), "CC"}, {set(0, 0, 0), "-"}}},
		{"lblc keeps what it chose, while it is usable", "lblc", []step{{set(0, 1, 1), "B"}, {set(1, 1, 1), "B"}, {set(1, 0, 1), "A"}, {set(1, 1, 1), "A"}}},
		{"lblc does not keep an overloaded one", "lblc", []step{{set(1, 1, 1), "A"}, {overload(0, true), "B"}, {overload(0, false), "B"}}},
		{"lblcr comes back to the members of the set", "lblcr", []step{{set(0, 1, 0), "B"}, {set(1, 0, 1), "A"}, {set(0, 1, 1), "B"}}},
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
	if got := Names(); !slices.Equal(got, []string{"rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "twos", "sh", "dh", "mh", "lblc", "lblcr", "quic"}) {
		t.Errorf("Names() = %v", got)
	}
	for _, name := range Names() {
		if s, err := New(name, nil, Options{}); err != nil || s == nil {
			t.Errorf("New(%q) = %v, %v", name, s, err)
		}
	}
	for _, tc := range []struct {
		name    string
		servers int
		o       Options
		want    string
	}{
		{"maglev", 0, Options{}, `no scheduler "maglev": there are rr, wrr, lc, wlc, sed, nq, fo, ovf, twos, sh, dh, mh, lblc, lblcr, quic`},
		{"mh", 1, Options{TableSize: 256}, `a Maglev table of 256 slots: it must be one of [251 509 1021 2039 4093 8191 16381 32749 65521 131071]`},
		{"mh", 252, Options{TableSize: 251}, `252 servers in a Maglev table of 251 slots`},
		{"mh", 65536, Options{TableSize: 131071}, `65536 servers in a Maglev table of 131071 slots`},
		{"quic", 252, Options{TableSize: 251}, `252 servers in a Maglev table of 251 slots`},
		{"quic", 1, Options{QUICIDLength: 9}, `QUIC server ids of 9 bytes: 1 to 8`},
	} {
		if _, err := New(tc.name, weights(make([]int32, tc.servers)...), tc.o); err == nil || err.Error() != tc.want {
			t.Errorf("New(%s, %d servers, %+v): %v, want %s", tc.name, tc.servers, tc.o, err, tc.want)
		}
	}
}

// TestOwnSlice: the caller may use its slice again.
func TestOwnSlice(t *testing.T) {
	for _, name := range Names() {
		servers := weights(1, 1)
		s := mustNew(t, name, servers)
		clear(servers)
		if i := s.Pick(ask(tuples["IPv6"])); i < 0 || i > 1 {
			t.Errorf("%s picked %d after the slice was cleared", name, i)
		}
	}
}

// TestServerFillsACacheLine is what keeps the counters of two servers apart.
func TestServerFillsACacheLine(t *testing.T) {
	if size := unsafe.Sizeof(Server{}); size != 64 {
		t.Errorf("a Server has %d bytes, want 64", size)
	}
}

// TestShare: over many picks each server gets its share of the weights, for random weights. How far it may be off depends on the algorithm.
func TestShare(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, tc := range []struct {
		name  string
		equal bool    // weights count only as 0 or not
		slack float64 // connections
	}{
		// A cycle of wrr that was cut off, or a last round of the others, is at most one weight away.
		{"rr", true, 1}, {"wrr", false, 51}, {"lc", true, 1}, {"wlc", false, 51}, {"sed", false, 51}, {"nq", false, 51},
		// Random, but corrected by the load.
		{"twos", false, 250},
		// A slot of 256 is 78 connections, and clients are not spread perfectly.
		{"sh", false, 500}, {"mh", false, 400}, {"quic", false, 400},
	} {
		for round := range 20 {
			ws := make([]int32, 1+rnd.IntN(10))
			for i := range ws {
				ws[i] = rnd.Int32N(50)
			}
			ws[rnd.IntN(len(ws))] = 1 + rnd.Int32N(50)
			for family := range tuples {
				t.Run(fmt.Sprintf("%s/%d/%s", tc.name, round, family), func(t *testing.T) { checkShare(t, tc.name, ws, family, tc.equal, tc.slack) })
			}
		}
	}
}

// checkShare keeps every connection it makes, so that the schedulers that look at load are asked for the same share as those that count.
func checkShare(t *testing.T, name string, ws []int32, family string, equal bool, slack float64) {
	const picks = 20000
	rnd := rand.New(rand.NewPCG(7, 8))
	servers := weights(ws...)
	s := mustNew(t, name, servers)
	k := *tuples[family]
	for range picks {
		k.Src = addrOf(family, rnd.Uint64N(1<<24))
		servers[s.Pick(ask(&k))].Active.Add(1)
	}
	total := 0.0
	share := func(i int) float64 {
		if equal {
			return float64(min(ws[i], 1))
		}
		return float64(ws[i])
	}
	for i := range ws {
		total += share(i)
	}
	for i, server := range servers {
		want := picks * share(i) / total
		if got := float64(server.Active.Load()); got < want-slack || got > want+slack {
			t.Errorf("weights %v: server %d got %v connections, want %.0f", ws, i, got, want)
		}
	}
}

func TestNoAllocs(t *testing.T) {
	for _, name := range Names() {
		servers := weights(4, 3, 2, 0)
		s := mustNew(t, name, servers)
		if n := testing.AllocsPerRun(100, func() { s.Pick(ask(tuples["IPv6"])) }); n != 0 {
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
				k := *tuples["IPv4"]
				for i := uint64(0); b.Loop(); i++ {
					k.Src = addrOf("IPv4", i&0xffff)
					s.Pick(ask(&k))
				}
			})
		}
	}
}

// BenchmarkUpdate is what a change of one weight costs, off the path.
func BenchmarkUpdate(b *testing.B) {
	for _, name := range []string{"wrr", "fo", "twos", "sh", "mh"} {
		for _, n := range []int{3, 1000} {
			servers := weights(make([]int32, n)...)
			for i, s := range servers {
				s.Weight.Store(int32(1 + i%10))
			}
			s := mustNew(b, name, servers)
			b.Run(fmt.Sprintf("%s/servers=%d", name, n), func(b *testing.B) {
				for i := int32(0); b.Loop(); i++ {
					servers[0].Weight.Store(1 + i&1)
					s.Update()
				}
			})
		}
	}
}
