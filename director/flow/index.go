package flow

import (
	"math/bits"
	"unsafe"
)

// The index of a shard: linear hashing over buckets of one cache line.
//
// A bucket has 10 slots, each a reference (cell number and direction) with a tag of 16 bits of the hash beside it; all tags are
// compared at once, and only a slot whose tag fits is looked at. So finding a connection touches one line here and one entry, and not finding
// it one line. A bucket that is full continues in an overflow bucket.
//
// Growth is one bucket at a time (linear hashing, Litwin 1980): where the table allows for a row of buckets more (rows.go), the
// next bucket in turn is split in two by one more bit of the hash. So no packet ever pays for more than one split for each of its references, about a dozen
// of them moved, however many connections there are; memory follows the number of connections exactly, and there are never two tables.
// Shrinking is the same backwards: the last bucket joins the one that it was split from.
//
//	split      buckets before split have been split in this round; there are size + split
//	size       a power of two: buckets at the beginning of this round
//
// The bucket of a hash is hash mod size, or mod 2*size where that bucket was split already: it is chosen by the low bits, as many as its level. The tag is 16
// bits from level &^ 7 on. So it has the bit by which the bucket will be split, and seven splits of eight read nothing but the bucket (the entries, in
// no cache, were 40 % of an insert); at the eighth the tags begin 8 bits further on, and the hashes are read from the entries.

const (
	slots = 10

	tagStep = 8 // levels with the same bits as tag
)

// bucket is one cache line of references. A zero tag is a free slot.
type bucket struct {
	tags  [2]uint64 // of slots 0-3, 4-7
	tags2 uint32    // of slots 8 and 9
	next  uint32    // overflow bucket, 0 = none; also links free ones
	refs  [slots]ref
}

// ref is a cell number and, in the lowest bit, the direction whose tuple it stands for.
type ref uint32

func refOf(cell uint32, d Direction) ref { return ref(cell<<1 | uint32(d&1)) }

func (r ref) cell() uint32   { return uint32(r >> 1) }
func (r ref) dir() Direction { return Direction(r & 1) }

// tagAt returns the tag of a hash in a bucket of that level: never 0. What stands for 0 has no bit that a split asks for.
func tagAt(hash, level uint32) uint16 {
	if tag := uint16(hash >> (level &^ (tagStep - 1))); tag != 0 {
		return tag
	}
	return 1 << 15
}

const (
	ones  = 0x0001_0001_0001_0001
	highs = 0x8000_8000_8000_8000
)

// zeroTags has the high bit of exactly those of four tags set that are 0 in x.
func zeroTags(x uint64) uint64 { return ^((x&^highs + ^uint64(highs)) | x) & highs }

// match returns the slots that carry the tag, as a set for slotOf.
func (b *bucket) match(tag uint16) uint64 {
	want := ones * uint64(tag)
	return zeroTags(b.tags[0]^want)>>15 | zeroTags(b.tags[1]^want)>>14 | zeroTags(uint64(b.tags2)^want)>>13
}

// slotOf returns a slot of a set: of slots 0-3 bit 0, 16, 32 or 48, of 4-7 the bit above, of 8 and 9 the one above that.
func slotOf(set uint64) int {
	bit := bits.TrailingZeros64(set)
	return bit&3<<2 | bit>>4
}

func (b *bucket) setTag(slot int, tag uint16) {
	at := slot & 3 << 4
	if slot < 8 {
		w := &b.tags[slot>>2]
		*w = *w&^(0xffff<<at) | uint64(tag)<<at
		return
	}
	b.tags2 = b.tags2&^(0xffff<<at) | uint32(tag)<<at
}

// append fills a slot that was never used.
func (b *bucket) append(slot int, tag uint16, r ref) {
	b.refs[slot] = r
	if slot < 8 {
		b.tags[slot>>2] |= uint64(tag) << (slot & 3 << 4)
		return
	}
	b.tags2 |= uint32(tag) << (slot & 3 << 4)
}

func (b *bucket) tag(slot int) uint16 {
	at := slot & 3 << 4
	if slot < 8 {
		return uint16(b.tags[slot>>2] >> at)
	}
	return uint16(b.tags2 >> at)
}

// free returns a free slot, or -1.
func (b *bucket) free() int {
	set := zeroTags(b.tags[0])>>15 | zeroTags(b.tags[1])>>14 | zeroTags(uint64(b.tags2)|^uint64(1<<32-1))>>13
	if set == 0 {
		return -1
	}
	return slotOf(set)
}

func (b *bucket) empty() bool { return b.tags[0]|b.tags[1] == 0 && b.tags2 == 0 }

