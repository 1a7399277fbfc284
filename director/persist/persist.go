// Package persist remembers which server a client's connections go to, after they have ended: LVS's persistence templates.
//
// # Theory of operation
//
// A template says: connections of this network of clients to this service go to that server. It is found by the service's number and the client's
// address with the bits behind the netmask cleared (Key). All ports that a service listens on share its templates, as they do with a firewall mark
// in LVS.
//
//	Find     a client's new connection asks for the template, and holds it while it lives
//	Put      there was none: the scheduler's choice becomes one
//	Assure   a connection showed that the client is real
//	Release  a connection ended
//	Expire   the janitor takes templates away whose time is over
//	Sweep    a server was removed, or a service tells its clients apart in another way
//
// Each new connection restarts the template's timer with the service's timeout. When that is over while connections hold the template, it
// is given 60 s more, and again, as LVS does.
//
// Until it is assured a template lives only as long as a connection holds it: so a flood of SYNs from invented addresses leaves
// nothing here once its half-open connections are gone. LVS lets such a template live for its whole time. At Options.Max a new template takes the place of the
// one in its shard that has waited longest to be assured, else of one whose time is over; where there is neither, none is made, and the
// connection goes where the scheduler said, without persistence. A template that lost its place while it was held may be there again for the
// same client when the connections of the former one end; they then count as its own. At worst it ends early.
//
// The table is cut into 64 shards, each behind a mutex. A shard is a hash table that grows a bucket at a time, over cells in pages; there
// are no pointers that the garbage collector would follow per template. Time is passed in. Timers are exact for whoever asks: a template
// whose time is over is not found. Its memory comes back when Expire, which looks at 64 cells of each shard at a call, comes by.
package persist

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"tapdirector/stack"
)

// DefaultMax is the number of templates that a table holds unless Options say otherwise.
const DefaultMax = 1 << 18

// Rearm is what a template gets when its time is over while connections hold it.
const Rearm = 60 * time.Second

// Options are what a table is made of.
type Options struct {
	Max int // templates at most; 0 = DefaultMax

	// Count tells that a server has a template more (1) or less (-1). It is called under a lock: it must be quick and not call the table. nil = none.
	Count func(server uint32, n int32)
}

// Key is what a template is found by.
type Key struct {
	Client  stack.Addr // masked
	Service uint32     // the caller's number
}

// Lease is how a new connection uses a template.
type Lease struct {
	Now     time.Duration // since any beginning
	Timeout time.Duration // of the service, from Now on
	Hold    bool          // a connection will call Release
}

const numShards = 64

// Table holds templates. All methods may be called at the same time.
type Table struct {
	seed  maphash.Seed
	max   int64
	count func(server uint32, n int32)
	live  atomic.Int64

	shards [numShards]shard
}

// New makes an empty table.
func New(o Options) *Table {
	t := &Table{seed: maphash.MakeSeed(), max: int64(o.Max), count: o.Count}
	if o.Max <= 0 {
		t.max = DefaultMax
	}
	if t.count == nil {
		t.count = func(uint32, int32) {}
	}
	for i := range t.shards {
		t.shards[i].init()
	}
	return t
}

// shard returns k's shard, locked, and k's hash within it.
func (t *Table) shard(k *Key) (*shard, uint32) {
	h := maphash.Comparable(t.seed, *k)
	s := &t.shards[h%numShards]
	s.mu.Lock()
	return s, uint32(h >> 32)
}

// Find returns the server of k's template, if there is one, and restarts its timer.
func (t *Table) Find(k *Key, l Lease) (server uint32, ok bool) {
	s, hash := t.shard(k)
	defer s.mu.Unlock()
	c := s.living(s.find(k, hash), l.Now)
	if c == nil {
		return 0, false
	}
	s.stats.found++
	c.lease(l)
	return c.server, true
}

// Put makes a template of k for server and returns it. When another worker was faster it returns the server of that one's. held is false when
// there is no room for a template, and when the lease does not ask for it.
func (t *Table) Put(k *Key, server uint32, l Lease) (chosen uint32, held bool) {
	s, hash := t.shard(k)
	defer s.mu.Unlock()
	i := s.find(k, hash)
	if c := s.living(i, l.Now); c != nil {
		c.lease(l)
		return c.server, l.Hold
	}
	if i != 0 {
		t.forget(s, i)
		s.stats.expired++
	}
	if !t.room(s, l.Now) {
		s.stats.full++
		return server, false
	}
	c := s.add(hash)
	c.key, c.server = *k, server
	c.lease(l)
	s.stats.made++
	t.count(server, 1)
	return server, l.Hold
}

