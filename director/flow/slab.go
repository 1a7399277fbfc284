package flow

import (
	"math/bits"
	"runtime"
	"sync"
	"unsafe"
)

// Memory: slabs.
//
// A slab hands out numbered cells of one type without pointers. It takes memory from the system a region of 4096 cells at a time, when needed,
// and gives it to the shards in pages of 64 cells, so that 256 shards waste little between them. Numbers are 32 bits and stay good until their page is
// given back. The garbage collector does not know of the memory (memory_linux.go): it sees one directory, which is made with the slab.
//
// Growth is spread out: a region is a piece of address space (3 us), which the kernel fills a page of 4 KiB at a time when it is first touched, by
// the connection that needs the page. A slab that is large already gets its regions by the group, as one huge page of 2 MiB, of which a lookup costs one
// step less of translation in each level of the machine: zeroing one takes 0.2 to 4 ms, so that is done by a goroutine of its own, ahead of the need. Where it is
// not fast enough, or there are no huge pages, growth goes on by single regions.
//
// Pages can be given back (giveback.go). The lowest free page is handed out first, and who gives back gives his highest, so that what is left gathers in
// the low regions; regions without a page in use return to the system, but for a few, which wait for the next peak.

const (
	pageShift   = 6
	pageCells   = 1 << pageShift // cells in a page, which one shard owns
	regionShift = 12
	regionCells = 1 << regionShift // cells in a region
	regionPages = regionCells / pageCells

	hugeBytes = 2 << 20        // a group of regions that is one huge page
	hugeFrom  = 32 * hugeBytes // a slab that holds less grows by single regions: half a group lies idle
	allFree   = ^uint64(0)     // of a region's 64 pages
)

// slab is the store of all cells of one type. Cell 0 is never handed out: it means none.
type slab[T any] struct {
	mu        sync.Mutex
	used      uint32        // cells handed out, in whole pages, and the page of cell 0
	low       int           // no region below it has a free page
	held      int           // regions that the slab has of the system
	idle      int           // of them those without a page in use
	free      []uint64      // by region, a bit for each page that is free; regionPages is 64
	dirty     []uint64      // and one for each that has been in use, and must be zeroed
	emptied   func(reg int) // told under mu of each region that returns to the system; nil: nobody
	preparing bool          // a goroutine makes a group
	dropped   []*[regionCells]T

	// Written under mu, when no number of the region's cells is known to anyone; so it is read without it.
	regions []*[regionCells]T
}

// newSlab returns a slab that can hold at least the given number of cells, and holds none.
func newSlab[T any](cells int) *slab[T] {
	n := (cells+pageCells+regionCells-1)/regionCells + 1
	s := &slab[T]{used: pageCells, free: make([]uint64, n), dirty: make([]uint64, n), regions: make([]*[regionCells]T, n)}
	for r := range s.free {
		s.free[r] = allFree
	}
	s.free[0] &^= 1
	runtime.AddCleanup(s, unmapAll[T], s.regions)
	return s
}

// regionBytes is the size of a region.
func (s *slab[T]) regionBytes() int { return int(unsafe.Sizeof([regionCells]T{})) }

// unmapAll gives the memory of a slab that is no more back.
func unmapAll[T any](regions []*[regionCells]T) {
	for _, r := range regions {
		if r != nil {
			unmap(unsafe.Pointer(r), int(unsafe.Sizeof(*r)))
		}
	}
}

// at returns the cell of number i.
func (s *slab[T]) at(i uint32) *T { return &s.regions[i>>regionShift][i&(regionCells-1)] }

// page hands out the first number of pageCells zero cells; 0 when the slab is full, or the system has no memory.
func (s *slab[T]) page() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.low < len(s.regions) && s.free[s.low] == 0 {
		s.low++
	}
	if s.low == len(s.regions) {
		return 0
	}
	if s.regions[s.low] == nil {
		if !s.add(s.low) {
			return 0
		}
	} else if s.free[s.low] == allFree {
		s.idle--
	}
	n := bits.TrailingZeros64(s.free[s.low])
	s.free[s.low] &^= 1 << n
	first := uint32(s.low<<regionShift | n<<pageShift)
	s.used += pageCells
	if s.dirty[s.low]&(1<<n) != 0 {
		*s.pageAt(first) = [pageCells]T{}
	}
	s.dirty[s.low] |= 1 << n
	s.foresee()
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
	if s.free[r] != allFree {
		return
	}
	s.idle++
	keep := 1
	if s.large() {
		keep = 2 * s.group()
	}
	for r := len(s.regions) - 1; s.idle > keep; r-- {
		if s.regions[r] != nil && s.free[r] == allFree {
			s.idle--
			s.drop(r)
		}
	}
}

// add takes region r from the system; mu is locked. False when there is no memory.
func (s *slab[T]) add(r int) bool {
	s.regions[r] = (*[regionCells]T)(mapped(s.regionBytes()))
	if s.regions[r] == nil {
		return false
	}
	s.held++
	return true
}

// drop takes region r out; mu is locked. Its memory returns to the system with release.
func (s *slab[T]) drop(r int) {
	s.dropped = append(s.dropped, s.regions[r])
	s.regions[r], s.dirty[r] = nil, 0
	s.held--
	if s.emptied != nil {
		s.emptied(r)
	}
}

// release returns to the system what was dropped. It takes time, and is called where no packet waits.
func (s *slab[T]) release() {
	s.mu.Lock()
	dropped := s.dropped
	s.dropped = nil
	s.mu.Unlock()
	unmapAll(dropped)
}

// group is how many regions a huge page is.
func (s *slab[T]) group() int { return hugeBytes / s.regionBytes() }

// large reports whether the slab is one that grows by groups; mu is locked.
func (s *slab[T]) large() bool { return s.held*s.regionBytes() >= hugeFrom }

// foresee has a group prepared where less than half of one is free; mu is locked.
func (s *slab[T]) foresee() {
	if s.preparing || !s.large() || s.held*regionPages-int(s.used>>pageShift) >= s.group()*regionPages/2 {
		return
	}
	s.preparing = true
	go s.prepare()
}

// prepare makes a group of regions, and enters it where there is room for all of it.
func (s *slab[T]) prepare() {
	huge := mappedHuge()
	s.mu.Lock()
	defer s.mu.Unlock()
	if huge == nil {
		return // There are none here: preparing stays, nobody asks again.
	}
	s.preparing = false
	n, at := s.group(), s.low
	for run := 0; run < n; at++ {
		if at == len(s.regions) {
			unmap(huge, hugeBytes)
			return
		}
		if run++; s.regions[at] != nil {
			run = 0
		}
	}
	for i := range n {
		s.regions[at-n+i] = (*[regionCells]T)(unsafe.Add(huge, i*s.regionBytes()))
	}
	s.held += n
	s.idle += n
}

// cover makes sure that cell i is there, in a slab that is numbered by another one and hands out none itself. It is called before anybody
// knows of the cell, and after its owner, the other slab, has handed it out.
func (s *slab[T]) cover(i uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := int(i >> regionShift)
	return s.regions[r] != nil || s.add(r)
}

// uncover returns region r of a slab that is numbered by another one: its emptied.
func (s *slab[T]) uncover(r int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.regions[r] != nil {
		s.drop(r)
	}
}

// bytes is how much memory the slab has.
func (s *slab[T]) bytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.held) * uint64(s.regionBytes())
}

// pageAt returns the cells of the page that begins with cell first.
func (s *slab[T]) pageAt(first uint32) *[pageCells]T {
	at := first & (regionCells - 1)
	return (*[pageCells]T)(s.regions[first>>regionShift][at : at+pageCells])
}
