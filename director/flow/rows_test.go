package flow

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/stack"
)

// Rows come and go while workers fill and empty the table and the janitor gives back: no connection is lost, and in the end the rows are few.
func TestRowsComeAndGo(t *testing.T) {
	const workers, conns, rounds = 3, 8000, 4
	table := New(Options{Max: workers * conns})
	stop := make(chan struct{})
	var work, janitor sync.WaitGroup
	janitor.Go(func() { everyTurn(stop, func() { table.Expire(0) }) })
	var most atomic.Int32
	for w := range workers {
		work.Go(func() {
			for range rounds {
				for i := range conns {
					c := families[0].conn(NAT, stack.ProtoTCP, w*conns+i)
					if r := table.Insert(&c, stack.SYN, 0, &c); r != Inserted {
						t.Errorf("connection %d of %d: %v", i, w, r)
						return
					}
				}
				most.Store(max(most.Load(), int32(table.rows.limit.Load())))
				for i := range conns {
					c := families[0].conn(NAT, stack.ProtoTCP, w*conns+i)
					k := c.Tuple(Direction(i & 1))
					if !table.Remove(&k, Direction(i&1)) {
						t.Errorf("connection %d of %d is lost", i, w)
						return
					}
				}
			}
		})
	}
	work.Wait()
	close(stop)
	janitor.Wait()
	for range 20 {
		table.Expire(time.Hour)
	}
	wantLen(t, table, 0)
	if n := table.rows.limit.Load(); n != firstBuckets || table.rows.there != 1 || most.Load() < 2*firstBuckets {
		t.Errorf("%d rows in %d regions are left of %d", n, table.rows.there, most.Load())
	}
	for i := range table.shards {
		if n := table.shards[i].index.buckets(); n != firstBuckets {
			t.Errorf("shard %d has %d buckets", i, n)
		}
	}
}

// One at a time gives rows back: another one's lowering would hide from it what shards have made since it looked.
func TestOneGivesBack(t *testing.T) {
	table := New(Options{Max: 20_000})
	for i := range 20_000 {
		mustInsert(t, table, families[0].conn(NAT, stack.ProtoTCP, i), stack.SYN)
	}
	n := table.rows.limit.Load()
	table.giving.Lock()
	table.Expire(time.Hour)
	if got := table.rows.limit.Load(); got != n {
		t.Errorf("%d rows of %d while another one is at it", got, n)
	}
	table.giving.Unlock()
	table.Expire(time.Hour)
	if got := table.rows.limit.Load(); got >= n {
		t.Errorf("%d rows of %d", got, n)
	}
}

// Without memory for more rows buckets become fuller, and rows that shards still have stay.
func TestRowsHold(t *testing.T) {
	r := newRows(3 * regionRows * numShards * fill)
	r.alone = true // nothing is filled ahead
	most := r.len() * regionRows
	for range most + 10 {
		r.reach(1 << 40)
	}
	if int(r.limit.Load()) != most || r.there != r.len() {
		t.Fatalf("%d rows of %d, %d regions of %d", r.limit.Load(), most, r.there, r.len())
	}
	r.lower(0)
	r.give(uint32(most), 0)
	if r.there != r.len() {
		t.Errorf("rows that a shard has went: %d regions", r.there)
	}
	r.lower(0)
	r.reach(1 << 40)
	before := r.there
	r.give(0, 0)
	if got := r.there; r.limit.Load() != firstBuckets+1 || got != 1 {
		t.Errorf("%d rows, %d regions of %d", r.limit.Load(), got, before)
	}
	if r.bytes() != uint64(min(most, regionRows))*numShards*64 {
		t.Errorf("%d bytes", r.bytes())
	}
}
