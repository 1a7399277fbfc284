package director

import (
	"sync/atomic"
	"time"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// What is learned of the paths to servers
//
// A router between the director and a server that cannot pass a tunnel's packet on says so to the packet's source: the director. Two things follow
// (RFC 2003 sections 4 and 5, RFC 2473 section 8):
//
//	learn   the path's MTU, when the packet was too big: for ten minutes, then the larger one is tried again (RFC 1191 section 6.3)
//	tell    the client whose packet it was, by an error of our own about the packet as the client sent it. Its MTU is already that of the tunnel, so one
//	        round trip is enough
//
// What is inside of the network is not the client's business: an error is told as too big with the tunnel's MTU, as net unreachable or refused by an
// administrator where it says so, as time exceeded only where the outer TTL is the client's own (tunnel_ttl = 0: then traceroute shows the tunnel's routers
// as the director), and as host unreachable else.
//
// Who can guess addresses can forge such an error, so little is believed: it must be about a packet of a tunnel of ours, larger than the MTU it tells, of a
// connection that is known, if enough is quoted to see; and no path is narrower than minPath4 or ipv6MinMTU. A router that quotes too little to see the
// connection is believed: many quote 8 bytes only, and path MTU discovery would not work with them.

const (
	pathAge  = 600 // seconds that a path's MTU is remembered
	minPath4 = 552 // least MTU of a path that is believed, as Linux does
)

// serverPath is what all tunnels to one server share.
type serverPath struct {
	*pathRecord
	tunnels []*tunnel
}

// pathRecord is what of a path lasts over reloads.
type pathRecord struct {
	learned atomic.Uint64 // seconds since the director's start at which it ends << 32 | MTU in bytes of L3; 0: nothing
	ids     atomic.Uint32 // identification of the last outer packet that may be fragmented
}

// mtu returns the MTU of the path whose first link has that of link.
func (t *pathRecord) mtu(link uint32, now time.Duration) uint32 {
	l := t.learned.Load()
	if l == 0 {
		return link
	}
	if uint64(now/time.Second) >= l>>32 {
		t.learned.CompareAndSwap(l, 0)
		return link
	}
	return min(link, uint32(l))
}

// learnedMTU is 0 when nothing is learned, for listings.
func (t *pathRecord) learnedMTU() uint32 { return uint32(t.learned.Load()) }

// learn notes that a router passed a packet of size bytes on to a link of mtu only; 0: it did not say. What is not believable changes nothing.
func (t *pathRecord) learn(mtu, size int, is4 bool, now time.Duration) {
	if mtu == 0 {
		mtu = stack.Plateau(size)
	}
	if mtu >= size {
		return
	}
	least := ipv6MinMTU
	if is4 {
		least = minPath4
	}
	t.learned.Store(uint64(now/time.Second+pathAge)<<32 | uint64(max(mtu, least)))
}

// has reports whether a tunnel of this path looks like q.
func (t *serverPath) has(q *stack.Tunnel) bool {
	for _, u := range t.tunnels {
		if u.Kind == q.Kind && u.Src == q.Src && u.Port == q.Port && u.Csum == q.Csum {
			return true
		}
	}
	return false
}

// tunnelError carries p if it is an ICMP error about a packet of a tunnel; false when it is not.
func (w *worker) tunnelError(f *tap.Frame) (Verdict, bool) {
	p, b := w.p, f.Bytes()
	var q stack.Tunnel
	if len(w.view.paths) == 0 || !p.IsICMPError() {
		return 0, false
	}
	inner, size, ok := p.QuotedTunnel(b, &q)
	if !ok || q.Src != p.Dst {
		return 0, false
	}
	t := w.view.paths[q.Dst]
	if t == nil || !t.has(&q) {
		return 0, false
	}
	e, ok := p.ICMPError()
	if !ok {
		return 0, false
	}
	if !stack.ChecksumOK(f, p) {
		return DropBadICMP, true
	}
	mtu := p.ICMPSaysMTU(b)
	whose := stack.UnwrapQuote(f, inner, p)
	known := whose && w.tunnelled(&q)
	if e == stack.ICMPTooBig && (known || !whose) {
		t.learn(mtu, size, q.Dst.Is4(), w.now)
	}
	if !known {
		return TunnelError, true
	}
	return w.tellClient(f, e), true
}

// tunnelled finds the connection of the packet in hand, if it travels to that server.
func (w *worker) tunnelled(q *stack.Tunnel) bool {
	return w.d.table.Find(&w.p.Tuple, flow.Forward, &w.conn) && w.conn.Method == flow.TUN && w.conn.Server == q.Dst
}

// tellClient reports an error about f, the client's packet as far as it is known, to the client of w.conn.
func (w *worker) tellClient(f *tap.Frame, e stack.ICMPError) Verdict {
	s, hop := w.view.servers[w.conn.ServerID], w.conn.Hop
	switch {
	case e == stack.ICMPTooBig && !s.tunnel.discover:
		return TunnelError // the next is fragmented outside
	case e == stack.ICMPTimeExceeded && s.tunnel.TTL != 0:
		e = stack.ICMPHostUnreachable
	}
	stack.SetMACs(f.Bytes(), w.view.ifaces[hop.Iface()].mac, hop.MAC()) // as the client's packet came
	g, ok := stack.ICMPErrorFrame(e, w.conn.Virtual, leastMTU(w.tunnelMTU(s), w.p.Kind), f, w.p, w.arena)
	if !ok {
		return TunnelError
	}
	w.cutFor = &w.outs[hop.Iface()]
	w.own(&g)
	return RelayedICMP
}

var tunnelKinds = map[string]stack.TunnelKind{"ipip": stack.IPIP, "gue": stack.GUE, "gre": stack.GRE}

// newTunnel builds the tunnel to a server and adds it to its path.
func (b *builder) newTunnel(c *conf.Service, s *conf.Server) *tunnel {
	dst := stack.AddrFrom(s.Address.Addr())
	t := &tunnel{
		Tunnel: stack.Tunnel{
			Kind: tunnelKinds[s.Tunnel.Kind], Src: stack.AddrFrom(s.Tunnel.Source), Dst: dst,
			Port: uint16(s.Tunnel.Port), Csum: s.Tunnel.Csum, TTL: uint8(c.TunnelTTL),
		},
		discover: c.PMTUDisc, clamp: uint16(c.MSSClamp), path: b.pathTo(dst),
	}
	t.path.tunnels = append(t.path.tunnels, t)
	return t
}

// pathTo returns the path to a server.
func (b *builder) pathTo(dst stack.Addr) *serverPath {
	p := b.paths[dst]
	if p == nil {
		p = &serverPath{pathRecord: &pathRecord{}}
		if b.prev != nil && b.prev.paths[dst] != nil {
			p.pathRecord = b.prev.paths[dst].pathRecord
		}
		b.paths[dst] = p
	}
	return p
}

// moved is t, a tunnel of the view before, in this one.
func (b *builder) moved(t *tunnel) *tunnel {
	u := *t
	u.path = b.pathTo(t.Dst)
	u.path.tunnels = append(u.path.tunnels, &u)
	return &u
}
