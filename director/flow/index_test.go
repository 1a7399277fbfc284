package flow

import (
	"math/rand/v2"
	"testing"
)

// The bit tricks on tags against a loop over the slots.
func TestBucketAgainstLoop(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var b bucket
		var tags [slots]uint16
		for slot := range tags {
			tags[slot] = []uint16{0, 1, 2, 0x7fff, 0x8000, 0x8001, 0xff, 0xff00, 0xffff}[rng.IntN(9)]
			b.setTag(slot, uint16(rng.Uint32())) // what was there must not matter
			b.setTag(slot, tags[slot])
		}
		free, empty := -1, true
		for slot := slots - 1; slot >= 0; slot-- {
			if tags[slot] == 0 {
				free = slot
			}
			empty = empty && tags[slot] == 0
			if b.tag(slot) != tags[slot] {
				t.Fatalf("slot %d of %v has tag %#x", slot, tags, b.tag(slot))
			}
		}
		if got := b.free(); (got < 0) != (free < 0) || got >= 0 && tags[got] != 0 {
			t.Fatalf("%v: free slot %d", tags, got)
		}
		if b.empty() != empty {
			t.Fatalf("%v: empty %v", tags, b.empty())
		}
		for _, tag := range []uint16{1, 2, 0x7fff, 0x8000, 0x8001, 0xff, 0xff00, 0xffff} {
			wantMatch(t, &b, &tags, tag)
		}
	}
}

// wantMatch compares b.match with a loop over the tags.
func wantMatch(t *testing.T, b *bucket, tags *[slots]uint16, tag uint16) {
	t.Helper()
	var got [slots]bool
	for set := b.match(tag); set != 0; set &= set - 1 {
		got[slotOf(set)] = true
	}
	for slot := range tags {
		if got[slot] != (tags[slot] == tag) {
			t.Fatalf("%v: tag %#x matches slots %v", *tags, tag, got)
		}
	}
}

// newTestIndex is an index with slabs of its own.
func newTestIndex(entries, buckets int) *index {
	x := &index{}
	x.init(0, newRows(buckets*numShards*fill), newSpill(buckets), newSlab[entry](entries))
	x.rows.alone = true // its rows come 256 times as fast as a table's
	return x
}

// grown is add in a table whose shards all hold as much.
func (x *index) grown(hash uint32, r ref) bool {
	x.rows.reach(int64(x.held+1) * numShards)
	return x.add(hash, r)
}

// has reports whether the index holds r where a lookup by hash comes by.
func (x *index) has(hash uint32, r ref) bool {
	b, tag := x.look(hash)
	for ; b != nil; b = x.after(b) {
		for set := b.match(tag); set != 0; set &= set - 1 {
			if b.refs[slotOf(set)] == r {
				return true
			}
		}
	}
	return false
}

// longest returns how many buckets the longest chain has.
func (x *index) longest() (longest int) {
	for n := range x.buckets() {
		length := 0
		for b := x.primary(n); b != nil; b = x.after(b) {
			length++
		}
		longest = max(longest, length)
	}
	return longest
}

// An index against a map, over growth, removal and refilling, with hashes good and bad.
func TestIndexAgainstMap(t *testing.T) {
	for name, hash := range map[string]func(rng *rand.Rand) uint32{
		"random":      func(rng *rand.Rand) uint32 { return rng.Uint32() },
		"same tag":    func(rng *rand.Rand) uint32 { return rng.Uint32() &^ 0xff00 },
		"no tag":      func(rng *rand.Rand) uint32 { return rng.Uint32() & 0xff },
		"same bucket": func(rng *rand.Rand) uint32 { return rng.Uint32() &^ 0xffff },
		"all alike":   func(rng *rand.Rand) uint32 { return 42 },
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			n := 20_000
			if name == "all alike" {
				n = 1000
			}
			x := newTestIndex(n+pageCells, 4*n)
			fillAndDrain(t, x, rng, n, hash)
		})
	}
}

// fillAndDrain fills x with n entries, empties it to a quarter, fills it again, and checks it against a map all the way.
func fillAndDrain(t *testing.T, x *index, rng *rand.Rand, n int, hash func(*rand.Rand) uint32) {
	for x.entries.used < uint32(n) {
		x.entries.page()
	}
	held := map[ref]uint32{}
	free := rng.Perm(n - pageCells)
	for _, goal := range []int{n / 2, n / 8, n - pageCells, 0} {
		for len(held) < goal {
			cell := uint32(free[len(free)-1] + pageCells)
			free = free[:len(free)-1]
			r, h := refOf(cell, Direction(rng.IntN(2))), hash(rng)
			x.entries.at(cell).hash[r.dir()] = h
			if !x.grown(h, r) {
				t.Fatal("no memory")
			}
			held[r] = h
		}
		for r, h := range held {
			if len(held) <= goal {
				break
			}
			x.remove(h, r)
			delete(held, r)
			free = append(free, int(r.cell())-pageCells)
			if x.has(h, r) {
				t.Fatalf("%x is still there", r)
			}
		}
		if int(x.held) != len(held) {
			t.Fatalf("holds %d, want %d", x.held, len(held))
		}
		for range 2 { // By the second time it is known how full the fullest shard is.
			x.rows.lower(int64(x.held) * numShards)
			for x.shrink() {
				// As small as it gets.
			}
			x.rows.give(x.buckets(), x.held)
		}
		if n := x.buckets(); n > firstBuckets && x.held < (n-1)*spare || x.rows.there > int(n)/regionRows+2 {
			t.Fatalf("%d references in %d buckets, rows in %d regions", x.held, n, x.rows.there)
		}
		for r, h := range held {
			if !x.has(h, r) {
				t.Fatalf("%x (hash %#x) is lost", r, h)
			}
		}
	}
}

// With good hashes chains stay short and the index stays small, at every stage of a round of splits.
func TestIndexStaysFlat(t *testing.T) {
	const n = 60_000
	x := newTestIndex(n, n)
	rng := rand.New(rand.NewPCG(5, 6))
	for x.entries.used < n {
		x.entries.page()
	}
	for i := uint32(pageCells); i < n; i++ {
		h := rng.Uint32()
		x.entries.at(i).hash[0] = h
		x.grown(h, refOf(i, Forward))
		if i&(i-1) == 0 || i%9973 == 0 {
			if longest := x.longest(); longest > 3 {
				t.Errorf("%d references: a chain of %d buckets", x.held, longest)
			}
		}
	}
	if perRef := float64(x.buckets()) * 64 / float64(x.held); perRef > 14 {
		t.Errorf("%.1f bytes per reference", perRef)
	}
}

// Without memory adding fails, growing does not, and nothing is lost.
func TestIndexWithoutMemory(t *testing.T) {
	x := newTestIndex(regionCells, 1)
	for x.spill.page() != 0 {
		// Take all pages.
	}
	x.entries.page()
	x.entries.page()
	held := 0
	for i := range uint32(2 * pageCells) {
		cell := i + pageCells
		x.entries.at(cell).hash[0] = i % firstBuckets
		if x.grown(i%firstBuckets, refOf(cell, Forward)) {
			held++
		}
	}
	if int(x.held) != held || held == 0 || held == 2*pageCells {
		t.Errorf("%d held, %d added", x.held, held)
	}
}
