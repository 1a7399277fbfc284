package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/neigh"
	"tapdirector/tap"
)

// FullNAT between families
//
//	client -> VIP:vport          ===>   DIP:port -> RIP:rport         an IPv6 VIP and an IPv4 server, or the other way round
//	VIP:vport -> client          <===   RIP:rport -> DIP:port
//
// A connection is Across when its server is of the other family than the VIP: all its packets are translated (stack/translate.go, RFC 7915). To both ends it looks
// like FullNAT; ports, sources and TOA are FullNAT's (fullnat.go).
//
// Sizes. A packet is 20 bytes larger in IPv6, so what counts is what it comes to on the way out:
//
//	fits               goes, a superpacket as one
//	may be cut         IPv4 without DF, and fragments: into IPv6 fragments of up to 1280 bytes, which pass every link, since no sender would hear of
//	                   a smaller one; into IPv4 fragments of the way out's MTU
//	neither            its sender is told the MTU that it can use, in its family
//
// A TCP connection should never come to that: the MSS in both SYNs is lowered to what fits both links of ours with the larger header.

// exit is a way out: an interface, and the next hop there.
type exit struct {
	iface uint16
	known bool // mac is the next hop's
	mac   stack.MACWord
	slot  neigh.Slot // where mac comes from; not with answers by the last hop
}

// exitTo is the exit by a next hop's slot.
func (w *worker) exitTo(iface uint16, slot neigh.Slot) exit {
	mac, ok := w.d.neigh.MAC(slot)
	return exit{iface: iface, known: ok, mac: mac, slot: slot}
}

// acrossForward carries a client's packet to a server of the other family.
func (w *worker) acrossForward(f *tap.Frame) Verdict { return w.toServerAcross(f, 0) }

// acrossTOAForward is acrossForward with the client's address, where it has a place.
func (w *worker) acrossTOAForward(f *tap.Frame) Verdict {
	return w.toServerAcross(f, stack.TOALen(w.conn.Client))
}

// toServerAcross carries a client's packet with toa more bytes of options, where they have a place.
func (w *worker) toServerAcross(f *tap.Frame, toa int) Verdict {
	s, p, c := w.view.servers[w.conn.ServerID], w.p, &w.conn
	if !w.fitsAcross(f, s.iface) {
		return w.tooBigAcross(f, s.iface, toa)
	}
	switch syn := p.TCPFlags&stack.SYN != 0; {
	case syn:
		w.clampAcross(f, s.iface, 0)
	case toa > 0 && p.TCPFlags&stack.RST == 0:
		stack.AddTOA(f, p, c.Client, c.ClientPort, uint32(w.mtuAcross(s.iface)))
	}
	x := w.exitTo(s.iface, s.slot)
	return w.across(f, &stack.Tuple{Src: c.Local, Dst: c.Server, SrcPort: c.LocalPort, DstPort: c.ServerPort}, &x, flow.Forward)
}

// acrossReply carries a server's packet to a client of the other family.
func (w *worker) acrossReply(f *tap.Frame) Verdict { return w.toClientAcross(f, 0) }

// acrossTOAReply is acrossReply while the server is still to be told of the client.
func (w *worker) acrossTOAReply(f *tap.Frame) Verdict {
	toa := stack.TOALen(w.conn.Client)
	if w.p.TCPFlags&stack.SYN != 0 {
		w.p.LowerMSS(f.Bytes(), f.Header.Partial(), toa)
		return w.toClientAcross(f, toa)
	}
	w.d.table.Rebind(&w.p.Tuple, flow.Reply, flow.Across)
	return w.toClientAcross(f, 0)
}

// toClientAcross carries a server's packet; toa is what the client's packets grow by besides.
func (w *worker) toClientAcross(f *tap.Frame, toa int) Verdict {
	p, c := w.p, &w.conn
	if p.TTL <= 1 {
		return w.answerICMP(f, stack.ICMPTimeExceeded, 0, SentTimeExceeded)
	}
	x := exit{iface: c.Hop.Iface(), known: true, mac: c.Hop.MAC()}
	if w.view.ifaces[x.iface].byRoute {
		r := w.view.routeTo(c.Client)
		if r == nil {
			return w.answerICMP(f, stack.ICMPNetUnreachable, 0, SentUnreachable)
		}
		slot, ok := w.slotTo(r, c.Client)
		if !ok {
			return DropNoNeighbour
		}
		x = w.exitTo(r.iface, slot)
	}
	if !w.fitsAcross(f, x.iface) {
		return w.tooBigAcross(f, x.iface, 0)
	}
	if p.TCPFlags&stack.SYN != 0 {
		w.clampAcross(f, x.iface, toa)
	}
	return w.across(f, &stack.Tuple{Src: c.Virtual, Dst: c.Client, SrcPort: c.VirtualPort, DstPort: c.ClientPort}, &x, flow.Reply)
}

