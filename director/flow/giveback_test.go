package flow

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tapdirector/stack"
)

// peak fills a table with n connections, of which every keep-th then lives on for a second half hour, and lets the others end. It returns the
// table, the survivors and the time.
func peak(t *testing.T, ip family, n, keep int) (table *Table, left []Conn, now time.Duration) {
	t.Helper()
	table = New(Options{Max: n, Watch: watcherFunc(func(*Conn, Sequence) {})})
	for i := range n {
		c := ip.conn([]Method{NAT, DR}[i&1], stack.ProtoTCP, i)
		if i%3 == 0 {
			c.Marks = Followed
		}
		if r := table.Insert(&c, stack.SYN, 0, &c); r != Inserted {
			t.Fatal(i, r)
		}
		if c.Marks&Followed != 0 {
			k := c.Tuple(Forward)
			table.Follow(&k, Sequence{uint32(i), uint32(2 * i)}, true)
		}
		if i%keep == 0 {
			left = append(left, c)
		}
	}
	now = 30 * time.Second
	for i := range left {
		k := left[i].Tuple(Forward)
		table.touchTuple(&k, Forward, stack.ACK, left[i].Hop, now, &left[i])
	}
	now = 10 * time.Minute
	if got := table.Expire(now); got != n-len(left) {
		t.Fatalf("%d of %d expired", got, n-len(left))
	}
	return table, left, now
}

// watcherFunc is a Watcher of idle connections only.
type watcherFunc func(*Conn, Sequence)

func (watcherFunc) Proven(*Conn)                {}
func (watcherFunc) Ended(*Conn, time.Duration)  {}
func (f watcherFunc) Controls(*Conn) bool       { return false }
func (f watcherFunc) Idled(c *Conn, s Sequence) { f(c, s) }

// After a peak the memory goes, and every connection that is left is still the same: found by both tuples, listed once, with its sequence numbers
// and its timer.
func TestMemoryIsGivenBack(t *testing.T) {
	const n, keep = 200_000, 20
	eachFamily(t, func(t *testing.T, ip family) {
		table, left, now := peak(t, ip, n, keep)
		wide := 0
		if ip == 6 {
			wide = 1
		}
		held := func() [5]int {
			return [5]int{table.entries.held, table.wides.held, table.sequences.held, table.rows.there, table.shards[0].index.spill.held}
		}
		before, bytes := held(), table.Stats().Bytes
		for range 200 {
			now += time.Millisecond
			table.Expire(now)
		}
		after := held()
		t.Logf("regions: %v, then %v for %d connections", before, after, len(left))
		// 10,000 of 200,000: a quarter more than their 157 pages and two for each of 256 shards are 45,000 cells. One region waits.
		for i, cells := range [5]int{56_000, 56_000 * wide, 56_000, 40_000, before[4] * regionCells} {
			if most := (cells+regionCells-1)/regionCells + 1; after[i] > most {
				t.Errorf("slab %d: %d regions are left of %d, want at most %d", i, after[i], before[i], most)
			}
		}
		if now := table.Stats().Bytes; now > bytes*6/10 {
			t.Errorf("%d bytes are left of %d", now, bytes)
		}
		wantLeft(t, table, left, now)
		for i := range table.shards {
			wantRoom(t, table, &table.shards[i])
		}
	})
}

// wantLeft fails unless the table holds exactly these connections.
func wantLeft(t *testing.T, table *Table, left []Conn, now time.Duration) {
	t.Helper()
	wantLen(t, table, len(left))
	listed := map[stack.Tuple]int{}
	table.Each(now, func(c *Conn, _ time.Duration) bool {
		listed[c.Tuple(Forward)]++
		return true
	})
	for i := range left {
		for d := range Direction(2) {
			if d == Reply && !left[i].Method.replies() {
				continue
			}
			k := left[i].Tuple(d)
			var c Conn
			if !table.Find(&k, d, &c) || c != left[i] {
				t.Fatalf("connection %d by tuple %d: %+v, want %+v", i, d, c, left[i])
			}
		}
		if n := listed[left[i].Tuple(Forward)]; n != 1 {
			t.Fatalf("connection %d is listed %d times", i, n)
		}
	}
	idled := map[stack.Tuple]Sequence{}
	table.watch = watcherFunc(func(c *Conn, s Sequence) { idled[c.Tuple(Forward)] = s })
	if got := table.Expire(now + time.Hour); got != len(left) {
		t.Fatalf("%d of %d expired", got, len(left))
	}
	for i := range left {
		if s := idled[left[i].Tuple(Forward)]; left[i].Marks&Followed != 0 && s.Server != 2*s.Client {
			t.Fatalf("connection %d had the sequence numbers %v", i, s)
		}
	}
}

