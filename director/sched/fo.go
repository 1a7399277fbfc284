package sched

import (
	"cmp"
	"slices"
)

// The schedulers that fill servers one after the other, the heaviest first: fo and ovf. Of equal weights the first wins.

// ranking is the places of all servers, heaviest first.
type ranking []int32

// rank sorts once for each change of weights, so that a pick looks at the first few only.
func rank(servers []*Server) *ranking {
	weights := weightsOf(servers)
	r := make(ranking, len(servers))
	for i := range r {
		r[i] = int32(i)
	}
	slices.SortStableFunc(r, func(a, b int32) int { return cmp.Compare(weights[b], weights[a]) })
	return &r
}

// weightsOf reads all weights once: while a table is made of them they must not change.
func weightsOf(servers []*Server) []int32 {
	weights := make([]int32, len(servers))
	for i, s := range servers {
		weights[i] = s.Weight.Load()
	}
	return weights
}

// fo is fail-over: all connections to the heaviest usable server.
type fo struct {
	servers []*Server
	ranked  derived[ranking]
}

func newFO(servers []*Server) *fo {
	f := &fo{servers: servers}
	f.Update()
	return f
}

// Pick takes the first usable one.
func (f *fo) Pick(r Request) int {
	for _, i := range *f.ranked.load() {
		if r.usable(f.servers[i]) {
			return int(i)
		}
	}
	return -1
}

// Update ranks the servers anew.
func (f *fo) Update() { f.ranked.update(func(*ranking) *ranking { return rank(f.servers) }) }

// ovf is overflow: the heaviest usable server until it has more active connections than its weight, then the next. When all are full there is
// none: the weights are the capacity of the service.
type ovf struct{ fo }

func newOVF(servers []*Server) *ovf {
	o := &ovf{fo{servers: servers}}
	o.Update()
	return o
}

// Pick takes the first usable one that is not full.
func (o *ovf) Pick(r Request) int {
	for _, i := range *o.ranked.load() {
		if s := o.servers[i]; r.usable(s) && s.Active.Load() <= s.Weight.Load() {
			return int(i)
		}
	}
	return -1
}
