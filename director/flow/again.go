package flow

import (
	"time"
	"unsafe"
)

// Again
//
// Who has found a connection a moment ago knows its entry. That it is there still is not known, but it is if no connection of its shard has ended or moved since, which the shard
// counts. (The count comes round after 4,294,967,296 of them; a Place is not kept that long.) Then a packet that changes neither state nor marks needs no look at the index, and no copy.

// Place is where Touch has found a connection, in which direction.
type Place struct {
	at    uint32
	moves uint32 // of the shard, then
	shard uint8
	dir   Direction
}

// Place returns where Touch has found what k is the key of.
func (k *Key) Place() Place { return k.place }

// Dir is the direction.
func (p *Place) Dir() Direction { return p.dir }

// Again is Touch for a further packet of the connection at p, of which out is a copy that was made before: it brings it up to date. It reports false, and has changed nothing, when
// Touch must be asked: the connection may not be there any more, or there is more to do than to note the time and the hop.
func (t *Table) Again(p *Place, event uint8, hop Hop, now time.Duration, out *Conn) bool {
	s := &t.shards[p.shard]
	s.mu.Lock()
	if s.moves != p.moves {
		s.mu.Unlock()
		return false
	}
	e := t.entries.at(p.at)
	deadline := tickOf(now) + t.timeouts[e.state&stateMask].Load()
	settled := e.state.next(e.proto, viewOf(p.dir, e.marks), event) == e.state
	if !settled || deadline < e.deadline || e.state.over() || e.marks&(Followed|NoOutput|Unproven) != 0 && (p.dir == Reply || e.marks&Followed != 0) {
		s.mu.Unlock()
		return false
	}
	if p.dir == Forward {
		e.hop = hop
	}
	e.deadline = deadline
	out.Hop, out.Method, out.State, out.Marks = e.hop, e.method, e.state, e.marks
	s.mu.Unlock()
	return true
}

// Fetch asks for the memory that Again of p will ask for, which need not be there any more, and does not wait for it.
func (t *Table) Fetch(p *Place) {
	prefetch(unsafe.Pointer(&t.shards[p.shard]))
	t.entries.fetch(p.at)
}

// Prefetch asks for 256 bytes of the caller's own, and does not wait for them.
func Prefetch(p unsafe.Pointer) { prefetch4(p) }
