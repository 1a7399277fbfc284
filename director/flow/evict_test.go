package flow

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/stack"
)

// evicting makes a table that evicts, and counts by server.
func evicting(max int) (*Table, map[uint32]int) {
	evicted := map[uint32]int{}
	return New(Options{Max: max, Evicted: func(server uint32) { evicted[server]++ }}), evicted
}

// oneShard returns n connections of one shard of the table, from clients that differ only in address.
func oneShard(table *Table, ip family, m Method, proto uint8, n int) (conns []Conn) {
	shard := -1
	for i := 0; len(conns) < n; i++ {
		c := ip.conn(m, proto, i)
		got := int(table.hash.shard(table.hash.client(c.Client), c.ClientPort))
		if shard < 0 {
			shard = got
		}
		if got == shard {
			conns = append(conns, c)
		}
	}
	return conns
}

// insertAt inserts c at a time.
func insertAt(t testing.TB, table *Table, c Conn, flags uint8, now time.Duration) Result {
	t.Helper()
	var out Conn
	return table.Insert(&c, flags, now, &out)
}

// advance shows a packet of c.
func advance(table *Table, c Conn, d Direction, flags uint8, now time.Duration) {
	k, out := c.Tuple(d), Conn{}
	table.touchTuple(&k, d, flags, aHop, now, &out)
}

// stateOf returns the state of c, and whether it is there.
func stateOf(table *Table, c Conn) (State, bool) {
	k, out := c.Tuple(Forward), Conn{}
	ok := table.Find(&k, Forward, &out)
	return out.State, ok
}

// establish takes c through the handshake.
func establish(t testing.TB, table *Table, c Conn, now time.Duration) {
	t.Helper()
	if r := insertAt(t, table, c, stack.SYN, now); r != Inserted {
		t.Fatal(r)
	}
	if c.Method.replies() {
		advance(table, c, Reply, stack.SYN|stack.ACK, now)
	}
	advance(table, c, Forward, stack.ACK, now)
	if s, _ := stateOf(table, c); s != Established {
		t.Fatalf("state %v after the handshake", s)
	}
}

// Who goes: for each method and family one connection that must stay and one that must go, in both orders of arrival.
func TestEvictOrder(t *testing.T) {
	const now = 200 * time.Second
	tcp := func(flags ...uint8) func(*testing.T, *Table, Conn) {
		return func(t *testing.T, table *Table, c Conn) {
			if r := insertAt(t, table, c, stack.SYN, now-2*time.Second); r != Inserted {
				t.Fatal(r)
			}
			for _, f := range flags {
				advance(table, c, Forward, f, now-time.Second)
			}
		}
	}
	udp := func(age time.Duration) func(*testing.T, *Table, Conn) {
		return func(t *testing.T, table *Table, c Conn) {
			c.Proto = stack.ProtoUDP
			if r := insertAt(t, table, c, 0, now-age); r != Inserted {
				t.Fatal(r)
			}
		}
	}
	established := func(t *testing.T, table *Table, c Conn) { establish(t, table, c, 0) }
	closed := func(t *testing.T, table *Table, c Conn) {
		establish(t, table, c, now-time.Second)
		advance(table, c, Forward, stack.RST, now-time.Second)
	}
	closing := func(t *testing.T, table *Table, c Conn) {
		establish(t, table, c, now-time.Second)
		advance(table, c, Forward, stack.FIN|stack.ACK, now-time.Second)
	}
	for _, tc := range []struct {
		name       string
		stay, goes func(*testing.T, *Table, Conn)
		goesUDP    bool
		stayUDP    bool
	}{
		{name: "half-open before an old established", stay: established, goes: tcp()},
		{name: "half-open before closed", stay: closed, goes: tcp()},
		{name: "closed before established", stay: established, goes: closed},
		{name: "half-open before closing", stay: closing, goes: tcp()},
		{name: "closed before idle UDP", stay: udp(100 * time.Second), stayUDP: true, goes: closed},
		{name: "idle UDP before established", stay: established, goes: udp(100 * time.Second), goesUDP: true},
		{name: "idle UDP before busy UDP", stay: udp(59 * time.Second), stayUDP: true, goes: udp(61 * time.Second), goesUDP: true},
		{name: "half-open before idle UDP", stay: udp(100 * time.Second), stayUDP: true, goes: tcp()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, ip family) {
				for _, m := range []Method{NAT, DR} {
					for _, first := range []bool{true, false} {
						table, evicted := evicting(2)
						cs := oneShard(table, ip, m, stack.ProtoTCP, 3)
						for i := range cs {
							cs[i].ServerID = uint32(i)
						}
						if first {
							tc.stay(t, table, cs[0])
							tc.goes(t, table, cs[1])
						} else {
							tc.goes(t, table, cs[1])
							tc.stay(t, table, cs[0])
						}
						if r := insertAt(t, table, cs[2], stack.SYN, now); r != Inserted {
							t.Fatalf("method %d: %v", m, r)
						}
						if tc.stayUDP {
							cs[0].Proto = stack.ProtoUDP
						}
						if tc.goesUDP {
							cs[1].Proto = stack.ProtoUDP
						}
						_, stayed := stateOf(table, cs[0])
						_, still := stateOf(table, cs[1])
						if !stayed || still || evicted[1] != 1 {
							t.Errorf("method %d, first %v: stayed %v, gone %v, told %v", m, first, stayed, !still, evicted)
						}
						wantLen(t, table, 2)
					}
				}
			})
		})
	}
}

