package flow

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"tapdirector/director/cputime"
	"tapdirector/stack"
)

// How the table behaves with up to ten million connections: `make bench-table` prints it.

// scannable is the part of the heap that the garbage collector looks into, in bytes, as of the last collection.
func scannable() float64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/scan/heap:bytes"}}
	metrics.Read(s)
	return float64(s[0].Value.Uint64())
}

// scanned bounds what the collector may look into more than before, whatever the table holds: noise of the runtime's own.
const scanned = 64 << 10

// The collector does not see connections: what it looks into stays flat, whatever the table holds. BenchmarkScale asks the same with ten million.
func TestCollectorSeesNothing(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		n := 1_000_000
		if ip == 6 || testing.Short() {
			n /= 10
		}
		table := New(Options{Max: n, Watch: watcherFunc(func(*Conn, Sequence) {})})
		before := scannable()
		for i := range n {
			c := ip.conn(NAT, stack.ProtoTCP, i)
			c.Marks = Followed
			if r := table.Insert(&c, stack.SYN, 0, &c); r != Inserted {
				t.Fatal(i, r)
			}
		}
		after := scannable()
		runtime.KeepAlive(table)
		if more := after - before; more > scanned {
			t.Errorf("the collector looks into %.0f bytes more", more)
		}
	})
}

// BenchmarkScale fills a table, looks random connections up, and lets all of them end. Times are the thread's own.
//
//	B/conn          of resident memory, all told, for each connection
//	scan-B/conn     that the collector looks into
//	insert-ns       for each new connection, growth of the table included
//	insert-max-us   the longest of all steps of eight inserts: what one packet waits for growth
//	insert-over     how many steps of a million took more than 100 us
//	steady-max-us   the longest step of eight lookups, which grow nothing: what the machine itself adds
//	steady-over     how many of those
//	lookup-ns       for a packet of any connection, in batches as a worker has them
//	alone-ns        for one that is not in a batch
//	expire-ns       for each connection that ends
//	expire-max-us   the longest piece of that work under a lock
//	expire-over     how many pieces took more than 100 us, for a million connections
//	giveback-max-us the longest piece of giving memory back under a lock
//	left-B/conn     of resident memory when all are gone
func BenchmarkScale(b *testing.B) {
	for _, ip := range families {
		for _, n := range []int{10_000, 1_000_000, 10_000_000} {
			b.Run(fmt.Sprintf("%v/%d", ip, n), func(b *testing.B) {
				for b.Loop() {
					scale(b, ip, n)
				}
			})
		}
	}
}

