// Package frag remembers datagrams that pass in fragments, so that all fragments of one go the way of its first.
//
// # Theory of operation
//
// Only the first fragment of a datagram has the L4 header: the others have no ports by which a connection could be found. What they share with
// it is a key: both addresses, the identification and, in IPv4, the protocol. So the caller shows each fragment to Take, decides about the
// first as about any packet, and says in Learn what it decided: the fate, a value of its own choosing. Take hands that to all
// fragments that come after. What comes before the first is held, as a copy, until Learn gives it back. Nothing is reassembled: payloads are not looked at.
//
//	              Take(first)            Learn(fate)
//	(unknown) ----------------> waiting -------------> known ----> forgotten when the last byte was seen
//	    |  Take(later): held       |        Refuse
//	    +------------------------->+-----------------> refused --> forgotten likewise
//	                               |   overlap, ...
//	                               +-----------------> killed ---> forgotten when its time is over, as all others are then
//
// A datagram is killed, and whatever of it is held is dropped, when its fragments contradict each other: they overlap, end in two places, reach
// beyond 65,535 bytes, are tiny, or too many. This is RFC 5722's rule for IPv6, and ours for IPv4 as well: nobody's sender does this, only those who
// want a filter and a host to see different packets. The same fragment twice is no contradiction: networks duplicate.
//
// Identifications come round: a fast sender uses all 65,536 of IPv4 in less than a second. So a datagram is forgotten as soon as each of
// its bytes was seen, and one that lost a fragment lives for seconds only: what would come under its key must not follow it.
//
// Memory is bounded three ways: datagrams, held frames, held bytes. At a bound the oldest makes room, of those in the same shard: a complete datagram
// needs a few milliseconds, so what is old is what lost its first fragment, or was sent without one on purpose. The table is cut into
// shards, each behind a mutex, by a keyed hash. Time is passed in, since any beginning; the table never reads a clock.
//
// Not handled here: which fragments are worth following; atomic fragments (RFC 6946), which stack.Parse takes for whole packets.
package frag

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"tapdirector/stack"
	"tapdirector/tap"
)

const (
	numShards = 16

	// DefaultDatagrams is how many datagrams are remembered at once unless Options say otherwise: 3 MB when all are there.
	DefaultDatagrams = 4096

	// maxPieces is how many fragments a datagram may have: 65,535 bytes come in 119 where a link carries 576 (IPv4's least that hosts must accept).
	maxPieces = 128

	// minPiece is how many bytes every fragment but the last must hold. A link carries 68 bytes at least (RFC 791), so 48 of payload.
	minPiece = 48
)

// Options are the bounds of a table.
type Options struct {
	Datagrams int           // remembered at once; 0: DefaultDatagrams
	Frames    int           // held at once; 0: none
	Bytes     int           // of held frames, their headroom included
	Life      time.Duration // of a datagram that is not complete, from its first seen fragment, and again from its first one
}

// Key is what the fragments of one datagram have in common. The family is that of the addresses.
type Key struct {
	Src, Dst stack.Addr
	ID       uint32
	Proto    uint8 // IPv4 only: in IPv6 the fragments of one datagram may differ in it (RFC 8200 section 4.5)
}

// KeyOf returns the key of packet p, a fragment, whose piece is q.
func KeyOf(p *stack.Packet, q *stack.Piece) Key {
	k := Key{Src: p.Src, Dst: p.Dst, ID: q.ID}
	if p.Kind == stack.KindIPv4 {
		k.Proto = p.Proto
	}
	return k
}

// Fragment is one fragment as it came in. Frame is borrowed: Take copies what it holds.
type Fragment struct {
	Key
	stack.Piece
	Frame *tap.Frame
	In    uint16 // the interface it came in by, for Held
}

// Held is a fragment that came before its datagram's first: a copy, the receiver's own.
type Held struct {
	Frame tap.Frame
	In    uint16
	off   uint16
}

// Result is what is to be done with a fragment.
type Result uint8

// The results of Take.
const (
	First   Result = iota // the datagram's first: decide, then call Learn or Refuse
	Known                 // the first was seen: follow its fate
	Kept                  // held until the first is seen
	Refused               // the datagram, or this copy of a held fragment, is to be dropped
	NoRoom                // it should be held, but there is no room; the datagram was killed
	numResults
)

var resultNames = [numResults]string{"first", "known", "kept", "refused", "no room"}

func (r Result) String() string { return resultNames[r] }

// Table remembers datagrams, each with a fate V of the caller's. All methods may be called at the same time.
type Table[V any] struct {
	seed   maphash.Seed
	life   atomic.Int64 // a time.Duration
	frames bound
	bytes  bound
	shards [numShards]shard[V]
}

// New makes an empty table.
func New[V any](o Options) *Table[V] {
	if o.Datagrams <= 0 {
		o.Datagrams = DefaultDatagrams
	}
	t := &Table[V]{seed: maphash.MakeSeed()}
	t.SetLife(o.Life)
	t.frames.max, t.bytes.max = int64(o.Frames), int64(o.Bytes)
	for i := range t.shards {
		t.shards[i].init(t, max(o.Datagrams/numShards, 1))
	}
	return t
}

// SetLife changes Options.Life, for datagrams that are seen from now on.
func (t *Table[V]) SetLife(d time.Duration) { t.life.Store(int64(d)) }

func (t *Table[V]) shard(k *Key) *shard[V] {
	return &t.shards[maphash.Comparable(t.seed, *k)%numShards]
}

// Take says what to do with fragment f; with Known the datagram's fate is copied to fate.
func (t *Table[V]) Take(f *Fragment, now time.Duration, fate *V) Result {
	s := t.shard(&f.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	i := s.byKey[f.Key]
	if i == 0 {
		i = s.begin(&f.Key, now)
	}
	return s.take(i, f, now, fate)
}

// Learn says that the first fragment of k went on, and what its fate is: that of all others. It returns those that are held, in the
// datagram's order.
func (t *Table[V]) Learn(k *Key, fate *V, now time.Duration) []Held {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.byKey[*k]
	if i == 0 || s.entries[i].state == killed {
		return nil // It made room for others, or was killed, while its first fragment was under way.
	}
	s.entries[i].fate = *fate
	held := s.settle(i, known, now)
	s.stats.Released += uint64(len(held))
	s.finish(i)
	return held
}

// Refuse says that the first fragment of k did not go on, so none of the others needs to.
func (t *Table[V]) Refuse(k *Key, now time.Duration) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.byKey[*k]
	if i == 0 || s.entries[i].state == killed {
		return
	}
	s.stats.Dropped += uint64(len(s.settle(i, refused, now)))
	s.finish(i)
}

// Expire forgets datagrams whose time is over. Take does so too, for one shard: this is for when nothing comes.
func (t *Table[V]) Expire(now time.Duration) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.expire(now)
		s.mu.Unlock()
	}
}

// bound is a number that all shards share and that never exceeds max.
type bound struct {
	max  int64
	used atomic.Int64
}

// take adds n if that is within the bound.
func (b *bound) take(n int) bool {
	if b.used.Add(int64(n)) <= b.max {
		return true
	}
	b.give(n)
	return false
}

func (b *bound) give(n int) { b.used.Add(int64(-n)) }

// shard is a part of the table.
type shard[V any] struct {
	mu      sync.Mutex
	table   *Table[V]
	max     int            // datagrams
	byKey   map[Key]uint32 // index in entries
	entries []entry[V]     // the first two are the ends of the lists; grows up to max
	free    uint32         // entries not in use, linked by next; 0: none
	length  [2]int         // of the lists
	stats   Stats          // of this shard
}
