package flow

import (
	"math/rand/v2"
	"slices"
	"testing"

	"tapdirector/stack"
)

// Both tuples of a NAT connection lead to one place of one shard, and port finds exactly the ports that lead to a shard.
func TestShardIsOfTheClientsEnd(t *testing.T) {
	h := newHasher()
	rng := rand.New(rand.NewPCG(1, 1))
	eachFamily(t, func(t *testing.T, ip family) {
		for range 1000 {
			c := ip.conn(NAT, stack.ProtoTCP, rng.IntN(1<<16))
			var forward, reply key
			k := c.Tuple(Forward)
			h.key(&forward, &k, Forward)
			k = c.Tuple(Reply)
			h.key(&reply, &k, Reply)
			if forward.shard != reply.shard || forward.hash != reply.hash || h.wholeOf(&forward) == h.wholeOf(&reply) {
				t.Fatalf("shards %d and %d, hashes %#x and %#x", forward.shard, reply.shard, forward.hash, reply.hash)
			}
		}
		local, found := h.client(ip.addr(vips, 9)), 0
		for shard := range numShards {
			for upper := range 256 {
				p := h.port(local, uint8(shard), uint8(upper))
				if int(p>>8) != upper || h.shard(local, p) != uint8(shard) {
					t.Fatalf("port %#x for shard %d, upper byte %#x", p, shard, upper)
				}
				found++
			}
		}
		if found != 1<<16 {
			t.Errorf("%d ports", found)
		}
	})
}

// Neighbouring tuples spread: over shards, over buckets, over tags, within what chance allows.
func TestHashSpreads(t *testing.T) {
	const n = 1 << 16
	eachFamily(t, func(t *testing.T, ip family) {
		for name, tuple := range map[string]func(i int) stack.Tuple{
			"one client's ports": func(i int) stack.Tuple {
				return stack.Tuple{Src: ip.addr(clients, 1), Dst: ip.addr(vips, 1), SrcPort: uint16(i), DstPort: 80, Proto: 6}
			},
			"clients in a row": func(i int) stack.Tuple {
				return stack.Tuple{Src: ip.addr(clients, i), Dst: ip.addr(vips, 1), SrcPort: 1024, DstPort: 80, Proto: 6}
			},
			"swapped bits": func(i int) stack.Tuple {
				return stack.Tuple{Src: ip.addr(clients, i>>8), Dst: ip.addr(vips, i>>8), SrcPort: uint16(i & 255), DstPort: uint16(i >> 8), Proto: 17}
			},
		} {
			h := newHasher()
			var shards, buckets, tags, wholes [256]int
			seen, whole := map[uint32]bool{}, map[uint32]bool{}
			for i := range n {
				k := tuple(i)
				var key key
				h.key(&key, &k, Forward)
				shards[key.shard]++
				buckets[key.hash&255]++
				tags[key.hash>>24]++
				wholes[h.wholeOf(&key)&255]++
				seen[key.hash], whole[key.whole] = true, true
			}
			if len(seen) < n-8 || len(whole) < n-8 { // of 2^32: half a collision is expected
				t.Errorf("%s: %d and %d different hashes of %d", name, len(seen), len(whole), n)
			}
			wantEven(t, name+": shards", shards[:])
			wantEven(t, name+": buckets", buckets[:])
			wantEven(t, name+": tags", tags[:])
			wantEven(t, name+": whole tuples", wholes[:])
		}
	})
}

// wantEven fails when a place has less than half or more than one and a half times the mean of 256: 8 standard deviations of chance.
func wantEven(t *testing.T, what string, places []int) {
	t.Helper()
	if lo, hi := slices.Min(places), slices.Max(places); lo < 128 || hi > 384 {
		t.Errorf("%s: between %d and %d in a place, mean 256", what, lo, hi)
	}
}

// Two tables do not hash alike.
func TestHashIsKeyed(t *testing.T) {
	a, b := newHasher(), newHasher()
	same := 0
	for i := range 1000 {
		k := stack.Tuple{Src: families[0].addr(clients, i), Dst: families[0].addr(vips, 1), SrcPort: 1, DstPort: 2, Proto: 6}
		var x, y key
		a.key(&x, &k, Forward)
		b.key(&y, &k, Forward)
		if x.hash == y.hash {
			same++
		}
	}
	if same > 1 {
		t.Errorf("%d of 1000 hashes agree", same)
	}
}