func scale(b *testing.B, ip family, n int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const bound = 100 * time.Microsecond
	var inserts, touches, expires cputime.Steps
	inserts.Grow(n / 8)
	before := resident(b)
	table := New(Options{Max: n})
	scan := scannable()
	for i := 0; i < n; i += 8 {
		var conns [8]Conn
		for j := range conns {
			conns[j] = ip.conn(NAT, stack.ProtoTCP, i+j)
		}
		inserts.Do(func() {
			for j := range conns {
				table.Insert(&conns[j], stack.SYN, 0, &conns[j])
			}
		})
	}
	if table.Len() != n {
		b.Fatalf("%d connections of %d", table.Len(), n)
	}
	more := scannable() - scan
	if n > 100_000 && more > scanned {
		b.Errorf("the collector looks into %.0f bytes more", more)
	}
	b.ReportMetric(more/float64(n), "scan-B/conn")
	b.ReportMetric(float64(resident(b)-before)/float64(n), "B/conn")
	b.ReportMetric(perConn(inserts.Sum, n), "insert-ns")
	longest, _, over := inserts.Longest(100, bound)
	b.ReportMetric(float64(longest.Microseconds()), "insert-max-us")
	b.ReportMetric(float64(over)/float64(n/8)*1e6, "insert-over")

	b.ReportMetric(lookups(b, table, ip, n), "lookup-ns")
	alone(b, table, ip, n, &touches)
	longest, _, over = touches.Longest(100, bound)
	b.ReportMetric(perConn(touches.Sum, aloneLookups), "alone-ns")
	b.ReportMetric(float64(longest.Microseconds()), "steady-max-us")
	b.ReportMetric(float64(over)/(aloneLookups/8)*1e6, "steady-over")

	expired := 0
	now := time.Hour
	for done := false; !done; {
		done = true
		for i := range table.shards {
			expires.Do(func() {
				gone, over := table.expireBatch(&table.shards[i], tickOf(now))
				expired += gone
				done = done && over
			})
		}
	}
	if expired != n {
		b.Fatalf("%d expired", expired)
	}
	longest, _, over = expires.Longest(100, bound)
	b.ReportMetric(perConn(expires.Sum, n), "expire-ns")
	b.ReportMetric(float64(over)/float64(n)*1e6, "expire-over")
	b.ReportMetric(float64(longest.Microseconds()), "expire-max-us")
	var gives cputime.Steps
	for range 2000 {
		table.rows.lower(table.live.refs())
		var rows, fullest uint32
		for i := range table.shards {
			gives.Do(func() { table.giveBackEntries(&table.shards[i]) })
			gives.Do(func() {
				_, buckets, refs := table.giveBackBuckets(&table.shards[i])
				rows, fullest = max(rows, buckets), max(fullest, refs)
			})
		}
		table.rows.give(rows, fullest)
		table.release()
	}
	longest, _, _ = gives.Longest(100, bound)
	b.ReportMetric(float64(longest.Microseconds()), "giveback-max-us")
	b.ReportMetric(float64(resident(b)-before)/float64(n), "left-B/conn")
	b.ReportMetric(0, "ns/op") // of no meaning here
	runtime.KeepAlive(table)
}

func perConn(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / float64(n) }

// resident is the memory of this process, in bytes, without what Go keeps in stock.
func resident(b *testing.B) int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if !offHeap {
		return int64(m.HeapAlloc)
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// lookups returns the nanoseconds of a packet of a random connection, where a worker has a batch of them. The tuples are made before, and are in the cache when they
// are asked for: a worker's packet is as well.
func lookups(b *testing.B, table *Table, ip family, n int) float64 {
	const rounds = 16_000
	var batches cputime.Steps
	var ahead Ahead
	var tuples [aheadMax]stack.Tuple
	var keys [aheadMax]Key
	for range rounds {
		randomTuples(ip, tuples[:], n)
		batches.Do(func() {
			if !table.Pays() {
				touchAll(b, table, tuples[:])
				return
			}
			for i := range tuples {
				table.Prepare(&keys[i], &tuples[i], Forward)
				ahead.Add(table, &keys[i])
			}
			ahead.Fetch(table)
			var c Conn
			for i := range keys {
				if table.Touch(&keys[i], stack.ACK, Hop{}, time.Second, &c) != Found {
					b.Fatal("a connection is not found")
				}
			}
		})
	}
	return perConn(batches.Sum, rounds*aheadMax)
}

const aloneLookups = 1_000_000

// alone measures packets of random connections, each of which is looked up by itself, in steps of eight.
func alone(b *testing.B, table *Table, ip family, n int, steps *cputime.Steps) {
	var tuples [8]stack.Tuple
	for range aloneLookups / 8 {
		randomTuples(ip, tuples[:], n)
		steps.Do(func() { touchAll(b, table, tuples[:]) })
	}
}

func randomTuples(ip family, tuples []stack.Tuple, n int) {
	for i := range tuples {
		c := ip.conn(NAT, stack.ProtoTCP, rand.IntN(n))
		tuples[i] = c.Tuple(Forward)
	}
}

func touchAll(b *testing.B, table *Table, tuples []stack.Tuple) {
	var c Conn
	for i := range tuples {
		if table.touchTuple(&tuples[i], Forward, stack.ACK, Hop{}, time.Second, &c) != Found {
			b.Fatal("a connection is lost")
		}
	}
}
