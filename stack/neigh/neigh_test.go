package neigh

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tapdirector/stack"
)

func TestWord(t *testing.T) {
	m := stack.MAC{1, 2, 3, 4, 5, 0xfe}
	if got := wordMAC(word(m) | wordUsed); got != m {
		t.Errorf("a word gives back %x for %x", got, m)
	}
}

func TestPin(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, func(o *Options) { o.Pinned = 3 })
			s := l.Pin(0, tt.target, stack.MAC{})
			if s == 0 || l.Pin(0, tt.target, stack.MAC{}) != s {
				t.Fatal("the same next hop has two slots")
			}
			if l.Pin(1, tt.target, stack.MAC{}) == s {
				t.Fatal("two interfaces share a slot")
			}
			l.wantMAC(s, stack.MAC{})
			for _, bad := range []Slot{
				l.Pin(2, tt.target, stack.MAC{}), l.Pin(-1, tt.target, stack.MAC{}), l.Pin(0, netip.Addr{}, stack.MAC{}),
				l.Pin(0, netip.MustParseAddr("ff02::1"), stack.MAC{}), l.Pin(0, netip.MustParseAddr("224.0.0.1"), stack.MAC{}),
				l.Pin(0, netip.MustParseAddr("255.255.255.255"), stack.MAC{}), l.Pin(0, netip.IPv4Unspecified(), stack.MAC{}),
			} {
				if bad != 0 {
					t.Error("there is a slot for what is no next hop")
				}
			}
			l.Pin(0, tt.other, stack.MAC{})
			if l.Pin(1, tt.other, stack.MAC{}) != 0 || l.Stats().Refused != 1 {
				t.Error("the bound on pinned slots does not hold, or is not counted")
			}
		})
	}
}

func TestStaticIsNeverAskedNorLearned(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			s := l.Pin(0, tt.target, server1)
			l.wantMAC(s, server1)
			l.answer(0, tt.target, server2)
			if out := l.pass(5 * time.Minute); len(out) != 0 {
				t.Errorf("%d frames left for a static slot", len(out))
			}
			l.wantMAC(s, server1)
			l.wantState(s, "static")
		})
	}
}

func TestSlotThatIsNone(t *testing.T) {
	l := newLAN(t, nil)
	f := packet(families[0].dip, families[0].target)
	for _, s := range []Slot{0, 1, 1 << 20, 1<<32 - 1} {
		l.wantMAC(s, stack.MAC{})
		if l.Park(s, &f) {
			t.Errorf("slot %d takes frames", s)
		}
	}
	if got := l.Stats().ParkDropped; got != 4 {
		t.Errorf("%d dropped frames counted, want 4", got)
	}
}

func TestDynamic(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			a := stack.AddrFrom(tt.target)
			s, ok := l.Dynamic(0, a)
			if again, ok2 := l.Dynamic(0, a); !ok || !ok2 || again != s {
				t.Fatal("the same destination has two slots")
			}
			if out := l.pass(time.Minute); len(out) != 0 {
				t.Fatal("a question was asked before any frame waited")
			}
			if p := l.Pin(0, tt.target, stack.MAC{}); p != s || l.Stats().Dynamic != 0 {
				t.Fatal("pinning a dynamic slot does not promote it")
			}
			if out := l.pass(period); len(out) != 1 {
				t.Fatal("the promoted slot is not asked for")
			}
			if d, _ := l.Dynamic(0, a); d != s {
				t.Fatal("a pinned slot is not found as a destination")
			}
			if _, ok := l.Dynamic(7, a); ok {
				t.Fatal("there is a slot on a link that is none")
			}
			if _, ok := l.Dynamic(0, stack.AddrFrom(netip.MustParseAddr("ff02::2"))); ok {
				t.Fatal("there is a slot for a group")
			}
		})
	}
}

// nth is the nth address of a family's test network.
func nth(base netip.Addr, n int) netip.Addr {
	b := base.AsSlice()
	b[len(b)-1], b[len(b)-2] = byte(n), byte(n>>8)
	a, _ := netip.AddrFromSlice(b)
	return a
}

func TestDynamicBound(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, func(o *Options) { o.Dynamic = 4 })
			for n := 31; n <= 34; n++ {
				s, _ := l.Dynamic(0, stack.AddrFrom(nth(tt.target, n)))
				l.answer(0, nth(tt.target, n), server1)
				if n != 33 {
					l.MAC(s)
				}
			}
			s, ok := l.Dynamic(0, stack.AddrFrom(nth(tt.target, 35)))
			if _, spared := l.slots[key{stack.AddrFrom(nth(tt.target, 33)), 0}]; !ok || spared {
				t.Fatal("the one slot that was not used did not make room")
			}
			l.wantMAC(s, stack.MAC{}) // a new owner must not inherit the MAC of the old
			if st := l.Stats(); st.Dynamic != 4 || st.Slots != 4 {
				t.Fatalf("bounds do not hold: %+v", st)
			}
		})
	}
}

