//go:build !race

package flow

import (
	"fmt"
	"os"
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
