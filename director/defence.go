package director

import (
	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/director/guard"
)

// Who may open a connection to a service. Asked for first packets only: what is open stays open, and packets of known connections pay
// nothing. What is refused gets no answer: who floods shall not make us send, and TCP tries again by itself.
//
// The order is deny, then rate: a denied source takes up no place in the table of rates. Denied are also packets that would get a reset
// because they belong to no connection.

// defence is a service's part of it. The zero value lets everybody in.
type defence struct {
	sources *guard.Prefixes // nil: all
	rate    *guard.Rate     // nil: any
}

// defend sets up what the config says; prior is what the service was, if it was.
func (s *service) defend(c *conf.Service, prior *service) {
	if len(c.Allow)+len(c.Deny) > 0 {
		s.sources = guard.NewPrefixes(c.Allow, c.Deny)
	}
	switch {
	case c.RatePerSource == 0:
	case prior != nil && prior.conf.RatePerSource == c.RatePerSource && prior.conf.BurstPerSource == c.BurstPerSource:
		s.rate = prior.rate // with what it knows
	default:
		s.rate = guard.NewRate(c.RatePerSource, c.BurstPerSource)
	}
}

// admit reports whether the source of p, which belongs to no connection, may open one to s; if not, what becomes of the packet. A TCP or SCTP packet that
// opens none is not counted against its source; where connections are picked up every one does.
func (w *worker) admit(s *service) (Verdict, bool) {
	p := w.p
	if !s.sources.Allows(p.Src) {
		s.denied.Add(1)
		return DropDenied, false
	}
	if opens := p.Opens() || s.pickup; opens && !s.rate.Take(p.Src, w.now) {
		s.overRate.Add(1)
		return DropSourceRate, false
	}
	return 0, true
}

// evicted is the connection table's report that a connection of the server made room for another; it is called with a shard locked.
func (d *Director) evicted(id uint32) {
	if id == flow.NoServer {
		return
	}
	if s := d.view.Load().servers[id]; s != nil {
		s.service.evicted.Add(1)
	}
}

// listDefence tells the counters of a service's defence.
func (s *service) listDefence(l *counterList, who string) {
	l.add("service_denied", s.denied.Load(), who)
	l.add("service_over_rate", s.overRate.Load(), who)
	l.add("service_evicted", s.evicted.Load(), who)
}
