package flow

import (
	"math/rand/v2"
	"testing"
	"time"

	"tapdirector/stack"
)

// balanced is client n's connection by FullNAT from local address l to server s, ready for InsertLocal.
func (f family) balanced(n, l, s int) Conn {
	return Conn{
		Client: f.addr(clients, n%30_000), ClientPort: uint16(1024 + n/30_000),
		Virtual: f.addr(vips, 0), VirtualPort: 80,
		Local: f.addr(servers, 1000+l), Server: f.addr(servers, s), ServerPort: 8000,
		Proto: stack.ProtoTCP, Method: FullNAT, ServerID: uint32(s), Hop: aHop,
	}
}

// The ports of tests, as the director has them.
const lowPort, highPort = 1024, 64511

// insertAny is InsertLocal over several local addresses, beginning with another one each time, as the director does it.
func insertAny(table *Table, ip family, n, locals, server int, now time.Duration, out *Conn) Result {
	r := NoPort
	for try := range locals {
		c := ip.balanced(n, (n+try)%locals, server)
		if r = table.InsertLocal(&c, lowPort, highPort, stack.SYN, now, out); r != NoPort {
			return r
		}
	}
	return r
}

// 100,000 connections to one server find a port with two local addresses; what one and four bear is logged: the first connection that finds none, and how many there
// are when as many have tried as there are ports. The bounds are far from what is seen, 45,000 to 55,000 with one.
func TestPortsOfOneServer(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		for _, tt := range []struct{ locals, tries, atLeast int }{{1, 63_488, 40_000}, {2, 2 * 63_488, 100_000}, {4, 4 * 63_488, 205_000}} {
			table := New(Options{Max: 300_000})
			used := map[stack.Tuple]bool{}
			first := 0
			var got Conn
			for n := range tt.tries {
				switch r := insertAny(table, ip, n, tt.locals, 0, 0, &got); r {
				case Inserted:
					used[got.Tuple(Reply)] = true
				case NoPort:
					if first == 0 {
						first = n
					}
				default:
					t.Fatal(r)
				}
			}
			t.Logf("%d local addresses: none free for connection %d; of %d tries %d have one", tt.locals, first, tt.tries, len(used))
			if first != 0 && first < tt.atLeast {
				t.Errorf("%d local addresses: no port for connection %d, want %d at least", tt.locals, first, tt.atLeast)
			}
			wantLen(t, table, len(used))
		}
	})
}

// While connections come, live and end at random, no two have a reply tuple in common, and each is found by its own.
func TestReplyTuplesAreUnique(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
		table := New(Options{Max: 50_000})
		now := time.Duration(0)
		for n := range 60_000 {
			var got, back Conn
			if r := insertAny(table, ip, n, 2, n%2, now, &got); r != Inserted {
				t.Fatal(r)
			}
			k := got.Tuple(Reply)
			flags := [...]uint8{stack.SYN | stack.ACK, stack.RST}[rng.IntN(2)]
			if r := table.touchTuple(&k, Reply, flags, Hop{}, now, &back); r != Found || back.Client != got.Client || back.ClientPort != got.ClientPort {
				t.Fatalf("connection %d is found as %+v, %v", n, back, r)
			}
			now += 2 * time.Millisecond
			if n%1000 == 0 {
				table.Expire(now)
				checkUnique(t, table, now)
			}
		}
	})
}

func checkUnique(t *testing.T, table *Table, now time.Duration) {
	t.Helper()
	seen := map[stack.Tuple]stack.Tuple{}
	table.Each(now, func(c *Conn, _ time.Duration) bool {
		reply, forward := c.Tuple(Reply), c.Tuple(Forward)
		if other, ok := seen[reply]; ok && other != forward { // Each may pass one twice
			t.Fatalf("%v and %v are both answered as %v", other, forward, reply)
		}
		seen[reply] = forward
		return true
	})
}

// When no port is free the connection that has been over for longest gives its own; one that lives never does.
func TestPortsOfEndedConnectionsAreTakenOver(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 1000})
		const port = 9000
		// A range of 256 ports has one for each shard.
		old := Conn{}
		first := ip.balanced(0, 0, 0)
		if r := table.InsertLocal(&first, port&0xff00, port|0xff, stack.SYN, 0, &old); r != Inserted {
			t.Fatal(r)
		}
		rival := 1
		for shardOf(table, ip.balanced(rival, 0, 0)) != shardOf(table, first) {
			rival++
		}
		c, got := ip.balanced(rival, 0, 0), Conn{}
		if r := table.InsertLocal(&c, port&0xff00, port|0xff, stack.SYN, 0, &got); r != NoPort {
			t.Fatalf("%v while the connection with the port lives", r)
		}
		k := old.Tuple(Reply)
		table.touchTuple(&k, Reply, stack.RST|stack.ACK, Hop{}, 0, &Conn{}) // CLOSE
		if r := table.InsertLocal(&c, port&0xff00, port|0xff, stack.SYN, 0, &got); r != Inserted || got.LocalPort != old.LocalPort {
			t.Fatalf("%v with port %d, want that of the connection which is over, %d", r, got.LocalPort, old.LocalPort)
		}
		gone := old.Tuple(Forward)
		if r := table.touchTuple(&gone, Forward, stack.ACK, Hop{}, 0, &Conn{}); r != Miss {
			t.Errorf("the old connection is still there: %v", r)
		}
		if st := table.Stats(); st.Reopened != 1 {
			t.Errorf("%d reopened, want 1", st.Reopened)
		}
	})
}

