package flow

import (
	"math/bits"
	"slices"
)

// Memory given back after a peak.
//
// Connections end in any order, so what is left of ten million lies scattered: hardly a page is empty of itself. So the janitor moves entries: where
// a shard has more free entries than a quarter of those in use, and two pages more, it empties its page with the highest number into the others
// and gives it back. As the slab hands out the lowest first, the pages that all shards keep gather in the low regions, and the high ones return to
// the system. The index gives up buckets at the same time.
//
// Each call of Expire does a page or a few for each shard, and then some buckets: under one lock some 64 entries are moved at most (BenchmarkGiveBack),
// and ten million connections are given back within minutes of their end. The system gets the memory when all locks are let go.

const (
	idlePages   = 2  // pages of free entries that a shard keeps beyond a quarter of those in use
	shrinkBatch = 16 // buckets that an index gives up under one lock
	pageWork    = 8  // giving back a page is as much work as moving so many entries,
	bucketWork  = 2  // and giving up a bucket as so many
)

// giveBack does a piece of work towards giving back what is not needed, and rests meanwhile. Where another call is at it there is nothing to do: what rows shards were seen to have is
// good for one who looks.
func (t *Table) giveBack(p *pace) {
	if !t.giving.TryLock() {
		return
	}
	defer t.giving.Unlock()
	t.rows.lower(t.live.refs())
	var rows, fullest uint32
	for i := range t.shards {
		p.did(t.giveBackEntries(&t.shards[i]))
		given, buckets, refs := t.giveBackBuckets(&t.shards[i])
		p.did(given * bucketWork)
		rows, fullest = max(rows, buckets), max(fullest, refs)
	}
	t.rows.give(rows, fullest)
	t.release()
}

// release returns to the system what was given back.
func (t *Table) release() {
	t.entries.release()
	t.wides.release()
	t.shards[0].index.spill.release()
}

// giveBackEntries gives back a page or two of a shard, and returns how much work that was.
func (t *Table) giveBackEntries(s *shard) (all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.rooms {
		r := &s.rooms[k]
		work := 0
		for work < pageCells/4 && r.spacious() {
			work += t.evacuate(s, r) + pageWork
		}
		all += work
	}
	return all
}

// giveBackBuckets joins some of a shard's buckets, and returns how many, how many it has now, and of references.
func (t *Table) giveBackBuckets(s *shard) (given int, buckets, refs uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for given < shrinkBatch && t.listing.Load() == 0 && s.index.shrink() {
		given++
	}
	return given, s.index.buckets(), s.index.held
}

// spacious reports whether r has more free entries than it should keep.
func (r *room) spacious() bool {
	return uint32(len(r.pages))*pageCells > r.used+r.used/4+idlePages*pageCells
}

// evacuate empties the page of r with the highest number and gives it back. The others have room: r is spacious. It returns how many entries it moved.
func (t *Table) evacuate(s *shard, r *room) (moved int) {
	n := slices.Max(r.pages)
	p := t.pages.at(n)
	if !p.full() {
		t.unlink(r, n)
	}
	first := n << pageShift
	all := t.usedOf(p)
	for used := all; used != 0; used &= used - 1 { // What moving them will ask for comes side by side: else each waits some times for memory.
		e := t.entries.at(first + uint32(bits.TrailingZeros64(used)))
		s.index.fetch(e.hash[Forward])
		if e.hash[Reply] != 0 {
			s.index.fetch(e.hash[Reply])
		}
	}
	for used := all; used != 0; used &= used - 1 {
		t.move(s, first+uint32(bits.TrailingZeros64(used)))
		moved++
	}
	t.returnPage(r, n)
	return moved
}

// usedOf returns which entries of a page are in use, a bit for each.
func (t *Table) usedOf(p *page) uint64 {
	used := uint64(1)<<p.fresh - 1 // all where fresh is 64
	for i := p.free; i != 0; i = t.entries.at(i).next {
		used &^= 1 << (i % pageCells)
	}
	return used
}

// move gives the connection in entry i another entry; i itself is left as it was, in nobody's use.
func (t *Table) move(s *shard, i uint32) {
	s.moves++
	e := t.entries.at(i)
	s.rooms[e.kind()].used--
	j := t.take(s, e.kind())
	to := t.entries.at(j)
	second := to.wide
	*to = *e
	to.wide = second
	if second != 0 {
		*t.wides.at(second) = *t.wides.at(e.wide)
	}
	switch {
	case e.marks&Followed == 0:
	case t.sequences.cover(j):
		*t.sequences.at(j) = *t.sequences.at(i)
	default:
		to.marks &^= Followed // There is no memory: it will end without a reset.
	}
	s.index.replace(e.hash[Forward], refOf(i, Forward), refOf(j, Forward))
	if e.hash[Reply] != 0 {
		s.index.replace(e.hash[Reply], refOf(i, Reply), refOf(j, Reply))
	}
	s.wheel.replace(i, j)
}

// returnPage gives page n of r, in no list and without a connection, back.
func (t *Table) returnPage(r *room, n uint32) {
	at := slices.Index(r.pages, n)
	r.pages[at] = r.pages[len(r.pages)-1]
	r.pages = r.pages[:len(r.pages)-1]
	first := n << pageShift
	if second := t.entries.at(first).wide; second != 0 {
		t.wides.giveBack(second)
	}
	t.entries.giveBack(first)
}
