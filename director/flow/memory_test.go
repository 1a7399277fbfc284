package flow

import (
	"reflect"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"tapdirector/stack"
)

// hasPointers reports whether the garbage collector has to look into values of type t.
func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Pointer, reflect.UnsafePointer, reflect.Slice, reflect.String, reflect.Map, reflect.Interface, reflect.Func, reflect.Chan:
		return true
	}
	return false
}

// What there is one of per connection is a cache line and has no pointer; what workers write is in lines of its own.
func TestLayout(t *testing.T) {
	for _, cell := range []any{entry{}, bucket{}, wideAddrs{}} {
		typ := reflect.TypeOf(cell)
		if typ.Size() != 64 || hasPointers(typ) {
			t.Errorf("%v: %d bytes, pointers: %v", typ, typ.Size(), hasPointers(typ))
		}
	}
	if hasPointers(reflect.TypeFor[Conn]()) {
		t.Error("Conn has pointers")
	}
	const line = 64
	if size := unsafe.Sizeof(shard{}); size%line != 0 {
		t.Errorf("a shard has %d bytes", size)
	}
	var table Table
	if at := unsafe.Offsetof(table.shards); at%line != 0 {
		t.Errorf("the shards begin at %d", at)
	}
	if at := unsafe.Offsetof(table.live); at < unsafe.Offsetof(table.max)+line || unsafe.Offsetof(table.shards) < at+line {
		t.Errorf("live, at %d, shares a line", at)
	}
	if at := uintptr(unsafe.Pointer(&New(Options{Max: 1}).shards[0])); at%line != 0 {
		t.Errorf("the first shard is at %#x", at)
	}
	var s shard
	if at := unsafe.Offsetof(s.index) + unsafe.Offsetof(s.index.held); at+4 > line {
		t.Errorf("a lookup needs %d bytes of the shard", at)
	}
}

// A million connections: bytes for each, all told, and the number of objects that the collector knows.
func TestMemoryPerConnection(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	for _, c := range []struct {
		ip    family
		m     Method
		limit float64
	}{{4, NAT, 83}, {4, DR, 83}, {6, NAT, 148}} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		table := New(Options{Max: n})
		var conn Conn
		for i := range n {
			conn = c.ip.conn(c.m, stack.ProtoTCP, i)
			if r := table.Insert(&conn, stack.SYN, 0, &conn); r != Inserted {
				t.Fatal(i, r)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		bytes := after.HeapAlloc - before.HeapAlloc
		if offHeap {
			bytes += table.Stats().Bytes
		}
		each := float64(bytes) / float64(n)
		objects := int64(after.HeapObjects) - int64(before.HeapObjects)
		t.Logf("%v method %d: %.1f bytes per connection in %d objects", c.ip, c.m, each, objects)
		if n == 1_000_000 && each > c.limit {
			t.Errorf("%v method %d: %.1f bytes per connection, at most %.0f", c.ip, c.m, each, c.limit)
		}
		if objects > int64(n/100) {
			t.Errorf("%d objects for the collector", objects)
		}
		wantLen(t, table, n)
		runtime.KeepAlive(table)
	}
}

// Ended connections leave room for as many: a table that fills and empties again and again does not grow.
func TestMemoryIsUsedAgain(t *testing.T) {
	const n = 20_000
	table := New(Options{Max: n})
	var pages [3]uint32
	now := time.Duration(0)
	for round := range 12 {
		for i := range n {
			ip := families[round&1]
			c := ip.conn(NAT, stack.ProtoTCP, i+round*1000)
			if r := table.Insert(&c, stack.SYN, now, &c); r != Inserted {
				t.Fatalf("round %d: connection %d: %v", round, i, r)
			}
		}
		now += time.Hour
		if got := table.Expire(now); got != n {
			t.Fatalf("round %d: %d expired", round, got)
		}
		used := [3]uint32{table.entries.used, table.wides.used, table.rows.limit.Load()}
		if round == 5 {
			pages = used
		}
	}
	for i, used := range []uint32{table.entries.used, table.wides.used, table.rows.limit.Load()} {
		if float64(used) > 1.15*float64(pages[i]) { // Shards are never filled quite alike.
			t.Errorf("slab %d grew from %d to %d cells", i, pages[i], used)
		}
	}
}

// A slab says when it is full; then so does the table, and nothing is lost or leaked.
func TestSlabFull(t *testing.T) {
	s := newSlab[entry](1)
	n := 0
	for s.page() != 0 {
		n++
	}
	if n == 0 || n > 2*regionCells/pageCells {
		t.Errorf("%d pages", n)
	}
	for _, starve := range []func(table *Table){
		func(table *Table) { clear(table.entries.free) },
		func(table *Table) { clear(table.wides.free) },
	} {
		table := New(Options{Max: 10})
		starve(table)
		c := families[1].conn(NAT, stack.ProtoTCP, 1)
		if r := table.Insert(&c, stack.SYN, 0, &c); r != Full {
			t.Errorf("without memory: %v", r)
		}
		wantLen(t, table, 0)
	}
}

// No call on the path of a packet allocates; Insert only when a page is needed.
func TestNoAllocs(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 1000})
		c := mustInsert(t, table, ip.conn(NAT, stack.ProtoTCP, 0), stack.SYN)
		forward, reply := c.Tuple(Forward), c.Tuple(Reply)
		unknown := forward.Reverse()
		out := ip.outward(stack.ProtoUDP, 1, 9)
		outward := out.Tuple(Forward)
		now := time.Duration(0)
		for name, f := range map[string]func(){
			"known": func() {
				table.touchTuple(&forward, Forward, stack.ACK, aHop, now, &c)
				table.touchTuple(&reply, Reply, stack.ACK, aHop, now, &c)
			},
			"states": func() {
				table.touchTuple(&forward, Forward, stack.FIN, aHop, now, &c)
				table.touchTuple(&reply, Reply, stack.SYN, aHop, now, &c)
			},
			"unknown": func() { table.touchTuple(&unknown, Forward, stack.ACK, aHop, now, &c) },
			"new": func() {
				conn := ip.conn(NAT, stack.ProtoTCP, 7)
				table.Insert(&conn, stack.SYN, now, &c)
				k := conn.Tuple(Forward)
				table.Remove(&k, Forward)
			},
			"new local": func() {
				table.InsertLocal(&out, 1024, 65535, 0, now, &c)
				table.Remove(&outward, Forward)
			},
			"expire": func() { now += 20 * time.Millisecond; table.Expire(now) },
		} {
			f()
			if n := testing.AllocsPerRun(200, f); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}
