package persist

import "time"

// Template is one, for whoever wants to see them.
type Template struct {
	Key     Key
	Server  uint32
	Assured bool
	Holds   int           // connections
	Expires time.Duration // until its timer ends it, or finds it held
}

// Each calls fn for every template whose time is not over, until fn returns false. It locks one shard after the other and calls fn outside
// of the locks; templates that come or go meanwhile may be passed or not.
func (t *Table) Each(now time.Duration, fn func(Template) bool) {
	for i := range t.shards {
		for _, c := range t.shards[i].all(now) {
			if !fn(c) {
				return
			}
		}
	}
}

// all copies a shard's templates.
func (s *shard) all(now time.Duration) (list []Template) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pages {
		for n := range p {
			if c := &p[n]; c.used && !c.over(now) {
				list = append(list, Template{Key: c.key, Server: c.server, Assured: c.assured, Holds: int(c.holds), Expires: c.deadline - now})
			}
		}
	}
	return list
}