// index finds cells by hash. It knows entries only as far as it needs their hashes to split.
type index struct {
	split     uint32
	size      uint32
	held      uint32 // references
	overflows uint32 // free overflow buckets
	replies   uint32 // references for Reply, all of them by whole tuples
	shard     uint8
	crowded   bool // there are references for Forward by whole tuples

	rows    *rows  // of the buckets that hashes lead to
	spill   *spill // of the overflow buckets
	entries *slab[entry]
}

// firstBuckets is how many buckets an index has at first: few, so that small tables stay in the cache.
const firstBuckets = 4

// init makes the index of a shard.
func (x *index) init(shard uint8, rows *rows, spill *spill, entries *slab[entry]) {
	*x = index{size: firstBuckets, shard: shard, rows: rows, spill: spill, entries: entries}
}

// buckets is how many buckets hashes lead to.
func (x *index) buckets() uint32 { return x.size + x.split }

// place returns the number of the first bucket of a hash, and its level.
func (x *index) place(hash uint32) (n, level uint32) {
	n, level = hash&(x.size-1), x.level()
	if n < x.split {
		return hash & (2*x.size - 1), level + 1
	}
	return n, level
}

// level is that of the buckets which have not been split in this round.
func (x *index) level() uint32 { return uint32(bits.TrailingZeros32(x.size)) }

// fetch fetches the first bucket of a hash.
func (x *index) fetch(hash uint32) {
	n, _ := x.place(hash)
	x.prefetch(n)
}

// prefetch fetches bucket n, which need not be there yet.
func (x *index) prefetch(n uint32) { x.rows.fetch(n<<shardBits | uint32(x.shard)) }

// look returns the first bucket of a hash, and the hash's tag there.
func (x *index) look(hash uint32) (*bucket, uint16) {
	n, level := x.place(hash)
	return x.primary(n), tagAt(hash, level)
}

// primary returns bucket n of those that hashes lead to.
func (x *index) primary(n uint32) *bucket { return x.rows.at(n<<shardBits | uint32(x.shard)) }

// after returns the overflow bucket behind b, or nil.
func (x *index) after(b *bucket) *bucket {
	if b.next == 0 {
		return nil
	}
	return x.spill.at(b.next)
}

// add adds a reference; false when there is no memory for it.
func (x *index) add(hash uint32, r ref) bool {
	if n := x.buckets(); n < x.rows.limit.Load() {
		x.grow()
	} else if x.held > 2*fill*n {
		x.rows.more()
	}
	if !x.put(hash, r) {
		return false
	}
	x.held++
	x.replies += uint32(r.dir())
	return true
}

// hasWhole reports whether there may be references for d that are placed by whole tuples.
func (x *index) hasWhole(d Direction) bool {
	return d == Forward && x.crowded || d == Reply && x.replies != 0
}

// wholeFirst reports whether most connections have such a reference for d: then they are looked for there first.
func (x *index) wholeFirst(d Direction) bool {
	return d == Reply && 3*uint64(x.replies) > uint64(x.held)
}

// isFree reports whether surely no connection is where a hash leads, nor anywhere else.
func (x *index) isFree(hash uint32) bool {
	b, tag := x.look(hash)
	return b.match(tag) == 0 && b.next == 0 && x.replies == 0 && !x.crowded
}

// crowd is how many references with one tag a place has before what more comes from that client's end is placed by whole tuples: many ends never
// meet in a bucket and a tag by chance.
const crowd = 16

// isCrowded reports whether the place that a hash leads to has so many.
func (x *index) isCrowded(hash uint32) bool {
	b, tag := x.look(hash)
	if b.next == 0 {
		return false
	}
	n := 0
	for ; b != nil; b = x.after(b) {
		n += bits.OnesCount64(b.match(tag))
	}
	return n >= crowd
}

// put puts a reference into the chain of its bucket.
func (x *index) put(hash uint32, r ref) bool {
	b, tag := x.look(hash)
	return x.putIn(b, tag, r)
}

// putIn puts a reference into the chain of bucket b.
func (x *index) putIn(b *bucket, tag uint16, r ref) bool {
	for {
		if slot := b.free(); slot >= 0 {
			b.refs[slot] = r
			b.setTag(slot, tag)
			return true
		}
		if b.next == 0 && !x.chain(b) {
			return false
		}
		b = x.spill.at(b.next)
	}
}

// chain hangs an empty overflow bucket on b.
func (x *index) chain(b *bucket) bool {
	if !x.stock() {
		return false
	}
	n := x.overflows
	o := x.spill.at(n)
	x.overflows, o.next = o.next, 0
	b.next = n
	return true
}

