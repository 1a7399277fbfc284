//go:build !race

package flow

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Memory of the table comes from the system and not from Go's heap: so it is no part of what the garbage collector paces itself by, no packet
// that needs some has to help the collector, it can be had as huge pages, and it is given back at once. (The race detector looks at Go's heap only, so with it the
// table is there.)
//
// Cells of one type lie in one stretch of address space, which is reserved when the table is made, for as many as there can ever be. So where a cell is takes no
// look at anything. What is only reserved costs nothing, not even where memory must not be promised twice (vm.overcommit_memory = 2): a region counts from when
// it is made writable. Where so much address space is not to be had (RLIMIT_AS) it is half of it, or a quarter, and so on: the table is full sooner. Of what is
// left each stretch takes a quarter at most, so that there is some for the next, and for Go.

const (
	offHeap     = true
	hugeBytes   = 2 << 20 // a huge page; a region of 64-byte cells is one
	regionShift = 15
)

// memory is the place of numbered cells, by regions. It has no state of its own: copies are the same memory.
type memory[T any] struct {
	base unsafe.Pointer
	n    int // regions that there is address space for
}

// regionBytes is the size of a region.
func (m memory[T]) regionBytes() int { return regionCells * int(unsafe.Sizeof(*new(T))) }

// leave is how many times as much address space as a stretch takes there must be.
const leave = 4

// reserve returns address space for at least the given number of cells, if there is so much.
func reserve[T any](cells int) memory[T] {
	m := memory[T]{n: (cells + regionCells - 1) / regionCells}
	for ; m.n > 0; m.n /= 2 {
		size := uintptr(m.n * m.regionBytes())
		all := leave*size + hugeBytes
		p, err := unix.MmapPtr(-1, 0, nil, all, unix.PROT_NONE, reserved)
		if err != nil {
			continue
		}
		before := -uintptr(p) & (hugeBytes - 1)
		m.base = unsafe.Add(p, before)
		if before > 0 {
			unmap(p, before)
		}
		unmap(unsafe.Add(m.base, size), all-size-before)
		m.smallPages(0, m.n)
		return m
	}
	panic("flow: no address space for a table")
}

const reserved = unix.MAP_ANON | unix.MAP_PRIVATE | unix.MAP_NORESERVE

func unmap(p unsafe.Pointer, bytes uintptr) {
	unix.MunmapPtr(p, bytes) // fails for addresses only that were never mapped
}

// len is how many regions there can be.
func (m memory[T]) len() int { return m.n }

// free gives all of it back.
func (m memory[T]) free() { unmap(m.base, uintptr(m.n*m.regionBytes())) }

// at returns the cell of number i.
func (m memory[T]) at(i uint32) *T {
	return (*T)(unsafe.Add(m.base, uintptr(i)*unsafe.Sizeof(*new(T))))
}

// fetch fetches the cell of number i; it need not be there.
func (m memory[T]) fetch(i uint32) { prefetch(unsafe.Pointer(m.at(i))) }

// raw returns n regions from r on.
func (m memory[T]) raw(r, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(m.base, r*m.regionBytes())), n*m.regionBytes())
}

// smallPages says that regions are not to be huge pages by themselves: to be given one when a cell is first touched would take a packet milliseconds.
func (m memory[T]) smallPages(r, n int) {
	unix.Madvise(m.raw(r, n), unix.MADV_NOHUGEPAGE) // fails where there are none
}

// add makes the zero cells of region r usable, whose pages come when they are touched; false when there is no memory.
func (m memory[T]) add(r int) bool {
	return unix.Mprotect(m.raw(r, 1), unix.PROT_READ|unix.PROT_WRITE) == nil
}

// fill gets all pages of region r, which was added, as a huge page if there is one. False when the system does not know how (before Linux 5.14).
func (m memory[T]) fill(r int) bool {
	b := m.raw(r, 1)
	return unix.Madvise(b, unix.MADV_HUGEPAGE) == nil && unix.Madvise(b, unix.MADV_POPULATE_WRITE) == nil
}

// touch gets the pages of n cells from cell i on, of a region that was added. False when the system does not know how (before Linux 5.14).
func (m memory[T]) touch(i uint32, n int) bool {
	p := unsafe.Pointer(m.at(i))
	before := int(uintptr(p)) & (unix.Getpagesize() - 1) // a page is touched as a whole
	b := unsafe.Slice((*byte)(unsafe.Add(p, -before)), before+n*int(unsafe.Sizeof(*new(T))))
	return unix.Madvise(b, unix.MADV_POPULATE_WRITE) != unix.EINVAL
}

// drop gives region r back: what remains is address space.
func (m memory[T]) drop(r int) {
	p := unsafe.Pointer(unsafe.SliceData(m.raw(r, 1)))
	if _, err := unix.MmapPtr(-1, 0, p, uintptr(m.regionBytes()), unix.PROT_NONE, reserved|unix.MAP_FIXED); err != nil {
		unix.Madvise(m.raw(r, 1), unix.MADV_DONTNEED) // Too many mappings: it stays usable, and is empty.
		return
	}
	m.smallPages(r, 1)
}
