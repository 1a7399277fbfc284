//go:build !race

package flow

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tapdirector/stack"
)

// Where there is less address space than is asked for, there is less of it; huge pages begin where regions do.
func TestReserveLess(t *testing.T) {
	m := reserve[entry](1 << 42)
	defer m.free()
	if n := m.len(); n == 0 || n >= 1<<42/regionCells {
		t.Errorf("%d regions", n)
	}
	if at := uintptr(unsafe.Pointer(m.at(0))); at%hugeBytes != 0 || m.regionBytes() != hugeBytes {
		t.Errorf("at %#x", at)
	}
	if !m.add(m.len() - 1) {
		t.Error("no memory at the end")
	}
}

// With little address space a table holds less, and Go's heap can grow; so do connections with more than one cell.
func TestLittleAddressSpace(t *testing.T) {
	for _, mib := range []uint64{120, 290} {
		table := newIn(t, mib<<20)
		n := 0
		for i := range 100_000 {
			c := families[i&1].conn(NAT, stack.ProtoTCP, i)
			c.Marks = Followed
			switch r := table.Insert(&c, stack.SYN, 0, &c); r {
			case Inserted:
				n++
			case Full:
			default:
				t.Fatal(r)
			}
		}
		if n < 50_000 {
			t.Errorf("%d MiB: %d connections", mib, n)
		}
	}
	if s := newSlab[Sequence](1); s.cover(1 << 31) {
		t.Error("a cell beyond the end is there")
	}
}

// newIn makes a table where there are so many bytes of address space left.
func newIn(t *testing.T, bytes uint64) *Table {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &was); err != nil {
		t.Fatal(err)
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var used uint64
	if _, err := fmt.Sscan(string(statm), &used); err != nil {
		t.Fatal(err)
	}
	less := unix.Rlimit{Cur: min(used*uint64(os.Getpagesize())+bytes, was.Max), Max: was.Max}
	if err := unix.Setrlimit(unix.RLIMIT_AS, &less); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_AS, &was)
	return New(Options{Max: 1 << 20})
}

// What is known of pages is filled with them, ahead of need: by some, and by the region.
func TestRecordsAreFilledAhead(t *testing.T) {
	table := New(Options{Max: 2 << 20})
	want := func(n, to int) {
		t.Helper()
		before := present(t, table.pages.memory)
		table.pages.touchCells(n, to)
		if more := present(t, table.pages.memory) - before; more != 0 {
			t.Errorf("%d bytes of records from %d on to %d were not filled", more, n, to)
		}
	}
	table.entries.touchPages(400)
	want(400, 400+aheadPages)
	const r = largeBytes / hugeBytes
	table.entries.block(r)
	table.entries.prepare(r)
	want(r*regionPages, (r+1)*regionPages)
	if e := table.entries; e.alone || !e.regions[0].held || !e.piecemeal(1) || !e.regions[r].filled || e.piecemeal(r) {
		t.Errorf("alone: %v, regions 0 and %d: %+v %+v", e.alone, r, e.regions[0], e.regions[r])
	}
	table.pages.touchCells(table.pages.len()*regionCells, 1<<31) // Nothing to do: they are not there.
}

// A region whose filling was late is filled by pages: the next one was taken for need meanwhile.
func TestLateRegion(t *testing.T) {
	s := newSlab[entry](40 * regionCells)
	const r = largeBytes/hugeBytes + 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.piecemeal(r) || !s.take(r) || !s.piecemeal(r) || s.piecemeal(s.len()) {
		t.Errorf("region %d: %+v", r, s.regions[r])
	}
}

// The next region of rows is there before it is needed.
func TestNextRows(t *testing.T) {
	r := newRows(3 * regionRows * numShards * fill)
	r.touchRows(regionRows - 2)
	if r.there != 1 || r.ready != regionRows {
		t.Errorf("%d regions, %d rows are filled", r.there, r.ready)
	}
	r.touchRows(r.ready)
	if r.there != 2 || r.ready != regionRows+aheadRows || r.alone {
		t.Errorf("%d regions, %d rows are filled", r.there, r.ready)
	}
}

// A table of a million connections takes within 1 % of what one of ten million does for each, all told: what 256 shards have begun to use, and what is filled
// ahead, is little.
func TestMemoryInProportion(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		// The lesser of two: what is left in Go's heap of other tests counts for more with a million.
		few, many := min(bytesEach(t, ip, 1_000_000), bytesEach(t, ip, 1_000_000)), bytesEach(t, ip, 10_000_000)
		t.Logf("%.2f and %.2f bytes for each: %+.2f %%", few, many, 100*(few/many-1))
		if few > 1.01*many || few < 0.99*many {
			t.Errorf("a connection of a million takes %.2f bytes, one of ten million %.2f", few, many)
		}
	})
}

// bytesEach is what each of n connections takes in a table that is full with them.
func bytesEach(t *testing.T, ip family, n int) float64 {
	before := heapInUse()
	table := New(Options{Max: n})
	for i := range n {
		c := ip.conn(NAT, stack.ProtoTCP, i)
		if r := table.Insert(&c, stack.SYN, 0, &c); r != Inserted {
			t.Fatal(i, r)
		}
	}
	bytes := inMemory(t, table) + heapInUse() - before
	runtime.KeepAlive(table)
	return float64(bytes) / float64(n)
}

// inMemory is how many bytes of a table's stretches of address space are in memory.
func inMemory(t *testing.T, table *Table) int {
	return present(t, table.entries.memory) + present(t, table.wides.memory) + present(t, table.pages.memory) +
		present(t, table.sequences.memory) + present(t, table.rows.memory) + present(t, table.shards[0].index.spill.memory)
}

// present is how many bytes of m are in memory, as mincore(2) says.
func present[T any](t *testing.T, m memory[T]) (bytes int) {
	page := os.Getpagesize()
	pages := make([]byte, m.n*m.regionBytes()/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(m.base), uintptr(m.n*m.regionBytes()), uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
	if errno != 0 {
		t.Fatal("mincore:", errno)
	}
	for _, p := range pages {
		bytes += int(p&1) * page
	}
	return bytes
}

// heapInUse is how many bytes of Go's heap are in use.
func heapInUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
