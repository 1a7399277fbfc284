package director

import (
	"fmt"
	"net/netip"
	"sort"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/director/sched"
	"tapdirector/stack"
	"tapdirector/stack/neigh"
)

// view is the config as the path reads it: immutable once built, behind an atomic pointer, loaded once per batch. What changes while it is
// in force (connection counts, traffic) hangs on the servers and services it points to.
type view struct {
	ifaces   []iface
	locals   addrSet
	services services
	ordered  []*service // as configured
	servers  []*server  // by flow.Conn.ServerID
	routes   []route    // longest prefix first
	backs    map[back]*server
	tracks   bool                       // some interface masquerades: routed packets have connections too
	paths    map[stack.Addr]*serverPath // the ways of tunnels, by server
}

// iface is one interface, as an ingress and as a way out.
type iface struct {
	name       string
	mac        stack.MAC
	mtu        uint32
	vlan       uint16 // 0: no tag
	forward    bool
	masquerade bool
	byRoute    bool       // replies to clients seen here follow the routing table, not the last hop
	dip4, dip6 stack.Addr // the sources of our ICMP errors, and of what is masqueraded; zero: none
}

// dip returns the interface's own address of the family of peer.
func (i *iface) dip(peer stack.Addr) stack.Addr {
	if peer.Is4() {
		return i.dip4
	}
	return i.dip6
}

// service is a virtual service with its scheduler.
type service struct {
	id        uint32
	name      string
	method    flow.Method
	scheduler sched.Scheduler
	servers   []*server
	reject    bool // what no server can take is answered, not dropped
	state
	defence
	traffic
	noServer counter
}

// server is a real server of one service.
type server struct {
	sched.Server

	id      uint32
	service *service
	addr    stack.Addr
	port    uint16 // 0: the one that the client's packet is for
	method  flow.Method
	iface   uint16
	slot    neigh.Slot
	tunnel  *tunnel // with tun only
	name    netip.AddrPort
	sources []stack.Addr // fullnat: what its connections come from; at least one
	turn    counter      // new connections begin to look for a port at the next source
	limit   threshold
	vip     netip.AddrPort // what it answers as without a connection (unknown.go)

	templates counter // persistence templates that say this server: goes down too

	traffic
}

// route is a prefix and the way to it: a gateway's slot, or on-link when there is none.
type route struct {
	to     netip.Prefix
	iface  uint16
	onLink bool
	slot   neigh.Slot
}

// newView resolves a config; pin hands out next-hop slots.
func newView(c *conf.Config, mtus []int, pin func(iface int, a netip.Addr, static stack.MAC) neigh.Slot) (*view, error) {
	v := &view{services: newServices(), backs: map[back]*server{}, paths: map[stack.Addr]*serverPath{}}
	for i := range c.Interfaces {
		v.ifaces = append(v.ifaces, newIface(&c.Interfaces[i], mtus[i]))
		v.tracks = v.tracks || c.Interfaces[i].Masquerade
	}
	v.addRoutes(c, pin)
	for i := range c.Services {
		if err := v.addService(&c.Services[i], pin); err != nil {
			return nil, fmt.Errorf("service %q: %w", c.Services[i].Name, err)
		}
	}
	v.locals = newAddrSet(rolesOf(c))
	return v, nil
}

func newIface(c *conf.Interface, mtu int) iface {
	i := iface{name: c.Name, mac: c.MAC, mtu: uint32(mtu), vlan: uint16(c.VLAN), forward: c.Forward, masquerade: c.Masquerade, byRoute: c.Reply == "route"}
	for _, p := range c.Addresses {
		if a := stack.AddrFrom(p.Addr()); a.Is4() && i.dip4.IsZero() {
			i.dip4 = a
		} else if !a.Is4() && i.dip6.IsZero() {
			i.dip6 = a
		}
	}
	return i
}

// addRoutes joins the connected prefixes and the config's routes.
func (v *view) addRoutes(c *conf.Config, pin func(int, netip.Addr, stack.MAC) neigh.Slot) {
	for i := range c.Interfaces {
		for _, p := range c.Interfaces[i].Addresses {
			v.routes = append(v.routes, route{to: p.Masked(), iface: uint16(i), onLink: true})
		}
	}
	for _, r := range c.Routes {
		v.routes = append(v.routes, route{to: r.To.Masked(), iface: uint16(r.Interface), slot: pin(r.Interface, r.Via, stack.MAC{})})
	}
	sort.SliceStable(v.routes, func(i, j int) bool { return v.routes[i].to.Bits() > v.routes[j].to.Bits() })
}

var methods = map[string]flow.Method{"nat": flow.NAT, "dr": flow.DR, "tun": flow.TUN, "fullnat": flow.FullNAT}

var protocols = map[string]uint8{"tcp": stack.ProtoTCP, "udp": stack.ProtoUDP}

func (v *view) addService(c *conf.Service, pin func(int, netip.Addr, stack.MAC) neigh.Slot) error {
	s := &service{
		id:     uint32(len(v.ordered)),
		name:   c.Name,
		method: methods[c.Method],
		reject: c.OnNoServer != "drop",
		state:  newState(c),
	}
	s.defend(c)
	if c.TOA {
		s.method = flow.FullNATTOA
	}
	v.tracks = v.tracks || c.Method == "fullnat"
	var known []*sched.Server
	for i := range c.Servers {
		cs := &c.Servers[i]
		srv := &server{
			id: uint32(len(v.servers)), service: s, method: methodTo(s.method, c, cs),
			addr: stack.AddrFrom(cs.Address.Addr()), port: cs.Address.Port(),
			iface: uint16(cs.Iface), slot: pin(cs.Iface, cs.Via, cs.MAC), name: cs.Address,
		}
		for _, a := range cs.Sources {
			srv.sources = append(srv.sources, stack.AddrFrom(a))
		}
		srv.Weight.Store(int32(cs.Weight))
		srv.limit.upper, srv.limit.lower = int64(cs.UThreshold), int64(cs.LThreshold)
		srv.Addr, srv.Port, srv.QUICID = srv.addr, srv.port, cs.QUICID
		if s.method == flow.TUN {
			srv.tunnel = v.newTunnel(c, cs)
		}
		v.servers, s.servers, known = append(v.servers, srv), append(s.servers, srv), append(known, &srv.Server)
	}
	var err error
	s.scheduler, err = sched.New(c.Scheduler, known, sched.Options{
		Port: c.HashPort, Fallback: c.HashFallback, TableSize: c.MHTableSize, QUICIDLength: c.QUICIDLength,
	})
	v.ordered = append(v.ordered, s)
	for _, l := range c.Listen {
		v.services.add(l, protocols[c.Protocol], s)
	}
	v.addBacks(c, s)
	return err
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

// broadcast returns the directed broadcast address of an IPv4 prefix.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// routeTo returns the way to a by longest prefix, nil when there is none.
func (v *view) routeTo(a stack.Addr) *route {
	ip := a.Netip()
	for i := range v.routes {
		if v.routes[i].to.Contains(ip) {
			return &v.routes[i]
		}
	}
	return nil
}

// service returns the service that p asks for, nil when there is none.
func (v *view) service(p *stack.Packet) *service {
	return v.services.find(virtual{p.Dst, p.DstPort, p.Proto})
}
