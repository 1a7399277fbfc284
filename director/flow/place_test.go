package flow

import (
	"testing"
	"time"

	"tapdirector/stack"
)

// A client's port that talks to thousands: its place gets no longer than any, each connection is found by both tuples, none is found for what is
// not there, and when all have ended nothing is left of them.
func TestCrowdedPlace(t *testing.T) {
	const n = 3000
	eachFamily(t, func(t *testing.T, ip family) {
		for _, m := range []Method{NAT, DR, Masquerade} {
			table := New(Options{Max: n})
			conns := make([]Conn, n)
			for i := range conns {
				c := ip.conn(m, stack.ProtoUDP, 7)
				c.Virtual, c.VirtualPort, c.ServerPort = ip.addr(vips, i>>6), uint16(1000+i), uint16(1000+i)
				if m == Masquerade {
					c = ip.outward(stack.ProtoUDP, 7, 7)
					c.Virtual, c.Server = ip.addr(clients, i), ip.addr(clients, i)
					if r := table.InsertLocal(&c, 1024, 65535, 0, 0, &conns[i]); r != Inserted {
						t.Fatal(i, r)
					}
					continue
				}
				conns[i] = mustInsert(t, table, c, 0)
			}
			for i := range table.shards {
				if got := table.shards[i].index.longest(); got > 12 { // of 300 and more
					t.Errorf("method %d: a place of %d buckets", m, got)
				}
			}
			for i := range conns {
				for d := range Direction(2) {
					k := conns[i].Tuple(d)
					var c Conn
					if found := table.Find(&k, d, &c); found != (d == Forward || m.replies()) || found && c != conns[i] {
						t.Fatalf("method %d: connection %d by tuple %d: %v, %+v", m, i, d, found, c)
					}
				}
				if r := insertAt(t, table, conns[i], 0, 0); m != Masquerade && r != Exists {
					t.Fatalf("method %d: connection %d again: %v", m, i, r)
				}
			}
			k := conns[0].Tuple(Forward)
			k.DstPort = 1
			if table.Remove(&k, Forward) {
				t.Errorf("method %d: what is not there is found", m)
			}
			table.Expire(time.Hour)
			for i := range table.shards {
				if x := &table.shards[i].index; x.held != 0 || x.replies != 0 || x.crowded {
					t.Fatalf("method %d: %d references, %d for replies, crowded %v", m, x.held, x.replies, x.crowded)
				}
			}
			if conns, refs := table.live.conns(), table.live.refs(); conns != 0 || refs != 0 {
				t.Errorf("%d connections, %d references are counted", conns, refs)
			}
		}
	})
}

// A connection with the client's end as its servers see it has one reference, any other two.
func TestReferences(t *testing.T) {
	table := New(Options{Max: 100})
	nat := mustInsert(t, table, families[0].conn(NAT, stack.ProtoTCP, 1), stack.SYN)
	mustInsert(t, table, families[0].conn(DR, stack.ProtoTCP, 2), stack.SYN)
	if got := table.live.refs(); got != 2 {
		t.Errorf("%d references for two", got)
	}
	out := families[0].outward(stack.ProtoTCP, 3, 3)
	var c Conn
	if r := table.InsertLocal(&out, 1024, 65535, stack.SYN, 0, &c); r != Inserted {
		t.Fatal(r)
	}
	if got := table.live.refs(); got != 4 {
		t.Errorf("%d references for three", got)
	}
	k := nat.Tuple(Reply)
	if !table.Remove(&k, Reply) || table.live.refs() != 3 {
		t.Errorf("%d references for two", table.live.refs())
	}
}
