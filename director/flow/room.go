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
	used       uint32 // entries in use
	next, prev uint32 // pages in the room's list; 0: none
}

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
	if r.first == 0 && !t.stock(r, k) {
		return 0
	}
	p := t.pages.at(r.first)
	i := p.free
	p.free = t.entries.at(i).next
	p.used++
	r.used++
	if p.free == 0 {
		t.unlink(r, r.first)
	} else {
		prefetch(unsafe.Pointer(t.entries.at(p.free))) // of the next connection
	}
	return i
}

// stock adds a page to a room; entries for wide addresses get their second cell here, for as long as they are the shard's.
func (t *Table) stock(r *room, k kind) bool {
	first := t.entries.page()
	if first == 0 {
		return false
	}
	if !t.pages.cover(first >> pageShift) {
		t.entries.giveBack(first)
		return false
	}
	second := uint32(0)
	if k == wide {
		if second = t.wides.page(); second == 0 {
			t.entries.giveBack(first)
			return false
		}
	}
	cells := t.entries.pageAt(first)
	for n := range cells {
		cells[n].next = first + uint32(n) + 1
		if k == wide {
			cells[n].wide = second + uint32(n)
		}
	}
	cells[pageCells-1].next = 0
	n := first >> pageShift
	*t.pages.at(n) = page{free: first}
	r.pages = append(r.pages, n)
	t.link(r, n)
	return true
}

// give returns an entry that is in no index and no slot.
func (t *Table) give(s *shard, i uint32) {
	e := t.entries.at(i)
	r, n := &s.rooms[e.kind()], i>>pageShift
	p := t.pages.at(n)
	if p.free == 0 {
		t.link(r, n)
	}
	e.next = p.free
	p.free = i
	p.used--
	r.used--
}
