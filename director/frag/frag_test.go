package frag

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"tapdirector/stack"
	"tapdirector/tap"
)

const life = 5 * time.Second

// roomy are bounds that no test meets by chance.
var roomy = Options{Frames: 1000, Bytes: 4 << 20, Life: life}

// keyOf returns the key of datagram id in a family.
func keyOf(family int, id uint32) Key {
	if family == 4 {
		return Key{Src: addr("192.0.2.7"), Dst: addr("10.77.1.100"), ID: id & 0xffff, Proto: stack.ProtoUDP}
	}
	return Key{Src: addr("2001:db8::7"), Dst: addr("2001:db8:1::100"), ID: id}
}

func addr(s string) stack.Addr { return stack.AddrFrom(netip.MustParseAddr(s)) }

// part is a fragment of datagram k: bytes off to end, the last one or not. Its frame says which bytes it holds.
func part(k Key, off, end int, last bool) *Fragment {
	b := make([]byte, 60+end-off)
	copy(b, fmt.Sprintf("%d-%d", off, end))
	f := tap.NewFrame(tap.Header{}, b)
	return &Fragment{Key: k, Piece: stack.Piece{ID: k.ID, Head: 20, Off: uint16(off), Len: uint16(end - off), Proto: stack.ProtoUDP, More: !last}, Frame: &f, In: 3}
}

// parts cuts a datagram of n bytes to fragments of size bytes.
func parts(k Key, n, size int) (all []*Fragment) {
	for off := 0; off < n; off += size {
		all = append(all, part(k, off, min(off+size, n), off+size >= n))
	}
	return all
}

func bothFamilies(t *testing.T, run func(t *testing.T, family int)) {
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprintf("ipv%d", family), func(t *testing.T) { run(t, family) })
	}
}

// user takes fragments as the director does and writes down the fragments that go on, by their offsets.
type user struct {
	*Table[int]
	refuse bool
	went   []int
}

func (u *user) take(f *Fragment, now time.Duration) Result {
	var fate int
	r := u.Take(f, now, &fate)
	switch {
	case r == First && u.refuse:
		u.Refuse(&f.Key, now)
	case r == First:
		fate = int(f.Key.ID) + 1
		u.went = append(u.went, int(f.Off))
		for _, h := range u.Learn(&f.Key, &fate, now) {
			u.went = append(u.went, int(h.off))
		}
	case r == Known:
		if fate != int(f.Key.ID)+1 {
			panic("the fate of another datagram")
		}
		u.went = append(u.went, int(f.Off))
	}
	return r
}

// empty fails unless nothing is remembered and what was held is accounted for.
func (u *user) empty(t *testing.T) {
	t.Helper()
	s := u.Stats()
	if s.Tracked != 0 || s.HeldNow != 0 || s.HeldBytes != 0 || s.Held != s.Released+s.Dropped {
		t.Errorf("not empty, or not accounted for: %+v", s)
	}
}

// In every order of its fragments a datagram passes whole, each fragment once, and is forgotten.
func TestEveryOrder(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		u := &user{Table: New[int](roomy)}
		id := uint32(0)
		permute(parts(keyOf(family, 0), 5*1480+7, 1480), func(all []*Fragment) {
			id++
			u.went = nil
			for _, f := range all {
				g := *f
				g.Key = keyOf(family, id)
				u.take(&g, 0)
			}
			slices.Sort(u.went)
			if !slices.Equal(u.went, []int{0, 1480, 2960, 4440, 5920, 7400}) {
				t.Fatalf("%v went on", u.went)
			}
		})
		if s := u.Stats(); s.Complete != 720 || s.Datagrams != 720 || s.Killed != 0 {
			t.Errorf("%+v", s)
		}
		u.empty(t)
	})
}

// permute calls f with every order of all.
func permute[T any](all []T, f func([]T)) {
	var rec func(n int)
	rec = func(n int) {
		if n == len(all) {
			f(all)
			return
		}
		for i := n; i < len(all); i++ {
			all[n], all[i] = all[i], all[n]
			rec(n + 1)
			all[n], all[i] = all[i], all[n]
		}
	}
	rec(0)
}

