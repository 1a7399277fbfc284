// Package neigh knows the MAC of every next hop: servers and gateways of the configuration, and the on-link destinations of
// routed traffic. It is our own small ARP and neighbour discovery resolver.
//
// # Theory of operation
//
// Each next hop has a slot, and each slot one atomic word: MAC, "valid", "used". The path of a packet reads that word and
// nothing else. All else about a slot lies in an entry behind one lock, which only the slow path takes: a frame to be parked,
// an ARP or ND frame, the timer. Two kinds of slots:
//
//	pinned   named by the configuration. Asked for as soon as Run starts, asked for again for ever when nobody answers.
//	         With a MAC from the configuration a pinned slot is static: never asked for, never learned.
//	dynamic  made on demand for a destination of routed traffic, asked for when a frame waits. At most Options.Dynamic; then the
//	         least recently used one without waiting frames makes room (a clock with the "used" bit as the second chance).
//
// A slot is in one of these states (RFC 4861 section 7.3.2, cut down to what a director needs; ARP follows the same table):
//
//	state      MAC is  on timer                                          on an answer
//	idle       unset   pinned: ask -> asking; dynamic: nothing           -> reachable
//	asking     unset   again after 0.25 s, then 1 s; 3 asks -> failed     -> reachable, parked frames leave
//	reachable  used    30 s after the last proof, if used: -> probing    proof renewed
//	probing    used    every second: 3 asks unicast, 3 to all; -> failed -> reachable
//	failed     unset   pinned: after 1, 2, 4 ... 30 s -> asking          -> reachable
//	static     used    -                                                 ignored
//
// A frame parked on an idle or failed slot starts asking at once. A reachable slot that nobody uses is left alone, however
// old: its MAC serves the next packet, and is then probed.
//
// What counts as proof is every valid ARP or ND frame whose sender says where it is (learn.go), not only answers to our own
// questions: whether a server serves is the business of health checks, not ours. What is never done: making a slot because
// of a frame seen. So whatever the LAN sends, this package keeps what the configuration and the routed traffic asked for.
//
// Limits, each counted: slots, parked frames per slot, in all, and their bytes. Order is kept: a slot's MAC is there for all when the frames that waited have left
// (unless they come faster than they leave, 16 times over).
package neigh

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tapdirector/stack"
	"tapdirector/tap"
)

// Link is one interface of the director. Its number is its place in Options.Links.
type Link struct {
	Name string // for the log
	MAC  stack.MAC

	// Addresses are the DIPs: whom we ask as. A VIP must not be among them: a DR server holds it too, and takes a question
	// from "itself" for a mistake that needs no answer.
	Addresses []netip.Prefix

	// Send writes one frame out of the interface. It is called from any goroutine, without a lock of ours held; it does not
	// keep f.
	Send func(f *tap.Frame)
}

// Options are what a Resolver is made of; zero fields take the defaults.
type Options struct {
	Links []Link
	Log   *slog.Logger // changed MACs, next hops lost and found; nil: slog.Default

	Retransmit time.Duration // between two questions; 1 s
	Asks       int           // questions before a next hop counts as failed; 3
	Confirm    time.Duration // age of the last proof at which a used slot is confirmed; 30 s
	MaxBackoff time.Duration // longest pause before a failed pinned slot is asked for again; 30 s

	Pinned    int // most pinned slots; 65,536. Each costs 8 bytes at once, and 100 when taken
	Dynamic   int // most dynamic slots; 4,096
	Park      int // most frames parked on one slot; 64
	ParkTotal int // most frames parked in all; 1,024
	ParkBytes int // most bytes parked in all; 8 MiB

	Now func() time.Time // the clock, for tests; nil: time.Now
}

