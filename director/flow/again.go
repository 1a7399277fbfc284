package flow

import (
	"time"
	"unsafe"
)

// Again
//
// Who has found a connection a moment ago knows its entry. That it is there still is not known, but it is if no connection of its shard has ended or moved since, which the shard
// counts. (The count comes round after 4,294,967,296 of them; a Place is not kept that long.) Then a packet that changes neither state nor marks needs no look at the index, and no copy.
// That an event is such a one is looked up once, and holds while the connection is what it was.

// Place is where Touch has found a connection, in which direction.
type Place struct {
	at      uint32
	moves   uint32 // of the shard, then
	shard   uint8
	dir     Direction
	method  Method // of the connection
	settled uint64 // what it was when an event was looked up, and that event; 0: none yet
	hop     Hop    // as who asks knows it
}

// Place returns where Touch has found what k is the key of, which is c.
func (k *Key) Place(c *Conn) Place {
	p := k.place
	p.method, p.hop = c.Method, c.Hop
	return p
}

// Again is Touch for a further packet of the connection at p that comes by the same hop, as the one before did. It reports false, and has changed nothing, when Touch must be
// asked: the connection may not be there any more, its replies go another way by now, or there is more to do than to note the time and the hop.
func (t *Table) Again(p *Place, event uint8, now time.Duration) bool {
	s := &t.shards[p.shard]
	s.mu.Lock()
	again := false
	if s.moves == p.moves {
		e := t.entries.at(p.at)
		deadline := tickOf(now) + t.timeouts[e.state&stateMask].Load()
		again = deadline >= e.deadline && (e.hop == p.hop || p.dir == Forward) && (e.with(event) == p.settled || p.settles(e, event))
		if again {
			e.hop, e.deadline = p.hop, deadline
		}
	}
	s.mu.Unlock()
	return again
}

// with is what tells how e goes on, and an event, in one word.
func (e *entry) with(event uint8) uint64 {
	return uint64(uint32(e.proto)|uint32(e.method)<<8|uint32(e.state)<<16|uint32(e.marks)<<24) | uint64(event)<<32
}

// settles notes that an event leaves e, which is at p, as it is; false when it does not, or when Touch has more to do.
func (p *Place) settles(e *entry, event uint8) bool {
	more := Followed
	if p.dir == Reply {
		more |= NoOutput | Unproven
	}
	if e.marks&more != 0 || e.method != p.method || e.state.over() || e.state.next(e.proto, viewOf(p.dir, e.marks), event) != e.state {
		return false
	}
	p.settled = e.with(event)
	return true
}

// Fetch asks for the memory that Again of p will ask for, which need not be there any more, and does not wait for it.
func (t *Table) Fetch(p *Place) {
	prefetch(unsafe.Pointer(&t.shards[p.shard]))
	t.entries.fetch(p.at)
}

// Prefetch asks for 256 bytes of the caller's own, and does not wait for them.
func Prefetch(p unsafe.Pointer) { prefetch4(p) }
