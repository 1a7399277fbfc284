package guard

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"time"

	"tapdirector/stack"
)

// Rate bounds how many connections one source may open: so many a second, and so many at once after a silence. A source is an IPv4 address
// or an IPv6 /64, which is what one customer gets.
//
// # How it remembers
//
// A source needs one time: when it will have paid for all it has opened, each costing an interval (1 s / rate). It may open one more
// when that is no further ahead than burst-1 intervals (GCRA, the virtual scheduling algorithm of ITU-T I.371). Who has paid needs no memory.
//
// The times are in a table of a fixed size, 32 768 of them in 256 KiB: sets of 8, each a cache line, found by a keyed hash, in which a source
// is known by 24 more bits of it. In a full set the one that has the least ahead of it goes, so who opens many is kept, and a flood of sources that were
// never seen before pushes out its own kind. It fails open: what is forgotten begins with a full burst, and no source ever pays for another,
// but with chance 2^-21.
//
// A time is 40 bits of 64 ns, which wrap after 19 hours; what is further ahead than any burst can be lies in the past. Workers change it by
// compare-and-swap.
type Rate struct {
	keys     [3]uint64
	interval uint64 // ticks a connection costs
	window   uint64 // ticks that a source may be ahead and still open one more
	sets     *[rateSets]set
}

type set [8]atomic.Uint64 // tag << 40 | time

const (
	rateSets  = 4096
	timeBits  = 40
	timeMask  = 1<<timeBits - 1
	tickShift = 6 // ticks of 64 ns

	maxRate  = 100_000                    // an interval is then 156 ticks, within 1 % of what it should be
	maxAhead = 4 * 3600                   // seconds: well below half of what 40 bits reach
	second   = 1_000_000_000 >> tickShift // ticks
)

// Bounds of NewRate's arguments.
const (
	MaxRate  = maxRate
	MaxBurst = maxRate
)

// NewRate makes a limit of perSecond, 1 to MaxRate, and burst, 1 to MaxBurst, of which no more than four hours' worth count.
func NewRate(perSecond, burst int) *Rate {
	r := &Rate{sets: new([rateSets]set)}
	var b [8 * len(r.keys)]byte
	rand.Read(b[:]) // never fails
	for i := range r.keys {
		r.keys[i] = binary.LittleEndian.Uint64(b[8*i:]) | 1<<63 | 1 // never a small factor, never an even one
	}
	r.interval = second / uint64(perSecond)
	r.window = min(uint64(burst-1)*r.interval, maxAhead*second)
	return r
}

// Take reports whether a may open a connection now, and if so counts it. nil allows all.
func (r *Rate) Take(a stack.Addr, now time.Duration) bool {
	if r == nil {
		return true
	}
	set, tag := r.find(a)
	t := uint64(now>>tickShift) & timeMask
	for range 4 { // more only if as many workers are at it: then the last one's count is lost
		slot := r.slot(set, tag, t)
		old := slot.Load()
		ahead := uint64(0)
		if old>>timeBits == tag {
			ahead = r.ahead(old, t)
		}
		if ahead > r.window {
			return false
		}
		if slot.CompareAndSwap(old, tag<<timeBits|(t+ahead+r.interval)&timeMask) {
			break
		}
	}
	return true
}

// find returns the set of a source and the tag it has there.
func (r *Rate) find(a stack.Addr) (*set, uint64) {
	hi, lo := a.Words()
	if !a.Is4() {
		lo = 0
	}
	ph, pl := bits.Mul64(hi^r.keys[0], lo^r.keys[1])
	h := (ph ^ pl) * r.keys[2]
	return &r.sets[h>>(64-12)], h >> (64 - 12 - 24) & (1<<24 - 1)
}

// slot returns where the source is, or the slot that it may take.
func (r *Rate) slot(s *set, tag, t uint64) *atomic.Uint64 {
	least, at := uint64(1<<64-1), 0
	for i := range s {
		v := s[i].Load()
		if v>>timeBits == tag {
			return &s[i]
		}
		if ahead := r.ahead(v, t); ahead < least {
			least, at = ahead, i
		}
	}
	return &s[at]
}

// ahead returns how far ahead of t the time in a slot is; 0 when it has passed.
func (r *Rate) ahead(v, t uint64) uint64 {
	if d := (v - t) & timeMask; d <= r.window+r.interval {
		return d
	}
	return 0
}
