// Package flow is the connection table: it remembers the server that was picked for a connection, follows its state, and forgets it in time.
//
// # Theory of operation
//
// A connection (Conn) is found by the tuple of a packet of either end: the forward tuple (Client -> Virtual), and, where the server's
// packets pass the director, the reply tuple (Server -> Local). The table is cut into 256 shards, each behind a mutex of its own. A
// connection is in the shard that its client's end chooses (hash.go), whichever tuple asks for it, so a packet takes one lock, once, for some tens of
// nanoseconds; workers of different queues meet there only by chance.
//
// A shard is an index from hash to entry (index.go), a timer wheel (wheel.go), and the lists of its free entries; the memory itself comes
// from slabs that all shards share (slab.go, entry.go), and is none that the garbage collector knows of. Who has many packets in hand says so first (ahead.go).
// Every growth, and every shrinking, is in small steps: a page of 64 entries, one bucket of the index. Memory is bounded by Options.Max.
//
// The life of a connection:
//
//  1. Touch   a packet of a known connection: find, advance the state, restart the timer, copy out. The fast path. Who was here a
//     moment ago comes by Again, without the search (again.go)
//  2. Insert  its first packet, after the scheduler has picked a server; InsertLocal where a local port must be chosen as well.
//     In a full table it may take the place of one that is worth less (evict.go)
//  3. Expire  the janitor, every 100 ms: connections whose time is over are forgotten, a bounded number per lock; then memory that is not needed
//     any more is given back (giveback.go)
//  4. Sweep   connections of a server that was removed are forgotten (sweep.go)
//
// Time is passed in, since any beginning; the table never reads a clock.
//
// Not handled here: who may open a connection (only SYN, INIT; never RST, ABORT).
package flow

import (
	"sync"
	"sync/atomic"
	"time"

	"tapdirector/stack"
)

// DefaultMax is the number of connections that a table holds unless Options say otherwise.
const DefaultMax = 1 << 20

// Options are what a table is made of.
type Options struct {
	Max      int      // connections at most; 0 = DefaultMax
	Timeouts Timeouts // 0 in a state = the default of that state

	// Count tells the deltas of a server's active and inactive connections: at insert, when a state changes from one to the other, at
	// the end. It is called under a lock of the table: it must be quick and must not call the table. Never for NoServer. nil = none.
	Count func(server uint32, active, inactive int32)

	// Evicted switches eviction on (evict.go): it is told the server of each connection that was ended to make room, also NoServer. It is
	// called as Count is. nil: at Max new connections are refused.
	Evicted func(server uint32)

	// Watch is told of connections with marks; nil: nobody. No connection may then have them.
	Watch Watcher

	// Rest is called by Expire after every few hundred ends, and while it gives memory back, with no shard locked: when many end at once, others want a CPU too. nil: nothing.
	Rest func()
}

// Table holds connections. All methods may be called at the same time.
type Table struct {
	hash     *hasher
	entries  *slab[entry]
	wides    *slab[wideAddrs]
	pages    *slab[page] // of entries, by number of page
	rows     *rows
	timeouts [stateMask + 1]atomic.Uint32 // ticks, by State
	count    func(server uint32, active, inactive int32)
	max      int64
	evicted  func(server uint32)
	rest     func()

	watch     Watcher
	sequences *slab[Sequence] // by the cell of an entry with the mark Followed
	listing   atomic.Int32    // calls of Each under way
	giving    sync.Mutex      // held by who gives memory back

	spares atomic.Bool   // eviction is switched off; asked for in a full table only
	barren atomic.Uint32 // the tick before was found to have nobody that may go in any shard; 0: none

	widening atomic.Bool // a room's list of pages gets memory

	_    [4]byte // live changes with each new connection, what is above hardly ever
	live population
	_    [56]byte // the shards begin at a cache line

	shards [numShards]shard
}

// shard is a part of the table behind one lock. Whole cache lines, so that neighbours do not slow each other; the first has all that a lookup
// needs.
type shard struct {
	mu       sync.Mutex
	index    index
	moves    uint32         // counts entries that were left, by a connection that ended or moved
	rooms    [numKinds]room // its entries
	nextPort uint8          // where InsertLocal starts to look
	stats    shardStats
	wheel    wheel
	hand     uint32 // the bucket where evict looks next

	_ [48]byte // to whole lines
}

// shardStats is a shard's part of Stats.
type shardStats struct {
	expired, reopened, removed, evicted, clashes, full, noPort uint64
	states                                                     [NumStates]uint32
}

// New makes an empty table.
func New(o Options) *Table {
	if o.Max <= 0 {
		o.Max = DefaultMax
	}
	// Twice for a peak of one family after the other; a page more per shard.
	cells := 2 * (o.Max + numShards*pageCells)
	refs := 2 * o.Max
	t := &Table{
		hash:    newHasher(),
		entries: newSlab[entry](cells),
		wides:   newSlab[wideAddrs](cells),
		pages:   newSlab[page](cells / pageCells),
		rows:    newRows(refs),
		count:   o.Count,
		max:     int64(o.Max),
		evicted: o.Evicted,
		watch:   o.Watch,
		rest:    o.Rest,

		sequences: newSlab[Sequence](cells),
	}
	if t.count == nil {
		t.count = func(uint32, int32, int32) {}
	}
	if t.rest == nil {
		t.rest = func() {}
	}
	t.SetTimeouts(o.Timeouts)
	t.entries.emptied = t.sequences.uncover
	if offHeap { // Usable at once, as they are few: to make memory usable may wait for a goroutine that fills some.
		for r := range t.pages.regions {
			t.pages.cover(uint32(r << regionShift))
		}
		t.entries.fills = t.pages.touchCells
	}
	spill := newSpill(cells / 4)
	for i := range t.shards {
		s := &t.shards[i]
		s.index.init(uint8(i), t.rows, spill, t.entries)
		s.wheel.store = t.entries
		for k := range s.rooms {
			s.rooms[k].pages = make([]uint32, 0, firstPages)
		}
	}
	return t
}

