package persist

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tapdirector/stack"
)

var families = []int{4, 6}

// client is the n-th client of a family.
func client(family, n int) stack.Addr {
	if family == 4 {
		return stack.AddrFrom4([]byte{10, 0, byte(n >> 8), byte(n)})
	}
	return stack.AddrFrom16([]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(n >> 8), byte(n)})
}

func eachFamily(t *testing.T, f func(t *testing.T, family int)) {
	for _, family := range families {
		t.Run(fmt.Sprintf("IPv%d", family), func(t *testing.T) { f(t, family) })
	}
}

// counted is a table whose servers' templates are counted.
func counted(max int) (*Table, map[uint32]int32) {
	counts := map[uint32]int32{}
	return New(Options{Max: max, Count: func(server uint32, n int32) { counts[server] += n }}), counts
}

const timeout = 300 * time.Second

func at(now time.Duration) Lease { return Lease{Now: now, Timeout: timeout, Hold: true} }

// expireAll comes by every page.
func expireAll(t *Table, now time.Duration) {
	for range 1 + t.Len()/pageCells {
		t.Expire(now)
	}
}

// A client keeps its server until the timeout after its last new connection, then is scheduled anew.
func TestTemplateLives(t *testing.T) {
	eachFamily(t, func(t *testing.T, family int) {
		table, counts := counted(10)
		k := Key{Client: client(family, 1), Service: 7}
		if _, ok := table.Find(&k, at(0)); ok {
			t.Fatal("found in an empty table")
		}
		if server, held := table.Put(&k, 3, at(0)); server != 3 || !held || counts[3] != 1 {
			t.Fatalf("put: %d, %v, counted %d", server, held, counts[3])
		}
		table.Assure(&k, 3)
		table.Release(&k, 3, time.Second)
		if server, ok := table.Find(&k, at(200*time.Second)); !ok || server != 3 {
			t.Fatal("lost before its time")
		}
		table.Release(&k, 3, 201*time.Second)
		other := Key{Client: client(family, 2), Service: 7}
		sibling := Key{Client: client(family, 1), Service: 8}
		for _, k := range []Key{other, sibling} {
			if _, ok := table.Find(&k, at(201*time.Second)); ok {
				t.Errorf("%v is found", k)
			}
		}
		if _, ok := table.Find(&k, at(500*time.Second)); ok {
			t.Error("found 300 s after its last connection began")
		}
		expireAll(table, 500*time.Second)
		if table.Len() != 0 || counts[3] != 0 || table.Stats().Expired != 1 {
			t.Errorf("%d left, counted %d: %+v", table.Len(), counts[3], table.Stats())
		}
	})
}

// A template that connections hold is given 60 s at a time.
func TestHeldTemplateIsRearmed(t *testing.T) {
	table, _ := counted(10)
	k := Key{Client: client(4, 1)}
	table.Put(&k, 1, at(0))
	table.Assure(&k, 1)
	expireAll(table, time.Hour)
	if table.Len() != 1 {
		t.Fatal("a held template ended")
	}
	table.Release(&k, 1, time.Hour+time.Second) // Its time ends at 300 s + n * 60 s: at one hour and 60 s.
	if _, ok := table.Find(&k, Lease{Now: time.Hour + 59*time.Second}); !ok {
		t.Error("ended before its minute")
	}
	k2 := Key{Client: client(4, 2)}
	table.Put(&k2, 1, at(0))
	table.Assure(&k2, 1)
	table.Release(&k2, 1, time.Hour+time.Second)
	if _, ok := table.Find(&k2, at(time.Hour+60*time.Second)); ok {
		t.Error("lived on after its minute")
	}
}

// What was never assured ends with its last connection: a flood leaves nothing.
func TestUnassured(t *testing.T) {
	table, counts := counted(1 << 20)
	for n := range 10_000 {
		k := Key{Client: client(4, n)}
		table.Put(&k, 1, at(0))
		if n%2 == 0 {
			table.Find(&k, at(0)) // two connections
		}
	}
	for n := range 10_000 {
		k := Key{Client: client(4, n)}
		table.Release(&k, 1, time.Second)
	}
	if table.Len() != 5000 || counts[1] != 5000 {
		t.Fatalf("%d left, want those with a second connection", table.Len())
	}
	for n := range 10_000 {
		k := Key{Client: client(4, n)}
		table.Release(&k, 1, time.Second) // of half of them one too many: ignored
	}
	if table.Len() != 0 || counts[1] != 0 || table.Stats().Unassured != 10_000 {
		t.Errorf("%d left: %+v", table.Len(), table.Stats())
	}
}