// The largest datagram passes from the back to the front, and what is held comes back in order, as it was, with its interface.
func TestLargestBackwards(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		table := New[int](roomy)
		k := keyOf(family, 9)
		all := parts(k, 65515, 552)
		for i := len(all) - 1; i > 0; i-- {
			if r := table.Take(all[i], 0, new(int)); r != Kept {
				t.Fatalf("fragment %d: %v", i, r)
			}
			clear(all[i].Frame.Bytes()) // it was borrowed
		}
		if r := table.Take(all[0], 0, new(int)); r != First {
			t.Fatalf("the first: %v", r)
		}
		fate := 1
		held := table.Learn(&k, &fate, 0)
		if len(held) != 118 {
			t.Fatalf("%d were held, want 118", len(held))
		}
		for i, h := range held {
			want := fmt.Sprintf("%d-%d", 552*(i+1), min(552*(i+2), 65515))
			if !bytes.HasPrefix(h.Frame.Bytes(), []byte(want)) || h.In != 3 {
				t.Fatalf("held %d is %q by %d, want %q by 3", i, h.Frame.Bytes()[:12], h.In, want)
			}
		}
		(&user{Table: table}).empty(t)
	})
}

// Fragments that contradict each other kill their datagram: what is held is dropped, and so is everything that follows.
func TestAttacks(t *testing.T) {
	type pieces []span
	const last = 1 // an odd end marks the last fragment
	for _, c := range []struct {
		name string
		in   pieces
		want func(s *Stats) uint64
	}{
		{"overlap from before", pieces{{0, 800}, {1600, 2400}, {792, 1608}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"overlap by eight bytes", pieces{{0, 800}, {792, 1600}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"within another", pieces{{0, 800}, {800, 1600}, {880, 1520}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"around another", pieces{{0, 800}, {880, 1520}, {800, 1600}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"same start, longer", pieces{{0, 800}, {800, 1600}, {800, 1608}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"first again, shorter", pieces{{0, 800}, {0, 792}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"before the first", pieces{{800, 1600}, {0, 808}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"two ends", pieces{{0, 800}, {1600, 1700 + last}, {2400, 2500 + last}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"an end before others", pieces{{0, 800}, {1600, 2400}, {800, 900 + last}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"beyond the end", pieces{{0, 800}, {1600, 1700 + last}, {2400, 3200}}, func(s *Stats) uint64 { return s.Overlaps }},
		{"tiny", pieces{{0, 800}, {800, 840}}, func(s *Stats) uint64 { return s.Tiny }},
		{"tiny before the first", pieces{{800, 808}}, func(s *Stats) uint64 { return s.Tiny }},
		{"empty", pieces{{0, 800}, {800, 800}}, func(s *Stats) uint64 { return s.Tiny }},
		{"ping of death", pieces{{0, 800}, {65000, 65516 + last}}, func(s *Stats) uint64 { return s.TooLong }},
	} {
		bothFamilies(t, func(t *testing.T, family int) {
			t.Run(c.name, func(t *testing.T) {
				u := &user{Table: New[int](roomy)}
				k := keyOf(family, 1)
				var r Result
				for _, s := range c.in {
					r = u.take(part(k, int(s.off), int(s.end), s.end%2 == last), 0)
				}
				s := u.Stats()
				if r != Refused || s.Killed != 1 || c.want(&s) != 1 {
					t.Errorf("the last of them: %v; %+v", r, s)
				}
				for _, f := range []*Fragment{part(k, 0, 800, false), part(k, 8000, 8800, false), part(k, 16000, 16001, true)} {
					if r := u.take(f, life-1); r != Refused {
						t.Errorf("after that %d: %v, want %v", f.Off, r, Refused)
					}
				}
				u.Expire(life)
				u.empty(t)
				if r := u.take(part(k, 0, 800, false), life); r != First {
					t.Errorf("a later datagram: %v, want %v", r, First)
				}
			})
		})
	}
}

// No more fragments than any link makes of a datagram.
func TestTooMany(t *testing.T) {
	u := &user{Table: New[int](roomy)}
	k := keyOf(4, 1)
	for i := range maxPieces {
		if r := u.take(part(k, 48*i, 48*i+48, false), 0); r > Known {
			t.Fatalf("fragment %d: %v", i, r)
		}
	}
	if r := u.take(part(k, 48*maxPieces, 48*maxPieces+48, false), 0); r != Refused || u.Stats().TooMany != 1 {
		t.Errorf("one more: %v", r)
	}
}

// A fragment that comes twice is no attack: it passes again, or is held once.
func TestDuplicates(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		u := &user{Table: New[int](roomy)}
		all := parts(keyOf(family, 1), 4000, 1480)
		for i, want := range []Result{Kept, Refused, First, First} {
			if r := u.take(all[[]int{1, 1, 0, 0}[i]], 0); r != want {
				t.Fatalf("step %d: %v, want %v", i, r, want)
			}
		}
		if r := u.take(all[1], 0); r != Known {
			t.Errorf("once more: %v", r)
		}
		if r := u.take(all[2], 0); r != Known {
			t.Errorf("the last: %v", r)
		}
		if s := u.Stats(); s.Duplicates != 3 || s.Killed != 0 || s.Complete != 1 {
			t.Errorf("%+v", s)
		}
		u.empty(t)
	})
}

// The identification comes round: the next datagram under the same key, with other ports and sizes, is another one.
func TestIdentificationComesRound(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		u := &user{Table: New[int](roomy)}
		for round := range 1000 {
			for _, f := range parts(keyOf(family, 1), 2000+8*round, 1480) {
				if r := u.take(f, 0); r != First && r != Known {
					t.Fatalf("round %d: %v", round, r)
				}
			}
		}
		u.empty(t)
	})
}

// When the first fragment does not go on, none does.
func TestRefusedDatagram(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		u := &user{Table: New[int](roomy), refuse: true}
		all := parts(keyOf(family, 1), 4000, 1000)
		for i, want := range []Result{Kept, First, Refused, Refused} {
			if r := u.take(all[[]int{3, 0, 1, 2}[i]], 0); r != want {
				t.Fatalf("step %d: %v, want %v", i, r, want)
			}
		}
		u.empty(t)
		if s := u.Stats(); len(u.went) != 0 || s.Dropped != 1 || s.Complete != 1 {
			t.Errorf("%v went on; %+v", u.went, s)
		}
	})
}

// What is not complete is forgotten: unseen first ones after one life, others at the latest after one more.
func TestExpiry(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		u := &user{Table: New[int](roomy)}
		a, b := parts(keyOf(family, 1), 4000, 1000), parts(keyOf(family, 2), 4000, 1000)
		u.take(a[1], 0)
		u.take(b[1], 0)
		u.take(b[0], 4*time.Second)
		u.Expire(life - 1)
		if s := u.Stats(); s.Tracked != 2 || s.HeldNow != 1 {
			t.Fatalf("before: %+v", s)
		}
		u.Expire(life)
		if s := u.Stats(); s.Tracked != 1 || s.HeldNow != 0 || s.Dropped != 1 || s.Expired != 1 {
			t.Fatalf("after one life: %+v", s)
		}
		if r := u.take(b[2], life+time.Second); r != Known {
			t.Errorf("of the one whose first came: %v", r)
		}
		u.Expire(4*time.Second + life)
		u.empty(t)
		if r := u.take(b[3], 10*time.Second); r != Kept {
			t.Errorf("too late: %v, want %v", r, Kept)
		}
	})
}

// A flood never takes more than the bounds, and the newest finds its place: what is oldest goes.
func TestBounds(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		for _, o := range []Options{
			{Frames: 100, Bytes: 1 << 20, Life: life},
			{Frames: 1000, Bytes: 100 * 1700, Life: life},
			{Datagrams: 64, Frames: 1000, Bytes: 1 << 20, Life: life},
		} {
			u := &user{Table: New[int](o)}
			for id := range uint32(5000) {
				r := u.take(part(keyOf(family, id), 1480, 2960, false), 0)
				if s := u.Stats(); s.HeldNow > uint64(o.Frames) || s.HeldBytes > uint64(o.Bytes) || o.Datagrams > 0 && s.Tracked > uint64(o.Datagrams) {
					t.Fatalf("%+v: %+v", o, s)
				}
				if id > 1000 && r != Kept { // later than when each shard has something to give
					t.Fatalf("%+v: %d: %v", o, id, r)
				}
			}
			for id := range uint32(5000) { // first ones without the rest
				u.take(part(keyOf(family, id+5000), 0, 1480, false), 0)
			}
			if s := u.Stats(); s.Tracked > DefaultDatagrams || s.Evicted == 0 {
				t.Errorf("%+v: %+v", o, s)
			}
			u.Expire(2 * life)
			u.empty(t)
		}
	})
}

