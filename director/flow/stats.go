package flow

import "time"

// Stats are the table's counters. All but Bytes, Len and States only grow; Inserted = Expired + Reopened + Removed + Evicted + Len while nothing is under way
// (shards are read one after the other).
type Stats struct {
	Inserted uint64 // connections made
	Expired  uint64 // ended by their timer
	Reopened uint64 // ended by a SYN after their end: their client's own, or one that needed the local port
	Removed  uint64 // ended by Remove or Sweep
	Evicted  uint64 // ended to make room for another
	Clashes  uint64 // not made: another one has the same reply tuple
	Full     uint64 // not made: Options.Max
	NoPort   uint64 // not made: no local port is free

	Bytes  uint64         // memory of all connections now
	Len    int            // connections now
	States [NumStates]int // connections now, by state
}

// Len returns how many connections there are.
func (t *Table) Len() int { return int(min(t.live.conns(), t.max)) } // more for the moment in which one is refused

// Stats returns the counters. It locks one shard after the other.
func (t *Table) Stats() (sum Stats) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		st := s.stats
		s.mu.Unlock()
		sum.Expired += st.expired
		sum.Reopened += st.reopened
		sum.Removed += st.removed
		sum.Evicted += st.evicted
		sum.Clashes += st.clashes
		sum.Full += st.full
		sum.NoPort += st.noPort
		for state, n := range st.states {
			sum.States[state] += int(n)
			sum.Len += int(n)
		}
	}
	sum.Inserted = sum.Expired + sum.Reopened + sum.Removed + sum.Evicted + uint64(sum.Len)
	sum.Bytes = t.entries.bytes() + t.wides.bytes() + t.sequences.bytes() + t.pages.bytes() + t.rows.bytes() + t.shards[0].index.spill.bytes()
	return sum
}

// eachBatch is how many buckets Each copies out under one lock.
const eachBatch = 16

// Each calls fn for every connection with the time until it ends, until fn returns false. fn gets copies and may take its time and
// call the table: no lock is held. Connections that come or go meanwhile may be passed or not; one that stays is passed, once, or rarely
// twice when the table grows.
func (t *Table) Each(now time.Duration, fn func(c *Conn, expires time.Duration) bool) {
	t.listing.Add(1) // What shrinks meanwhile would move connections to where they are not looked for any more.
	defer t.listing.Add(-1)
	var batch []listed
	for i := range t.shards {
		s := &t.shards[i]
		for from, more := uint32(0), true; more; from += eachBatch {
			batch, more = t.list(s, from, batch[:0])
			for n := range batch {
				if !fn(&batch[n].conn, batch[n].left(now)) {
					return
				}
			}
		}
	}
}

// listed is a connection copied out of the table.
type listed struct {
	conn     Conn
	deadline uint32
}

// left returns the time until the connection ends; 0 when it is over and only waits for Expire.
func (l *listed) left(now time.Duration) time.Duration {
	return max(time.Duration(l.deadline)<<tickShift-now, 0)
}

// list appends the connections whose forward tuple is in eachBatch buckets of s to to; more says whether there are buckets behind them.
func (t *Table) list(s *shard, from uint32, to []listed) (batch []listed, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := min(from+eachBatch, s.index.buckets())
	for n := from; n < end; n++ {
		for b := s.index.primary(n); b != nil; b = s.index.after(b) {
			for slot, r := range b.refs {
				if b.tag(slot) == 0 || r.dir() != Forward {
					continue
				}
				e := t.entries.at(r.cell())
				to = append(to, listed{deadline: e.deadline})
				t.load(e, &to[len(to)-1].conn)
			}
		}
	}
	return to, end < s.index.buckets()
}