// Nothing that lives is evicted: established, closing, UDP in use. Nor is anything where eviction is off.
func TestEvictNothing(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		for name, enter := range map[string]func(*Table, Conn) Conn{
			"established": func(table *Table, c Conn) Conn { establish(t, table, c, 0); return c },
			"closing": func(table *Table, c Conn) Conn {
				establish(t, table, c, 0)
				advance(table, c, Forward, stack.FIN|stack.ACK, 0)
				return c
			},
			"UDP in use": func(table *Table, c Conn) Conn {
				c.Proto = stack.ProtoUDP
				insertAt(t, table, c, 0, 0)
				advance(table, c, Forward, 0, 50*time.Second)
				return c
			},
		} {
			table, evicted := evicting(1)
			cs := oneShard(table, ip, NAT, stack.ProtoTCP, 2)
			c := enter(table, cs[0])
			if r := insertAt(t, table, cs[1], stack.SYN, 100*time.Second); r != Full || len(evicted) != 0 {
				t.Errorf("%s: %v, evicted %v", name, r, evicted)
			}
			if _, ok := stateOf(table, c); !ok {
				t.Errorf("%s: gone", name)
			}
		}
		table := New(Options{Max: 1})
		cs := oneShard(table, ip, NAT, stack.ProtoTCP, 2)
		insertAt(t, table, cs[0], stack.SYN, 0)
		if r := insertAt(t, table, cs[1], stack.SYN, 0); r != Full {
			t.Errorf("off: %v", r)
		}
	})
}

// Under a flood of SYNs established connections stay, all of them, and those that do their handshake while it lasts come through.
func TestFlood(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		const max, old, flood = 20_000, 10_000, 60_000
		table, evicted := evicting(max)
		for i := range old {
			establish(t, table, ip.conn(NAT, stack.ProtoTCP, i), 0)
		}
		var waiting []Conn
		lost := 0
		for i := range flood {
			now := time.Duration(i) * 100 * time.Microsecond // 10 000 a second: a half-open one lives a second
			r := insertAt(t, table, ip.conn(NAT, stack.ProtoTCP, old+i), stack.SYN, now)
			if r != Inserted {
				t.Fatalf("SYN %d of the flood: %v", i, r)
			}
			if i%500 == 0 {
				waiting = append(waiting, ip.conn(NAT, stack.ProtoTCP, 2*flood+i))
				if r := insertAt(t, table, waiting[len(waiting)-1], stack.SYN, now); r != Inserted {
					t.Fatal(r)
				}
			}
			if n := len(waiting); i%500 == 250 && n > 0 { // a round trip of 25 ms later
				advance(table, waiting[n-1], Reply, stack.SYN|stack.ACK, now)
				advance(table, waiting[n-1], Forward, stack.ACK, now)
				if s, _ := stateOf(table, waiting[n-1]); s != Established {
					lost++
				}
			}
		}
		for i := range old {
			if s, _ := stateOf(table, ip.conn(NAT, stack.ProtoTCP, i)); s != Established {
				t.Fatalf("established connection %d is %v", i, s)
			}
		}
		if lost > 1 {
			t.Errorf("%d of %d handshakes were lost", lost, len(waiting))
		}
		wantLen(t, table, max)
		if st := table.Stats(); st.Full != 0 || st.Evicted == 0 || int(st.Evicted) != evicted[0] {
			t.Errorf("full %d, evicted %d, told %v", st.Full, st.Evicted, evicted)
		}
	})
}

