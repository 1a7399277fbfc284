package flow

import (
	"testing"
	"time"

	"tapdirector/stack"
)

// across is client n's connection to a server of the other family.
func (f family) across(n, l, s int) Conn {
	c := f.balanced(n, l, s)
	far := (10 - f).balanced(n, l, s)
	c.Local, c.Server, c.Method = far.Local, far.Server, Across
	return c
}

// Connections between the families live beside those within each, in one table: every one has a reply tuple of its own, is found by both of its tuples
// and by no other one's, and gives its port back.
func TestConnectionsBetweenFamilies(t *testing.T) {
	table := New(Options{Max: 100_000})
	now := time.Duration(0)
	used := map[stack.Tuple]bool{}
	const each = 3000
	for n := range each {
		for _, c := range []Conn{family(4).balanced(n, 0, 0), family(6).balanced(n, 0, 0), family(4).across(each+n, 0, 0), family(6).across(each+n, 0, 0)} {
			var got, back, forth Conn
			if r := table.InsertLocal(&c, lowPort, highPort, stack.SYN, now, &got); r != Inserted {
				t.Fatal(r)
			}
			reply, forward := got.Tuple(Reply), got.Tuple(Forward)
			if used[reply] || got.Local.Is4() != got.Server.Is4() || got.Client.Is4() != got.Virtual.Is4() {
				t.Fatalf("%+v, its reply tuple used before: %v", got, used[reply])
			}
			used[reply] = true
			if !table.Find(&reply, Reply, &back) || !table.Find(&forward, Forward, &forth) || back != got || forth != got {
				t.Fatalf("%+v is found as %+v and %+v", got, back, forth)
			}
			if table.Find(&reply, Forward, &back) || table.Find(&forward, Reply, &back) {
				t.Fatalf("%+v is found the wrong way round", got)
			}
		}
	}
	wantLen(t, table, 4*each)
	checkUnique(t, table, now)
	for tuple := range used {
		var got Conn
		if r := table.touchTuple(&tuple, Reply, stack.RST, Hop{}, now, &got); r != Found {
			t.Fatal(r)
		}
	}
	table.Expire(now + time.Hour)
	wantLen(t, table, 0)
}

// One server of the other family bears as many connections as one of the same.
func TestPortsOfAServerOfTheOtherFamily(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 100_000})
		var got Conn
		for n := range 40_000 {
			c := ip.across(n, 0, 0)
			if r := table.InsertLocal(&c, lowPort, highPort, stack.SYN, 0, &got); r != Inserted {
				t.Fatalf("connection %d: %v", n, r)
			}
		}
		checkUnique(t, table, 0)
	})
}

// Rebind makes of AcrossTOA what it is when the server knows the client.
func TestRebindAcross(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 10})
		c := ip.across(1, 0, 0)
		c.Method = AcrossTOA
		var got Conn
		table.InsertLocal(&c, lowPort, highPort, stack.SYN, 0, &got)
		reply := got.Tuple(Reply)
		table.Rebind(&reply, Reply, Across)
		if table.Find(&reply, Reply, &got); got.Method != Across {
			t.Errorf("method %d", got.Method)
		}
	})
}
