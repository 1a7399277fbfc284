package director

import (
	"slices"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/director/sched"
	"tapdirector/stack"
)

// Who is who over reloads
//
// Connections and templates know a server by a number, templates also their service. So a view takes from the one before it the numbers, and with them
// the records, of all that is the same:
//
//	service   of the same name, or else one that listens on the same port (conf.Match)
//	server    of the same service, method and protocol, at the same RIP:port
//
// A server that is no more in its service, or whose service is no more, is gone: it gets no new connections, but keeps its number and its place in the view, so that
// what is under way to it finds its way, until nothing speaks of it any more (Director.spent): then it is left out, and the number is free. Numbers are
// reused, so the table of servers has at most as many places as there were servers, gone ones included, at one time. One that comes back while it is
// gone is the same server again, with its connections and counters: LVS's trash.
//
// A scheduler stays, with its place in the turn and what it remembers, as long as its kind, its options and the servers are the same; where only
// servers came or went, the new one goes on where the old one was.

// numbers hands out the free places of a table.
type numbers struct {
	free []uint32 // the next is the last
	next uint32
}

// newNumbers finds the free places of a table of which taken tells the taken ones.
func newNumbers(size int, taken func(int) bool) numbers {
	n := numbers{next: uint32(size)}
	for i := size - 1; i >= 0; i-- {
		if !taken(i) {
			n.free = append(n.free, uint32(i))
		}
	}
	return n
}

func (n *numbers) take() uint32 {
	if last := len(n.free) - 1; last >= 0 {
		i := n.free[last]
		n.free = n.free[:last]
		return i
	}
	n.next++
	return n.next - 1
}

// addServices adds the config's services, and what is left of removed ones.
func (b *builder) addServices() error {
	var priors []*service
	if b.prev != nil {
		b.servers = make([]*server, len(b.prev.servers))
		priors = slices.Concat(b.prev.ordered, b.prev.lost)
	}
	b.numbers = newNumbers(len(b.servers), func(i int) bool { return b.stays(b.prev.servers[i]) })
	old := make([]conf.Service, len(priors))
	for i, p := range priors {
		old[i] = *p.conf
	}
	match := conf.Match(old, b.c.Services)
	ids, matched := b.serviceNumbers(priors, match)
	for i, at := range match {
		var prior *service
		id := uint32(0)
		if at >= 0 {
			prior, id = priors[at], priors[at].id
		} else {
			id = ids.take()
		}
		if err := b.addService(&b.c.Services[i], id, prior); err != nil {
			return err
		}
	}
	for i, p := range priors {
		if !matched[i] {
			b.lose(p)
		}
	}
	return nil
}

// stays reports whether s, a server of the view before, keeps its number.
func (b *builder) stays(s *server) bool { return s != nil && !(s.gone && b.spent(s)) }

// serviceNumbers says which numbers of services are free, and which of priors go on as services of the config.
func (b *builder) serviceNumbers(priors []*service, match []int) (numbers, []bool) {
	matched, used, size := make([]bool, len(priors)), map[uint32]bool{}, 0
	for _, at := range match {
		if at >= 0 {
			matched[at] = true
		}
	}
	for _, p := range priors {
		used[p.id] = true
		size = max(size, int(p.id)+1)
	}
	return newNumbers(size, func(i int) bool { return used[uint32(i)] }), matched
}

// addServers gives s its servers, of which prior had some.
func (b *builder) addServers(s *service, prior *service) {
	known := map[conf.ServerKey]*server{}
	if prior != nil {
		for _, old := range slices.Concat(prior.servers, prior.gone) {
			known[old.key] = old
		}
	}
	for i := range s.conf.Servers {
		c := &s.conf.Servers[i]
		srv := b.newServer(s, c)
		if old := known[srv.key]; old != nil && b.stays(old) {
			srv.id, srv.serverRecord = old.id, old.serverRecord
			delete(known, srv.key)
		} else {
			srv.id, srv.serverRecord = b.numbers.take(), newRecord(srv, c)
		}
		b.place(srv)
		s.servers = append(s.servers, srv)
	}
	if prior != nil {
		for _, old := range slices.Concat(prior.servers, prior.gone) {
			if known[old.key] == old {
				b.leave(s, old)
			}
		}
	}
}

