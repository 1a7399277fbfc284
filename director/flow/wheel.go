package flow

import (
	"math/bits"
	"time"
)

// Timers: one hierarchical wheel per shard, lazy.
//
// A packet only writes its connection's deadline; the wheel holds the entry in some slot that comes up no later than that, and looks at the
// deadline when it does: over, or filed again further on. So refreshing costs no list work, and an
// established connection is touched by the wheel once in some minutes. Only a deadline that moves nearer (a state with a shorter
// timeout) files the entry anew at once.
//
// Three levels of 32 slots: a slot of level n is 32^n ticks wide, so the wheel reaches 36 minutes ahead; what lies further waits in the last
// slot and is filed again from there. Few slots, because 256 shards have them, however few connections. A word per level has a bit for each slot that is not empty, so that ticks without anything to do are
// skipped, not counted through. Lists are doubly linked through the entries by cell numbers. Time is in ticks of 2^26 ns
// (67 ms; 32 bits are 9 years) because a shift turns now into it. A connection never ends early, and at most two ticks and one
// call of Expire late.

const (
	tickShift  = 26
	tick       = time.Duration(1) << tickShift
	levels     = 3
	levelShift = 5
	levelSlots = 1 << levelShift

	firstInSlot = 1 << 31 // flag of entry.prev: the rest is the slot, not a cell
)

// tickOf returns the tick that now lies in.
func tickOf(now time.Duration) uint32 { return uint32(now >> tickShift) }

// ticks returns how many ticks after the current one d is surely over.
func ticks(d time.Duration) uint32 { return uint32((d+tick-1)>>tickShift) + 1 }

// wheel is the timers of a shard.
type wheel struct {
	now   uint32         // tick; its own slots are being emptied, nothing is filed there
	used  [levels]uint32 // by level, a bit for each slot that is not empty
	slots [levels * levelSlots]uint32
	store *slab[entry]
}

// file puts entry i, which is in no list, into the slot for its deadline.
func (w *wheel) file(i uint32) {
	e := w.store.at(i)
	slot := w.slotFor(e.deadline)
	e.prev, e.next = firstInSlot|slot, w.slots[slot]
	if e.next != 0 {
		w.store.at(e.next).prev = i
	}
	w.slots[slot] = i
	w.used[slot>>levelShift] |= 1 << (slot & (levelSlots - 1))
}

// slotFor returns the finest slot that is ahead for the deadline; for one that has passed, the very next.
func (w *wheel) slotFor(deadline uint32) uint32 {
	deadline = max(deadline, w.now+1)
	for level := uint32(0); level < levels; level++ {
		shift := level * levelShift
		if deadline>>shift-w.now>>shift < levelSlots {
			return level<<levelShift | deadline>>shift&(levelSlots-1)
		}
	}
	const top = (levels - 1) * levelShift
	return (levels-1)<<levelShift | (w.now>>top+levelSlots-1)&(levelSlots-1)
}

// unfile takes entry i out of its slot.
func (w *wheel) unfile(i uint32) {
	e := w.store.at(i)
	if e.prev&firstInSlot != 0 {
		slot := e.prev &^ firstInSlot
		w.slots[slot] = e.next
		if e.next == 0 {
			w.used[slot>>levelShift] &^= 1 << (slot & (levelSlots - 1))
		}
	} else {
		w.store.at(e.prev).next = e.next
	}
	if e.next != 0 {
		w.store.at(e.next).prev = e.prev
	}
}

// replace puts entry j, a copy of i, into i's place in its slot.
func (w *wheel) replace(i, j uint32) {
	e := w.store.at(i)
	if e.prev&firstInSlot != 0 {
		w.slots[e.prev&^firstInSlot] = j
	} else {
		w.store.at(e.prev).next = j
	}
	if e.next != 0 {
		w.store.at(e.next).prev = j
	}
}

// due returns an entry of a slot whose time has come, 0 when there is none left at the present tick.
func (w *wheel) due() uint32 {
	for level := uint32(0); level < levels; level++ {
		shift := level * levelShift
		if w.now&(1<<shift-1) != 0 {
			return 0
		}
		if i := w.slots[level<<levelShift|w.now>>shift&(levelSlots-1)]; i != 0 {
			return i
		}
	}
	return 0
}

// upcoming returns the next tick at which a slot that is not empty comes up; to if that is sooner.
func (w *wheel) upcoming(to uint32) uint32 {
	for level, used := range w.used {
		shift := level * levelShift
		at := w.now >> shift
		ahead := bits.RotateLeft32(used, -int(at&(levelSlots-1))) &^ 1 // bit n: the slot n places on; none is filed at the present one
		if ahead != 0 {
			to = min(to, (at+uint32(bits.TrailingZeros32(ahead)))<<shift)
		}
	}
	return to
}

// step does one piece of work towards tick to: it files one entry again, moves on, or returns an entry that is over, taken
// out of its slot. done says that nothing is left to do.
func (w *wheel) step(to uint32) (over uint32, done bool) {
	i := w.due()
	if i == 0 {
		if w.now >= to {
			return 0, true
		}
		w.now = w.upcoming(to)
		return 0, false
	}
	w.unfile(i)
	if w.store.at(i).deadline <= w.now {
		return i, false
	}
	w.file(i)
	return 0, false
}
