package flow

import (
	"testing"
	"time"

	"tapdirector/stack"
)

func TestTouchFindsBothDirections(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		for _, m := range []Method{NAT, DR} {
			table := New(Options{Max: 10})
			c := mustInsert(t, table, ip.conn(m, stack.ProtoTCP, 0), stack.SYN)
			if c.State != SynRecv || (c.Marks == NoOutput) != (m == DR) {
				t.Errorf("method %d: new connection is %v, marks %v", m, c.State, c.Marks)
			}
			var got Conn
			k := c.Tuple(Forward)
			hop := HopTo(7, stack.WordOf(stack.MAC{2, 1}))
			if r := table.touchTuple(&k, Forward, stack.ACK, hop, 0, &got); r != Found {
				t.Fatalf("method %d forward: %v", m, r)
			}
			c.State, c.Hop = Established, hop
			if got != c {
				t.Errorf("method %d forward: %+v, want %+v", m, got, c)
			}
			k = c.Tuple(Reply)
			want := Found
			if m == DR {
				want = Miss
			}
			got = Conn{}
			if r := table.touchTuple(&k, Reply, stack.ACK, HopTo(99, 0), 0, &got); r != want {
				t.Fatalf("method %d reply: %v", m, r)
			}
			if want == Found && got != c {
				t.Errorf("method %d reply: %+v, want %+v", m, got, c)
			}
		}
	})
}

// Every part of the tuple is part of the key.
func TestTouchMisses(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 10})
		c := mustInsert(t, table, ip.conn(NAT, stack.ProtoTCP, 0), stack.SYN)
		for d := Forward; d <= Reply; d++ {
			other := ip.addr(clients, 4999)
			for i, change := range []func(k *stack.Tuple){
				func(k *stack.Tuple) { k.Src = other }, func(k *stack.Tuple) { k.Dst = other },
				func(k *stack.Tuple) { k.SrcPort++ }, func(k *stack.Tuple) { k.DstPort++ },
				func(k *stack.Tuple) { k.Proto = stack.ProtoUDP }, func(k *stack.Tuple) { *k = k.Reverse() },
				func(k *stack.Tuple) { k.Src = stack.Addr{} },
			} {
				k := c.Tuple(d)
				change(&k)
				if r := table.touchTuple(&k, d, stack.ACK, Hop{}, 0, &Conn{}); r != Miss {
					t.Errorf("direction %d, change %d: %v", d, i, r)
				}
			}
			k := c.Tuple(d)
			if r := table.touchTuple(&k, 1-d, stack.ACK, Hop{}, 0, &Conn{}); r != Miss {
				t.Errorf("direction %d's tuple in the other direction: %v", d, r)
			}
		}
	})
}

// An IPv4 address and the IPv6 one with the same last four bytes are different connections, also when one connection has both.
func TestFamiliesDoNotMix(t *testing.T) {
	v4 := stack.AddrFrom4([]byte{1, 2, 3, 4})
	v6 := stack.AddrFrom16([]byte{0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4})
	table := New(Options{Max: 10})
	for i, client := range []stack.Addr{v4, v6} {
		for j, virtual := range []stack.Addr{v4, v6} {
			c := Conn{Client: client, Local: client, Virtual: virtual, Server: virtual, ServerID: uint32(i*2 + j), Proto: stack.ProtoUDP}
			mustInsert(t, table, c, 0)
		}
	}
	wantLen(t, table, 4)
	for i, client := range []stack.Addr{v4, v6} {
		for j, virtual := range []stack.Addr{v4, v6} {
			k := stack.Tuple{Src: client, Dst: virtual, Proto: stack.ProtoUDP}
			var got Conn
			if r := table.touchTuple(&k, Forward, 0, Hop{}, 0, &got); r != Found || got.ServerID != uint32(i*2+j) || got.Client != client || got.Virtual != virtual {
				t.Errorf("%v -> %v: %v %+v", client, virtual, r, got)
			}
		}
	}
}

