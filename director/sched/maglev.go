package sched

// The Maglev table (Eisenbud et al., NSDI 2016, section 3.4): each slot of a table of prime size m names a server, a client's hash names a slot.
//
// A server likes slots in the order of a permutation of its own: offset, offset+skip, offset+2*skip, ... modulo m, which visits every slot because
// m is prime. In rounds, each server takes the first slot of its permutation that is still free. So all get the same number of slots but
// for one, and when a server leaves, its slots go to the others while most of the rest stay where they were: a few more move, fewer the larger
// the table is.
//
// Weights (the rule of Envoy): a server of the largest weight takes its turn in every round, one of a third of it in every
// third. In the first round all do, so a server with a weight has a slot. LVS's rule gives weight/gcd slots in each round and rounds
// weights above 63 down; this one is exact to a slot or two for all.
//
// The table depends on the order in which servers take their turns. So the caller sorts them by name.

// liking is a server's permutation and its weight.
type liking struct {
	offset, skip uint32 // 0 to m-1, 1 to m-1
	weight       int32  // above 0
}

// slotAfter returns the next slot of the permutation.
func (l *liking) slotAfter(slot, m uint32) uint32 {
	if slot += l.skip; slot >= m {
		slot -= m
	}
	return slot
}

// free marks a slot that nobody has taken.
const free = 1<<16 - 1

// maglev fills a table of m slots with the places of likings; at most m and at most free of them. It returns nil when there are none.
func maglev(likings []liking, m int) []uint16 {
	if len(likings) == 0 {
		return nil
	}
	table := make([]uint16, m)
	for i := range table {
		table[i] = free
	}
	next, due, heaviest := make([]uint32, len(likings)), make([]int64, len(likings)), int64(0)
	for i := range likings {
		next[i] = likings[i].offset
		heaviest = max(heaviest, int64(likings[i].weight))
	}
	for round, left := int64(1), m; ; round++ {
		for i := range likings {
			// The server has had due/heaviest of its weight's turns.
			if round*int64(likings[i].weight) < due[i] {
				continue
			}
			due[i] += heaviest
			next[i] = take(table, &likings[i], next[i], uint16(i))
			if left--; left == 0 {
				return table
			}
		}
	}
}

// take gives the server the first free slot of its permutation from slot on, and returns the one after it.
func take(table []uint16, l *liking, slot uint32, server uint16) uint32 {
	m := uint32(len(table))
	for table[slot] != free {
		slot = l.slotAfter(slot, m)
	}
	table[slot] = server
	return l.slotAfter(slot, m)
}