// wantRoom compares what a shard counts of its pages with a look at each entry of them.
func wantRoom(t *testing.T, table *Table, s *shard) {
	t.Helper()
	for k := range s.rooms {
		r := &s.rooms[k]
		used, linked := uint32(0), 0
		for _, n := range r.pages {
			p := table.pages.at(n)
			set := table.usedOf(p)
			count := uint32(0)
			for ; set != 0; set &= set - 1 {
				count++
			}
			if count != uint32(p.used) {
				t.Fatalf("page %d counts %d entries, has %d", n, p.used, count)
			}
			used += count
			if !p.full() {
				linked++
			}
		}
		for n := r.first; n != 0; n = table.pages.at(n).next {
			linked--
		}
		if used != r.used || linked != 0 {
			t.Fatalf("a room counts %d entries, has %d; %d pages with room are not in its list", r.used, used, linked)
		}
	}
}

// A room's list of pages gets more memory before it is full, and stays what it was.
func TestWiden(t *testing.T) {
	table := New(Options{Max: 100_000})
	for i := range 100_000 {
		mustInsert(t, table, families[0].conn(NAT, stack.ProtoTCP, i), stack.SYN)
	}
	s := &table.shards[7]
	r := &s.rooms[narrow]
	s.mu.Lock()
	was, n := slices.Clone(r.pages), cap(r.pages)
	s.mu.Unlock()
	table.widen(s, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(r.pages, was) || cap(r.pages) <= n {
		t.Errorf("%d pages of %d, memory for %d where it was for %d", len(r.pages), len(was), cap(r.pages), n)
	}
}

// Pages come and go in any order: what is handed out is zero and nobody else's, and what is all given back leaves one region.
func TestSlabGivesBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	s := newSlab[uint32](40 * regionCells)
	var dropped []int
	s.emptied = func(r int) { dropped = append(dropped, r) }
	var mine []uint32
	for round := range 20_000 {
		grows := round/4000%2 == 0
		if len(mine) > 0 && rng.IntN(10) < 2 || !grows && len(mine) > 0 && rng.IntN(10) < 8 {
			i := rng.IntN(len(mine))
			if got := *s.at(mine[i] + 7); got != mine[i] {
				t.Fatalf("page %d holds what was written to %d", mine[i], got)
			}
			s.giveBack(mine[i])
			s.release()
			mine[i] = mine[len(mine)-1]
			mine = mine[:len(mine)-1]
			continue
		}
		first := s.page()
		if first == 0 {
			continue
		}
		if *s.pageAt(first) != [pageCells]uint32{} {
			t.Fatalf("page %d is not zero", first)
		}
		*s.at(first + 7) = first
		mine = append(mine, first)
	}
	for _, first := range mine {
		s.giveBack(first)
	}
	s.release()
	if n := s.held; n > 2 || s.used != pageCells || len(dropped) == 0 {
		t.Errorf("%d regions are held, %d cells in use, %d regions dropped", n, s.used, len(dropped))
	}
}

// Connections that come and go while memory is given back are those of the twin: rounds of growth and decline.
func TestGivingBackAgainstTwin(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		p := newPair(t, ip, 60_000)
		for round := range 3 {
			for i := range 30_000 {
				c := ip.conn(Method(i&1), stack.ProtoTCP, round*7_000+i)
				p.put(c)
			}
			p.check()
			for range 60 {
				p.now += 2 * time.Second
				for range 20 {
					p.touch()
				}
				p.pass()
			}
			p.check()
			for i := range p.table.shards {
				wantRoom(t, p.table, &p.table.shards[i])
			}
		}
	})
}

// put inserts c into both.
func (p *pair) put(c Conn) {
	var got, want Conn
	r := p.table.Insert(&c, stack.SYN, p.now, &got)
	if w := p.twin.insert(c, stack.SYN, p.now, &want); w != r || got != want {
		p.t.Fatalf("insert %+v:\n%v %+v\n%v %+v", c, r, got, w, want)
	}
}

// A list that is being made while connections end holds the index still, so it misses none.
func TestEachWhileMemoryIsGivenBack(t *testing.T) {
	table, left, now := peak(t, 4, 100_000, 50)
	seen := map[stack.Tuple]bool{}
	table.Each(now, func(c *Conn, _ time.Duration) bool {
		seen[c.Tuple(Forward)] = true
		now += time.Millisecond
		if len(seen)%100 == 0 {
			table.Expire(now)
		}
		return true
	})
	for i := range left {
		if !seen[left[i].Tuple(Forward)] {
			t.Fatalf("connection %d was not listed", i)
		}
	}
}

// BenchmarkGiveBack is how long a packet may wait for a shard that gives back: a page of 32 entries moved, of a million that are in no cache.
func BenchmarkGiveBack(b *testing.B) {
	const n = 1 << 20
	var table *Table
	for i := 0; i < b.N; i++ {
		if i%numShards == 0 {
			b.StopTimer()
			table = benchTable(b, n)
			for s := range table.shards {
				table.thin(&table.shards[s])
			}
			b.StartTimer()
		}
		table.giveBackEntries(&table.shards[i%numShards])
	}
}

// thin ends half of a shard's connections, in no order.
func (t *Table) thin(s *shard) {
	for _, n := range s.rooms[narrow].pages {
		for used := t.usedOf(t.pages.at(n)) & 0x5555555555555555; used != 0; used &= used - 1 {
			t.remove(s, n<<pageShift+uint32(bits.TrailingZeros64(used)))
		}
	}
}