// SetTimeouts changes the timeouts, 0 in a state being its default. A connection that is known gets the new one with its next packet.
func (t *Table) SetTimeouts(to Timeouts) {
	for s, d := range DefaultTimeouts() {
		if to[s] > 0 {
			d = to[s]
		}
		t.timeouts[s].Store(ticks(d))
	}
}

// find returns the entry that k asks for, 0 when there is none. It is looked for by the client's end, or by the whole tuple, or both (hash.go).
func (t *Table) find(s *shard, k *key) uint32 {
	if s.index.wholeFirst(k.dir) {
		if i := t.seek(s, k, t.hash.wholeOf(k), Reply); i != 0 {
			return i
		}
		return t.seek(s, k, k.hash, Forward)
	}
	i := t.seek(s, k, k.hash, Forward)
	if i == 0 && s.index.hasWhole(k.dir) {
		return t.seek(s, k, t.hash.wholeOf(k), k.dir)
	}
	return i
}

// seek returns the entry that k asks for among the references for d where hash leads.
func (t *Table) seek(s *shard, k *key, hash uint32, d Direction) uint32 {
	b, tag := s.index.look(hash)
	for {
		for set := b.match(tag); set != 0; set &= set - 1 {
			r := b.refs[slotOf(set)]
			if r.dir() != d {
				continue
			}
			if e := t.entries.at(r.cell()); e.hash[d&1] == hash && t.matches(e, k) {
				return r.cell()
			}
		}
		if b.next == 0 {
			return 0
		}
		b = s.index.spill.at(b.next)
	}
}

// Key is a tuple and a direction prepared for looking them up: who has many packets in hand does that before (ahead.go). The zero value is that of none.
type Key struct {
	key   key
	place Place
}

// Prepare makes k the key of a tuple seen in direction d.
func (t *Table) Prepare(k *Key, tuple *stack.Tuple, d Direction) { t.hash.key(&k.key, tuple, d) }

// Ready reports whether k was prepared, in direction d.
func (k *Key) Ready(d Direction) bool { return k.key.ready && k.key.dir == d }

// Clear makes k that of none.
func (k *Key) Clear() { k.key.ready = false }

// Touch is the fast path: it finds the connection of what k was prepared for, advances its state by the packet's event (TCP's flags, SCTP's
// chunk; ignored for other protocols), restarts its timer, stores hop when the direction is Forward, and copies the connection to out. It does not allocate.
//
// Found; Follow, which is Found for a Followed connection's forward packet; Miss; or Reopen for a pure SYN or an INIT from the client on a connection in TIME_WAIT, CLOSE or CLOSED: that connection, copied to out, was removed,
// and the caller schedules anew.
func (t *Table) Touch(k *Key, event uint8, hop Hop, now time.Duration, out *Conn) Result {
	d := k.key.dir
	s := &t.shards[k.key.shard]
	s.mu.Lock()
	i := t.find(s, &k.key)
	if i == 0 {
		s.mu.Unlock()
		return Miss
	}
	k.place = Place{at: i, moves: s.moves, shard: k.key.shard, dir: d}
	e := t.entries.at(i)
	if d == Forward && e.state.reopens(e.proto, event) {
		t.load(e, out)
		t.remove(s, i)
		s.stats.reopened++
		s.mu.Unlock()
		return Reopen
	}
	result := Found
	if d == Forward {
		e.hop = hop
		if e.marks&Followed != 0 {
			result = Follow
		}
	} else if e.marks&(NoOutput|Unproven) != 0 {
		t.answered(e)
	}
	next := e.state.next(e.proto, viewOf(d, e.marks), event)
	deadline := tickOf(now) + t.timeouts[next&stateMask].Load()
	if next == e.state && deadline >= e.deadline {
		e.deadline = deadline
	} else {
		t.change(s, i, next, deadline)
	}
	t.load(e, out)
	s.mu.Unlock()
	return result
}

// change gives entry i another state or a nearer deadline, or both.
func (t *Table) change(s *shard, i uint32, next State, deadline uint32) {
	e := t.entries.at(i)
	if next != e.state {
		t.recount(s, e, next)
	}
	if deadline >= e.deadline {
		e.deadline = deadline
		return
	}
	s.wheel.unfile(i)
	e.deadline = deadline
	s.wheel.file(i)
}

// recount changes an entry's state and the counters that depend on it.
func (t *Table) recount(s *shard, e *entry, next State) {
	s.stats.states[e.state]--
	s.stats.states[next]++
	was, is := e.state.Active(), next.Active()
	e.state = next
	t.comes(next)
	if next.established() && e.marks&Unproven != 0 {
		t.prove(e)
	}
	if was == is || e.server == NoServer {
		return
	}
	if is {
		t.count(e.server, 1, -1)
	} else {
		t.count(e.server, -1, 1)
	}
}

// countOne tells the server's counters that an entry came (1) or went (-1).
func (t *Table) countOne(e *entry, n int32) {
	switch {
	case e.server == NoServer:
	case e.state.Active():
		t.count(e.server, n, 0)
	default:
		t.count(e.server, 0, n)
	}
}
