package flow

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/stack"
)

// Several workers do everything to the same few tuples, a janitor expires and an observer lists, all at once: under -race this shows that
// the locks suffice, and in the end that the counts are right.
func TestConcurrently(t *testing.T) {
	const workers, rounds = 4, 6000
	var counts [4][2]atomic.Int64
	table := New(Options{Max: 300, Count: func(server uint32, active, inactive int32) {
		counts[server][0].Add(int64(active))
		counts[server][1].Add(int64(inactive))
	}})
	var clock atomic.Int64
	var inserted, reopened atomic.Uint64
	var work, watch sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			for range rounds {
				now := time.Duration(clock.Add(int64(10 * time.Millisecond)))
				i, r := hammer(table, rng, now)
				inserted.Add(i)
				reopened.Add(r)
			}
		})
	}
	stop := make(chan struct{})
	watch.Go(func() { everyTurn(stop, func() { table.Expire(time.Duration(clock.Load())) }) })
	watch.Go(func() {
		everyTurn(stop, func() {
			table.Each(0, func(c *Conn, _ time.Duration) bool { return c.State < NumStates })
			if n := table.Len(); n < 0 || n > 300 {
				t.Errorf("%d connections of 300", n)
			}
		})
	})
	work.Wait()
	close(stop)
	watch.Wait()

	st := table.Stats()
	if st.Inserted != inserted.Load() || st.Reopened != reopened.Load() {
		t.Errorf("%d inserted, %d reopened; the workers saw %d and %d", st.Inserted, st.Reopened, inserted.Load(), reopened.Load())
	}
	wantLen(t, table, table.Len())
	table.Expire(time.Duration(clock.Load()) + 24*time.Hour)
	wantLen(t, table, 0)
	for server := range counts {
		if a, i := counts[server][0].Load(), counts[server][1].Load(); a != 0 || i != 0 {
			t.Errorf("server %d: %d active and %d inactive are left", server, a, i)
		}
	}
}

// everyTurn calls f until stop is closed, once at least.
func everyTurn(stop chan struct{}, f func()) {
	for {
		f()
		select {
		case <-stop:
			return
		default:
		}
	}
}

// hammer does one random thing as a worker would and returns how many connections it saw made and reopened.
func hammer(table *Table, rng *rand.Rand, now time.Duration) (inserted, reopened uint64) {
	ip := families[rng.IntN(2)]
	c := ip.conn(Method(rng.IntN(2)), stack.ProtoTCP, rng.IntN(60))
	c.ServerID = uint32(rng.IntN(4))
	local := rng.IntN(4) == 0
	if local {
		c = ip.outward(stack.ProtoTCP, rng.IntN(10), rng.IntN(10))
	}
	d := Direction(rng.IntN(2))
	flags := []uint8{stack.SYN, stack.ACK, stack.FIN, stack.RST}[rng.IntN(4)]
	k := c.Tuple(d)
	var out Conn
	r := table.touchTuple(&k, d, flags, aHop, now, &out)
	if r == Reopen {
		reopened++
	}
	if r == Found || d == Reply {
		return inserted, reopened
	}
	if local {
		r = table.InsertLocal(&c, 1024, 65535, flags, now, &out)
	} else {
		r = table.Insert(&c, flags, now, &out)
	}
	if r == Inserted {
		inserted++
	}
	return inserted, reopened
}

// Many goroutines insert the same connection: one makes it, the others are told so.
func TestOneMakesIt(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 1000})
		for n := range 200 {
			var results [numResults]atomic.Int32
			var wg sync.WaitGroup
			for server := range uint32(4) {
				wg.Go(func() {
					c := ip.conn(NAT, stack.ProtoTCP, n)
					c.ServerID = server
					var out Conn
					results[table.Insert(&c, stack.SYN, 0, &out)].Add(1)
				})
			}
			wg.Wait()
			if results[Inserted].Load() != 1 || results[Exists].Load() != 3 {
				t.Fatalf("inserted %d, exists %d", results[Inserted].Load(), results[Exists].Load())
			}
		}
	})
}