// mtuAcross is the bytes of L3 that a packet of p's family may have to fit an interface when it is translated.
func (w *worker) mtuAcross(iface uint16) int {
	if w.p.Kind == stack.KindIPv4 {
		return int(w.view.ifaces[iface].mtu) - stack.HeaderGrowth
	}
	return int(w.view.ifaces[iface].mtu) + stack.HeaderGrowth
}

// fitsAcross reports whether f needs no answer of "too big" on the way out.
func (w *worker) fitsAcross(f *tap.Frame, iface uint16) bool {
	p := w.p
	return p.MaxAcross(f.Header) <= int(w.view.ifaces[iface].mtu) || p.CutAcross(f.Header)
}

// tooBigAcross tells the sender what fits, less the options that it does not know of.
func (w *worker) tooBigAcross(f *tap.Frame, iface uint16, options int) Verdict {
	return w.answerICMP(f, stack.ICMPTooBig, leastMTU(uint32(w.mtuAcross(iface)-options), w.p.Kind), SentTooBig)
}

// clampAcross lowers the MSS that a SYN offers to what fits the interface it came by and the one it leaves by, with the headers that segments have there. On
// the server's side, which is where a SYN,ACK comes from, they have so many options more.
func (w *worker) clampAcross(f *tap.Frame, out uint16, options int) {
	here, there := int(w.view.ifaces[w.in].mtu), int(w.view.ifaces[out].mtu)
	if w.p.Kind == stack.KindIPv4 {
		there -= stack.HeaderGrowth
	} else {
		here -= stack.HeaderGrowth
	}
	most := min(here-options, there) - tcpOverIPv4
	w.p.ClampMSS(f.Bytes(), f.Header.Partial(), uint16(max(min(most, maxMSS), leastMSS)))
}

// Bytes: headers of TCP over IPv4 without options, and bounds of what is made of an MSS.
const (
	tcpOverIPv4 = 40
	leastMSS    = 88
	maxMSS      = 65535 - tcpOverIPv4
)

// across translates f to the ends t and sends it out by x; what must be cut is.
func (w *worker) across(f *tap.Frame, t *stack.Tuple, x *exit, d flow.Direction) Verdict {
	p, n := w.p, w.p.L3Len
	limit := min(w.view.ifaces[x.iface].mtu, ipv6MinMTU)
	cut := p.Kind == stack.KindIPv4 && p.CutAcross(f.Header) && p.MaxAcross(f.Header) > ipv6MinMTU
	v := ForwardedFullNAT
	if d == flow.Reply {
		v = RepliedFullNAT
	}
	switch {
	case p.First && p.NoCsum && p.Kind == stack.KindIPv4:
		return DropNoChecksum
	case cut:
		v = w.acrossInPieces(f, t, x, limit, v)
	case !stack.Translate(f, p, t, w.ids.take()):
		return DropUntranslatable
	default:
		p.DecTTL(f.Bytes())
		v = w.leave(f, x, v)
	}
	w.tally.add(w.view.servers[w.conn.ServerID], d, n)
	return v
}

// leave sends f by x.
func (w *worker) leave(f *tap.Frame, x *exit, v Verdict) Verdict {
	if x.known {
		return w.toMAC(f, x.iface, x.mac, v)
	}
	return w.toSlot(f, x.iface, x.slot, v)
}

// isAcross reports whether packets of a connection are translated.
func isAcross(m flow.Method) bool { return m == flow.Across || m == flow.AcrossTOA }

