package flow

// Looking ahead.
//
// In a table that no cache holds, a packet waits for memory twice, one after the other: for its bucket of the index, and for its entry. A worker has
// up to 64 packets in hand, whose waits do not depend on each other. So it tells all their keys first, and then looks them up: the
// lines come side by side while it goes on. Nothing but time depends on it.

// Ahead collects what a batch of packets will look up. It is one worker's; the zero value is ready.
type Ahead struct {
	hints [aheadMax]hint
	cells [aheadMax]uint32 // of what they lead to
	n     int
	wide  bool // some of them are not IPv4: their addresses are a third line
}

const (
	aheadMax   = 64
	aheadFloor = 32 << 10 // connections; the table of fewer is in a cache of its own
)

// hint is what a look at the index needs of a key.
type hint struct {
	hash  uint32
	shard uint8
}

// Pays reports whether the table is so large that looking ahead saves more than it costs.
func (t *Table) Pays() bool { return t.live.conns() >= aheadFloor }

// Add notes a key that is going to be looked up, and fetches its bucket. More than fit are left out.
func (a *Ahead) Add(t *Table, k *Key) {
	if a.n == aheadMax {
		return
	}
	key := &k.key
	hash := key.hash
	if key.dir == Reply && t.live.own() {
		hash = t.hash.wholeOf(key)
	}
	t.rows.fetchPlace(hash, key.shard)
	a.hints[a.n] = hint{hash, key.shard}
	a.wide = a.wide || !key.narrow
	a.n++
}

// Fetch fetches the entries of all keys that were added, and forgets them. What is found under the locks is fetched afterwards: to take a lock waits for the fetches before.
func (a *Ahead) Fetch(t *Table) {
	n := a.collect(t, func(r ref, _ uint32) uint32 { return r.cell() })
	for _, cell := range a.cells[:n] {
		t.entries.fetch(cell)
	}
	if a.wide {
		n = a.collect(t, func(r ref, hash uint32) uint32 {
			if e := t.entries.at(r.cell()); e.hash[r.dir()] == hash {
				return e.wide
			}
			return 0
		})
		for _, cell := range a.cells[:n] {
			t.wides.fetch(cell)
		}
	}
	a.n, a.wide = 0, false
}

// collect notes the cells that of says for the references where the hints lead, and returns how many they are; 0 is none.
func (a *Ahead) collect(t *Table, of func(r ref, hash uint32) uint32) (n int) {
	for _, h := range a.hints[:a.n] {
		s := &t.shards[h.shard]
		s.mu.Lock()
		b, tag := s.index.look(h.hash)
		for set := b.match(tag); set != 0 && n < aheadMax; set &= set - 1 {
			if cell := of(b.refs[slotOf(set)], h.hash); cell != 0 {
				a.cells[n] = cell
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}
