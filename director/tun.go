package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Tunnelling
//
// With tun the client's packet is not changed but for its TTL: it travels to the server as the payload of another (stack/encap.go), so the server may be
// behind routers, and of the other family. The server unwraps it, holds the VIP, and answers the client itself, as with dr; so only packets from the
// client are seen here.
//
// Size is the trouble of tunnels. The tunnel's MTU is that of the way out, or of the path to the server where a router told of a smaller one
// (tunpath.go), less the headers in front. A packet, or each segment of a superpacket, is carried in the first of these manners that is allowed:
//
//	whole      it fits: wrapped where it lies
//	pieces     a superpacket whose segments fit is cut into them; IPv4 without DF that does not fit is fragmented. Each piece is wrapped.
//	outside    wrapped, and the outer packet is fragmented, for the server to put together. What pmtu_disc = false asks for; and for IPv6 up to 1280
//	           bytes, which nobody may call too big (RFC 2473 section 7.1)
//	tooBig     none: the sender is told the tunnel's MTU
//
// The outer DF is the inner one, and set for IPv6; so a router on the path that cannot pass the outer packet on says so, and the client hears of it.
// With pmtu_disc = false, and in pieces of what had no DF, it is clear.

// manner is how a packet gets into a tunnel.
type manner uint8

const (
	whole manner = iota
	pieces
	outside
	tooBig
)

// ipv6MinMTU is what every link of IPv6 carries (RFC 8200 section 5), in bytes of L3.
const ipv6MinMTU = 1280

// tunnel is the way to one server. It never changes; what is learned of the path is kept beside it.
type tunnel struct {
	stack.Tunnel
	discover bool   // too large packets are answered, not fragmented outside
	clamp    uint16 // most bytes of MSS that a client's SYN may announce; 0: any
	path     *serverPath
}

// tunnelling is a worker's work in progress: the frame in hand becomes pieces, and each goes the same way.
type tunnelling struct {
	w      *worker
	server *server
	mac    stack.MACWord // of the next hop, when known
	known  bool
	lost   bool    // a piece found no room
	inner  *cutter // cuts what is then wrapped; its sink is wrapPiece
	outer  *cutter // cuts what is then wrapped and fragmented; its sink is wrapOutside
	send   func(*tap.Frame)
}

func (t *tunnelling) init(w *worker) {
	t.w, t.send = w, t.sendPiece
	t.inner = &cutter{into: w.arena, scratch: w.cut.scratch, sink: t.wrapPiece}
	t.inner.split = t.inner.fragment
	t.outer = &cutter{into: w.cut.scratch, sink: t.wrapOutside}
}

// tunForward puts a client's packet into its server's tunnel.
func (w *worker) tunForward(f *tap.Frame) Verdict {
	s, p := w.view.servers[w.conn.ServerID], w.p
	mtu := w.tunnelMTU(s)
	m := w.manner(f, s.tunnel, mtu)
	if m == tooBig {
		return w.answerICMP(f, stack.ICMPTooBig, leastMTU(mtu, p.Kind), SentTooBig)
	}
	w.tally.add(s, flow.Forward, p.L3Len)
	b := f.Bytes()
	p.DecTTL(b)
	if p.TCPFlags&stack.SYN != 0 && s.tunnel.clamp > 0 {
		p.ClampMSS(b, f.Header.Partial(), s.tunnel.clamp)
	}
	return w.throughTunnel(f, s, m, ForwardedTUN)
}

// tunICMP puts an ICMP error about a server's packet, come from the client's side, into the server's tunnel.
func (w *worker) tunICMP(f *tap.Frame) Verdict {
	s := w.view.servers[w.conn.ServerID]
	m := w.manner(f, s.tunnel, w.tunnelMTU(s))
	if m == tooBig {
		return DropNoAnswer
	}
	return w.throughTunnel(f, s, m, RelayedICMP)
}

// tunnelMTU is the bytes of L3 that a packet to s may have inside the tunnel.
func (w *worker) tunnelMTU(s *server) uint32 {
	t := s.tunnel
	return t.path.mtu(w.view.ifaces[s.iface].mtu, w.now) - uint32(t.Overhead())
}

// leastMTU is what an ICMP error may say: nobody believes less (RFC 791, RFC 8200).
func leastMTU(mtu uint32, k stack.Kind) int {
	if k == stack.KindIPv6 {
		return int(max(mtu, ipv6MinMTU))
	}
	return int(max(mtu, 68))
}

