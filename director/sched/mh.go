package sched

import (
	"cmp"
	"fmt"
	"slices"
)

// mh is Maglev hashing: a client keeps its server as long as that is usable, whichever director it comes through and whatever becomes of the
// connection table, and when the servers change few clients move.
//
// The table is a function of the set of servers, by address and port, and their weights, and of nothing else: neither of their order in the
// file nor of what the weights were before. Two directors with the same lb.toml pick the same server for a client. (In LVS the order
// counts, and a server keeps the slots of its last weight when the weight becomes 0; its clients are refused then, unless mh-fallback is
// set.)
//
// Weight 0 takes a server out of the table, so its new clients spread over the others and a few others move; the former weight brings the
// former table back. Overload leaves the table alone: with Fallback the client goes to another server, chosen by hashing its hash again,
// and nobody else moves; without, there is none for it.
type mh struct {
	servers  []*Server
	byName   []int32 // places, sorted by address and port
	size     int
	port     bool
	fallback bool
	table    derived[mhTable]
}

// mhTable is a Maglev table and the weights it was made of.
type mhTable struct {
	weights []int32
	slots   []uint16 // places; nil when no server has a weight
}

// DefaultTableSize keeps the shares of up to 160 servers within 1 %, in 32 KiB for each service.
const DefaultTableSize = 16381

// TableSizes are the sizes that a Maglev table may have: LVS's, primes just below powers of two.
var TableSizes = []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071}

func newMH(servers []*Server, o Options) (Scheduler, error) {
	m := &mh{servers: servers, size: o.TableSize, port: o.Port, fallback: o.Fallback}
	if m.size == 0 {
		m.size = DefaultTableSize
	}
	switch {
	case !slices.Contains(TableSizes, m.size):
		return nil, fmt.Errorf("a Maglev table of %d slots: it must be one of %v", m.size, TableSizes)
	case len(servers) > min(m.size, free):
		return nil, fmt.Errorf("%d servers in a Maglev table of %d slots", len(servers), m.size)
	}
	m.byName = sortedByName(servers)
	m.Update()
	return m, nil
}

// sortedByName returns the places of servers in the order of address and port.
func sortedByName(servers []*Server) []int32 {
	places := make([]int32, len(servers))
	for i := range places {
		places[i] = int32(i)
	}
	slices.SortStableFunc(places, func(a, b int32) int {
		s, t := servers[a], servers[b]
		if c := s.Addr.Netip().Compare(t.Addr.Netip()); c != 0 {
			return c
		}
		return cmp.Compare(s.Port, t.Port)
	})
	return places
}

// Pick looks into one slot, and elsewhere when its server is not usable.
func (m *mh) Pick(r Request) int {
	slots := m.table.load().slots
	if len(slots) == 0 {
		return -1
	}
	port := uint16(0)
	if m.port {
		port = r.Tuple.SrcPort
	}
	h := hash(seedClient, r.Tuple.Src, port)
	if i := slots[h%uint64(len(slots))]; r.usable(m.servers[i]) {
		return int(i)
	}
	if !m.fallback {
		return -1
	}
	return m.elsewhere(&r, slots, h)
}

// elsewhere finds a usable server for a client of another one, the same each time: by the weights while a few more hashes do, else the next by
// name.
func (m *mh) elsewhere(r *Request, slots []uint16, h uint64) int {
	for range rehashes {
		h = mix(h)
		if i := slots[h%uint64(len(slots))]; r.usable(m.servers[i]) {
			return int(i)
		}
	}
	from := int(h % uint64(len(m.byName)))
	for n := range m.byName {
		if i := m.byName[(from+n)%len(m.byName)]; r.usable(m.servers[i]) {
			return int(i)
		}
	}
	return -1
}

// Update fills the table anew if a weight has changed.
func (m *mh) Update() {
	m.table.update(func(last *mhTable) *mhTable {
		weights := weightsOf(m.servers)
		if last != nil && slices.Equal(last.weights, weights) {
			return last
		}
		return m.fill(weights)
	})
}

// fill makes the table of the servers that have a weight.
func (m *mh) fill(weights []int32) *mhTable {
	var likings []liking
	var places []int32
	for _, i := range m.byName {
		if weights[i] > 0 {
			likings, places = append(likings, m.liking(m.servers[i], weights[i])), append(places, i)
		}
	}
	t := &mhTable{weights, maglev(likings, m.size)}
	for i, at := range t.slots {
		t.slots[i] = uint16(places[at])
	}
	return t
}

// liking is the permutation that a server's name gives it.
func (m *mh) liking(s *Server, weight int32) liking {
	size := uint64(m.size)
	return liking{
		offset: uint32(hash(seedOffset, s.Addr, s.Port) % size),
		skip:   uint32(hash(seedSkip, s.Addr, s.Port)%(size-1)) + 1,
		weight: weight,
	}
}
