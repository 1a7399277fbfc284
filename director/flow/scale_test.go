package flow

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

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

// The collector does not see connections: what it looks into grows by no more than the directories, whatever the table holds.
func TestCollectorSeesNothing(t *testing.T) {
	const n = 500_000
	eachFamily(t, func(t *testing.T, ip family) {
		before := scannable()
		table := New(Options{Max: n, Watch: watcherFunc(func(*Conn, Sequence) {})})
		for i := range n {
			c := ip.conn(NAT, stack.ProtoTCP, i)
			c.Marks = Followed
			if r := table.Insert(&c, stack.SYN, 0, &c); r != Inserted {
				t.Fatal(i, r)
			}
		}
		after := scannable()
		runtime.KeepAlive(table)
		if each := (after - before) / n; each > 1 {
			t.Errorf("the collector looks into %.2f bytes for each connection", each)
		}
	})
}

// BenchmarkScale fills a table, looks random connections up, and lets all of them end.
//
//	B/conn        of the heap, all told, for each connection
//	scan-B/conn   that the collector looks into
//	insert-ns     for each new connection, growth of the table included
//	worst-us      the longest insert, by the thread's own time: what one packet waits for growth
//	lookup-ns     for a packet of any connection
//	expire-ns     for each connection that ends
//	left-B/conn   of the heap when all are gone
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
	scan, heap := scannable(), heapBytes()
	table := New(Options{Max: n})
	var worst time.Duration
	start := time.Now()
	for i := range n {
		c := ip.conn(NAT, stack.ProtoTCP, i)
		if i&15 == 0 { // A look at the clock costs as much as an insert.
			before := threadTime()
			table.Insert(&c, stack.SYN, 0, &c)
			worst = max(worst, threadTime()-before)
			continue
		}
		table.Insert(&c, stack.SYN, 0, &c)
	}
	b.ReportMetric(perConn(time.Since(start), n), "insert-ns")
	b.ReportMetric(float64(worst.Microseconds()), "worst-us")
	if table.Len() != n {
		b.Fatalf("%d connections of %d", table.Len(), n)
	}
	b.ReportMetric((scannable()-scan)/float64(n), "scan-B/conn")
	b.ReportMetric(float64(heapBytes()-heap)/float64(n), "B/conn")
	b.ReportMetric(lookups(b, table, ip, n), "lookup-ns")
	start = time.Now()
	now := time.Hour
	if got := table.Expire(now); got != n {
		b.Fatalf("%d expired", got)
	}
	b.ReportMetric(perConn(time.Since(start), n), "expire-ns")
	for range 2000 {
		now += time.Millisecond
		table.Expire(now)
	}
	b.ReportMetric(float64(heapBytes()-heap)/float64(n), "left-B/conn")
	b.ReportMetric(0, "ns/op") // of no meaning here
	runtime.KeepAlive(table)
}

func perConn(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / float64(n) }

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// lookups returns the nanoseconds of a packet of a random connection. The tuples are made before, and are in the cache when they are asked for:
// a worker's packet is as well.
func lookups(b *testing.B, table *Table, ip family, n int) float64 {
	const rounds, batch = 2000, 512
	tuples := make([]stack.Tuple, batch)
	var spent time.Duration
	var c Conn
	for range rounds {
		for i := range tuples {
			c = ip.conn(NAT, stack.ProtoTCP, rand.IntN(n))
			tuples[i] = c.Tuple(Forward)
		}
		start := time.Now()
		for i := range tuples {
			if table.Touch(&tuples[i], Forward, stack.ACK, Hop{}, time.Second, &c) != Found {
				b.Fatal("a connection is lost")
			}
		}
		spent += time.Since(start)
	}
	return perConn(spent, rounds*batch)
}