// manner says how the frame in hand gets into a tunnel of that MTU.
func (w *worker) manner(f *tap.Frame, t *tunnel, mtu uint32) manner {
	p := w.p
	if p.L3Len <= mtu && !f.Header.Super() {
		return whole
	}
	largest := w.largest(f)
	switch {
	case largest <= mtu, !p.DF:
		return pieces
	case !t.discover, p.Kind == stack.KindIPv6 && largest <= ipv6MinMTU:
		return outside
	}
	return tooBig
}

// throughTunnel wraps f and sends it to s; v is the verdict when it left.
func (w *worker) throughTunnel(f *tap.Frame, s *server, m manner, v Verdict) Verdict {
	t := &w.tun
	t.server, t.lost = s, false
	t.mac, t.known = w.d.neigh.MAC(s.slot)
	w.cutFor = &w.outs[s.iface]
	ok := true
	switch {
	case m == whole:
		ok = t.wrapWhole(f)
	case m == pieces:
		ok = t.inner.run(f, w.p, w.tunnelMTU(s))
	case f.Header.Super():
		w.cut.scratch.Reset()
		ok = t.outer.run(f, w.p, w.largest(f))
	default:
		stack.CompleteChecksum(f, w.p)
		t.wrapOutside(f)
	}
	switch {
	case !ok:
		return DropNoRoom
	case t.lost:
		return DropNoNeighbour
	case !t.known:
		return Parked
	}
	return v
}

// wrapWhole wraps a frame where it lies.
func (t *tunnelling) wrapWhole(f *tap.Frame) bool {
	w := t.w
	stack.CompleteChecksum(f, w.p)
	if !t.wrap(f, w.p.DF && t.server.tunnel.discover) {
		return false
	}
	if t.known {
		w.cutFor.batch = append(w.cutFor.batch, f)
	} else {
		t.park(f)
	}
	return true
}

// wrap puts f into the tunnel and addresses it to the next hop.
func (t *tunnelling) wrap(f *tap.Frame, df bool) bool {
	s := t.server
	var id uint16
	if !df {
		id = uint16(s.tunnel.path.ids.Add(1))
	}
	if !s.tunnel.Wrap(f, t.w.p, id, df) {
		return false
	}
	stack.SetMACs(f.Bytes(), t.mac, t.w.view.ifaces[s.iface].mac)
	return true
}

// wrapPiece wraps a piece that lies in the worker's arena and sends it.
func (t *tunnelling) wrapPiece(f *tap.Frame) {
	if !t.wrap(f, t.w.p.DF && t.server.tunnel.discover) {
		t.lost = true
		return
	}
	t.sendPiece(f)
}

// wrapOutside wraps a packet that lies outside the worker's arena and sends the outer packet in fragments.
func (t *tunnelling) wrapOutside(f *tap.Frame) {
	w, s := t.w, t.server
	mtu := s.tunnel.path.mtu(w.view.ifaces[s.iface].mtu, w.now)
	switch {
	case !t.wrap(f, false):
		t.lost = true
	case f.Len()-tap.EthernetLen <= int(mtu):
		t.lost = !t.sendCopy(f) || t.lost
	case s.tunnel.Dst.Is4():
		q := stack.Packet{Kind: stack.KindIPv4, L3: tap.EthernetLen, Own: stack.Own{L3Len: uint32(f.Len() - tap.EthernetLen)}}
		t.lost = !stack.FragmentIPv4(f, &q, int(mtu), w.arena, t.send) || t.lost
	default:
		t.lost = !stack.FragmentOwnIPv6(f, int(mtu), s.tunnel.path.ids.Add(1), w.arena, t.send) || t.lost
	}
	w.cut.scratch.Reset()
}

// sendCopy sends what lies in memory that is used again before the batch is out.
func (t *tunnelling) sendCopy(f *tap.Frame) bool {
	g, ok := t.w.arena.Frame(f.Len())
	if ok {
		copy(g.Bytes(), f.Bytes())
		t.sendPiece(&g)
	}
	return ok
}

// sendPiece sends a frame that is ready but for the MAC of a next hop that is not known.
func (t *tunnelling) sendPiece(f *tap.Frame) {
	if t.known {
		t.w.own(f)
		return
	}
	t.park(f)
	if !t.w.arena.Fits(tap.MaxFrameLen) {
		t.w.flush() // what is parked is a copy
	}
}

func (t *tunnelling) park(f *tap.Frame) {
	if !t.w.d.neigh.Park(t.server.slot, f) {
		t.lost = true
	}
}
