package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// ICMP errors about packets of a connection find their way by the packet they quote: a router that says "too big" or "TTL ran out" about a translated
// packet knows only the translated form. Both the error's own addresses and the quote are translated to what the receiver sent, so path-MTU discovery
// and traceroute work through the director. The error moves the connection neither in state nor in time. One with a wrong checksum is dropped: the
// edit would mend it.

// relayICMP carries p if it is an ICMP error about a packet of a connection; false when it is not.
func (w *worker) relayICMP(f *tap.Frame) (Verdict, bool) {
	p, b := w.p, f.Bytes()
	var q stack.Packet
	if !p.IsICMPError() || !p.Inner(b, &q) {
		return 0, false
	}
	back := q.Reverse()
	forward := w.d.table.Find(&back, flow.Forward, &w.conn)
	if !forward && !w.d.table.Find(&back, flow.Reply, &w.conn) {
		return 0, false
	}
	if !stack.ChecksumOK(f, p) {
		return DropBadICMP, true
	}
	if isRedirect(p) {
		return DropRedirect, true
	}
	if p.TTL <= 1 {
		return DropNoAnswer, true // no error is sent about an error
	}
	p.DecTTL(b)
	if isAcross(w.conn.Method) {
		return w.icmpAcross(f, &q, forward), true
	}
	if w.conn.Marks&flow.Control != 0 {
		w.requote(b, &q, forward)
	}
	if forward {
		return w.icmpForward(f, &q), true
	}
	return w.icmpReply(f, &q), true
}

// isRedirect reports whether p tells its receiver of a better next hop on a link that the other end of a connection is not on: carried there, it
// would let a client change a server's routes. IPv6 has it in neighbour discovery, which never comes here.
func isRedirect(p *stack.Packet) bool { return p.Proto == stack.ProtoICMP && p.ICMPType == 5 }

// icmpForward carries an error on the way that the client's packets take: it is about a packet of the server.
func (w *worker) icmpForward(f *tap.Frame, q *stack.Packet) Verdict {
	p, c, b := w.p, &w.conn, f.Bytes()
	switch c.Method {
	case flow.DR:
		s := w.view.servers[c.ServerID]
		return w.toSlot(f, s.iface, s.slot, RelayedICMP)
	case flow.TUN:
		return w.tunICMP(f)
	}
	q.SetSrc(b, false, c.Server, c.ServerPort)
	q.SetDst(b, false, c.Local, c.LocalPort)
	if c.Method.HidesClient() { // who gets it knows nobody behind us
		p.SetSrc(b, false, c.Local, 0)
	}
	if c.Method == flow.Masquerade {
		p.FixICMP(b)
		return w.icmpByRoute(f)
	}
	p.SetDst(b, false, c.Server, 0)
	p.FixICMP(b)
	s := w.view.servers[c.ServerID]
	return w.toSlot(f, s.iface, s.slot, RelayedICMP)
}

// icmpReply carries an error on the way back to the client: it is about a packet of the client.
func (w *worker) icmpReply(f *tap.Frame, q *stack.Packet) Verdict {
	p, c, b := w.p, &w.conn, f.Bytes()
	q.SetSrc(b, false, c.Client, c.ClientPort)
	q.SetDst(b, false, c.Virtual, c.VirtualPort)
	p.SetDst(b, false, c.Client, 0) // with NAT it is that already
	if c.Method != flow.Masquerade {
		p.SetSrc(b, false, c.Virtual, 0)
	}
	if c.Method == flow.FullNATTOA {
		p.LowerMTU(b, stack.TOALen(c.Client)) // the packet was larger than the client made it
	}
	p.FixICMP(b)
	return w.toMAC(f, c.Hop.Iface(), c.Hop.MAC(), RelayedICMP)
}

// icmpByRoute sends an error on by the routing table.
func (w *worker) icmpByRoute(f *tap.Frame) Verdict {
	r := w.view.routeTo(w.p.Dst)
	if r == nil {
		return DropNoAnswer
	}
	slot, ok := w.slotOf(r)
	if !ok {
		return DropNoNeighbour
	}
	return w.toSlot(f, r.iface, slot, RelayedICMP)
}
