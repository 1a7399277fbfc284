package director

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/director/sched"
	"tapdirector/stack"
	"tapdirector/stack/neigh"
)

// view is the config as the path reads it: immutable once built, behind an atomic pointer, loaded once per batch. What changes while it is
// in force (connection counts, traffic) hangs on the servers it points to.
type view struct {
	ifaces   []iface
	locals   addrSet
	services services
	ordered  []*service // as configured
	servers  []*server  // by flow.Conn.ServerID; nil: a number that is free
	gone     []*server  // those of them that were removed
	lost     []*service // removed services that have such
	routes   []route    // longest prefix first
	lengths  []length   // the same, where there are many
	backs    map[back]*server
	tracks   bool                       // some interface masquerades: routed packets have connections too
	paths    map[stack.Addr]*serverPath // the ways of tunnels, by server
}

// iface is one interface, as an ingress and as a way out.
type iface struct {
	name       string
	mac        stack.MACWord
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
	*serviceRecord

	id        uint32
	name      string
	conf      *conf.Service
	method    flow.Method
	scheduler sched.Scheduler
	servers   []*server
	gone      []*server // removed ones that are still remembered (roster.go)
	former    totals    // of those that are forgotten
	reject    bool      // what no server can take is answered, not dropped
	state
	expects bool // a data connection of FTP may go to a port that it listens on
	defence
}

// serviceRecord is what of a service lasts over reloads.
type serviceRecord struct {
	noServer         counter
	denied, overRate counter // by its defence
	evicted          counter // of its connections, to make room for others
}

// server is a real server of one service.
type server struct {
	*serverRecord

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
	weight  int32        // as configured
	limit   threshold
	vip     netip.AddrPort // what it answers as without a connection (unknown.go)

	key  conf.ServerKey
	gone bool          // it was removed: no new connections
	left time.Duration // when
}

// serverRecord is what of a server lasts over reloads.
type serverRecord struct {
	sched.Server // a cache line

	traffic // another one, with open

	open      atomic.Int64 // connections
	turn      counter      // new connections begin to look for a port at the next source
	templates counter      // persistence templates that say this server: goes down too

	judging sync.Mutex // of its thresholds, one at a time, each on the newest count: else the last word might be on an old one
	upper   int64      // the threshold that was applied last

	_ [48]byte // to whole lines
}

// route is a prefix and the way to it: a gateway's slot, or on-link when there is none.
type route struct {
	to     netip.Prefix
	iface  uint16
	onLink bool
	slot   neigh.Slot
}

func newIface(c *conf.Interface, mtu int) iface {
	i := iface{name: c.Name, mac: stack.WordOf(c.MAC), mtu: uint32(mtu), vlan: uint16(c.VLAN), forward: c.Forward, masquerade: c.Masquerade, byRoute: c.Reply == "route"}
	for _, p := range c.Addresses {
		if a := stack.AddrFrom(p.Addr()); a.Is4() && i.dip4.IsZero() {
			i.dip4 = a
		} else if !a.Is4() && i.dip6.IsZero() {
			i.dip6 = a
		}
	}
	return i
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
	if len(v.lengths) > 0 {
		return v.routeByLength(a)
	}
	ip := a.Netip()
	for i := range v.routes {
		if v.routes[i].to.Contains(ip) {
			return &v.routes[i]
		}
	}
	return nil
}

// fewRoutes are walked faster than looked up: 10 ns each, where each length of prefix costs 30 (BenchmarkRouteTo).
const fewRoutes = 8

// length are the routes of a family whose prefixes have so many bits, by prefix.
type length struct {
	bits   int
	is4    bool
	routes map[stack.Addr]*route
}

// indexRoutes makes lengths of routes, which are sorted. Of two with the same prefix the first counts.
func (v *view) indexRoutes() {
	if len(v.routes) <= fewRoutes {
		return
	}
	for i := range v.routes {
		r := &v.routes[i]
		bits, is4 := r.to.Bits(), r.to.Addr().Is4()
		at := slices.IndexFunc(v.lengths, func(l length) bool { return l.bits == bits && l.is4 == is4 })
		if at < 0 {
			at = len(v.lengths)
			v.lengths = append(v.lengths, length{bits, is4, map[stack.Addr]*route{}})
		}
		if k := stack.AddrFrom(r.to.Addr()); v.lengths[at].routes[k] == nil {
			v.lengths[at].routes[k] = r
		}
	}
}

// routeByLength is routeTo where there are many routes: one question for each length of prefix, the longest first.
func (v *view) routeByLength(a stack.Addr) *route {
	is4 := a.Is4()
	for i := range v.lengths {
		if l := &v.lengths[i]; l.is4 == is4 {
			if r := l.routes[a.Mask(l.bits)]; r != nil {
				return r
			}
		}
	}
	return nil
}

// service returns the service that p asks for, nil when there is none.
func (v *view) service(p *stack.Packet) *service {
	return v.services.find(virtual{p.Dst, p.DstPort, p.Proto})
}
