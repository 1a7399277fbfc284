package persist

import (
	"sync"
	"time"
)

// A shard: templates in cells, 64 to a page, found through a hash table with chains. The table grows by linear hashing, as that of
// director/flow does: when there are more templates than buckets, the next bucket in turn is split in two, so nobody waits for more than one
// chain. Templates that are not assured are also in a list in the order of their making, so that the oldest can give way.

const (
	pageShift = 6
	pageCells = 1 << pageShift
)

// template is a cell. 64 bytes.
type template struct {
	key      Key
	deadline time.Duration
	server   uint32
	hash     uint32
	holds    uint32 // connections
	next     uint32 // of its bucket's chain, or of the free list
	older    uint32 // of the list of those not assured
	newer    uint32
	assured  bool
	used     bool
}

// lease restarts the timer for a new connection.
func (c *template) lease(l Lease) {
	c.deadline = l.Now + l.Timeout
	if l.Hold {
		c.holds++
	}
}

// over reports whether the template has ended by its timer. One that is held gets as many further periods as it takes.
func (c *template) over(now time.Duration) bool {
	if now < c.deadline {
		return false
	}
	if c.holds == 0 {
		return true
	}
	c.deadline += ((now-c.deadline)/Rearm + 1) * Rearm
	return false
}

// shard is a part of the table behind one lock. Cell 0 is not used: it means none.
type shard struct {
	mu      sync.Mutex
	pages   []*[pageCells]template
	buckets []uint32 // size + split of them
	size    uint32   // a power of two: buckets at the beginning of this round
	held    uint32   // templates
	free    uint32
	swept   uint32    // page that was swept last
	waiting [2]uint32 // not assured: the oldest, the newest
	stats   struct{ found, made, expired, unassured, evicted, dropped, full uint64 }

	_ [64]byte
}

func (s *shard) init() { s.buckets, s.size = make([]uint32, 1), 1 }

func (s *shard) cell(i uint32) *template { return &s.pages[i>>pageShift][i&(pageCells-1)] }

// bucket returns the chain of a hash.
func (s *shard) bucket(hash uint32) *uint32 {
	n := hash & (s.size - 1)
	if split := uint32(len(s.buckets)) - s.size; n < split {
		n = hash & (2*s.size - 1)
	}
	return &s.buckets[n]
}

// find returns the cell of k's template, 0 when there is none.
func (s *shard) find(k *Key, hash uint32) uint32 {
	for i := *s.bucket(hash); i != 0; i = s.cell(i).next {
		if c := s.cell(i); c.hash == hash && c.key == *k {
			return i
		}
	}
	return 0
}

// living returns the template in cell i, nil when there is none or its time is over.
func (s *shard) living(i uint32, now time.Duration) *template {
	if i == 0 || s.cell(i).over(now) {
		return nil
	}
	return s.cell(i)
}

// add returns a new cell that is found by hash and waits to be assured.
func (s *shard) add(hash uint32) *template {
	if s.free == 0 {
		s.stock()
	}
	if s.held >= uint32(len(s.buckets)) {
		s.grow()
	}
	i, b := s.free, s.bucket(hash)
	c := s.cell(i)
	s.free = c.next
	*c = template{hash: hash, next: *b, used: true, older: s.waiting[1]}
	*b = i
	if s.held++; c.older != 0 {
		s.cell(c.older).newer = i
	} else {
		s.waiting[0] = i
	}
	s.waiting[1] = i
	return c
}

// stock adds a page of free cells.
func (s *shard) stock() {
	first := uint32(len(s.pages)) << pageShift
	s.pages = append(s.pages, new([pageCells]template))
	for i := first + pageCells - 1; i > first; i-- {
		s.cell(i).next, s.free = s.free, i
	}
	if first > 0 {
		s.cell(first).next, s.free = s.free, first
	}
}

// grow splits the next bucket in turn.
func (s *shard) grow() {
	n := uint32(len(s.buckets)) - s.size
	chain := s.buckets[n]
	s.buckets[n] = 0
	s.buckets = append(s.buckets, 0)
	for i := chain; i != 0; {
		c := s.cell(i)
		next, b := c.next, s.bucket(c.hash)
		c.next, *b = *b, i
		i = next
	}
	if uint32(len(s.buckets)) == 2*s.size {
		s.size *= 2
	}
}

// remove frees cell i.
func (s *shard) remove(i uint32) {
	c := s.cell(i)
	if !c.assured {
		s.unlist(i)
	}
	at := s.bucket(c.hash)
	for *at != i {
		at = &s.cell(*at).next
	}
	*at = c.next
	*c = template{next: s.free}
	s.free = i
	s.held--
}

// oldest returns the template that has waited longest to be assured, 0 when none waits.
func (s *shard) oldest() uint32 { return s.waiting[0] }

// unlist takes a template out of the list of those that wait to be assured.
func (s *shard) unlist(i uint32) {
	c := s.cell(i)
	if c.older != 0 {
		s.cell(c.older).newer = c.newer
	} else {
		s.waiting[0] = c.newer
	}
	if c.newer != 0 {
		s.cell(c.newer).older = c.older
	} else {
		s.waiting[1] = c.older
	}
	c.older, c.newer = 0, 0
}
