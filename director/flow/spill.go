package flow

import "sync"

// spill is the overflow buckets of all shards. There is one for about a hundred connections, so a shard gets them by the piece: a page for each would be more
// than a million connections need. Pieces are not given back; shards use theirs again.
type spill struct {
	*slab[bucket]

	mu   sync.Mutex
	next uint32 // piece of a page that others had the first of; a multiple of pageCells: there is none
}

const (
	pieceCells = 8 // overflow buckets that a shard gets at a time

	aheadSpill = 4 // pages of them that are filled ahead: those for some 20,000 connections
)

// newSpill returns at least so many overflow buckets, with pieces that shards do not use up.
func newSpill(buckets int) *spill {
	s := &spill{slab: newSlab[bucket](buckets + numShards*pieceCells)}
	s.ahead = aheadSpill
	return s
}

// piece hands out the first number of pieceCells zero buckets; 0 when there is no memory.
func (s *spill) piece() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next%pageCells == 0 {
		if s.next = s.page(); s.next == 0 {
			return 0
		}
	}
	first := s.next
	s.next += pieceCells
	return first
}
