package flow

import (
	"math/rand/v2"
	"testing"
	"time"

	"tapdirector/stack"
)

// benchConn is the n-th of many different NAT connections from 64k addresses.
func benchConn(n int) Conn {
	client := stack.AddrFrom4([]byte{10, 9, byte(n >> 8), byte(n)})
	server := stack.AddrFrom4([]byte{10, 77, 2, byte(n % 7)})
	port := uint16(1024 + n>>16)
	return Conn{
		Client: client, Virtual: stack.AddrFrom4([]byte{10, 77, 1, 100}), Local: client, Server: server,
		ClientPort: port, VirtualPort: 80, LocalPort: port, ServerPort: 8000,
		Proto: stack.ProtoTCP, Method: NAT, ServerID: uint32(n % 7),
	}
}

func benchTable(b *testing.B, n int) *Table {
	t := New(Options{Max: n})
	for i := range n {
		c := benchConn(i)
		if r := t.Insert(&c, stack.SYN, 0, &c); r != Inserted {
			b.Fatal(i, r)
		}
	}
	return t
}

// BenchmarkTouch touches random ones of the known connections: a few hundred of 10k are in the first cache, all 10k fill the second, a
// million are in none.
func BenchmarkTouch(b *testing.B) {
	for _, size := range []struct {
		name       string
		n, touched int
	}{{"1 of 1", 1, 1}, {"256 of 10k", 10_000, 256}, {"16k of 10k", 10_000, 1 << 14}, {"64k of 1M", 1_000_000, 1 << 16}} {
		for d, dir := range []string{"forward", "reply"} {
			b.Run(size.name+"/"+dir, func(b *testing.B) {
				t := benchTable(b, size.n)
				tuples := make([]stack.Tuple, size.touched)
				for i := range tuples {
					c := benchConn(rand.IntN(size.n))
					tuples[i] = c.Tuple(Direction(d))
				}
				var out Conn
				b.ReportAllocs()
				b.ResetTimer()
				for i := 0; i < b.N; i++ {
					if t.touchTuple(&tuples[i&(len(tuples)-1)], Direction(d), stack.ACK, Hop{}, time.Duration(i)<<10, &out) != Found {
						b.Fatal("miss")
					}
				}
			})
		}
	}
}

// BenchmarkInsert counts all of a table's growth.
func BenchmarkInsert(b *testing.B) {
	const n = 1 << 20
	var out Conn
	var t *Table
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		if i%n == 0 {
			b.StopTimer()
			t = New(Options{Max: n})
			b.StartTimer()
		}
		c := benchConn(i % n)
		if t.Insert(&c, stack.SYN, time.Duration(i)<<10, &out) != Inserted {
			b.Fatal("not inserted")
		}
	}
}

// BenchmarkExpire is the janitor's time for a quarter of a million connections that end at once, and for each of them.
func BenchmarkExpire(b *testing.B) {
	const n = 1 << 18
	for b.Loop() {
		b.StopTimer()
		t := benchTable(b, n)
		b.StartTimer()
		if got := t.Expire(time.Hour); got != n {
			b.Fatal(got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/conn")
}

// BenchmarkExpireIdle is the janitor's call when nothing is due.
func BenchmarkExpireIdle(b *testing.B) {
	t := benchTable(b, 10_000)
	now := time.Duration(0)
	for b.Loop() {
		now += 100 * time.Microsecond
		t.Expire(now)
	}
}

// BenchmarkKey is hashing: what every lookup pays before it takes the lock.
func BenchmarkKey(b *testing.B) {
	for _, ip := range families {
		b.Run(ip.String(), func(b *testing.B) {
			h := newHasher()
			c := ip.conn(NAT, stack.ProtoTCP, 1)
			k := c.Tuple(Forward)
			var key key
			for b.Loop() {
				h.key(&key, &k, Forward)
				k.SrcPort = uint16(key.hash)
			}
		})
	}
}

// BenchmarkRegion is the allocation that one page in 64 waits for.
func BenchmarkRegion(b *testing.B) {
	for b.Loop() {
		s := newSlab[entry](1)
		s.page()
	}
}