// Drop takes k's template away if it still says server, because that is not to get this client's connections any more.
func (t *Table) Drop(k *Key, server uint32) {
	s, hash := t.shard(k)
	defer s.mu.Unlock()
	if i := s.find(k, hash); i != 0 && s.cell(i).server == server {
		t.forget(s, i)
		s.stats.dropped++
	}
}

// Assure notes that the client of k is real.
func (t *Table) Assure(k *Key, server uint32) {
	s, hash := t.shard(k)
	defer s.mu.Unlock()
	if i := s.find(k, hash); i != 0 && s.cell(i).server == server && !s.cell(i).assured {
		s.cell(i).assured = true
		s.unlist(i)
	}
}

// Release ends the hold of one connection of k to server.
func (t *Table) Release(k *Key, server uint32, now time.Duration) {
	s, hash := t.shard(k)
	defer s.mu.Unlock()
	i := s.find(k, hash)
	if i == 0 || s.cell(i).server != server || s.cell(i).holds == 0 {
		return // it lost its place
	}
	c := s.cell(i)
	c.over(now)
	if c.holds--; c.holds == 0 && !c.assured {
		t.forget(s, i)
		s.stats.unassured++
	}
}

// room makes room for one template more; false when there is none.
func (t *Table) room(s *shard, now time.Duration) bool {
	if t.live.Add(1) <= t.max {
		return true
	}
	t.live.Add(-1)
	i := s.oldest()
	if i == 0 {
		t.sweep(s, now)
		if t.live.Add(1) <= t.max {
			return true
		}
		t.live.Add(-1)
		return false
	}
	t.forget(s, i)
	s.stats.evicted++
	if t.live.Add(1) <= t.max {
		return true
	}
	t.live.Add(-1) // Another shard was faster.
	return false
}

// forget takes the template in cell i away.
func (t *Table) forget(s *shard, i uint32) {
	t.count(s.cell(i).server, -1)
	s.remove(i)
	t.live.Add(-1)
}

// Expire takes away templates whose time is over at now, among the next 64 cells of each shard, and returns how many they were.
func (t *Table) Expire(now time.Duration) (expired int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		expired += t.sweep(s, now)
		s.mu.Unlock()
	}
	return expired
}

// sweep looks at the next page of s.
func (t *Table) sweep(s *shard, now time.Duration) (expired int) {
	if len(s.pages) == 0 {
		return 0
	}
	s.swept = (s.swept + 1) % uint32(len(s.pages))
	for n := range s.pages[s.swept] {
		if c := &s.pages[s.swept][n]; c.used && c.over(now) {
			t.forget(s, s.swept<<pageShift|uint32(n))
			s.stats.expired++
			expired++
		}
	}
	return expired
}

// Sweep takes away the templates that are gone, a page of 64 under each lock, and returns how many they were. gone must be quick and not call the table. A
// template that is made meanwhile may be passed or not.
func (t *Table) Sweep(gone func(k *Key, server uint32) bool) (dropped int) {
	for i := range t.shards {
		for page, more := uint32(0), true; more; page++ {
			var n int
			n, more = t.sweepPage(&t.shards[i], page, gone)
			dropped += n
		}
	}
	return dropped
}

// sweepPage does one page of s; more says whether there are pages behind it.
func (t *Table) sweepPage(s *shard, page uint32, gone func(k *Key, server uint32) bool) (dropped int, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if page >= uint32(len(s.pages)) {
		return 0, false
	}
	for n := range s.pages[page] {
		if c := &s.pages[page][n]; c.used && gone(&c.key, c.server) {
			t.forget(s, page<<pageShift|uint32(n))
			s.stats.dropped++
			dropped++
		}
	}
	return dropped, true
}

// Len returns how many templates there are, those included whose time is over and that Expire has not yet come by.
func (t *Table) Len() int { return int(min(t.live.Load(), t.max)) }

// Stats are the table's counters. Made = Expired + Unassured + Evicted + Dropped + Len while nothing is under way.
type Stats struct {
	Found     uint64 // new connections that a template led to their server
	Made      uint64
	Expired   uint64 // ended by their timer
	Unassured uint64 // ended with their last connection: the client never proved real
	Evicted   uint64 // ended, unassured, to make room for others
	Dropped   uint64 // ended by Drop or Sweep: their server drains, does not answer, or was removed
	Full      uint64 // not made: Options.Max
}

// Stats returns the counters. It locks one shard after the other.
func (t *Table) Stats() (sum Stats) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		st := s.stats
		s.mu.Unlock()
		sum.Found += st.found
		sum.Made += st.made
		sum.Expired += st.expired
		sum.Unassured += st.unassured
		sum.Evicted += st.evicted
		sum.Dropped += st.dropped
		sum.Full += st.full
	}
	return sum
}
