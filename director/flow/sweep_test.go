package flow

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/stack"
)

// Sweep ends exactly what it is asked to, in a table of any size, and the accounts are right after it; what is left because of Reset stays.
func TestSweep(t *testing.T) {
	for _, n := range []int{0, 1, 100, 20000} {
		for _, family := range []int{4, 6} {
			open := map[uint32]int32{}
			table := New(Options{Max: 30000, Count: func(s uint32, active, inactive int32) { open[s] += active + inactive }})
			cs := sweepConns(n, family)
			for i := range cs {
				var out Conn
				if r := table.Insert(&cs[i], stack.SYN, 0, &out); r != Inserted {
					t.Fatalf("insert %d: %v", i, r)
				}
			}
			gone := func(c *Conn) bool { return c.ServerID%4 == 3 || c.ServerID%4 == 2 && c.Proto == stack.ProtoUDP }
			want := 0
			for i := range cs {
				if gone(&cs[i]) {
					want++
				}
			}
			ended, left := table.Sweep(Sweep{Of: func(s uint32, proto uint8) bool { return s%4 == 3 || s%4 == 2 && proto == stack.ProtoUDP }})
			if ended != want || left != 0 || table.Len() != n-want {
				t.Fatalf("%d connections: %d ended, %d left, %d in the table; want %d, 0, %d", n, ended, left, table.Len(), want, n-want)
			}
			sum := int32(0)
			for s, o := range open {
				if s%4 == 3 && o != 0 {
					t.Errorf("server %d has %d connections", s, o)
				}
				sum += o
			}
			if int(sum) != n-want {
				t.Errorf("%d connections counted, want %d", sum, n-want)
			}
			for i := range cs {
				k := cs[i].Tuple(Forward)
				var out Conn
				if found := table.Find(&k, Forward, &out); found == gone(&cs[i]) {
					t.Fatalf("connection %d of server %d: found %v", i, cs[i].ServerID, found)
				}
			}
			if st := table.Stats(); int(st.Removed) != want || int(st.Inserted) != n {
				t.Errorf("stats %+v", st)
			}
		}
	}
}

// sweepConns makes n connections of 8 servers, every third of UDP, every fifth Followed.
func sweepConns(n, family int) []Conn {
	cs := make([]Conn, n)
	for i := range cs {
		a := func(host int) stack.Addr {
			if family == 6 {
				return stack.AddrFrom16([]byte{0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(host >> 16), byte(host >> 8), byte(host)})
			}
			return stack.AddrFrom4([]byte{10, byte(host >> 16), byte(host >> 8), byte(host)})
		}
		c := Conn{Client: a(1<<18 + i), ClientPort: uint16(i), Virtual: a(1), VirtualPort: 80, Server: a(100 + i%8), ServerPort: 80, ServerID: uint32(i % 8),
			Proto: stack.ProtoTCP, Method: NAT}
		c.Local, c.LocalPort = c.Client, c.ClientPort
		if i%3 == 0 {
			c.Proto = stack.ProtoUDP
		} else if i%5 == 0 {
			c.Marks |= Followed
		}
		cs[i] = c
	}
	return cs
}

// Reset is given the established Followed connections only, with their sequence numbers; where it has no room they stay, and the next Sweep has them again.
func TestSweepResets(t *testing.T) {
	table := New(Options{Max: 1000, Watch: &witness{}})
	cs := sweepConns(300, 4)
	want := 0
	for i := range cs {
		c := &cs[i]
		var out Conn
		table.Insert(c, stack.SYN, 0, &out)
		if c.Marks&Followed == 0 {
			continue
		}
		k, r := c.Tuple(Forward), c.Tuple(Reply)
		table.Follow(&k, Sequence{Client: uint32(i), Server: uint32(2 * i)}, true)
		if i%2 == 0 { // the others stay half-open
			table.touchTuple(&r, Reply, stack.SYN|stack.ACK, Hop{}, 0, &out)
			table.touchTuple(&k, Forward, stack.ACK, Hop{}, 0, &out)
			want++
		}
	}
	room, got := 7, 0
	sweep := Sweep{
		Of: func(uint32, uint8) bool { return true },
		Reset: func(c *Conn, s Sequence) bool {
			if room == 0 {
				return false
			}
			room--
			got++
			if s.Server != 2*s.Client || uint16(s.Client) != c.ClientPort {
				t.Errorf("client port %d: sequence %+v", c.ClientPort, s)
			}
			return true
		},
	}
	if _, left := table.Sweep(sweep); left != want-7 || table.Len() != left {
		t.Errorf("%d left, %d in the table, want %d", left, table.Len(), want-7)
	}
	room = 1000
	if ended, left := table.Sweep(sweep); ended != want-7 || left != 0 || got != want || table.Len() != 0 {
		t.Errorf("%d ended, %d left, %d resets, %d in the table; want %d, 0, %d, 0", ended, left, got, table.Len(), want-7, want)
	}
}

// Sweep while others insert, touch and expire: what was there before and is asked for is gone after it.
func TestSweepRace(t *testing.T) {
	table := New(Options{Max: 50000})
	cs := sweepConns(20000, 4)
	for i := range cs[:10000] {
		var out Conn
		table.Insert(&cs[i], stack.SYN, 0, &out)
	}
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for i := 10000; i < len(cs) && !stop.Load(); i++ {
			if cs[i].ServerID != 3 {
				var out Conn
				table.Insert(&cs[i], stack.SYN, 0, &out)
			}
		}
	})
	all.Go(func() {
		for i := 0; !stop.Load(); i++ {
			k := cs[i%len(cs)].Tuple(Forward)
			var out Conn
			table.touchTuple(&k, Forward, stack.ACK, Hop{}, time.Second, &out)
			table.Expire(time.Second)
		}
	})
	table.Sweep(Sweep{Of: func(s uint32, _ uint8) bool { return s == 3 }})
	stop.Store(true)
	all.Wait()
	table.Each(0, func(c *Conn, _ time.Duration) bool {
		if c.ServerID == 3 {
			t.Errorf("a connection of server 3 is still there: %+v", c)
			return false
		}
		return true
	})
}

// BenchmarkSweep is one look at a table in which nothing is to end.
func BenchmarkSweep(b *testing.B) {
	table := New(Options{})
	for _, c := range sweepConns(100000, 4) {
		var out Conn
		table.Insert(&c, stack.SYN, 0, &out)
	}
	for b.Loop() {
		table.Sweep(Sweep{Of: func(s uint32, _ uint8) bool { return s == 99 }})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100000, "ns/conn")
}