// place enters a server under its number.
func (b *builder) place(s *server) {
	for int(s.id) >= len(b.servers) {
		b.servers = append(b.servers, nil)
	}
	b.servers[s.id] = s
}

// leave keeps old, which the config does not have any more, as one of s that is gone, unless nobody speaks of it.
func (b *builder) leave(s *service, old *server) {
	if !b.stays(old) {
		s.former.add(old.totals())
		return
	}
	g := *old
	g.service = s
	if !g.gone {
		g.gone, g.left = true, b.now
	}
	if g.tunnel != nil {
		g.tunnel = b.moved(g.tunnel)
	}
	if g.method == flow.NAT {
		b.roles[g.addr] |= roleServer
	}
	b.tracks = b.tracks || len(g.sources) > 0
	b.place(&g)
	s.gone, b.gone = append(s.gone, &g), append(b.gone, &g)
}

// lose keeps of a service that the config does not have any more what somebody may still speak of.
func (b *builder) lose(prior *service) {
	s := *prior
	s.servers, s.gone, s.scheduler = nil, nil, nil
	for _, old := range slices.Concat(prior.servers, prior.gone) {
		b.leave(&s, old)
	}
	if len(s.gone) == 0 {
		return
	}
	b.lost = append(b.lost, &s)
	if s.holdsVIPs() {
		for _, l := range s.conf.Listen {
			b.roles[stack.AddrFrom(l.Addr)] |= roleVIP
		}
	}
}

// holdsVIPs reports whether a lost service's connections are to go on, so that its VIPs are still ours.
func (s *service) holdsVIPs() bool {
	return s.conf.OnServerRemoved == "keep" && s.conf.Protocol != "udp"
}

// schedule gives s its scheduler: prior's where nothing that it looks at has changed but weights.
func (b *builder) schedule(s *service, prior *service) (err error) {
	c := s.conf
	quic := false
	for i, srv := range s.servers {
		if srv.QUICID != c.Servers[i].QUICID {
			srv.QUICID, quic = c.Servers[i].QUICID, true
		}
	}
	if prior != nil && !quic && optionsOf(prior.conf) == optionsOf(c) && slices.EqualFunc(prior.servers, s.servers, sameServer) {
		s.scheduler = prior.scheduler
		return nil
	}
	known := make([]*sched.Server, len(s.servers))
	for i, srv := range s.servers {
		known[i] = &srv.Server
	}
	if s.scheduler, err = sched.New(c.Scheduler, known, optionsOf(c).Options); err == nil && prior != nil {
		sched.Inherit(s.scheduler, prior.scheduler, s.placesOf(prior))
	}
	return err
}

// placesOf says where in s a server of prior, by its place there, is; -1: nowhere.
func (s *service) placesOf(prior *service) func(int) int {
	places := make(map[*serverRecord]int, len(s.servers))
	for i, srv := range s.servers {
		places[srv.serverRecord] = i
	}
	return func(i int) int {
		if at, ok := places[prior.servers[i].serverRecord]; ok {
			return at
		}
		return -1
	}
}

func sameServer(a, b *server) bool { return a.id == b.id && a.serverRecord == b.serverRecord }

// schedulerOptions is all that a scheduler is made of beside servers.
type schedulerOptions struct {
	name string
	sched.Options
}

func optionsOf(c *conf.Service) schedulerOptions {
	return schedulerOptions{c.Scheduler, sched.Options{
		Port: c.HashPort, Fallback: c.HashFallback, TableSize: c.MHTableSize, QUICIDLength: c.QUICIDLength,
	}}
}