// stock sees to it that there is a free overflow bucket.
func (x *index) stock() bool {
	if x.overflows != 0 {
		return true
	}
	first := x.spill.piece()
	if first == 0 {
		return false
	}
	for i := first; i < first+pieceCells; i++ {
		x.release(i)
	}
	return true
}

// release puts an overflow bucket on the free list.
func (x *index) release(n uint32) {
	*x.spill.at(n) = bucket{next: x.overflows}
	x.overflows = n
}

// remove takes a reference out; it must be there.
func (x *index) remove(hash uint32, r ref) {
	first, tag := x.look(hash)
	for prev, b := first, first; ; prev, b = b, x.spill.at(b.next) {
		for set := b.match(tag); set != 0; set &= set - 1 {
			slot := slotOf(set)
			if b.refs[slot] != r {
				continue
			}
			b.setTag(slot, 0)
			b.refs[slot] = 0 // a cell that is always there: dealing looks at free slots too
			x.held--
			x.replies -= uint32(r.dir())
			x.crowded = x.crowded && x.held != 0
			if b != first && b.empty() {
				n := prev.next
				prev.next = b.next
				x.release(n)
			}
			return
		}
	}
}

// replace makes a reference one to another cell; it must be there.
func (x *index) replace(hash uint32, r, by ref) {
	b, tag := x.look(hash)
	for ; ; b = x.spill.at(b.next) {
		for set := b.match(tag); set != 0; set &= set - 1 {
			if slot := slotOf(set); b.refs[slot] == r {
				b.refs[slot] = by
				return
			}
		}
	}
}

// grow splits the next bucket in turn.
func (x *index) grow() {
	n := x.buckets()
	from, level := x.split, x.level()
	if x.split++; x.split == x.size {
		x.size, x.split = 2*x.size, 0
	}
	if sameTags(level) {
		x.part(x.primary(from), x.primary(n), level)
	} else {
		x.dealOut(x.primary(from))
	}
	x.foresee()
}

// sameTags reports whether tags stay as they are when a bucket of that level is split.
func sameTags(level uint32) bool { return (level+1)%tagStep != 0 }

// foresee fetches what the next split will ask for, which is some hundred inserts away: the bucket after the next, and where it reads them the entries of the
// next, of which that was done at the split before.
func (x *index) foresee() {
	x.prefetch(x.split + 1)
	x.prefetch(x.buckets())
	if sameTags(x.level()) {
		return
	}
	for _, r := range x.primary(x.split).refs {
		prefetch(unsafe.Pointer(x.entries.at(r.cell())))
	}
}

// shrink joins the last bucket with the one that it was split from; false when the index has no more than the table allows for.
func (x *index) shrink() bool {
	n := x.buckets() - 1
	if n < x.rows.limit.Load() || !x.stock() { // The joined bucket may need one more than both had.
		return false
	}
	if x.split == 0 {
		x.size /= 2
		x.split = x.size
	}
	x.split--
	if !sameTags(x.level()) {
		x.dealOut(x.primary(x.split))
	}
	x.dealOut(x.primary(n))
	return true
}

// part moves those references of a bucket of that level and its chain that belong there to the bucket to. In a split it needs no new memory: the primary buckets take
// the first 10 of each half, and the overflow buckets needed for the rest are never more than the chain so far gave back.
func (x *index) part(from, to *bucket, level uint32) {
	old := *from
	var halves [2]bucket
	var n [2]int
	for slot, r := range old.refs {
		if tag := old.tag(slot); tag != 0 {
			h := tag >> (level % tagStep) & 1
			halves[h].append(n[h], tag, r)
			n[h]++
		}
	}
	*from, *to = halves[0], halves[1]
	for next := old.next; next != 0; {
		old = *x.spill.at(next)
		x.release(next)
		next = old.next
		for slot, r := range old.refs {
			if tag := old.tag(slot); tag != 0 {
				b := from
				if tag>>(level%tagStep)&1 != 0 {
					b = to
				}
				x.putIn(b, tag, r)
			}
		}
	}
}

// dealOut empties a bucket and its chain and puts their references where their hashes say, as part does without them.
func (x *index) dealOut(b *bucket) {
	old := *b
	*b = bucket{}
	x.deal(&old)
	for n := old.next; n != 0; {
		old = *x.spill.at(n)
		x.release(n)
		x.deal(&old)
		n = old.next
	}
}

// deal puts the references of a bucket where they now belong.
func (x *index) deal(old *bucket) {
	var hashes [slots]uint32
	for slot, r := range old.refs { // All at once, so that the cache misses overlap.
		hashes[slot] = x.entries.at(r.cell()).hash[r.dir()]
	}
	for slot, r := range old.refs {
		if old.tag(slot) != 0 {
			x.put(hashes[slot], r)
		}
	}
}