// icmpAcross carries an ICMP error about q, a packet of w.conn: forward, to the server about its own, else to the client.
func (w *worker) icmpAcross(f *tap.Frame, q *stack.Packet, forward bool) Verdict {
	p, c := w.p, &w.conn
	e := stack.ErrorAcross{ID: w.ids.take()}
	var x exit
	if forward {
		s := w.view.servers[c.ServerID]
		e.Ends, x = stack.Tuple{Src: c.Local, Dst: c.Server}, w.exitTo(s.iface, s.slot)
		e.Quoted = c.Tuple(flow.Reply)
	} else {
		e.Ends, x = stack.Tuple{Src: c.Virtual, Dst: c.Client}, exit{iface: c.Hop.Iface(), known: true, mac: c.Hop.MAC()}
		e.Quoted = c.Tuple(flow.Forward)
	}
	from := int(w.view.ifaces[w.in].mtu) + stack.HeaderGrowth
	if p.Kind == stack.KindIPv6 {
		from -= 2 * stack.HeaderGrowth
	}
	e.MTU = min(int(w.view.ifaces[x.iface].mtu), from)
	if !e.Translate(f, p, q) {
		return DropUntranslatable
	}
	if c.Method == flow.AcrossTOA && !forward {
		p.LowerMTU(f.Bytes(), stack.TOALen(c.Client)) // the packet was larger than the client made it
		p.FixICMP(f.Bytes())
	}
	return w.leave(f, &x, RelayedICMP)
}

// crossing is a packet that becomes several on its way to IPv6: a worker's, bound once.
type crossing struct {
	w       *worker
	ends    stack.Tuple
	exit    exit
	mtu     int
	failed  Verdict // of a piece that did not go on; 0: all did
	send    func(*tap.Frame)
	segment func(*tap.Frame)
}

func (c *crossing) init(w *worker) { c.w, c.send, c.segment = w, c.sendPiece, c.sendSegment }

// acrossInPieces translates f, which may be cut, and sends it in packets of at most mtu bytes of L3; v is the verdict when they left.
func (w *worker) acrossInPieces(f *tap.Frame, t *stack.Tuple, x *exit, mtu uint32, v Verdict) Verdict {
	c := &w.pieces
	c.ends, c.exit, c.mtu, c.failed = *t, *x, int(mtu), 0
	w.cutFor = &w.outs[x.iface]
	if f.Header.Super() {
		w.cut.scratch.Reset()
		if !stack.Segment(f, w.p, w.cut.scratch, c.segment) {
			return DropNoRoom
		}
	} else {
		c.cross(f, w.p)
	}
	switch {
	case c.failed != 0:
		return c.failed
	case !x.known:
		return Parked
	}
	return v
}

// sendSegment takes one segment, in scratch, of a superpacket.
func (c *crossing) sendSegment(f *tap.Frame) {
	var p stack.Packet
	if stack.Parse(f, &p) == stack.ReasonNone {
		c.cross(f, &p)
	}
	c.w.cut.scratch.Reset()
}

// cross translates f and sends it, in fragments where it is too large.
func (c *crossing) cross(f *tap.Frame, p *stack.Packet) {
	w := c.w
	if !stack.Translate(f, p, &c.ends, 0) {
		c.failed = DropUntranslatable
		return
	}
	b := f.Bytes()
	p.DecTTL(b)
	stack.SetMACs(b, c.exit.mac, w.view.ifaces[c.exit.iface].mac)
	if int(p.L3Len) > c.mtu {
		if !stack.FragmentIPv6(f, p, c.mtu, w.arena, c.send) {
			c.failed = DropNoRoom
		}
		return
	}
	stack.CompleteChecksum(f, p)
	if g, ok := w.arena.Frame(len(b)); ok {
		copy(g.Bytes(), b)
		c.sendPiece(&g)
	}
}

// sendPiece sends a packet that lies in the worker's arena.
func (c *crossing) sendPiece(f *tap.Frame) {
	w := c.w
	if c.exit.known {
		w.own(f)
		return
	}
	if !w.d.neigh.Park(c.exit.slot, f) {
		c.failed = DropNoNeighbour
	}
	if !w.arena.Fits(tap.MaxFrameLen) {
		w.flush() // what is parked is a copy
	}
}

// ids are identifications of IPv4 for what was translated. Workers share them out, so that each comes round after all others.
type ids struct{ last, step uint16 }

// take returns the next one.
func (i *ids) take() uint16 {
	i.last += i.step
	return i.last
}

// newIDs are those of the next worker, where all queues of all devices have one, and the janitor one more.
func (d *Director) newIDs() ids {
	n := 1
	for _, dev := range d.devices {
		n += len(dev.Queues)
	}
	return ids{last: uint16(len(d.workers)), step: uint16(n)}
}
