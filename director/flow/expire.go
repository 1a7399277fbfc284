package flow

import (
	"time"
	"unsafe"

	"tapdirector/stack"
)

// batchWork is how many pieces of work (entries or ticks) Expire does under a lock before it lets a packet through: 10 to 20 us (140-340 ns each), 40 us
// in a table of millions.
const batchWork = 64

// dueAhead is how many of them are fetched for at a time.
const dueAhead = 16

// restEvery is how many pieces of work, ends for one, Expire does between rests: 50 to 100 us' worth.
const restEvery = 256

// pace has work rest.
type pace struct {
	rest func()
	done int // since the last rest
}

// did says that n pieces of work were done, and rests when it is time. No shard is locked.
func (p *pace) did(n int) {
	if p.done += n; p.done >= restEvery {
		p.done = 0
		p.rest()
	}
}

// Expire removes the connections whose time is over at now and returns how many they were. The janitor calls it every 100 ms; one call does
// whatever is due, in small batches, going round the shards, so that a packet never waits for more than one batch.
func (t *Table) Expire(now time.Duration) (expired int) {
	to, p := tickOf(now), pace{rest: t.rest}
	for busy := true; busy; {
		busy = false
		for i := range t.shards {
			n, done := t.expireBatch(&t.shards[i], to)
			expired += n
			busy = busy || !done
			p.did(n)
		}
	}
	t.giveBack(&p)
	return expired
}

// expireBatch does one batch of a shard's work.
func (t *Table) expireBatch(s *shard, to uint32) (expired int, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fetched := 0
	for range batchWork {
		if fetched == 0 {
			fetched = t.fetchDue(s)
		}
		fetched = max(fetched-1, 0)
		i, done := s.wheel.step(to)
		if done {
			return expired, true
		}
		switch {
		case i == 0:
		case t.controls(i):
			t.entries.at(i).deadline = to + t.timeouts[Established].Load()
			s.wheel.file(i)
		default:
			t.idled(i)
			t.forget(s, i)
			s.stats.expired++
			expired++
		}
	}
	return expired, false
}

// fetchDue fetches what the ends of the next due connections ask for, and returns how many they are. Their entries come one after the other, as each knows the
// next; what they ask for comes side by side.
func (t *Table) fetchDue(s *shard) (n int) {
	for i := s.wheel.due(); i != 0 && n < dueAhead; n++ {
		e := t.entries.at(i)
		s.index.fetch(e.hash[Forward])
		if e.hash[Reply] != 0 {
			s.index.fetch(e.hash[Reply])
		}
		prefetch(unsafe.Pointer(t.pages.at(i >> pageShift)))
		i = e.next
	}
	return n
}

// Rebind gives the connection of tuple k in direction d another method, which must have a reply tuple if the old one has; it reports whether there is such
// a connection.
func (t *Table) Rebind(k *stack.Tuple, d Direction, m Method) bool {
	s, i := t.lock(k, d)
	defer s.mu.Unlock()
	if i == 0 || t.entries.at(i).method.replies() != m.replies() {
		return false
	}
	t.entries.at(i).method = m
	return true
}

// Remove ends the connection of tuple k in direction d at once, and reports whether there was one.
func (t *Table) Remove(k *stack.Tuple, d Direction) bool {
	s, i := t.lock(k, d)
	defer s.mu.Unlock()
	if i == 0 {
		return false
	}
	t.remove(s, i)
	s.stats.removed++
	return true
}

// remove ends entry i before its time.
func (t *Table) remove(s *shard, i uint32) {
	s.wheel.unfile(i)
	t.forget(s, i)
}

// forget ends entry i, which is in no slot any more.
func (t *Table) forget(s *shard, i uint32) {
	s.moves++
	e := t.entries.at(i)
	s.index.remove(e.hash[Forward], refOf(i, Forward))
	if e.hash[Reply] != 0 {
		s.index.remove(e.hash[Reply], refOf(i, Reply))
	}
	s.stats.states[e.state]--
	t.countOne(e, -1)
	if e.marks&(Persistent|Control|Data) != 0 {
		t.ended(s, e)
	}
	refs := e.refs()
	t.give(s, i)
	t.live.gone(refs)
}
