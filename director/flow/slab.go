package flow

import (
	"math/bits"
	"runtime"
	"sync"
	"unsafe"
)

// Memory: slabs.
//
// A slab hands out numbered cells of one type without pointers. It takes memory from the system a region at a time, when needed (memory_linux.go), and gives it
// to the shards in pages of 64 cells, so that 256 shards waste little between them. Numbers are 32 bits and stay good until their page is given back. The
// garbage collector does not know of the memory.
//
// Growth is spread out, and off the path: the kernel fills a region a page of 4 KiB at a time, when it is first touched, which takes 1 to 4 us, and 100 and more
// where a hypervisor has to find memory as well. So a goroutine has the pages of the next 500 to 1,500 connections filled, ahead of the need, and the records of
// these pages (room.go). A slab that is large already gets its regions as huge pages of 2 MiB, of which a lookup costs one step less of translation in each level of the
// machine; zeroing one takes 0.2 to 4 ms, by another goroutine. Where they are not fast enough, or the system does not know of this, growth goes on page by page.
//
// Pages can be given back (giveback.go). The lowest free page is handed out first, and who gives back gives his highest, so that what is left gathers in
// the low regions; regions without a page in use return to the system, but for one, which waits for the next peak.

const (
	pageShift   = 6
	pageCells   = 1 << pageShift // cells in a page, which one shard owns
	regionCells = 1 << regionShift
	regionPages = regionCells / pageCells
	regionWords = regionPages / 64 // of a set of pages

	aheadPages = 16       // pages that are filled at a time, half as many ahead, in one that is not large: those of 1,024 cells
	largeBytes = 64 << 20 // a slab that holds less grows by small pages: half of a huge one lies idle
)

// slab is the store of all cells of one type. Cell 0 is never handed out: it means none.
type slab[T any] struct {
	memory[T] // not written, what follows is

	_  [64]byte
	mu sync.Mutex

	regions   []region
	free      []uint64        // a bit for each page that is free, and one for each
	dirty     []uint64        // that has been in use, and must be zeroed
	low       int             // no word of free below it has a bit
	used      uint32          // cells handed out, in whole pages, and the page of cell 0
	held      int             // regions that the slab has of the system
	idle      int             // of them those without a page in use
	resident  uint64          // bytes that have been touched
	emptied   func(reg int)   // told of each region that returns to the system; nil: nobody
	fills     func(n, to int) // told of pages n to before to, ahead of need, before they are filled; nil: nobody
	ahead     int             // pages that are filled ahead while the slab is not large
	ready     int             // pages below it have been filled, in regions that are not filled as a whole
	touching  bool            // a goroutine fills pages
	preparing bool            // a goroutine fills a region
	alone     bool            // the system does not fill anything: nobody asks again
}

// region is what a slab knows of one.
type region struct {
	pages  uint16 // in use
	held   bool
	filled bool // all its pages are there
}

// newSlab returns a slab that can hold at least the given number of cells if there is address space for them, and holds none.
func newSlab[T any](cells int) *slab[T] {
	m := reserve[T](cells + pageCells)
	s := &slab[T]{memory: m, used: pageCells, ahead: aheadPages, regions: make([]region, m.len()),
		free: make([]uint64, m.len()*regionWords), dirty: make([]uint64, m.len()*regionWords)}
	for w := range s.free {
		s.free[w] = ^uint64(0)
	}
	s.free[0] &^= 1
	s.regions[0].pages = 1
	runtime.AddCleanup(s, func(m memory[T]) { m.free() }, m)
	return s
}

// pageBytes is the size of a page.
func (s *slab[T]) pageBytes() int { return s.regionBytes() / regionPages }

// pageAt returns the cells of the page that begins with cell first.
func (s *slab[T]) pageAt(first uint32) *[pageCells]T {
	return (*[pageCells]T)(unsafe.Pointer(s.at(first)))
}

// page hands out the first number of pageCells zero cells; 0 when the slab is full, or the system has no memory.
func (s *slab[T]) page() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.low < len(s.free) && s.free[s.low] == 0 {
		s.low++
	}
	if s.low == len(s.free) {
		return 0
	}
	r := s.low / regionWords
	if !s.regions[r].held && !s.take(r) {
		return 0
	}
	if s.regions[r].pages == 0 {
		s.idle--
	}
	s.regions[r].pages++
	bit := s.free[s.low] & -s.free[s.low]
	s.free[s.low] &^= bit
	first := uint32(s.low<<6|bits.TrailingZeros64(bit)) << pageShift
	s.used += pageCells
	switch {
	case s.dirty[s.low]&bit != 0:
		*s.pageAt(first) = [pageCells]T{}
	case !s.regions[r].filled:
		s.resident += uint64(s.pageBytes())
	}
	s.dirty[s.low] |= bit
	if !s.alone && s.regionBytes() == hugeBytes {
		s.foresee(int(first >> pageShift))
	}
	return first
}

// giveBack takes back the page that begins with cell first, which nobody uses any more.
func (s *slab[T]) giveBack(first uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int(first >> pageShift)
	s.used -= pageCells
	s.free[n>>6] |= 1 << (n & 63)
	s.low = min(s.low, n>>6)
	r := &s.regions[n/regionPages]
	if r.pages--; r.pages == 0 {
		s.idle++
	}
}

// take takes region r from the system; mu is locked. False when there is no memory.
func (s *slab[T]) take(r int) bool {
	if !s.add(r) {
		return false
	}
	s.enter(r, false)
	return true
}

