package flow

import (
	"math"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
)

// The buckets of all shards' indexes.
//
// They lie in rows: row n is the buckets of number n, one of each shard. As the hash spreads connections evenly, all shards need about as many buckets; so
// it is the table that says how many rows there are, by the references that all shards hold together, and each shard follows with its next references, a split at
// a time. So a bucket is found without a look at anything, what is split at a time lies side by side, and a small table is small.
//
// Not even is what comes from one end of a client: all of it is in one shard. One that has twice what it should may ask for rows by itself, up to those that a full
// table has, or firmRows: so one port that talks to all ports of a service makes its own packets look at some more buckets, and the index no larger than it may be.
//
// Rows that are needed no more are given back: first the limit is lowered; the shards join their buckets down to it; and when the janitor has seen each of them
// under its lock, none has a row that is above both what it saw and the highest limit since it began. For a shard grows under its lock, and
// reads the limit there: after it was seen it can have met the limits since the beginning only.

const (
	fill  = 5 // references for a bucket at which there is one more row: 13 bytes a reference; 2 to 4 of 100 buckets overflow
	spare = 2 // references for a bucket at which fewer rows will do

	firmRows = 2048 // 32 MiB
)

// rows is the buckets.
type rows struct {
	memory[bucket] // not written, what follows is
	_              [48]byte

	limit atomic.Uint32 // rows that shards may have
	_     [60]byte

	mu        sync.Mutex
	there     int    // regions that the table has of the system, from the first on
	peak      uint32 // the highest limit since lower
	fullest   uint32 // the references of the shard that had most when give was called last
	touched   uint32 // rows that have been in use
	ready     uint32 // rows whose pages were filled, in regions that are not filled as a whole
	filled    bool   // all pages of the last region are there
	preparing bool   // a goroutine fills the next region
	touching  bool   // a goroutine fills rows
	alone     bool   // the system does not fill anything: nobody asks again
}

const regionRows = regionCells / numShards // rows in a region

// newRows returns firstBuckets rows, with address space for as many as refs references ask for.
func newRows(refs int) *rows {
	n := max(refs/(fill*numShards)+2*firstBuckets, min(refs/(2*fill), firmRows))
	r := &rows{memory: reserve[bucket](min(n*numShards, math.MaxUint32))}
	if !r.add(0) {
		panic("flow: no memory for a table")
	}
	r.there, r.touched, r.ready = 1, firstBuckets, firstBuckets
	r.touch(0, firstBuckets*numShards)
	r.limit.Store(firstBuckets)
	runtime.AddCleanup(r, func(m memory[bucket]) { m.free() }, r.memory)
	return r
}

// fetchPlace fetches the bucket of a hash in a shard that has all rows which it may have. It takes no lock, which would wait for the fetches before.
func (r *rows) fetchPlace(hash uint32, shard uint8) {
	limit := r.limit.Load()
	bitsOf := bits.Len32(limit - 1)
	n := hash & (1<<bitsOf - 1)
	if n >= limit {
		n &= 1<<(bitsOf-1) - 1
	}
	r.fetch(n<<shardBits | uint32(shard))
}

// reach makes a row more where so many references of all shards ask for it. Where another one does, or there is no memory yet, nothing: buckets become fuller.
func (r *rows) reach(refs int64) {
	if refs > int64(r.limit.Load())*numShards*fill {
		r.more()
	}
}

// more makes a row more.
func (r *rows) more() {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	n := r.limit.Load()
	if int(n) == r.there*regionRows && !r.extend() {
		return
	}
	r.limit.Store(n + 1)
	r.peak, r.touched = max(r.peak, n+1), max(r.touched, n+1)
	r.foresee(n + 1)
}

// extend takes the next region; mu is locked.
func (r *rows) extend() bool {
	if r.preparing || r.there == r.len() || !r.add(r.there) {
		return false
	}
	r.there++
	r.filled = false
	return true
}

// foresee has what comes after n rows filled: below largeBytes some rows, and from there on the next region, where less than half of one is left; mu is locked.
func (r *rows) foresee(n uint32) {
	if r.alone || r.regionBytes() != hugeBytes {
		return
	}
	if from := max(n, r.ready); !r.touching && from <= n+aheadRows && from < largeRows && from < uint32(r.len()*regionRows) {
		r.touching = true
		go r.touchRows(from)
	}
	if end := uint32(r.there * regionRows); !r.preparing && end >= largeRows && end-n < regionRows/2 && r.there < r.len() {
		r.preparing = true
		go r.prepare(r.there)
	}
}

const (
	aheadRows = 2 // rows that are filled at a time, as many ahead, in an index that is not large
	largeRows = largeBytes / (numShards * 64)
)

// touchRows fills some rows from row n on, all in one region, the last or the next.
func (r *rows) touchRows(n uint32) {
	r.mu.Lock()
	there := int(n) < r.there*regionRows || r.extend()
	r.mu.Unlock()
	rows := min(aheadRows, regionRows-n%regionRows)
	filled := there && r.touch(n<<shardBits, int(rows)*numShards)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touching, r.alone = false, r.alone || there && !filled
	if filled {
		r.ready = n + rows
	}
}

// prepare takes region n, the next, with all its pages.
func (r *rows) prepare(n int) {
	added := r.add(n)
	filled := added && r.fill(n)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.preparing, r.alone = false, r.alone || !filled
	if added {
		r.there++
		r.filled = filled
	}
}

// lower begins to give rows back, where so many references leave some over.
func (r *rows) lower(refs int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := max(uint32(refs/(numShards*spare)), r.fullest/(2*spare), firstBuckets); n < r.limit.Load() {
		r.limit.Store(n)
	}
	r.peak = r.limit.Load()
}

// give returns to the system what lies above the rows that shards had when each was seen since lower, and those that they may have made since. fullest is the
// references of the shard that has most.
func (r *rows) give(seen, fullest uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fullest = fullest
	top := max(seen, r.peak)
	for !r.preparing && !r.touching && r.there > 1 && (r.there-1)*regionRows >= int(top)+regionRows/2 {
		r.there--
		r.drop(r.there)
		r.touched, r.ready = min(r.touched, uint32(r.there*regionRows)), min(r.ready, uint32(r.there*regionRows))
	}
}

// bytes is how much memory the buckets have.
func (r *rows) bytes() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := int(r.touched)
	if r.filled {
		n = r.there * regionRows
	}
	return uint64(n) * uint64(r.regionBytes()/regionRows)
}
