package sched

import (
	"math/bits"
	"slices"

	"tapdirector/stack"
)

// sh and dh: a table of slots, each with a server, and a hash that finds the slot.
//
// With sh the hash is of the client, so a client keeps its server without a connection table; with dh of the destination, for caches. Slots
// are dealt in the order of lb.toml, to sh's servers as many at a time as the weight says, until the table is full: weights 2, 1 give A A B
// A A B... A server of weight 0 counts as 1, so that draining a server of weight 1 moves nobody else's clients; who finds it goes
// elsewhere. When a server is added or removed most slots change hands: mh exists because of that.
//
// The table is LVS's, slot for slot, but where that hurts: the last deal, which LVS cuts off (of weights 100, 100 it would give the
// first server 156 of 256 slots), is shared out by weight; and beyond 64 servers the table grows, so that each has a slot whatever
// the weights. The fallback is not LVS's either: that goes on at twice the slot's number, which of four equal servers sends all clients of one to
// the same other; ours hashes again, so that they spread.
const (
	leastSlots     = 256 // as LVS
	slotsPerServer = 4   // at least, on average
)

// slots is the table of sh or dh; its length is a power of two.
type slots []uint32

// slotted is the scheduler.
type slotted struct {
	servers     []*Server
	table       derived[slots]
	weighted    bool // deal by weight
	destination bool // hash the destination, not the client
	port        bool
	fallback    bool
}

func newSH(servers []*Server, o Options) (Scheduler, error) {
	s := &slotted{servers: servers, weighted: true, port: o.Port, fallback: o.Fallback}
	s.Update()
	return s, nil
}

func newDH(servers []*Server, o Options) (Scheduler, error) {
	s := &slotted{servers: servers, destination: true, fallback: o.Fallback}
	s.Update()
	return s, nil
}

// Pick looks into one slot, and elsewhere when its server is not usable.
func (s *slotted) Pick(r Request) int {
	table := *s.table.load()
	if len(table) == 0 {
		return -1
	}
	a, port := s.key(r)
	if i := table[lvsHash(a, port, bits.Len(uint(len(table)-1)))]; r.usable(s.servers[i]) {
		return int(i)
	}
	if !s.fallback {
		return -1
	}
	return s.elsewhere(&r, table, hash(seedClient, a, port))
}

// key returns what r is hashed by.
func (s *slotted) key(r Request) (stack.Addr, uint16) {
	switch {
	case s.destination:
		return r.Tuple.Dst, 0
	case s.port:
		return r.Tuple.Src, r.Tuple.SrcPort
	}
	return r.Tuple.Src, 0
}

// elsewhere finds a usable server for a client of another one, the same each time: by the weights while a few more hashes do, else the next in the
// table.
func (s *slotted) elsewhere(r *Request, table slots, h uint64) int {
	mask := uint64(len(table) - 1)
	for range rehashes {
		h = mix(h)
		if i := table[h&mask]; r.usable(s.servers[i]) {
			return int(i)
		}
	}
	for n := range uint64(len(table)) {
		if i := table[(h+n)&mask]; r.usable(s.servers[i]) {
			return int(i)
		}
	}
	return -1
}

// Update deals anew where weights matter.
func (s *slotted) Update() {
	s.table.update(func(last *slots) *slots {
		if last != nil && !s.weighted {
			return last
		}
		weights := weightsOf(s.servers)
		for i := range weights {
			if weights[i] == 0 || !s.weighted {
				weights[i] = 1
			}
		}
		table := deal(weights)
		return &table
	})
}

// deal gives each server its slots; weights are above 0.
func deal(weights []int32) slots {
	if len(weights) == 0 {
		return nil
	}
	size := leastSlots
	for size < slotsPerServer*len(weights) {
		size *= 2
	}
	sum := 0
	for _, weight := range weights {
		sum += int(weight)
	}
	table := make(slots, 0, size)
	for len(table)+sum <= size {
		table = dealOnce(table, weights)
	}
	least := int32(0)
	if len(table) == 0 {
		least = 1
	}
	return dealOnce(table, portions(weights, sum, size-len(table), least))
}

// dealOnce gives each server n of its slots in a row.
func dealOnce(table slots, n []int32) slots {
	for i := range n {
		for range n[i] {
			table = append(table, uint32(i))
		}
	}
	return table
}

// portions shares size slots, fewer than the sum of the weights, out by weight with the method of largest remainders. Each
// gets least at least (1 where this is the only deal; size is then four times the servers or more), taken from whoever has most.
func portions(weights []int32, sum, size int, least int32) []int32 {
	n, byRemainder := make([]int32, len(weights)), make([]int, len(weights))
	left := size
	for i, weight := range weights {
		n[i] = max(least, int32(int(weight)*size/sum))
		left -= int(n[i])
		byRemainder[i] = i
	}
	slices.SortStableFunc(byRemainder, func(a, b int) int { return int(weights[b])*size%sum - int(weights[a])*size%sum })
	for at := 0; left > 0; left-- {
		n[byRemainder[at]]++
		at++
	}
	for ; left < 0; left++ {
		most := 0
		for i := range n {
			if n[i] > n[most] {
				most = i
			}
		}
		n[most]--
	}
	return n
}