// enter notes that region r is there; mu is locked.
func (s *slab[T]) enter(r int, filled bool) {
	s.regions[r].held, s.regions[r].filled = true, filled
	s.held++
	if s.regions[r].pages == 0 {
		s.idle++
	}
	if filled {
		s.resident += uint64(s.regionBytes())
	}
}

// release returns to the system what is idle. It takes time, and is called where no packet waits.
func (s *slab[T]) release() {
	for {
		r := s.leave()
		if r < 0 {
			return
		}
		if s.emptied != nil {
			s.emptied(r)
		}
		s.drop(r)
		s.offer(r)
	}
}

// leave takes the highest idle region out of use, so that none of its pages is handed out while it returns to the system; -1 when there is none too many.
func (s *slab[T]) leave() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle <= 1 {
		return -1
	}
	r := len(s.regions) - 1
	for !s.regions[r].held || s.regions[r].pages > 0 {
		r--
	}
	dirty := s.block(r)
	s.resident -= uint64(dirty * s.pageBytes())
	if s.regions[r].filled {
		s.resident -= uint64(s.regionBytes() - dirty*s.pageBytes())
	}
	s.regions[r] = region{}
	s.held--
	s.idle--
	s.ready = min(s.ready, r*regionPages)
	return r
}

// block hides the pages of region r, all of them free, from page, and returns how many have been in use; mu is locked.
func (s *slab[T]) block(r int) (dirty int) {
	for w := r * regionWords; w < (r+1)*regionWords; w++ {
		dirty += bits.OnesCount64(s.dirty[w])
		s.free[w], s.dirty[w] = 0, 0
	}
	return dirty
}

// offer undoes block.
func (s *slab[T]) offer(r int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unblock(r)
}

func (s *slab[T]) unblock(r int) {
	for w := r * regionWords; w < (r+1)*regionWords; w++ {
		s.free[w] = ^uint64(0)
	}
	s.low = min(s.low, r*regionWords)
}

// foresee has what comes after page n filled: below largeBytes some pages, and from there on a region, where less than half of one is free; mu is locked.
func (s *slab[T]) foresee(n int) {
	if from := max(n+1, s.ready); !s.touching && from <= n+s.ahead/2 && s.piecemeal(from/regionPages) {
		s.touching = true
		go s.touchPages(from)
	}
	if s.preparing || s.held*regionPages-int(s.used>>pageShift) >= regionPages/2 {
		return
	}
	for r := s.low / regionWords; r < len(s.regions); r++ {
		if !s.regions[r].held && s.free[r*regionWords] != 0 {
			if r*s.regionBytes() < largeBytes {
				return
			}
			s.preparing = true
			s.block(r)
			go s.prepare(r)
			return
		}
	}
}

// piecemeal reports whether region r is filled by pages: it lies below largeBytes, or the goroutine that fills regions was late; mu is locked.
func (s *slab[T]) piecemeal(r int) bool {
	return r < len(s.regions) && (r*s.regionBytes() < largeBytes || s.regions[r].held && !s.regions[r].filled)
}

// touchPages fills some pages from page n on, all in one region.
func (s *slab[T]) touchPages(n int) {
	r := n / regionPages
	to := min(n+s.ahead, (r+1)*regionPages)
	s.mu.Lock()
	there := s.regions[r].held || s.free[n>>6] != 0 && s.take(r)
	s.mu.Unlock()
	if s.fills != nil {
		s.fills(n, to)
	}
	filled := there && s.touch(uint32(n<<pageShift), (to-n)<<pageShift)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touching, s.alone = false, s.alone || there && !filled
	if filled {
		s.ready = to
	}
}

// prepare takes region r, which is blocked, with all its pages.
func (s *slab[T]) prepare(r int) {
	if s.fills != nil {
		s.fills(r*regionPages, (r+1)*regionPages)
	}
	added := s.add(r)
	filled := added && s.fill(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if added {
		s.enter(r, filled)
	}
	s.unblock(r)
	s.preparing, s.alone = false, s.alone || !filled
}

// cover makes sure that cell i is there, in a slab that is numbered by another one and hands out none itself. It is called before anybody
// knows of the cell, and after its owner, the other slab, has handed it out.
func (s *slab[T]) cover(i uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := int(i >> regionShift)
	if r >= len(s.regions) { // It has less address space than the other one.
		return false
	}
	if s.regions[r].held {
		return true
	}
	if !s.take(r) {
		return false
	}
	if s.regions[r].pages == 0 { // It is in use until it is uncovered.
		s.regions[r].pages = 1
		s.idle--
	}
	s.resident += uint64(s.regionBytes())
	return true
}

// touchCells fills cells n to before to, ahead of need, in a slab that is numbered by another one and has all its regions.
func (s *slab[T]) touchCells(n, to int) {
	if to <= s.len()*regionCells {
		s.touch(uint32(n), to-n)
	}
}

// uncover returns region r of a slab that is numbered by another one: its emptied. Nobody covers a cell of it meanwhile.
func (s *slab[T]) uncover(r int) {
	s.mu.Lock()
	held := s.regions[r].held
	if held {
		s.regions[r] = region{}
		s.held--
		s.resident -= uint64(s.regionBytes())
	}
	s.mu.Unlock()
	if held {
		s.drop(r)
	}
}

// bytes is how much memory the slab has: pages that have been in use, and all of a region that was filled.
func (s *slab[T]) bytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resident
}
