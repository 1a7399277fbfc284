//go:build !linux || race

package flow

import "unsafe"

// Memory of the table is in Go's heap, region by region; the collector does not look into it.

const (
	offHeap     = false
	hugeBytes   = 0 // there are no huge pages to be had
	regionShift = 12
)

// memory is the place of numbered cells, by regions. Copies are the same memory.
type memory[T any] struct {
	list []*[regionCells]T // written where no number of the region's cells is known to anyone; so it is read without a lock
}

// regionBytes is the size of a region.
func (m memory[T]) regionBytes() int { return regionCells * int(unsafe.Sizeof(*new(T))) }

// reserve returns a place for at least the given number of cells.
func reserve[T any](cells int) memory[T] {
	return memory[T]{list: make([]*[regionCells]T, (cells+regionCells-1)/regionCells)}
}

// len is how many regions there can be.
func (m memory[T]) len() int { return len(m.list) }

// free leaves it to the collector.
func (m memory[T]) free() {}

// at returns the cell of number i.
func (m memory[T]) at(i uint32) *T { return &m.list[i>>regionShift][i&(regionCells-1)] }

// fetch does nothing: the cell of number i need not be there.
func (m memory[T]) fetch(uint32) {}

// add makes the zero cells of region r usable.
func (m memory[T]) add(r int) bool {
	m.list[r] = new([regionCells]T)
	return true
}

// fill does nothing, and says so.
func (m memory[T]) fill(int) bool { return false }

// touch does nothing, and says so.
func (m memory[T]) touch(uint32, int) bool { return false }

// drop gives region r back.
func (m memory[T]) drop(r int) { m.list[r] = nil }
