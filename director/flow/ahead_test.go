package flow

import (
	"testing"

	"tapdirector/stack"
)

// Looking ahead changes nothing, whatever is looked for, known or not, and however much of it.
func TestAheadChangesNothing(t *testing.T) {
	const n = 2 * aheadMax
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: n})
		conns := make([]Conn, n)
		for i := range conns {
			conns[i] = mustInsert(t, table, ip.conn(NAT, stack.ProtoTCP, i), stack.SYN)
		}
		before := table.Stats()
		var a Ahead
		for i := range conns {
			d := Direction(i & 1)
			tuple := conns[i].Tuple(d)
			var k Key
			table.Prepare(&k, &tuple, d)
			a.Add(table, &k)
			tuple.SrcPort ^= 1 << 15
			table.Prepare(&k, &tuple, d)
			a.Add(table, &k)
			if a.n > aheadMax {
				t.Fatalf("%d are noted", a.n)
			}
		}
		a.Fetch(table)
		if a.n != 0 || table.Stats() != before {
			t.Errorf("%d are left; the table is %+v, was %+v", a.n, table.Stats(), before)
		}
		for i := range conns {
			for d := range Direction(2) {
				k := conns[i].Tuple(d)
				var c Conn
				if !table.Find(&k, d, &c) || c != conns[i] {
					t.Fatalf("connection %d: %+v, want %+v", i, c, conns[i])
				}
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			tuple := conns[0].Tuple(Forward)
			var k Key
			table.Prepare(&k, &tuple, Forward)
			a.Add(table, &k)
			a.Fetch(table)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestPays(t *testing.T) {
	table := New(Options{Max: 2 * aheadFloor})
	for i := range aheadFloor {
		if table.Pays() {
			t.Fatalf("with %d connections", i)
		}
		mustInsertNext(t, table, i)
	}
	if !table.Pays() {
		t.Errorf("not with %d connections", table.Len())
	}
}

func mustInsertNext(t *testing.T, table *Table, i int) {
	c := families[0].conn(NAT, stack.ProtoTCP, i)
	if r := table.Insert(&c, stack.SYN, 0, &c); r != Inserted {
		t.Fatal(i, r)
	}
}
