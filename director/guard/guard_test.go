package guard

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/stack"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func address(text string) stack.Addr { return stack.AddrFrom(netip.MustParseAddr(text)) }

func TestAllows(t *testing.T) {
	for _, tc := range []struct {
		name        string
		allow, deny []netip.Prefix
		yes, no     []string
	}{
		{"no lists", nil, nil, []string{"0.0.0.0", "255.255.255.255", "::", "2001:db8::1"}, nil},
		{"deny", nil, prefixes("10.1.0.0/16", "2001:db8:1::/48"),
			[]string{"10.0.255.255", "10.2.0.0", "2001:db8::ffff", "2001:db8:2::"}, []string{"10.1.0.0", "10.1.255.255", "2001:db8:1::", "2001:db8:1:ffff:ffff:ffff:ffff:ffff"}},
		{"allow", prefixes("10.1.0.0/16", "2001:db8:1::/48"), nil,
			[]string{"10.1.0.0", "10.1.255.255", "2001:db8:1::5"}, []string{"10.0.255.255", "10.2.0.0", "2001:db8:2::", "::"}},
		{"allow of one family only", prefixes("10.1.0.0/16"), nil, []string{"10.1.2.3"}, []string{"2001:db8:1::5", "10.2.0.1"}},
		{"the longest wins", prefixes("10.0.0.0/8", "10.1.2.0/24"), prefixes("10.1.0.0/16", "10.1.2.3/32"),
			[]string{"10.0.0.1", "10.1.2.2", "10.1.2.4", "10.2.0.0"}, []string{"10.1.0.1", "10.1.2.3", "10.1.3.0", "11.0.0.0"}},
		{"ends of the space", nil, prefixes("0.0.0.0/32", "255.255.255.0/24", "::/128", "ffff::/16"),
			[]string{"0.0.0.1", "255.255.254.255", "::1", "fffe::"}, []string{"0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
		{"everything of IPv6 is not IPv4", nil, prefixes("::/0"), []string{"10.0.0.1"}, []string{"::1", "2001:db8::1"}},
		{"everything of IPv4 is not IPv6", prefixes("2001:db8::/32"), prefixes("0.0.0.0/0"), []string{"2001:db8::1"}, []string{"10.0.0.1"}},
		{"all but one", prefixes("10.0.0.1/32"), prefixes("0.0.0.0/0"), []string{"10.0.0.1"}, []string{"10.0.0.0", "10.0.0.2"}},
	} {
		p := NewPrefixes(tc.allow, tc.deny)
		for want, list := range map[bool][]string{true: tc.yes, false: tc.no} {
			for _, a := range list {
				if got := p.Allows(address(a)); got != want {
					t.Errorf("%s: %s: %v", tc.name, a, got)
				}
			}
		}
	}
	if !(*Prefixes)(nil).Allows(address("10.0.0.1")) || !new(Prefixes).Allows(address("::1")) {
		t.Error("no rules allow all")
	}
}

// slow is the rule as it is told: all prefixes, one after the other.
func slow(allow, deny []netip.Prefix, a netip.Addr) bool {
	best, allowed := -1, len(allow) == 0
	for _, p := range allow {
		if p.Contains(a) && p.Bits() > best {
			best, allowed = p.Bits(), true
		}
	}
	for _, p := range deny {
		if p.Contains(a) && p.Bits() >= best {
			best, allowed = p.Bits(), false
		}
	}
	return allowed
}

// The flattened ranges against the slow twin, in narrow spaces so that prefixes nest and meet.
func TestAllowsTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	random := func() netip.Addr {
		if rng.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(2)), byte(rng.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0: 0x20, 7: byte(rng.IntN(2)), 15: byte(rng.IntN(256))})
	}
	for range 300 {
		var allow, deny []netip.Prefix
		for range rng.IntN(40) {
			a := random()
			p, _ := a.Prefix(a.BitLen() - min(rng.IntN(12)*rng.IntN(12), a.BitLen()))
			if rng.IntN(2) == 0 {
				allow = append(allow, p)
			} else {
				deny = append(deny, p)
			}
		}
		p := NewPrefixes(allow, deny)
		for range 200 {
			a := random()
			if got, want := p.Allows(stack.AddrFrom(a)), slow(allow, deny, a); got != want {
				t.Fatalf("%v: %v, want %v; allow %v, deny %v", a, got, want, allow, deny)
			}
		}
	}
}