// shardOf is the shard that c's client chooses.
func shardOf(table *Table, c Conn) uint8 {
	k := c.Tuple(Forward)
	var key key
	table.hash.key(&key, &k, Forward)
	return key.shard
}

func TestLongestOverIsTakenOver(t *testing.T) {
	table := New(Options{Max: 1000})
	var byShard [numShards][]Conn
	for n := range 3000 { // until some shard has used two ports, and no more are to be had
		c, got := families[0].balanced(n, 0, 0), Conn{}
		if table.InsertLocal(&c, 9<<8, 10<<8|255, stack.SYN, 0, &got) == Inserted {
			n := shardOf(table, c)
			byShard[n] = append(byShard[n], got)
		}
	}
	for n := 3000; ; n++ {
		c, got := families[0].balanced(n, 0, 0), Conn{}
		has := byShard[shardOf(table, c)]
		if len(has) != 2 {
			continue
		}
		for i, when := range []time.Duration{2 * time.Second, time.Second} {
			reply := has[i].Tuple(Reply)
			table.touchTuple(&reply, Reply, stack.RST, Hop{}, when, &Conn{})
		}
		if r := table.InsertLocal(&c, 9<<8, 10<<8|255, stack.SYN, 3*time.Second, &got); r != Inserted || got.LocalPort != has[1].LocalPort {
			t.Errorf("%v with port %d, want %d, over since 1 s, not %d, since 2 s", r, got.LocalPort, has[1].LocalPort, has[0].LocalPort)
		}
		return
	}
}

func TestRebind(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 10})
		c, got := ip.balanced(1, 0, 0), Conn{}
		c.Method = FullNATTOA
		table.InsertLocal(&c, lowPort, highPort, stack.SYN, 0, &got)
		forward, reply := got.Tuple(Forward), got.Tuple(Reply)
		if !table.Rebind(&reply, Reply, FullNAT) || table.Rebind(&reply, Reply, DR) {
			t.Error("a method with replies gives way to one with replies only")
		}
		if table.touchTuple(&forward, Forward, stack.ACK, Hop{}, 0, &got); got.Method != FullNAT {
			t.Errorf("method %d, want FullNAT", got.Method)
		}
		if unknown := ip.balanced(2, 0, 0).Client; table.Rebind(&stack.Tuple{Src: unknown}, Forward, FullNAT) {
			t.Error("a connection that is not there got a method")
		}
	})
}

// A tuple of each family: the forward one of the client's, the reply one of the server's.
func TestMixedFamilies(t *testing.T) {
	for _, ip := range families {
		table := New(Options{Max: 10})
		c, got := ip.balanced(1, 0, 0), Conn{}
		other := families[0]
		if ip == 4 {
			other = families[1]
		}
		c.Local, c.Server = other.addr(servers, 1000), other.addr(servers, 0)
		if r := table.InsertLocal(&c, lowPort, highPort, stack.SYN, 0, &got); r != Inserted {
			t.Fatal(r)
		}
		for _, d := range []Direction{Forward, Reply} {
			k := got.Tuple(d)
			if r := table.touchTuple(&k, d, stack.ACK, Hop{}, 0, &Conn{}); r != Found {
				t.Errorf("%v client, direction %d: %v", ip, d, r)
			}
		}
		k := got.Tuple(Reply)
		table.Remove(&k, Reply)
		wantLen(t, table, 0)
	}
}

// What a new connection costs when every port is taken.
func BenchmarkInsertLocalFull(b *testing.B) {
	table := New(Options{Max: 100_000})
	var got Conn
	for n := range 90_000 {
		insertAny(table, 4, n, 1, 0, 0, &got)
	}
	n := 90_000
	for b.Loop() {
		n++
		c := families[0].balanced(n, 0, 0)
		if r := table.InsertLocal(&c, lowPort, highPort, stack.SYN, 0, &got); r != NoPort {
			b.Fatal(r)
		}
	}
}
