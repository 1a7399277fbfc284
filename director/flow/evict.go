package flow

import "time"

// Eviction: room for new connections in a full table, at the cost of those that are worth least.
//
// A SYN flood fills a table with connections whose client never says another word. LVS's answer (drop_entry) is a timer that goes round the table
// and drops them; here the connection that finds no room takes the place of one, so nothing is lost before it must be, and however
// fast the flood, the table keeps up with it. Candidates, in this order:
//
//	half-open   NONE, SYN_SENT, SYN_RECV, SYNACK; INIT1, INIT, C-SENT, C-WAIT of SCTP: the client has not shown that it is there
//	over        CLOSE, TIME_WAIT, CLOSED, REJECTED: both ends have said good-bye
//	idle        UDP, and echoes, without a packet for a minute, or for half their timeout if that is less
//
// Everything else stays: ESTABLISHED above all, whatever its age, and what is closing.
//
// A hand goes round the buckets of the newcomer's shard, on from where it stopped last time, and the best of the candidates that it meets goes: the
// one with the better class, then the one silent for longest. The best of 8 half-open ones is hardly ever one that came just now, whose
// client's answer is still under way. Where nobody in that shard may go, which is usual in a table of some thousand places, the other shards are asked, as far as
// no packet holds them just now. The work is bounded: at most 32 entries and 32 buckets of the own shard, 3 to 8 us all told, and twice as many of others,
// only where the table is full. Where nobody was found anywhere, that is so until the next tick, or until a connection comes to a state in which it may go.

const (
	evictLook   = 32            // entries, or buckets, of a shard that are looked at for one newcomer
	evictSample = 8             // half-open ones among them are enough
	evictOthers = 2 * evictLook // of other shards
)

// worth is what a connection is worth when there are too many; the lowest goes first.
type worth uint8

const (
	halfOpen worth = iota
	over
	idle
	kept
)

var worths = [NumStates]worth{
	None: halfOpen, SynSent: halfOpen, SynRecv: halfOpen, SynAck: halfOpen,
	Close: over, TimeWait: over,
	UDP: idle, ICMP: idle,
	Established: kept, FinWait: kept, CloseWait: kept, LastAck: kept, Listen: kept,

	SCTPNone: halfOpen, SCTPInit1: halfOpen, SCTPInit: halfOpen, SCTPCookieSent: halfOpen, SCTPCookieWait: halfOpen,
	SCTPRejected: over, SCTPClosed: over,
	SCTPCookieReplied: kept, SCTPCookie: kept, SCTPCookieEchoed: kept, SCTPEstablished: kept,
	SCTPShutdownSent: kept, SCTPShutdownReceived: kept, SCTPShutdownAckSent: kept,
}

// candidate is an entry that may go.
type candidate struct {
	cell   uint32 // 0: none
	worth  worth
	silent uint32 // ticks since its last packet
}

// better reports whether c should go rather than o.
func (c candidate) better(o candidate) bool {
	return o.cell == 0 || c.worth < o.worth || c.worth == o.worth && c.silent > o.silent
}

// evict ends one connection to make room for one in s, which is locked; false when there was none that may go.
func (t *Table) evict(s *shard, now uint32) bool {
	if t.evicted == nil || t.spares.Load() {
		return false
	}
	f := hunt{now: now}
	return t.evictFrom(s, &f) || t.evictElsewhere(s, &f)
}

// evictElsewhere is evictFrom the other shards. It waits for none of their locks, as others may be waiting for that of s.
func (t *Table) evictElsewhere(s *shard, f *hunt) bool {
	if t.barren.Load() == f.now+1 {
		return false
	}
	most, asked := f.work+evictOthers, true
	for n := 1; n < numShards && f.work < most; n++ {
		o := &t.shards[(int(s.index.shard)+n)%numShards]
		if !o.mu.TryLock() {
			asked = false
			continue
		}
		found := t.evictFrom(o, f)
		o.mu.Unlock()
		if found {
			return true
		}
	}
	if asked {
		t.barren.Store(f.now + 1)
	}
	return false
}

// evictFrom ends one connection of s.
func (t *Table) evictFrom(s *shard, f *hunt) bool {
	if !s.evictable() {
		return false
	}
	buckets := s.index.buckets()
	f.looked, f.halfOpen, f.best = 0, 0, candidate{}
	for n := min(evictLook, buckets); n > 0 && f.looked < evictLook && f.halfOpen < evictSample; n-- {
		f.work++
		s.hand = (s.hand + 1) % buckets
		for b := s.index.primary(s.hand); b != nil; b = s.index.after(b) {
			t.look(f, b)
		}
	}
	if f.best.cell == 0 {
		return false
	}
	server := t.entries.at(f.best.cell).server
	t.remove(s, f.best.cell)
	s.stats.evicted++
	t.evicted(server)
	return true
}

// SetEviction switches eviction off and on again, in a table that was made with it.
func (t *Table) SetEviction(on bool) { t.spares.Store(!on) }

// comes notes that a connection has come to a state.
func (t *Table) comes(s State) {
	if worths[s] < idle && t.barren.Load() != 0 {
		t.barren.Store(0)
	}
}

// hunt is a look for the connection that should go.
type hunt struct {
	now              uint32
	work             int // entries and buckets that were looked at
	best             candidate
	looked, halfOpen int // entries of the shard in hand
}

// look goes through a bucket. Each connection is met once: by its forward tuple.
func (t *Table) look(f *hunt, b *bucket) {
	for slot, r := range b.refs {
		if b.tag(slot) == 0 || r.dir() != Forward {
			continue
		}
		f.looked++
		f.work++
		c := t.judge(r.cell(), f.now)
		if c.worth == halfOpen {
			f.halfOpen++
		}
		if c.worth != kept && c.better(f.best) {
			f.best = c
		}
	}
}

// evictable reports whether any connection of s is in a state in which it may go.
func (s *shard) evictable() bool {
	for state, n := range s.stats.states {
		if n > 0 && worths[state] != kept {
			return true
		}
	}
	return false
}

// judge says what entry i is worth at tick now.
func (t *Table) judge(i, now uint32) candidate {
	e := t.entries.at(i)
	c := candidate{cell: i, worth: worths[e.state]}
	timeout := t.timeouts[e.state&stateMask].Load()
	if left := e.deadline - min(now, e.deadline); left < timeout {
		c.silent = timeout - left
	}
	if c.worth == idle && c.silent < min(idleTicks, timeout/2) {
		c.worth = kept
	}
	return c
}

// idleTicks is for how long a flow is silent before it may go, as in LVS.
const idleTicks = uint32(60 * time.Second >> tickShift)