// When the table is full the templates of clients that are not known to be real give way, the oldest of a shard first; assured ones never.
func TestEviction(t *testing.T) {
	eachFamily(t, func(t *testing.T, family int) {
		const real, max = 1000, 8000
		table, counts := counted(max)
		for n := range real {
			k := Key{Client: client(family, n)}
			table.Put(&k, 1, at(0))
			table.Assure(&k, 1)
		}
		for n := range 50_000 {
			k := Key{Client: client(family, n), Service: 1}
			table.Put(&k, 2, at(0))
		}
		for n := range real {
			k := Key{Client: client(family, n)}
			if server, ok := table.Find(&k, at(0)); !ok || server != 1 {
				t.Fatalf("client %d lost its server", n)
			}
		}
		st := table.Stats()
		if table.Len() != max || counts[1] != real || counts[2] != max-real || st.Evicted+st.Full != 50_000+real-max || st.Full != 0 {
			t.Errorf("%d templates, counted %v: %+v", table.Len(), counts, st)
		}
		fresh := Key{Client: client(family, 60_000), Service: 2}
		if _, held := table.Put(&fresh, 1, at(0)); !held {
			t.Error("a new client finds no room in a flood")
		}
	})
}

// With nothing that may give way a connection goes on without a template; what is over makes room even before Expire comes by.
func TestFull(t *testing.T) {
	table, _ := counted(100)
	for n := range 1000 {
		k := Key{Client: client(4, n)}
		if server, held := table.Put(&k, 5, at(0)); server != 5 || held != (n < 100) {
			t.Fatalf("client %d: server %d, held %v", n, server, held)
		}
		table.Assure(&k, 5)
		table.Release(&k, 5, 0)
	}
	if st := table.Stats(); st.Full != 900 || table.Len() != 100 {
		t.Errorf("%d templates: %+v", table.Len(), st)
	}
	made := 0
	for n := range 1000 {
		k := Key{Client: client(4, n), Service: 1}
		if _, held := table.Put(&k, 5, at(timeout)); held {
			made++
		}
	}
	if made < 50 || table.Len() > 100 {
		t.Errorf("%d made in the place of those that are over", made)
	}
}

// A template that was dropped and made again for another server does not listen to the connections of the former.
func TestDrop(t *testing.T) {
	table, counts := counted(10)
	k := Key{Client: client(6, 1)}
	table.Put(&k, 1, at(0))
	table.Drop(&k, 9)
	if table.Len() != 1 {
		t.Fatal("dropped although it says another server")
	}
	table.Drop(&k, 1)
	table.Put(&k, 2, at(0))
	table.Assure(&k, 1)
	table.Release(&k, 1, 0)
	if server, ok := table.Find(&k, at(0)); !ok || server != 2 || counts[1] != 0 || counts[2] != 1 {
		t.Errorf("server %d, %v, counted %v", server, ok, counts)
	}
}