// In a small table few shards have a connection that may go, or none has more than one: while there is one anywhere a flood is served.
func TestFloodOfSmallTable(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		for _, old := range []int{0, 300, 399} {
			const max = 400
			table, _ := evicting(max)
			for i := range old {
				establish(t, table, ip.conn(NAT, stack.ProtoTCP, i), 0)
			}
			for i := range 10_000 {
				if r := insertAt(t, table, ip.conn(NAT, stack.ProtoTCP, old+i), stack.SYN, time.Second); r != Inserted {
					t.Fatalf("%d established: SYN %d of the flood: %v", old, i, r)
				}
			}
			for i := range old {
				if s, _ := stateOf(table, ip.conn(NAT, stack.ProtoTCP, i)); s != Established {
					t.Fatalf("established connection %d of %d is %v", i, old, s)
				}
			}
			wantLen(t, table, max)
		}
	})
}

// Where nobody may go, the next one to come to such a state does.
func TestNobodyMayGoUntil(t *testing.T) {
	table, _ := evicting(300)
	for i := range 300 {
		establish(t, table, families[0].conn(NAT, stack.ProtoTCP, i), 0)
	}
	for i := range 5 {
		for n := range 3 {
			if r := insertAt(t, table, families[0].conn(NAT, stack.ProtoTCP, 1000+3*i+n), stack.SYN, time.Second); r != Full {
				t.Fatal(r)
			}
		}
		c := families[0].conn(NAT, stack.ProtoTCP, 7*i)
		advance(table, c, Forward, stack.RST, time.Second)
		next := families[0].conn(NAT, stack.ProtoTCP, 2000+i)
		if r := insertAt(t, table, next, stack.SYN, time.Second); r != Inserted {
			t.Fatal(i, r)
		}
		if _, ok := stateOf(table, c); ok {
			t.Error("the closed one is there")
		}
		answer(table, next)
	}
}

// answer takes c, of which a SYN was seen, through the rest of the handshake.
func answer(table *Table, c Conn) {
	advance(table, c, Reply, stack.SYN|stack.ACK, time.Second)
	advance(table, c, Forward, stack.ACK, time.Second)
}

// Workers flood a small table at once, and look for room in each other's shards: none waits for another one for ever, and all accounts are right.
func TestFloodConcurrently(t *testing.T) {
	var evicted atomic.Int64
	table := New(Options{Max: 300, Evicted: func(uint32) { evicted.Add(1) }})
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for i := range 5000 {
				insertAt(t, table, families[w&1].conn(NAT, stack.ProtoTCP, w*5000+i), stack.SYN, time.Duration(i)*time.Millisecond)
			}
		})
	}
	work.Wait()
	if st := table.Stats(); st.Len != 300 || st.Evicted != uint64(evicted.Load()) || st.Evicted+st.Full+300 != 20_000 {
		t.Errorf("%+v", st)
	}
}

