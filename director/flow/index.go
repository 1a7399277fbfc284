package flow

import (
	"math/bits"
	"unsafe"
)

// The index of a shard: linear hashing over buckets of one cache line.
//
// A bucket has 12 slots, each a reference (cell number and direction) with a tag of 8 bits of the hash beside it; all tags are
// compared at once, and only a slot whose tag fits is looked at. So finding a connection touches one line here and one entry, and not finding
// it one line. A bucket that is full continues in an overflow bucket.
//
// Growth is one bucket at a time (linear hashing, Litwin 1980): when more than fill references per bucket are held, the
// next bucket in turn is split in two by one more bit of the hash. So no packet ever pays for more than one split, about a dozen
// references, however many connections there are; memory follows the number of connections exactly, and there are never two tables.
// Shrinking is the same backwards: the last bucket joins the one that it was split from.
//
//	split      buckets before split have been split in this round; there are size + split
//	size       a power of two: buckets at the beginning of this round
//
// The bucket of a hash is hash mod size, or mod 2*size where that bucket was split already. Its low 24 bits choose the bucket, its high
// 8 are the tag.

const (
	slots = 12
	fill  = 6 // references per bucket at which one more is made: 11 bytes a reference; 2 to 4 of 100 buckets overflow
	spare = 2 // references per bucket at which one less will do
)

// bucket is one cache line of references. A zero tag is a free slot.
type bucket struct {
	tags  uint64 // of slots 0-7
	tags2 uint32 // of slots 8-11
	next  uint32 // overflow bucket, 0 = none; also links free ones
	refs  [slots]ref
}

// ref is a cell number and, in the lowest bit, the direction whose tuple it stands for.
type ref uint32

func refOf(cell uint32, d Direction) ref { return ref(cell<<1 | uint32(d&1)) }

func (r ref) cell() uint32   { return uint32(r >> 1) }
func (r ref) dir() Direction { return Direction(r & 1) }

// tagOf returns the tag of a hash: never 0.
func tagOf(hash uint32) uint8 { return uint8(max(hash>>24, 1)) }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// zeroBytes has the high bit of exactly those bytes set that are 0 in x.
func zeroBytes(x uint64) uint64 { return ^((x&^highs + ^uint64(highs)) | x) & highs }

// match returns the slots that carry the tag, as a set for slotOf.
func (b *bucket) match(tag uint8) uint64 {
	want := ones * uint64(tag)
	return zeroBytes(b.tags^want)>>7 | zeroBytes(uint64(b.tags2)^want)>>6
}

// slotOf returns the lowest slot of a set. Slots 0-7 are bits 0, 8, 16 ..., slots 8-11 are bits 1, 9, 17 and 25.
func slotOf(set uint64) int {
	bit := bits.TrailingZeros64(set)
	return bit>>3 | bit&1<<3
}

func (b *bucket) setTag(slot int, tag uint8) {
	if slot < 8 {
		b.tags = b.tags&^(0xff<<(slot*8)) | uint64(tag)<<(slot*8)
		return
	}
	slot -= 8
	b.tags2 = b.tags2&^(0xff<<(slot*8)) | uint32(tag)<<(slot*8)
}

// free returns a free slot, or -1.
func (b *bucket) free() int {
	set := zeroBytes(b.tags)>>7 | zeroBytes(uint64(b.tags2)|^uint64(1<<32-1))>>6
	if set == 0 {
		return -1
	}
	return slotOf(set)
}

func (b *bucket) empty() bool { return b.tags == 0 && b.tags2 == 0 }

// index finds cells by hash. It knows entries only as far as it needs their hashes to split.
type index struct {
	pages     []*[pageCells]bucket
	split     uint32
	size      uint32
	held      uint32 // references
	overflows uint32 // free overflow buckets

	store   *slab[bucket] // of the buckets that hashes lead to
	spill   *slab[bucket] // of the overflow buckets
	entries *slab[entry]
	firsts  []uint32 // of pages, in store
}

// firstBuckets is how many buckets an index has at first: few, so that small tables stay in the cache.
const firstBuckets = 4

// init makes an index with a page for its first buckets. pages is where its directory begins: empty, with room for one.
func (x *index) init(pages []*[pageCells]bucket, store, spill *slab[bucket], entries *slab[entry]) {
	x.store, x.spill, x.entries = store, spill, entries
	x.size = firstBuckets
	x.pages = pages
	x.addPage(store.page())
}

// addPage takes the page of store that begins with bucket first.
func (x *index) addPage(first uint32) {
	x.pages = append(x.pages, x.store.pageAt(first))
	x.firsts = append(x.firsts, first)
}