// Step by step through the life of a connection: flags, direction, resulting state.
func TestTCPLives(t *testing.T) {
	type step struct {
		d     Direction
		flags uint8
		want  State
	}
	for name, life := range map[string]struct {
		m     Method
		steps []step
	}{
		"NAT, client closes": {NAT, []step{
			{Forward, stack.SYN, SynRecv}, {Reply, stack.SYN | stack.ACK, SynRecv}, {Forward, stack.ACK, Established},
			{Forward, stack.PSH | stack.ACK, Established}, {Forward, stack.FIN | stack.ACK, CloseWait},
			{Reply, stack.FIN | stack.ACK, TimeWait}, {Forward, stack.ACK, TimeWait}}},
		"NAT, server closes": {NAT, []step{
			{Forward, stack.ACK, Established}, {Reply, stack.FIN | stack.ACK, FinWait}, {Forward, stack.ACK, FinWait},
			{Forward, stack.FIN | stack.ACK, TimeWait}, {Reply, stack.ACK, TimeWait}}},
		"NAT, server refuses": {NAT, []step{{Reply, stack.RST | stack.ACK, Close}}},
		"DR, client closes": {DR, []step{
			{Forward, stack.ACK, Established}, {Forward, stack.FIN | stack.ACK, FinWait}, {Forward, stack.ACK, FinWait}}},
		"DR, client resets": {DR, []step{{Forward, stack.ACK, Established}, {Forward, stack.RST, Close}}},
	} {
		t.Run(name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, ip family) {
				table := New(Options{Max: 1})
				c := mustInsert(t, table, ip.conn(life.m, stack.ProtoTCP, 0), stack.SYN)
				for i, s := range life.steps {
					k := c.Tuple(s.d)
					var got Conn
					if r := table.touchTuple(&k, s.d, s.flags, aHop, 0, &got); r != Found || got.State != s.want {
						t.Fatalf("step %d: %v, %v; want %v", i, r, got.State, s.want)
					}
				}
			})
		})
	}
}

func TestReopen(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		var active, inactive int32
		table := New(Options{Max: 10, Count: func(_ uint32, a, i int32) { active += a; inactive += i }})
		c := mustInsert(t, table, ip.conn(NAT, stack.ProtoTCP, 0), stack.SYN)
		f, r := c.Tuple(Forward), c.Tuple(Reply)
		var got Conn
		table.touchTuple(&r, Reply, stack.RST, aHop, 0, &got)
		if res := table.touchTuple(&f, Forward, stack.SYN|stack.ACK, aHop, 0, &got); res != Found {
			t.Errorf("SYN+ACK on CLOSE: %v", res)
		}
		table.touchTuple(&r, Reply, stack.RST, aHop, 0, &got)
		if res := table.touchTuple(&r, Reply, stack.SYN, aHop, 0, &got); res != Found {
			t.Errorf("the server's SYN on CLOSE: %v", res)
		}
		table.touchTuple(&f, Forward, stack.RST, aHop, 0, &got)
		if res := table.touchTuple(&f, Forward, stack.SYN|stack.ECE|stack.CWR, aHop, 0, &got); res != Reopen || got.State != Close {
			t.Fatalf("SYN on CLOSE: %v, %v", res, got.State)
		}
		wantLen(t, table, 0)
		if active != 0 || inactive != 0 {
			t.Errorf("%d active and %d inactive are left", active, inactive)
		}
		if res := table.touchTuple(&f, Forward, stack.SYN, aHop, 0, &got); res != Miss {
			t.Errorf("after Reopen: %v", res)
		}
		mustInsert(t, table, c, stack.SYN)
		if st := table.Stats(); st.Reopened != 1 || st.Inserted != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestInsertExistsClashFull(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 3})
		first := mustInsert(t, table, ip.conn(NAT, stack.ProtoTCP, 0), stack.SYN)

		var got Conn
		again := ip.conn(DR, stack.ProtoTCP, 0)
		again.ServerID = 5
		if r := table.Insert(&again, stack.SYN, 0, &got); r != Exists || got != first {
			t.Errorf("same forward tuple: %v %+v", r, got)
		}
		clash := ip.conn(NAT, stack.ProtoTCP, 0)
		clash.VirtualPort = 81
		if r := table.Insert(&clash, stack.SYN, 0, &got); r != Clash {
			t.Errorf("same reply tuple: %v", r)
		}
		direct := ip.conn(DR, stack.ProtoTCP, 0)
		direct.VirtualPort, direct.ServerPort = 8000, 8000
		mustInsert(t, table, direct, stack.SYN) // no replies, no clash
		mustInsert(t, table, ip.conn(NAT, stack.ProtoUDP, 0), 0)
		more := ip.conn(NAT, stack.ProtoTCP, 1)
		if r := table.Insert(&more, stack.SYN, 0, &got); r != Full {
			t.Errorf("fourth of three: %v", r)
		}
		if r := table.Insert(&again, stack.SYN, 0, &got); r != Exists {
			t.Errorf("known connection in a full table: %v", r)
		}
		out := ip.outward(stack.ProtoUDP, 1, 9)
		if r := table.InsertLocal(&out, 1024, 65535, 0, 0, &got); r != Full {
			t.Errorf("InsertLocal into a full table: %v", r)
		}
		wantLen(t, table, 3)
		if st := table.Stats(); st.Clashes != 1 || st.Full != 2 {
			t.Errorf("%+v", st)
		}
		k := first.Tuple(Forward)
		if !table.Remove(&k, Forward) || table.Remove(&k, Forward) {
			t.Error("Remove: not once")
		}
		mustInsert(t, table, more, stack.SYN)
		wantLen(t, table, 3)
	})
}