// A port of a masqueraded connection that was evicted is free again, and every account is right after a mixture.
func TestEvictAccounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	active, inactive := map[uint32]int32{}, map[uint32]int32{}
	table := New(Options{Max: 500, Evicted: func(uint32) {}, Count: func(s uint32, a, i int32) {
		active[s] += a
		inactive[s] += i
	}})
	for i := range 20_000 {
		ip := families[rng.IntN(2)]
		now := time.Duration(i) * 10 * time.Millisecond
		switch rng.IntN(4) {
		case 0:
			var out Conn
			c := ip.outward(stack.ProtoTCP, rng.IntN(50), 1024+rng.IntN(1000))
			table.InsertLocal(&c, 1024, 65535, stack.SYN, now, &out)
		default:
			c := ip.conn(Method(rng.IntN(2)), []uint8{stack.ProtoTCP, stack.ProtoUDP}[rng.IntN(2)], rng.IntN(2000))
			c.ServerID = uint32(rng.IntN(3))
			insertAt(t, table, c, stack.SYN, now)
			if rng.IntN(3) == 0 {
				advance(table, c, Reply, stack.SYN|stack.ACK, now)
				advance(table, c, Forward, []uint8{stack.ACK, stack.RST}[rng.IntN(2)], now)
			}
		}
		if i%100 == 0 {
			table.Expire(now)
		}
	}
	if table.Stats().Evicted == 0 {
		t.Error("nothing was evicted")
	}
	wantLen(t, table, table.Len())
	table.Expire(24 * time.Hour)
	wantLen(t, table, 0)
	for s := range uint32(3) {
		if active[s] != 0 || inactive[s] != 0 {
			t.Errorf("server %d: %d active, %d inactive left", s, active[s], inactive[s])
		}
	}
}

// Every state is judged, and a flow without a packet for half a short timeout is idle too.
func TestJudge(t *testing.T) {
	for s := range State(NumStates) {
		want := map[State]worth{None: halfOpen, SynSent: halfOpen, SynRecv: halfOpen, SynAck: halfOpen, TimeWait: over, Close: over, UDP: idle, ICMP: idle,
			SCTPNone: halfOpen, SCTPInit1: halfOpen, SCTPInit: halfOpen, SCTPCookieSent: halfOpen, SCTPCookieWait: halfOpen,
			SCTPRejected: over, SCTPClosed: over}
		if w, ok := want[s]; ok != (worths[s] != kept) || ok && w != worths[s] {
			t.Errorf("%v: %d", s, worths[s])
		}
	}
	table := New(Options{Max: 1, Evicted: func(uint32) {}, Timeouts: Timeouts{UDP: 20 * time.Second}})
	cs := oneShard(table, 4, NAT, stack.ProtoUDP, 2)
	insertAt(t, table, cs[0], 0, 0)
	for _, tc := range []struct {
		at   time.Duration
		want Result
	}{{9 * time.Second, Full}, {11 * time.Second, Inserted}} {
		if r := insertAt(t, table, cs[1], 0, tc.at); r != tc.want {
			t.Errorf("after %v: %v, want %v", tc.at, r, tc.want)
		}
	}
}

func TestEvictDoesNotAllocate(t *testing.T) {
	table, _ := evicting(5000)
	for i := range 20_000 {
		insertAt(t, table, families[0].conn(NAT, stack.ProtoTCP, i), stack.SYN, 0)
	}
	table.evicted = func(uint32) {}
	n := 20_000
	if got := testing.AllocsPerRun(5000, func() {
		c := families[0].conn(NAT, stack.ProtoTCP, n)
		n++
		table.Insert(&c, stack.SYN, time.Second, &c)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// BenchmarkInsertFull is a first packet in a full table: of half-open connections, and with one in a hundred of them.
func BenchmarkInsertFull(b *testing.B) {
	for name, every := range map[string]int{"flood": 1, "1 of 100": 100} {
		b.Run(name, func(b *testing.B) {
			const size = 200_000
			table := New(Options{Max: size, Evicted: func(uint32) {}})
			for i := range size {
				c := benchConn(i)
				mustInsert(b, table, c, stack.SYN)
				if i%every != 0 {
					advance(table, c, Reply, stack.SYN|stack.ACK, 0)
					advance(table, c, Forward, stack.ACK, 0)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				c := benchConn(size + i)
				table.Insert(&c, stack.SYN, time.Second, &c)
			}
		})
	}
}