func TestDynamicAllWaiting(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t, func(o *Options) { o.Dynamic = 4 })
			f := packet(tt.dip, tt.target)
			for n := 31; n <= 34; n++ {
				s, _ := l.Dynamic(0, stack.AddrFrom(nth(tt.target, n)))
				if !l.Park(s, &f) {
					t.Fatal("no room to park")
				}
			}
			a := stack.AddrFrom(nth(tt.target, 35))
			if _, ok := l.Dynamic(0, a); ok || l.Stats().Refused != 1 {
				t.Fatal("a slot with frames waiting made room, or the refusal is not counted")
			}
			l.pass(4 * time.Second) // nobody answers
			if _, ok := l.Dynamic(0, a); !ok {
				t.Fatal("failed slots do not make room")
			}
			if st := l.Stats(); st.Dynamic != 4 || st.Slots != 4 || st.Waiting != 0 {
				t.Fatalf("bounds do not hold: %+v", st)
			}
		})
	}
}

// TestEvictionSpares checks the clock against what it stands for: with every slot but one used since the last eviction, that one goes.
func TestEvictionSpares(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	l := newLAN(t, func(o *Options) { o.Dynamic = 16 })
	var owners []int
	for n := range 16 {
		l.Dynamic(0, stack.AddrFrom(nth(families[0].target, n+1)))
		owners = append(owners, n+1)
	}
	for next := 17; next < 200; next++ {
		for i := range l.dynamic {
			l.words[l.dynamic[i]].Or(wordUsed | wordValid)
		}
		victim := rnd.IntN(len(owners))
		s := l.slots[key{stack.AddrFrom(nth(families[0].target, owners[victim])), 0}]
		l.words[s].And(^uint64(wordUsed))
		l.Dynamic(0, stack.AddrFrom(nth(families[0].target, next)))
		if _, ok := l.slots[key{stack.AddrFrom(nth(families[0].target, owners[victim])), 0}]; ok {
			t.Fatalf("round %d: the only unused slot was spared", next)
		}
		owners[victim] = next
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, func(o *Options) { o.Now = time.Now })
		for _, tt := range families {
			l.Pin(0, tt.target, stack.MAC{})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		synctest.Wait()
		if n := len(l.take()); n != 2 {
			t.Errorf("%d questions at the start, want one for each of 2 slots", n)
		}
		for _, tt := range families {
			l.answer(0, tt.target, server1)
		}
		time.Sleep(time.Minute)
		if n := len(l.take()); n != 0 {
			t.Errorf("%d questions for slots that nobody uses", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ends with %v", err)
		}
	})
}

func TestNoAllocs(t *testing.T) {
	for _, tt := range families {
		l := newLAN(t, nil)
		s := l.Pin(0, tt.target, stack.MAC{})
		l.answer(0, tt.target, server1)
		a := stack.AddrFrom(tt.target)
		strange := advert(tt.other, tt.dip, server2, naOverride)
		if tt.target.Is4() {
			strange = packettestARP(tt.other)
		}
		var p stack.Packet
		stack.Parse(&strange, &p)
		for name, f := range map[string]func(){
			"MAC":                 func() { l.MAC(s) },
			"Dynamic":             func() { l.Dynamic(0, a) },
			"Snoop of a stranger": func() { l.Snoop(0, strange.Bytes(), &p) },
		} {
			if n := testing.AllocsPerRun(100, f); n != 0 {
				t.Errorf("%s: %s: %v allocations", tt.name, name, n)
			}
		}
	}
}

// TestTogether lets everything run at once: the race detector is the judge, and the books must balance after.
func TestTogether(t *testing.T) {
	l := newLAN(t, func(o *Options) { o.Dynamic, o.ParkTotal = 8, 64 })
	slot := l.Pin(0, families[0].target, stack.MAC{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			f := packet(families[0].dip, families[0].target)
			for range 2000 {
				n := 31 + rnd.IntN(30)
				if s, ok := l.Dynamic(0, stack.AddrFrom(nth(families[0].target, n))); ok {
					l.MAC(s)
					l.Park(s, &f)
				}
				l.MAC(slot)
				l.Park(slot, &f)
				l.answer(0, nth(families[0].target, n), stack.MAC{2, 0, 0, 0, byte(rnd.IntN(3)), byte(n)})
				l.answer(0, families[0].target, server1)
			}
		})
	}
	wg.Go(func() {
		for range 400 {
			l.pass(period)
			l.Entries()
			l.Stats()
		}
	})
	wg.Wait()
	l.pass(time.Minute)
	if st := l.Stats(); st.Waiting != 0 || l.bytes != 0 || st.Parked > st.ParkedSent+st.ParkDropped {
		t.Errorf("frames are missing: %+v, %d bytes", st, l.bytes)
	}
}

func BenchmarkMAC(b *testing.B) {
	l := newLAN(nil, nil)
	s := l.Pin(0, families[0].target, server1)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := l.MAC(s); !ok {
			b.Fatal("no MAC")
		}
	}
}

func BenchmarkDynamic(b *testing.B) {
	for _, tt := range families {
		b.Run(tt.name, func(b *testing.B) {
			l := newLAN(nil, nil)
			a := stack.AddrFrom(tt.target)
			l.Dynamic(0, a)
			b.ReportAllocs()
			for b.Loop() {
				l.Dynamic(0, a)
			}
		})
	}
}