// withDefaults returns o with every zero field set.
func (o Options) withDefaults() Options {
	o.Retransmit = or(o.Retransmit, time.Second)
	o.Asks = or(o.Asks, 3)
	o.Confirm = or(o.Confirm, 30*time.Second)
	o.MaxBackoff = or(o.MaxBackoff, 30*time.Second)
	o.Pinned = or(o.Pinned, 65536)
	o.Dynamic = or(o.Dynamic, 4096)
	o.Park = or(o.Park, 64)
	o.ParkTotal = or(o.ParkTotal, 1024)
	o.ParkBytes = or(o.ParkBytes, 8<<20)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func or[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Slot names a next hop. The zero Slot is none: it never has a MAC and takes no frames.
type Slot uint32

// A slot's word: the MAC in the low 48 bits, as a stack.MACWord; and these three bits.
const (
	wordValid  = 1 << 63 // the MAC may be used
	wordUsed   = 1 << 62 // it was, since the last proof
	wordFailed = 1 << 61 // there is none: the next hop, a pinned one, was asked and did not answer; until it does

	macBits = 1<<48 - 1
)

func word(m stack.MAC) uint64 { return wordValid | uint64(stack.WordOf(m)) }

func wordMAC(w uint64) stack.MAC { return stack.MACWord(w & macBits).MAC() }

// key is what a slot stands for: pointer-free, so the collector does not look into the map.
type key struct {
	addr  stack.Addr
	iface int32
}

// Resolver keeps the slots. MAC, Dynamic, Park and Snoop are for every worker; Pin, Stats and Entries for anybody, at any time.
//
// The words lie apart from the entries: eight of them share a cache line, so the MACs of a farm of servers fit in a few lines
// that stay in every core's cache, while the entries, which the timer writes, do not disturb them.
type Resolver struct {
	o     Options
	epoch time.Time       // times are kept as what passed since then
	words []atomic.Uint64 // by Slot; its length never changes

	mu      sync.RWMutex
	slots   map[key]Slot
	entries []entry // by Slot; entries[0] is nobody's
	dynamic []Slot  // the dynamic ones, in the order of the clock
	hand    int     // the clock's hand in dynamic
	pinned  int
	freed   []Slot // by Retain, the first to go first
	parked  map[Slot][]tap.Frame
	waiting int   // frames in parked
	bytes   int   // their bytes
	cursor  int   // where the next tick starts in entries
	lost    []key // pinned next hops given up since the last tick: still to be logged

	questions []question // Run's own: reused
	counters  counters
	log       limitedLog
}

// New returns a resolver without slots; nothing is asked before Run or Park.
func New(o Options) *Resolver {
	o = o.withDefaults()
	return &Resolver{
		o:       o,
		epoch:   o.Now(),
		words:   make([]atomic.Uint64, 1+o.Pinned+o.Dynamic),
		slots:   make(map[key]Slot),
		entries: make([]entry, 1),
		parked:  make(map[Slot][]tap.Frame),
		log:     limitedLog{log: o.Log, now: o.Now},
	}
}

// now is the time since the resolver was made.
func (r *Resolver) now() time.Duration { return r.o.Now().Sub(r.epoch) }

// MAC returns where to send for s; false while that is not known. It is the path of every packet: one atomic load, and a
// write only for the first packet after a proof.
func (r *Resolver) MAC(s Slot) (stack.MACWord, bool) {
	if uint64(s) >= uint64(len(r.words)) {
		return 0, false
	}
	w := r.words[s].Load()
	if w&wordValid == 0 {
		return 0, false
	}
	if w&wordUsed == 0 {
		// The word may have changed since: then the new MAC counts as used, which it is about to be.
		r.words[s].Or(wordUsed)
	}
	return stack.MACWord(w & macBits), true
}

// Pin returns the slot of a next hop that the configuration names; the same interface and address give the same slot. A
// static MAC is never asked for, the zero MAC means that it is to be found out. It returns the zero Slot for an interface
// or address that is none, and when Options.Pinned slots are taken.
func (r *Resolver) Pin(iface int, a netip.Addr, static stack.MAC) Slot {
	k := key{stack.AddrFrom(a), int32(iface)}
	if !r.askable(k) {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.pinLocked(k)
	switch {
	case s == 0:
	case static != (stack.MAC{}):
		r.entries[s].state = fixed
		r.words[s].Store(word(static))
		// Only a slot that was learned before can have frames waiting; their connections send them again.
		r.counters.parkDropped.Add(uint64(len(r.takeLocked(s))))
	case r.entries[s].state == fixed: // It was static, by the last configuration.
		r.entries[s] = entry{key: k, backoff: r.o.Retransmit}
		r.words[s].Store(0)
	}
	return s
}

// Failed reports whether s is the slot of a next hop that is known not to answer: from the last question in vain on until its next proof.
func (r *Resolver) Failed(s Slot) bool {
	return uint64(s) < uint64(len(r.words)) && r.words[s].Load()&wordFailed != 0
}

// Turns grows whenever Failed changes for some slot.
func (r *Resolver) Turns() uint64 { return r.counters.turns.Load() }

// freedRest is how many slots must be freed before the first of them is used again: somebody may still hold a number that was just freed, for the
// frame at hand.
const freedRest = 1024

// Retain frees the pinned slots for which keep says no: the configuration does not name them any more. Frames that wait there are dropped.
func (r *Resolver) Retain(keep func(Slot) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, s := range r.slots {
		if r.entries[s].dynamic || keep(s) {
			continue
		}
		delete(r.slots, k)
		r.entries[s] = entry{deadline: never}
		if r.words[s].Swap(0)&wordFailed != 0 {
			r.counters.turns.Add(1)
		}
		r.counters.parkDropped.Add(uint64(len(r.takeLocked(s))))
		r.freed = append(r.freed, s)
		r.pinned--
	}
}

// pinLocked finds or makes the pinned slot of k.
func (r *Resolver) pinLocked(k key) Slot {
	s, known := r.slots[k]
	switch {
	case known && !r.entries[s].dynamic:
		// Nothing to do.
	case r.pinned >= r.o.Pinned:
		r.counters.refused.Add(1)
		return 0
	case known:
		r.promoteLocked(s)
	default:
		s = r.addLocked(k)
		r.pinned++
	}
	return s
}

// Dynamic returns the slot of an on-link destination, and makes it when there is none; false when all slots have frames
// waiting, or a is no address of a host. The slot is for the frame at hand: look it up again for the next.
func (r *Resolver) Dynamic(iface int, a stack.Addr) (Slot, bool) {
	k := key{a, int32(iface)}
	r.mu.RLock()
	s, ok := r.slots[k]
	r.mu.RUnlock()
	if ok || !r.askable(k) {
		return s, ok
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.slots[k]; ok {
		return s, true
	}
	if len(r.dynamic) < r.o.Dynamic {
		s = r.addLocked(k)
		r.dynamic = append(r.dynamic, s)
	} else if s = r.evictLocked(); s != 0 {
		r.slots[k] = s
	} else {
		r.counters.refused.Add(1)
		return 0, false
	}
	r.entries[s] = entry{key: k, dynamic: true, deadline: never, backoff: r.o.Retransmit}
	// Used: so the clock passes it by once, long enough for the frame it was made for.
	r.words[s].Store(wordUsed)
	return s, true
}

// askable reports whether k can be a next hop at all.
func (r *Resolver) askable(k key) bool {
	a := k.addr.Netip()
	return k.iface >= 0 && int(k.iface) < len(r.o.Links) && !a.IsUnspecified() && !a.IsMulticast() && a != broadcast4
}

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// addLocked makes a slot that is due at once: the zero deadline has always passed.
func (r *Resolver) addLocked(k key) Slot {
	e := entry{key: k, backoff: r.o.Retransmit}
	var s Slot
	if len(r.freed) > freedRest || len(r.entries) == len(r.words) {
		s, r.freed = r.freed[0], r.freed[1:]
		r.entries[s] = e
	} else {
		s = Slot(len(r.entries))
		r.entries = append(r.entries, e)
	}
	r.slots[k] = s
	return s
}

// promoteLocked makes a dynamic slot a pinned one.
func (r *Resolver) promoteLocked(s Slot) {
	for i, d := range r.dynamic {
		if d == s {
			r.dynamic = append(r.dynamic[:i], r.dynamic[i+1:]...)
			break
		}
	}
	r.pinned++
	e := &r.entries[s]
	e.dynamic = false
	if e.state == idle || e.state == failed {
		e.deadline = 0
	}
}

// evictLocked takes a dynamic slot that has no frame waiting and was not used lately away from its owner; 0: there is none.
// Exact order of use would cost every packet a write to a shared list; the clock costs nothing until there is no room, and
// then a scan of the network, whose slots are never used twice, pushes out its own slots first.
func (r *Resolver) evictLocked() Slot {
	for range 2 * len(r.dynamic) {
		r.hand = (r.hand + 1) % len(r.dynamic)
		s := r.dynamic[r.hand]
		switch {
		case len(r.parked[s]) > 0:
		case r.words[s].Load()&wordUsed != 0:
			r.words[s].And(^uint64(wordUsed))
		default:
			delete(r.slots, r.entries[s].key)
			return s
		}
	}
	return 0
}
