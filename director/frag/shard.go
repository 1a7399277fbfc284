package frag

import (
	"slices"
	"time"

	"tapdirector/tap"
)

// A shard's entries are in one of two lists, each sorted by deadline because all live equally long from the moment they enter it: those that wait for
// their first fragment, and those about which something is settled. An entry moves once, so it lives for two lives at most.
const (
	waitingList = iota
	settledList
)

func (s *shard[V]) init(t *Table[V], limit int) {
	s.table, s.max, s.byKey = t, limit, map[Key]uint32{}
	s.entries = make([]entry[V], 2)
	for list := range uint32(2) {
		s.entries[list].prev, s.entries[list].next = list, list
	}
}

// listOf returns the list that an entry in a state is in.
func listOf(st state) uint32 {
	if st == waiting {
		return waitingList
	}
	return settledList
}

// begin enters a datagram that is not known, in the place of the oldest of the longer list if there is no room.
func (s *shard[V]) begin(k *Key, now time.Duration) uint32 {
	if s.length[waitingList]+s.length[settledList] >= s.max {
		list := waitingList
		if s.length[settledList] > s.length[waitingList] {
			list = settledList
		}
		s.stats.Evicted++
		s.forget(s.entries[list].next)
	}
	i := s.free
	if i == 0 {
		i = uint32(len(s.entries))
		s.entries = append(s.entries, entry[V]{})
	}
	e := &s.entries[i]
	s.free, e.next = e.next, 0
	e.key, e.state, e.n, e.bytes, e.end, e.total = *k, waiting, 0, 0, 0, 0
	s.byKey[*k] = i
	s.link(i, now)
	s.stats.Datagrams++
	return i
}

// take is Take for entry i.
func (s *shard[V]) take(i uint32, f *Fragment, now time.Duration, fate *V) Result {
	e := &s.entries[i]
	if e.state == killed {
		s.stats.Refused++
		return Refused
	}
	how := e.place(&f.Piece)
	switch {
	case how > duplicate:
		s.blame(how)
		s.kill(i, now)
		return Refused
	case how == duplicate:
		s.stats.Duplicates++
	}
	switch {
	case f.Off == 0:
		return First
	case e.state == known:
		*fate = e.fate
		s.finish(i)
		return Known
	case e.state == refused:
		s.stats.Refused++
		s.finish(i)
		return Refused
	case how == duplicate:
		return Refused
	}
	return s.hold(i, f, now)
}

// blame counts why a datagram is killed.
func (s *shard[V]) blame(how placing) {
	switch how {
	case overlaps:
		s.stats.Overlaps++
	case tiny:
		s.stats.Tiny++
	case tooLong:
		s.stats.TooLong++
	case tooMany:
		s.stats.TooMany++
	}
}

// hold keeps a copy of f. Without room, and with nobody to make some, the datagram is lost, and what is held of it only in the way.
func (s *shard[V]) hold(i uint32, f *Fragment, now time.Duration) Result {
	n := cost(f.Frame)
	for !s.room(n) {
		if !s.makeRoom(i) {
			s.stats.NoRoom++
			s.kill(i, now)
			return NoRoom
		}
	}
	e := &s.entries[i]
	e.held = append(e.held, Held{f.Frame.Clone(), f.In, f.Off})
	s.stats.Held++
	return Kept
}

// cost is the bytes of memory that holding a frame takes.
func cost(f *tap.Frame) int { return tap.Headroom + f.Len() }

// room takes room for a frame that costs n bytes.
func (s *shard[V]) room(n int) bool {
	if !s.table.frames.take(1) {
		return false
	}
	if !s.table.bytes.take(n) {
		s.table.frames.give(1)
		return false
	}
	return true
}

// makeRoom forgets the oldest datagram of which something is held, other than i of this shard; false when there is none. Others' shards are asked only
// when this one has nothing to give, and only if they are not busy: so nobody waits for two locks.
func (s *shard[V]) makeRoom(i uint32) bool {
	if s.forgetHeld(i) {
		return true
	}
	for j := range s.table.shards {
		o := &s.table.shards[j]
		if o == s || !o.mu.TryLock() {
			continue
		}
		ok := o.forgetHeld(0)
		o.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

// forgetHeld forgets the oldest datagram of this shard, other than i, of which something is held; false when there is none.
func (s *shard[V]) forgetHeld(i uint32) bool {
	for j := s.entries[waitingList].next; j != waitingList; j = s.entries[j].next {
		if j != i && len(s.entries[j].held) > 0 {
			s.stats.Evicted++
			s.forget(j)
			return true
		}
	}
	return false
}

// release takes what is held of entry i, which no longer counts then.
func (s *shard[V]) release(i uint32) []Held {
	e := &s.entries[i]
	held := e.held
	e.held = nil
	for j := range held {
		s.table.frames.give(1)
		s.table.bytes.give(cost(&held[j].Frame))
	}
	return held
}

// settle moves entry i to a state other than waiting, for another life, and returns what was held of it in the datagram's order.
func (s *shard[V]) settle(i uint32, to state, now time.Duration) []Held {
	s.unlink(i)
	s.entries[i].state = to
	s.link(i, now)
	held := s.release(i)
	slices.SortFunc(held, func(a, b Held) int { return int(a.off) - int(b.off) })
	return held
}

func (s *shard[V]) kill(i uint32, now time.Duration) {
	s.stats.Killed++
	s.stats.Dropped += uint64(len(s.settle(i, killed, now)))
}

// finish forgets entry i if nothing of it is to come.
func (s *shard[V]) finish(i uint32) {
	if s.entries[i].complete() {
		s.stats.Complete++
		s.forget(i)
	}
}

// expire forgets entries whose time is over.
func (s *shard[V]) expire(now time.Duration) {
	for list := range uint32(2) {
		for {
			i := s.entries[list].next
			if i == list || s.entries[i].deadline > now {
				break
			}
			if s.entries[i].state != killed {
				s.stats.Expired++
			}
			s.forget(i)
		}
	}
}

// forget frees entry i; what is held of it is dropped.
func (s *shard[V]) forget(i uint32) {
	s.stats.Dropped += uint64(len(s.release(i)))
	s.unlink(i)
	delete(s.byKey, s.entries[i].key)
	s.entries[i].next, s.free = s.free, i
}

// link appends entry i to the list of its state.
func (s *shard[V]) link(i uint32, now time.Duration) {
	e := &s.entries[i]
	list := listOf(e.state)
	e.deadline = now + time.Duration(s.table.life.Load())
	e.prev, e.next = s.entries[list].prev, list
	s.entries[e.prev].next, s.entries[list].prev = i, i
	s.length[list]++
}

func (s *shard[V]) unlink(i uint32) {
	e := &s.entries[i]
	s.entries[e.prev].next, s.entries[e.next].prev = e.next, e.prev
	s.length[listOf(e.state)]--
}
