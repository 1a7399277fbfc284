package flow

import (
	"math/bits"
	"sync"
	"unsafe"
)

// Memory: slabs.
//
// A slab hands out numbered cells of one type without pointers. It takes memory from Go's heap a region of 4096 cells at a time, when needed,
// and gives it to the shards in pages of 64 cells, so that 256 shards waste little between them. Numbers are 32 bits and stay good until their page is
// given back. The garbage collector sees a few pointers per megabyte, all in one directory that is made with the slab, and scans nothing behind
// them. Getting a page costs at most one region's allocation: 30 us (BenchmarkRegion), once in 64 pages.
//
// Pages can be given back (giveback.go). The lowest free page is handed out first, and who gives back gives his highest, so that what is left gathers in
// the low regions; a region without a page in use returns to the heap, but for one, which waits for the next peak.

const (
	pageShift   = 6
	pageCells   = 1 << pageShift // cells in a page, which one shard owns
	regionShift = 12
	regionCells = 1 << regionShift // cells in a region, which is one allocation
	regionPages = regionCells / pageCells
)

// slab is the store of all cells of one type. Cell 0 is never handed out: it means none.
type slab[T any] struct {
	mu      sync.Mutex
	used    uint32        // cells handed out, in whole pages, and the page of cell 0
	low     int           // no region below it has a free page
	held    int           // regions that the slab has of the heap
	empty   int           // the region that is kept though no page of it is in use; 0: none, region 0 always is in use
	free    []uint64      // by region, a bit for each page that is free; regionPages is 64
	emptied func(reg int) // told under mu of each region that returns to the heap; nil: nobody

	// Written under mu, when no number of the region's cells is known to anyone; so it is read without it.
	regions []*[regionCells]T
}

// newSlab returns a slab that can hold at least the given number of cells, and holds none.
func newSlab[T any](cells int) *slab[T] {
	n := (cells+pageCells+regionCells-1)/regionCells + 1
	s := &slab[T]{used: pageCells, free: make([]uint64, n), regions: make([]*[regionCells]T, n)}
	for r := range s.free {
		s.free[r] = ^uint64(0)
	}
	s.free[0] &^= 1
	return s
}

// at returns the cell of number i.
func (s *slab[T]) at(i uint32) *T { return &s.regions[i>>regionShift][i&(regionCells-1)] }

// page hands out the first number of pageCells zero cells; 0 when the slab is full.
func (s *slab[T]) page() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.low < len(s.regions) && s.free[s.low] == 0 {
		s.low++
	}
	if s.low == len(s.regions) {
		return 0
	}
	n := bits.TrailingZeros64(s.free[s.low])
	s.free[s.low] &^= 1 << n
	first := uint32(s.low<<regionShift | n<<pageShift)
	s.used += pageCells
	if s.empty == s.low {
		s.empty = 0
	}
	if s.regions[s.low] == nil {
		s.add(s.low)
	} else {
		*s.pageAt(first) = [pageCells]T{}
	}
	return first
}

// giveBack takes back the page that begins with cell first, which nobody uses any more.
func (s *slab[T]) giveBack(first uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := int(first >> regionShift)
	s.used -= pageCells
	s.free[r] |= 1 << (first >> pageShift % regionPages)
	s.low = min(s.low, r)
	if s.free[r] != ^uint64(0) {
		return
	}
	if s.empty != 0 {
		r, s.empty = max(r, s.empty), min(r, s.empty)
		s.drop(r)
		return
	}
	s.empty = r
}

// add takes region r from the heap; mu is locked.
func (s *slab[T]) add(r int) {
	s.regions[r] = new([regionCells]T)
	s.held++
}

// drop returns region r to the heap; mu is locked.
func (s *slab[T]) drop(r int) {
	s.regions[r] = nil
	s.held--
	if s.emptied != nil {
		s.emptied(r)
	}
}

// cover makes sure that cell i is there, in a slab that is numbered by another one and hands out none itself. It is called before anybody
// knows of the cell, and after its owner, the other slab, has handed it out.
func (s *slab[T]) cover(i uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := i >> regionShift; s.regions[r] == nil {
		s.add(int(r))
	}
}

// uncover returns region r of a slab that is numbered by another one: its emptied.
func (s *slab[T]) uncover(r int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.regions[r] != nil {
		s.drop(r)
	}
}

// bytes is how much of the heap the slab has.
func (s *slab[T]) bytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.held) * uint64(unsafe.Sizeof([regionCells]T{}))
}

// pageAt returns the cells of the page that begins with cell first.
func (s *slab[T]) pageAt(first uint32) *[pageCells]T {
	at := first & (regionCells - 1)
	return (*[pageCells]T)(s.regions[first>>regionShift][at : at+pageCells])
}