// A connection whose two keys would lie in different shards is refused rather than lost.
func TestInsertRefusesForeignShard(t *testing.T) {
	table := New(Options{Max: 1000})
	refused := 0
	for n := range 100 {
		c := families[0].outward(stack.ProtoTCP, n, 1000)
		c.LocalPort = 5000
		var got Conn
		switch r := table.Insert(&c, stack.SYN, 0, &got); r {
		case Clash:
			refused++
		case Inserted:
			k := got.Tuple(Reply)
			if r := table.touchTuple(&k, Reply, stack.ACK, Hop{}, 0, &got); r != Found {
				t.Errorf("reply of %d: %v", n, r)
			}
		default:
			t.Fatal(r)
		}
	}
	if refused < 90 {
		t.Errorf("only %d refused", refused)
	}
}

// Each state's timeout holds: alive just before, gone two ticks and a call later; and every packet restarts it.
func TestTimeouts(t *testing.T) {
	own := Timeouts{Established: 30 * time.Second, UDP: 7 * time.Second, SynRecv: 1}
	for _, opt := range []Timeouts{{}, own} {
		want := DefaultTimeouts()
		for s, d := range opt {
			if d != 0 {
				want[s] = d
			}
		}
		for _, c := range []struct {
			proto  uint8
			flags  []uint8
			expect State
		}{
			{stack.ProtoTCP, []uint8{stack.SYN}, SynRecv},
			{stack.ProtoTCP, []uint8{stack.SYN, stack.ACK}, Established},
			{stack.ProtoTCP, []uint8{stack.SYN, stack.ACK, stack.FIN}, CloseWait},
			{stack.ProtoTCP, []uint8{stack.SYN, 0}, Close},
			{stack.ProtoUDP, []uint8{0, 0}, UDP},
			{stack.ProtoICMP, []uint8{0}, ICMP},
		} {
			table := New(Options{Max: 1, Timeouts: opt})
			conn := mustInsert(t, table, families[0].conn(NAT, c.proto, 0), c.flags[0])
			now := time.Duration(0)
			k := conn.Tuple(Forward)
			for _, flags := range c.flags[1:] {
				now += 999 * time.Millisecond
				table.touchTuple(&k, Forward, flags, aHop, now, &conn)
			}
			if conn.State != c.expect {
				t.Fatalf("%v, want %v", conn.State, c.expect)
			}
			if n := table.Expire(now + want[c.expect] - 1); n != 0 {
				t.Errorf("%v ended before %v", c.expect, want[c.expect])
			}
			if n := table.Expire(now + want[c.expect] + 2*tick); n != 1 {
				t.Errorf("%v did not end after %v", c.expect, want[c.expect])
			}
			wantLen(t, table, 0)
		}
	}
}

// A reply keeps a UDP connection alive as a request does.
func TestBothDirectionsRefresh(t *testing.T) {
	table := New(Options{Max: 1})
	c := mustInsert(t, table, families[1].conn(NAT, stack.ProtoUDP, 0), 0)
	now := time.Duration(0)
	for i := range 20 {
		now += 299 * time.Second
		d := Direction(i & 1)
		k := c.Tuple(d)
		if table.Expire(now) != 0 || table.touchTuple(&k, d, 0, aHop, now, &c) != Found {
			t.Fatalf("gone after %v", now)
		}
	}
	if table.Expire(now+301*time.Second) != 1 {
		t.Error("lives for ever")
	}
}

func TestEach(t *testing.T) {
	table := New(Options{Max: 5000})
	want := map[stack.Tuple]Conn{}
	for n := range 2000 {
		for _, ip := range families {
			c := mustInsert(t, table, ip.conn(Method(n%2), stack.ProtoTCP, n), stack.SYN)
			want[c.Tuple(Forward)] = c
		}
	}
	table.Each(10*time.Second, func(c *Conn, expires time.Duration) bool {
		if want[c.Tuple(Forward)] != *c {
			t.Errorf("unknown, twice or different: %+v", c)
		}
		if expires < 50*time.Second || expires > 50*time.Second+2*tick {
			t.Errorf("expires in %v", expires)
		}
		k := c.Tuple(Forward)
		if !table.Remove(&k, Forward) { // the walk holds no lock
			t.Errorf("gone already: %+v", c)
		}
		delete(want, k)
		return true
	})
	if len(want) != 0 || table.Len() != 0 {
		t.Errorf("%d not seen, %d left", len(want), table.Len())
	}
	mustInsert(t, table, families[0].conn(NAT, stack.ProtoUDP, 1), 0)
	mustInsert(t, table, families[0].conn(NAT, stack.ProtoUDP, 2), 0)
	seen := 0
	table.Each(time.Hour, func(_ *Conn, expires time.Duration) bool { seen++; return expires != 0 })
	if seen != 1 {
		t.Errorf("went on to %d after false, or told a time for what is over", seen)
	}
}
