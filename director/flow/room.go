package flow

import "unsafe"

// Free entries, by page.
//
// A shard owns its entries by pages of one kind, narrow or wide. Pages that have a free entry are in a list; a new connection takes the first of its
// first page. What an entry's page is follows from its number, so an ended connection costs no search. When pages are given back: giveback.go.

// room is a shard's entries of one kind.
type room struct {
	first uint32   // page with a free entry, the first of a list; 0: none
	used  uint32   // entries in use
	pages []uint32 // by number, in no order
}

// page is 64 entries, numbered by the first one's cell >> pageShift.
type page struct {
	free       uint32 // entry, the first of a list linked by next; 0: none
	fresh      uint16 // entries from this one on are free too, and were never used
	used       uint16 // entries in use
	next, prev uint32 // pages in the room's list; 0: none
}

// full reports whether no entry is free.
func (p *page) full() bool { return p.used == pageCells }

// link puts page n into the list of those with a free entry.
func (t *Table) link(r *room, n uint32) {
	p := t.pages.at(n)
	p.next, p.prev = r.first, 0
	if r.first != 0 {
		t.pages.at(r.first).prev = n
	}
	r.first = n
}

// unlink takes page n out of it.
func (t *Table) unlink(r *room, n uint32) {
	p := t.pages.at(n)
	if p.prev == 0 {
		r.first = p.next
	} else {
		t.pages.at(p.prev).next = p.next
	}
	if p.next != 0 {
		t.pages.at(p.next).prev = p.prev
	}
}

// take returns a free entry, 0 when there is no memory.
func (t *Table) take(s *shard, k kind) uint32 {
	r := &s.rooms[k]
	if r.first == 0 && !t.stock(s, k) {
		return 0
	}
	n := r.first
	p := t.pages.at(n)
	i := p.free
	if i != 0 {
		p.free = t.entries.at(i).next
	} else {
		i = n<<pageShift + uint32(p.fresh)
		p.fresh++
	}
	p.used++
	r.used++
	switch {
	case p.full():
		t.unlink(r, n)
	case p.free != 0: // The next connection's comes meanwhile.
		prefetch(unsafe.Pointer(t.entries.at(p.free)))
	default:
		prefetch(unsafe.Pointer(t.entries.at(n<<pageShift + uint32(p.fresh))))
	}
	return i
}

// stock adds a page to a room; entries for wide addresses get their second cell here, for as long as they are the shard's.
func (t *Table) stock(s *shard, k kind) bool {
	first := t.entries.page()
	if first == 0 {
		return false
	}
	if !t.pages.cover(first >> pageShift) {
		t.entries.giveBack(first)
		return false
	}
	if k == wide {
		second := t.wides.page()
		if second == 0 {
			t.entries.giveBack(first)
			return false
		}
		cells := t.entries.pageAt(first)
		for n := range cells {
			cells[n].wide = second + uint32(n)
		}
	}
	n := first >> pageShift
	*t.pages.at(n) = page{}
	r := &s.rooms[k]
	r.pages = append(r.pages, n)
	if 8*len(r.pages) >= 7*cap(r.pages) && t.widening.CompareAndSwap(false, true) {
		go t.widen(s, r)
	}
	t.link(r, n)
	return true
}

// firstPages is how many pages a room's list has memory for at first.
const firstPages = 8

// widen gets memory for a quarter more pages, and some, in a room's list, before there is none left: to get it may be to help the garbage collector, and is no packet's work.
func (t *Table) widen(s *shard, r *room) {
	defer t.widening.Store(false)
	s.mu.Lock()
	n := cap(r.pages)
	s.mu.Unlock()
	more := make([]uint32, 0, n+n/4+firstPages/2)
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(r.pages) < cap(more) {
		r.pages = append(more, r.pages...)
	}
}

// give returns an entry that is in no index and no slot.
func (t *Table) give(s *shard, i uint32) {
	e := t.entries.at(i)
	r, n := &s.rooms[e.kind()], i>>pageShift
	p := t.pages.at(n)
	if p.full() {
		t.link(r, n)
	}
	e.next = p.free
	p.free = i
	p.used--
	r.used--
}
