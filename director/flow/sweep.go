package flow

// Sweep ends connections of servers that are no more, or do not answer.
//
// It goes round the shards, a few buckets of each under its lock, as Expire does: no packet waits for more than one batch. Connections that are made while it
// is under way may be passed or not, so who wants all of a server's gone sees to it first that no more are made. The index may grow meanwhile: a bucket that
// is split gives to one behind, which is still to come.

// Sweep says what is to be ended.
type Sweep struct {
	// Of reports whether connections of a server and protocol are to end. It is asked for each connection, also with NoServer, under a lock of the table: it
	// must be quick and must not call the table.
	Of func(server uint32, proto uint8) bool

	// Reset is given each of them that is Followed and established, borrowed and under the lock, before it ends; where it returns false, because there is no
	// room for a reset now, the connection stays. nil: they end as the others do.
	Reset func(c *Conn, s Sequence) bool
}

// sweepBuckets is how many buckets are swept under one lock: some 50 connections, 10 to 20 us where all of them end.
const sweepBuckets = 16

// Sweep ends the connections that w asks for, and returns how many did and how many were left because of Reset.
func (t *Table) Sweep(w Sweep) (ended, left int) {
	t.listing.Add(1) // What shrinks meanwhile would move connections to where they are not looked for any more.
	defer t.listing.Add(-1)
	at := new([numShards]uint32)
	var cells []uint32
	for busy := true; busy; {
		busy = false
		for i := range t.shards {
			s := &t.shards[i]
			s.mu.Lock()
			cells = t.ofSweep(s, &w, at[i], cells[:0])
			for _, c := range cells {
				if !t.sweepOne(s, &w, c) {
					left++
					continue
				}
				ended++
			}
			at[i] = min(at[i]+sweepBuckets, s.index.buckets())
			busy = busy || at[i] < s.index.buckets()
			s.mu.Unlock()
		}
	}
	return ended, left
}

// ofSweep appends the entries among sweepBuckets buckets of s that are to end: to end one may free the bucket that is looked at.
func (t *Table) ofSweep(s *shard, w *Sweep, from uint32, cells []uint32) []uint32 {
	for n := from; n < min(from+sweepBuckets, s.index.buckets()); n++ {
		for b := s.index.primary(n); b != nil; b = s.index.after(b) {
			for slot, r := range b.refs {
				if b.tag(slot) == 0 || r.dir() != Forward {
					continue
				}
				if e := t.entries.at(r.cell()); w.Of(e.server, e.proto) {
					cells = append(cells, r.cell())
				}
			}
		}
	}
	return cells
}

// sweepOne ends entry i; false when it has to stay.
func (t *Table) sweepOne(s *shard, w *Sweep, i uint32) bool {
	e := t.entries.at(i)
	if w.Reset != nil && e.marks&Followed != 0 && e.state == Established {
		var c Conn
		t.load(e, &c)
		if !w.Reset(&c, *t.sequences.at(i)) {
			return false
		}
	}
	t.remove(s, i)
	s.stats.removed++
	return true
}