// With no room at all what would be held is dropped, with its datagram; what comes in order passes.
func TestNoRoom(t *testing.T) {
	u := &user{Table: New[int](Options{Life: life})}
	for _, f := range parts(keyOf(4, 1), 60000, 1480) {
		if r := u.take(f, 0); r != First && r != Known {
			t.Fatalf("in order: %v", r)
		}
	}
	all := parts(keyOf(4, 2), 4000, 1480)
	if r := u.take(all[1], 0); r != NoRoom {
		t.Errorf("before its first: %v", r)
	}
	if r := u.take(all[0], 0); r != Refused || u.Stats().NoRoom != 1 {
		t.Errorf("the first then: %v", r)
	}
}

// Workers share a table: each fragment goes on exactly once, whoever has it.
func TestManyWorkers(t *testing.T) {
	const workers, datagrams = 4, 300
	bothFamilies(t, func(t *testing.T, family int) {
		table := New[int](roomy)
		users := make([]*user, workers)
		queues := make([][]*Fragment, workers)
		r := rand.New(rand.NewPCG(1, 2))
		for id := range uint32(datagrams) {
			for _, f := range parts(keyOf(family, id), 3000, 1000) {
				q := r.IntN(workers)
				queues[q] = append(queues[q], f)
			}
		}
		var all sync.WaitGroup
		for i := range users {
			users[i] = &user{Table: table}
			all.Go(func() {
				for _, f := range queues[i] {
					users[i].take(f, 0)
				}
			})
		}
		all.Wait()
		n := 0
		for _, u := range users {
			n += len(u.went)
		}
		if s := table.Stats(); n != 3*datagrams || s.Complete != datagrams {
			t.Errorf("%d fragments went on, want %d; %+v", n, 3*datagrams, s)
		}
		users[0].empty(t)
	})
}

// In order nothing is held, so nothing is allocated.
func TestInOrderAllocatesNothing(t *testing.T) {
	table := New[[16]uint64](roomy)
	all := parts(keyOf(6, 1), 6000, 1480)
	var fate [16]uint64
	if n := testing.AllocsPerRun(1000, func() {
		for _, f := range all {
			if table.Take(f, 0, &fate) == First {
				table.Learn(&f.Key, &fate, 0)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations for a datagram, want 0", n)
	}
}

func TestResultNames(t *testing.T) {
	for r := range numResults {
		if r.String() == "" {
			t.Errorf("result %d has no name", r)
		}
	}
}

// One datagram of 60,000 bytes in 41 fragments.
func BenchmarkDatagram(b *testing.B) {
	table := New[[16]uint64](roomy)
	all := parts(keyOf(4, 1), 60000, 1480)
	var fate [16]uint64
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range all {
			if table.Take(f, 0, &fate) == First {
				table.Learn(&f.Key, &fate, 0)
			}
		}
	}
}