// bucket returns the first bucket of a hash.
func (x *index) bucket(hash uint32) *bucket {
	n := hash & (x.size - 1)
	if n < x.split {
		n = hash & (2*x.size - 1)
	}
	return x.primary(n)
}

// primary returns bucket n of those that hashes lead to.
func (x *index) primary(n uint32) *bucket { return &x.pages[n>>pageShift][n&(pageCells-1)] }

// after returns the overflow bucket behind b, or nil.
func (x *index) after(b *bucket) *bucket {
	if b.next == 0 {
		return nil
	}
	return x.spill.at(b.next)
}

// add adds a reference; false when there is no memory for it.
func (x *index) add(hash uint32, r ref) bool {
	if x.held >= (x.size+x.split)*fill {
		x.grow()
	}
	if !x.put(hash, r) {
		return false
	}
	x.held++
	return true
}

// put puts a reference into the chain of its bucket.
func (x *index) put(hash uint32, r ref) bool {
	b := x.bucket(hash)
	for {
		if slot := b.free(); slot >= 0 {
			b.refs[slot] = r
			b.setTag(slot, tagOf(hash))
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
	first := x.spill.page()
	if first == 0 {
		return false
	}
	for i := first; i < first+pageCells; i++ {
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
	first := x.bucket(hash)
	for prev, b := first, first; ; prev, b = b, x.spill.at(b.next) {
		for set := b.match(tagOf(hash)); set != 0; set &= set - 1 {
			slot := slotOf(set)
			if b.refs[slot] != r {
				continue
			}
			b.setTag(slot, 0)
			b.refs[slot] = 0 // a cell that is always there: deal looks at free slots too
			x.held--
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
	for b := x.bucket(hash); ; b = x.spill.at(b.next) {
		for set := b.match(tagOf(hash)); set != 0; set &= set - 1 {
			if slot := slotOf(set); b.refs[slot] == r {
				b.refs[slot] = by
				return
			}
		}
	}
}

// grow splits the next bucket in turn. Without memory for it the index stays as it is, and buckets become fuller.
func (x *index) grow() {
	n := x.size + x.split
	if n>>pageShift == uint32(len(x.pages)) {
		first := x.store.page()
		if first == 0 {
			return
		}
		x.addPage(first)
	}
	from := x.split
	if x.split++; x.split == x.size {
		x.size, x.split = 2*x.size, 0
	}
	x.dealOut(x.primary(from))
	x.foresee()
}

// foresee fetches what the next split will ask for, which is some hundred inserts away: the bucket after the next, and the entries of the next, of which
// that was done at the split before.
func (x *index) foresee() {
	n := x.size + x.split
	if n&(pageCells-1) != 0 {
		prefetch(unsafe.Pointer(x.primary(n - x.size + 1)))
		prefetch(unsafe.Pointer(&x.pages[n>>pageShift][n&(pageCells-1)]))
	}
	for _, r := range x.primary(x.split).refs {
		prefetch(unsafe.Pointer(x.entries.at(r.cell())))
	}
}

// shrink joins the last bucket with the one that it was split from; false when the index is as small as it should be.
func (x *index) shrink() bool {
	n := x.size + x.split - 1
	if n < firstBuckets || x.held >= n*spare || !x.stock() { // The joined bucket may need one more than both had.
		return false
	}
	if x.split == 0 {
		x.size /= 2
		x.split = x.size
	}
	x.split--
	x.dealOut(x.primary(n))
	if last := n >> pageShift; n&(pageCells-1) == 0 {
		x.store.giveBack(x.firsts[last])
		x.pages[last] = nil
		x.pages, x.firsts = x.pages[:last], x.firsts[:last]
	}
	return true
}

// dealOut empties a bucket and its chain and puts their references where they now belong.
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

// deal puts the references of a bucket where they now belong. In a split it needs no new memory: the primary buckets take the first 12 of each half, and
// the overflow buckets needed for the rest are never more than the chain so far gave back.
func (x *index) deal(old *bucket) {
	var hashes [slots]uint32
	for slot, r := range old.refs { // All at once, so that the cache misses overlap: they were 40 % of an insert.
		hashes[slot] = x.entries.at(r.cell()).hash[r.dir()]
	}
	for slot, r := range old.refs {
		if old.tag(slot) != 0 {
			x.put(hashes[slot], r)
		}
	}
}

func (b *bucket) tag(slot int) uint8 {
	if slot < 8 {
		return uint8(b.tags >> (slot * 8))
	}
	return uint8(b.tags2 >> ((slot - 8) * 8))
}
