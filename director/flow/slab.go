package flow

import "sync"

// Memory: slabs.
//
// A slab hands out numbered cells of one type without pointers. It takes memory from Go's heap a region of 4096 cells at a time, when needed,
// and gives it to the shards in pages of 64 cells, so that 256 shards waste little between them. Numbers are 32 bits and stay good for
// ever. The garbage collector sees a few pointers per megabyte, all in one directory that is made with the slab, and scans nothing behind
// them. Getting a page costs at most one region's allocation: 30 us (BenchmarkRegion), once in 64 pages.
//
// Pages are not given back; a shard keeps lists of its free cells.

const (
	pageShift   = 6
	pageCells   = 1 << pageShift // cells in a page, which one shard owns
	regionShift = 12
	regionCells = 1 << regionShift // cells in a region, which is one allocation
)

// slab is the store of all cells of one type. Cell 0 is never handed out: it means none.
type slab[T any] struct {
	mu   sync.Mutex
	used uint32 // cells handed out, in whole pages

	// Written once per region under mu, before any number of its cells is known to anyone; so it is read without it.
	regions []*[regionCells]T
}

// newSlab returns a slab that can hold at least the given number of cells, and holds none.
func newSlab[T any](cells int) *slab[T] {
	n := (cells + pageCells + regionCells - 1) / regionCells
	return &slab[T]{used: pageCells, regions: make([]*[regionCells]T, n+1)}
}

// at returns the cell of number i.
func (s *slab[T]) at(i uint32) *T { return &s.regions[i>>regionShift][i&(regionCells-1)] }

// page hands out the first number of pageCells zero cells; 0 when the slab is full.
func (s *slab[T]) page() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.used >> regionShift
	if int(r) >= len(s.regions) {
		return 0
	}
	if s.regions[r] == nil {
		s.regions[r] = new([regionCells]T)
	}
	first := s.used
	s.used += pageCells
	return first
}

// cover makes sure that cell i is there, in a slab that is numbered by another one and hands out none itself. It is called before anybody
// knows of the cell.
func (s *slab[T]) cover(i uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := i >> regionShift; s.regions[r] == nil {
		s.regions[r] = new([regionCells]T)
	}
}

// pageAt returns the cells of the page that begins with cell first.
func (s *slab[T]) pageAt(first uint32) *[pageCells]T {
	at := first & (regionCells - 1)
	return (*[pageCells]T)(s.regions[first>>regionShift][at : at+pageCells])
}
