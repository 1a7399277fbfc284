package sched

import (
	"math/rand/v2"
	"slices"
)

// twos is the power of two choices: two servers are drawn, each with a chance of its weight, and the one with the smaller load over weight gets
// the connection. Nearly as even as wlc, without looking at every server and without all directors running to the same one.
//
// LVS draws from one number too many, which gives the first server of its list the share of a weight one larger: with two servers of weight
// 1, two draws of three. Ours draws without that.
type twos struct {
	servers []*Server
	odds    derived[odds]
	draw    func(n int64) int64 // uniform in [0, n)
}

// odds are the usable weights, summed up.
type odds struct {
	upTo   []int64 // sum of the weights up to and including places[i]
	places []int32 // of the servers with a weight
}

func newTwos(servers []*Server) *twos {
	t := &twos{servers: servers, draw: rand.Int64N}
	t.Update()
	return t
}

// Pick draws twice. Both draws may be the same server.
func (t *twos) Pick(r Request) int {
	o := t.odds.load()
	first := t.one(&r, o)
	if first < 0 {
		return -1
	}
	second := t.one(&r, o)
	best := none
	for _, i := range [...]int{first, second} {
		if i < 0 {
			continue
		}
		if weight := t.servers[i].Weight.Load(); weight > 0 {
			best.show(i, t.servers[i].load(), int64(weight))
		}
	}
	return best.place
}

// one draws one usable server by its weight, -1 if there is none. Drawing again until a usable one comes has the odds of drawing among the
// usable ones; when they are so few that it takes long, they are summed up by themselves.
func (t *twos) one(r *Request, o *odds) int {
	if len(o.places) == 0 {
		return -1
	}
	const draws = 8
	for range draws {
		x := t.draw(o.upTo[len(o.upTo)-1])
		at, found := slices.BinarySearch(o.upTo, x)
		if found {
			at++
		}
		if i := int(o.places[at]); r.usable(t.servers[i]) {
			return i
		}
	}
	return t.oneOfUsable(r)
}

// oneOfUsable draws by one walk to sum up and one to find.
func (t *twos) oneOfUsable(r *Request) int {
	total := int64(0)
	for _, s := range t.servers {
		if r.usable(s) {
			total += int64(s.Weight.Load())
		}
	}
	if total <= 0 {
		return -1
	}
	x, last := t.draw(total), -1
	for i, s := range t.servers {
		if !r.usable(s) {
			continue
		}
		// last covers a weight that shrank between the walks.
		last = i
		if x -= int64(s.Weight.Load()); x < 0 {
			break
		}
	}
	return last
}

// Update sums the weights up.
func (t *twos) Update() {
	t.odds.update(func(*odds) *odds {
		o, sum := &odds{}, int64(0)
		for i, weight := range weightsOf(t.servers) {
			if weight > 0 {
				sum += int64(weight)
				o.upTo, o.places = append(o.upTo, sum), append(o.places, int32(i))
			}
		}
		return o
	})
}