// A lease without a hold, as of one-packet services: the template lives for its time though no connection holds it.
func TestNoHold(t *testing.T) {
	table, _ := counted(10)
	k := Key{Client: client(6, 1)}
	l := Lease{Timeout: timeout}
	if _, held := table.Put(&k, 1, l); held {
		t.Error("held")
	}
	table.Expire(timeout - 1)
	if _, ok := table.Find(&k, l); !ok {
		t.Error("gone before its time")
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	table, _ := counted(10)
	k := Key{Client: client(6, 1)}
	table.Put(&k, 1, at(0))
	if n := testing.AllocsPerRun(100, func() { table.Find(&k, at(0)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Workers race for the templates of the same clients: each client gets one server, and counts add up.
func TestRace(t *testing.T) {
	var mu sync.Mutex
	counts := map[uint32]int32{}
	table := New(Options{Max: 500, Count: func(server uint32, n int32) {
		mu.Lock()
		counts[server] += n
		mu.Unlock()
	}})
	var all sync.WaitGroup
	for worker := range uint32(4) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for i := range 20_000 {
				now := time.Duration(i) * time.Millisecond
				k := Key{Client: client(4, rng.IntN(400))}
				server, ok := table.Find(&k, at(now))
				if !ok {
					server, ok = table.Put(&k, worker, at(now))
				}
				if rng.IntN(2) == 0 {
					table.Assure(&k, server)
				}
				if ok {
					table.Release(&k, server, now)
				}
				if i%100 == 0 {
					table.Expire(now)
				}
			}
		})
	}
	all.Wait()
	var sum int32
	for _, n := range counts {
		sum += n
	}
	if int(sum) != table.Len() {
		t.Errorf("servers count %d, the table %d", sum, table.Len())
	}
	table.check(t)
}

// check compares what a table says of itself in different ways.
func (t *Table) check(tb testing.TB) {
	tb.Helper()
	st := t.Stats()
	if gone := st.Expired + st.Unassured + st.Evicted + st.Dropped; st.Made-gone != uint64(t.Len()) {
		tb.Fatalf("%d made, %d gone, %d left", st.Made, gone, t.Len())
	}
	chained, waiting, unassured := 0, 0, 0
	for i := range t.shards {
		s := &t.shards[i]
		for b, at := range s.buckets {
			for ; at != 0; at = s.cell(at).next {
				c := s.cell(at)
				if s.bucket(c.hash) != &s.buckets[b] {
					tb.Fatal("a template is in the wrong bucket")
				}
				chained++
				if !c.assured {
					unassured++
				}
			}
		}
		for at := s.waiting[0]; at != 0; at = s.cell(at).newer {
			waiting++
		}
	}
	if chained != t.Len() || waiting != unassured {
		tb.Fatalf("%d in buckets, %d templates; %d wait, %d are not assured", chained, t.Len(), waiting, unassured)
	}
}

func BenchmarkFind(b *testing.B) {
	table := New(Options{})
	for n := range 1 << 16 {
		k := Key{Client: client(4, n)}
		table.Put(&k, 1, at(0))
	}
	n := 0
	for b.Loop() {
		n++
		k := Key{Client: client(4, n&0xffff)}
		table.Find(&k, at(0))
	}
}

func BenchmarkExpire(b *testing.B) {
	table := New(Options{})
	for n := range 1 << 16 {
		k := Key{Client: client(4, n)}
		table.Put(&k, 1, at(0))
	}
	for b.Loop() {
		table.Expire(0)
	}
}

// Each tells of all templates but those whose time is over, with what is left of it.
func TestEach(t *testing.T) {
	eachFamily(t, func(t *testing.T, family int) {
		table, _ := counted(1000)
		for n := range 200 {
			k := Key{Client: client(family, n), Service: 7}
			table.Put(&k, uint32(n), at(time.Duration(n)*time.Second))
			if n%2 == 0 {
				table.Assure(&k, uint32(n))
				table.Release(&k, uint32(n), time.Duration(n)*time.Second)
			}
		}
		now := timeout + 99*time.Second // of the even ones, those up to 98 are over; the odd ones are held
		seen := map[uint32]Template{}
		table.Each(now, func(c Template) bool { seen[c.Server] = c; return true })
		if len(seen) != 150 {
			t.Errorf("%d templates, want 150", len(seen))
		}
		for n, want := range map[uint32]Template{
			100: {Key{client(family, 100), 7}, 100, true, 0, time.Second},
			99:  {Key{client(family, 99), 7}, 99, false, 1, Rearm},
			150: {Key{client(family, 150), 7}, 150, true, 0, 51 * time.Second},
		} {
			if seen[n] != want {
				t.Errorf("%+v, want %+v", seen[n], want)
			}
		}
		calls := 0
		table.Each(now, func(Template) bool { calls++; return calls < 3 })
		if calls != 3 {
			t.Errorf("called %d times after false", calls)
		}
	})
}