// A source gets its burst, then its rate, whatever its family; a silence gives the burst back, also after the clock of the table wrapped.
func TestRate(t *testing.T) {
	for _, a := range []string{"10.0.0.1", "2001:db8::1"} {
		for _, tc := range []struct{ rate, burst int }{{1, 1}, {10, 1}, {10, 25}, {1000, 1000}, {MaxRate, 7}} {
			r := NewRate(tc.rate, tc.burst)
			for _, start := range []time.Duration{0, time.Hour, 19*time.Hour + 32*time.Minute + 48*time.Second, 1000 * time.Hour} {
				got := 0
				for range 3 * tc.burst {
					if r.Take(address(a), start) {
						got++
					}
				}
				if got != tc.burst {
					t.Errorf("%s: rate %d, burst %d, at %v: %d at once", a, tc.rate, tc.burst, start, got)
				}
				for n := 1; n <= 20; n++ {
					now := start + time.Duration(n)*(time.Second/time.Duration(tc.rate)+time.Microsecond)
					if !r.Take(address(a), now) {
						t.Errorf("%s: rate %d: one after %v was refused", a, tc.rate, now-start)
					}
					if tc.rate < 10_000 && r.Take(address(a), now) {
						t.Errorf("%s: rate %d: two after %v", a, tc.rate, now-start)
					}
				}
			}
		}
	}
	if !(*Rate)(nil).Take(address("10.0.0.1"), 0) {
		t.Error("no limit refuses")
	}
}

// An IPv6 source is a /64, an IPv4 source an address.
func TestSources(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"10.0.0.1", "10.0.0.2", false},
		{"10.0.0.1", "::", false},
	} {
		r := NewRate(1, 1)
		if !r.Take(address(tc.a), time.Hour) || r.Take(address(tc.b), time.Hour) == tc.same {
			t.Errorf("%s and %s: want same %v", tc.a, tc.b, tc.same)
		}
	}
}

// bucket is the slow twin: a token bucket.
type bucket struct {
	tokens float64
	last   time.Duration
}

func (b *bucket) take(rate, burst float64, now time.Duration) bool {
	b.tokens = min(burst, b.tokens+(now-b.last).Seconds()*rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// A few hundred sources against token buckets: what each got is the same but for rounding.
func TestRateTwin(t *testing.T) {
	const rate, burst, sources = 50, 20, 400
	rng := rand.New(rand.NewPCG(5, 6))
	r, twins := NewRate(rate, burst), map[int]*bucket{}
	got, want := map[int]int{}, map[int]int{}
	now := time.Duration(0)
	for range 200_000 {
		now += time.Duration(rng.IntN(200)) * time.Microsecond
		n := rng.IntN(sources)
		if rng.IntN(2) == 0 {
			n = rng.IntN(5) // some are fast
		}
		if twins[n] == nil {
			twins[n] = &bucket{burst, now}
		}
		if r.Take(stack.AddrFrom4([]byte{10, 0, byte(n >> 8), byte(n)}), now) {
			got[n]++
		}
		if twins[n].take(rate, burst, now) {
			want[n]++
		}
	}
	for n := range sources {
		if d := got[n] - want[n]; d < -want[n]/50-1 || d > want[n]/50+1 {
			t.Errorf("source %d: %d, want %d", n, got[n], want[n])
		}
	}
}

// A flood of a million sources neither blocks a new one nor frees one that opens too many.
func TestRateFlood(t *testing.T) {
	r := NewRate(10, 10)
	heavy, blocked, taken := address("192.0.2.1"), 0, 0
	const flood = 1_000_000
	for i := range flood {
		now := time.Duration(i) * time.Microsecond // a second
		a := stack.AddrFrom4([]byte{byte(1 + i>>16), byte(i >> 8), byte(i), 7})
		if !r.Take(a, now) {
			blocked++
		}
		if i%100 == 0 && r.Take(heavy, now) {
			taken++
		}
	}
	if blocked > 0 {
		t.Errorf("%d of %d sources were blocked at their first", blocked, flood)
	}
	if taken > 25 {
		t.Errorf("the heavy source got %d, want about 20", taken)
	}
}

// Several workers at once: no more than the burst, but for those lost to each other.
func TestRateConcurrently(t *testing.T) {
	r := NewRate(1, 1000)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5000 {
				if r.Take(address("10.0.0.1"), time.Second) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n < 1000 || n > 1010 {
		t.Errorf("%d were taken, want 1000", n)
	}
}

func TestNothingAllocates(t *testing.T) {
	p, r, n := NewPrefixes(prefixes("10.0.0.0/8"), prefixes("10.1.0.0/16")), NewRate(10, 10), byte(0)
	if got := testing.AllocsPerRun(1000, func() {
		n++
		a := stack.AddrFrom4([]byte{10, n, n, n})
		p.Allows(a)
		r.Take(a, time.Duration(n))
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkAllows(b *testing.B) {
	for _, size := range []int{10, 500, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			var deny []netip.Prefix
			for range size {
				a := netip.AddrFrom4([4]byte{byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())})
				p, _ := a.Prefix(24)
				deny = append(deny, p)
			}
			p := NewPrefixes(nil, deny)
			b.ResetTimer()
			for i := range b.N {
				p.Allows(stack.AddrFrom4([]byte{byte(i * 7), byte(i * 13), byte(i), 1}))
			}
		})
	}
}

func BenchmarkTake(b *testing.B) {
	r := NewRate(10, 10)
	for i := range b.N {
		r.Take(stack.AddrFrom4([]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), time.Duration(i))
	}
}
