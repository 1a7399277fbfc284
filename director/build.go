package director

import (
	"fmt"
	"net/netip"
	"sort"
	"time"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/neigh"
)

// Building a view of a config: the first, or the one after another (roster.go).

// viewOptions are what a view is made of beside a config.
type viewOptions struct {
	prev  *view // nil: this is the first
	mtus  []int // by interface
	pin   func(iface int, a netip.Addr, static stack.MAC) neigh.Slot
	now   time.Duration
	spent func(*server) bool // nobody speaks of a removed server any more
}

// builder is a view in the making.
type builder struct {
	*view
	viewOptions
	c       *conf.Config
	numbers numbers              // of servers
	statics map[hopKey]stack.MAC // next hops whose MAC is configured
	roles   map[stack.Addr]role
}

// hopKey names a next hop.
type hopKey struct {
	iface int
	addr  netip.Addr
}

// newView resolves a config.
func newView(c *conf.Config, o viewOptions) (*view, error) {
	b := &builder{
		view:        &view{services: newServices(), backs: map[back]*server{}, paths: map[stack.Addr]*serverPath{}},
		viewOptions: o, c: c, statics: map[hopKey]stack.MAC{}, roles: rolesOf(c),
	}
	for i := range c.Interfaces {
		b.ifaces = append(b.ifaces, newIface(&c.Interfaces[i], o.mtus[i]))
		b.tracks = b.tracks || c.Interfaces[i].Masquerade
	}
	b.findStatics()
	b.addRoutes()
	if err := b.addServices(); err != nil {
		return nil, err
	}
	b.locals = newAddrSet(b.roles)
	return b.view, nil
}

// findStatics collects the next hops whose MAC is configured: of one next hop all its users get the same slot.
func (b *builder) findStatics() {
	for i := range b.c.Services {
		for j := range b.c.Services[i].Servers {
			if s := &b.c.Services[i].Servers[j]; s.MAC != (stack.MAC{}) {
				b.statics[hopKey{s.Iface, s.Via}] = s.MAC
			}
		}
	}
}

// hop returns the slot of a next hop.
func (b *builder) hop(iface int, a netip.Addr) neigh.Slot {
	return b.pin(iface, a, b.statics[hopKey{iface, a}])
}

// addRoutes joins the connected prefixes and the config's routes.
func (b *builder) addRoutes() {
	for i := range b.c.Interfaces {
		for _, p := range b.c.Interfaces[i].Addresses {
			b.routes = append(b.routes, route{to: p.Masked(), iface: uint16(i), onLink: true})
		}
	}
	for _, r := range b.c.Routes {
		b.routes = append(b.routes, route{to: r.To.Masked(), iface: uint16(r.Interface), slot: b.hop(r.Interface, r.Via)})
	}
	sort.SliceStable(b.routes, func(i, j int) bool { return b.routes[i].to.Bits() > b.routes[j].to.Bits() })
	b.indexRoutes()
}

var methods = map[string]flow.Method{"nat": flow.NAT, "dr": flow.DR, "tun": flow.TUN, "fullnat": flow.FullNAT}

var protocols = map[string]uint8{"tcp": stack.ProtoTCP, "udp": stack.ProtoUDP, "sctp": stack.ProtoSCTP}

// addService adds the service of c, with number id; prior is what it was, nil when it is new.
func (b *builder) addService(c *conf.Service, id uint32, prior *service) error {
	s := &service{
		id:      id,
		name:    c.Name,
		conf:    c,
		method:  methods[c.Method],
		reject:  c.OnNoServer != "drop",
		expects: leavesPorts(c),
		state:   newState(c),
	}
	if s.serviceRecord = new(serviceRecord); prior != nil {
		s.serviceRecord, s.former = prior.serviceRecord, prior.former
	}
	s.defend(c, prior)
	if c.TOA {
		s.method = flow.FullNATTOA
	}
	b.tracks = b.tracks || c.Method == "fullnat"
	b.addServers(s, prior)
	if err := b.schedule(s, prior); err != nil {
		return fmt.Errorf("service %q: %w", c.Name, err)
	}
	b.ordered = append(b.ordered, s)
	for _, l := range c.Listen {
		b.services.add(l, protocols[c.Protocol], s)
	}
	b.addBacks(c, s)
	return nil
}

// newServer resolves a server of s; it has neither number nor record yet.
func (b *builder) newServer(s *service, c *conf.Server) *server {
	srv := &server{
		service: s, name: c.Address, key: s.conf.ServerKey(c),
		addr: stack.AddrFrom(c.Address.Addr()), port: c.Address.Port(),
		iface: uint16(c.Iface), slot: b.hop(c.Iface, c.Via), method: methodTo(s.method, s.conf, c),
		weight: int32(c.Weight), limit: threshold{int64(c.UThreshold), int64(c.LThreshold)},
	}
	for _, a := range c.Sources {
		srv.sources = append(srv.sources, stack.AddrFrom(a))
	}
	if s.method == flow.TUN {
		srv.tunnel = b.newTunnel(s.conf, c)
	}
	return srv
}

// methodTo is how connections to one server of a service go: those of fullnat across families where the server's is not the VIP's.
func methodTo(m flow.Method, c *conf.Service, s *conf.Server) flow.Method {
	across := len(c.Listen) > 0 && c.Listen[0].Addr.Is4() != s.Address.Addr().Is4()
	switch {
	case across && m == flow.FullNAT:
		return flow.Across
	case across && m == flow.FullNATTOA:
		return flow.AcrossTOA
	}
	return m
}

// newRecord begins the record of a server.
func newRecord(s *server, c *conf.Server) *serverRecord {
	r := &serverRecord{upper: s.limit.upper}
	r.Weight.Store(s.weight)
	r.Addr, r.Port, r.QUICID = s.addr, s.port, c.QUICID
	return r
}

// rolesOf collects what each address of the config is to us.
func rolesOf(c *conf.Config) map[stack.Addr]role {
	roles := map[stack.Addr]role{}
	add := func(a netip.Addr, r role) { roles[stack.AddrFrom(a)] |= r }
	for i := range c.Interfaces {
		for _, p := range c.Interfaces[i].Addresses {
			add(p.Addr(), roleDIP)
			if p.Addr().Is4() && p.Bits() < 31 {
				add(p.Masked().Addr(), roleNever)
				add(broadcast(p), roleNever)
			}
		}
	}
	for i := range c.Services {
		s := &c.Services[i]
		for _, l := range s.Listen {
			add(l.Addr, roleVIP)
		}
		for j := range s.Servers {
			if s.Method == "nat" {
				add(s.Servers[j].Address.Addr(), roleServer)
			}
		}
	}
	return roles
}
