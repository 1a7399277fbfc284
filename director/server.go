package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/neigh"
	"tapdirector/tap"
)

// Not to an address of ours: a server's answer to a client, or what a server that has us as its gateway sends into the world, or, with
// masquerade, the world's answer to it.

// transit carries a packet to an address that is not ours; src is what its sender is to us.
func (w *worker) transit(f *tap.Frame, src role) Verdict {
	p := w.p
	if src&roleServer != 0 && p.HasPorts {
		if v, ok := w.fromServer(f); ok {
			return v
		}
		if v, ok := w.active(f); ok {
			return v
		}
		if v, ok := w.unknownReply(f); ok {
			return v
		}
	}
	if p.IsICMPError() {
		if v, ok := w.relayICMP(f); ok {
			return v
		}
	}
	return w.route(f)
}

// fromServer carries a server's answer to a client; false when it is none.
func (w *worker) fromServer(f *tap.Frame) (Verdict, bool) {
	p := w.p
	switch {
	case p.TTL <= 1:
		return w.answerICMP(f, stack.ICMPTimeExceeded, 0, SentTimeExceeded), true
	case w.touch(flow.Reply, flow.Hop{}) == flow.Found:
		return w.known(f, flow.Reply), true
	}
	return 0, false
}

// route passes a packet on by the routing table, as a router does (RFC 1812).
func (w *worker) route(f *tap.Frame) Verdict {
	p := w.p
	if !w.view.ifaces[w.in].forward {
		return DropNotOurs
	}
	if !routable(p) {
		return DropMulticast
	}
	if p.TTL <= 1 {
		return w.answerICMP(f, stack.ICMPTimeExceeded, 0, SentTimeExceeded)
	}
	r := w.view.routeTo(p.Dst)
	if r == nil {
		return w.answerICMP(f, stack.ICMPNetUnreachable, 0, SentUnreachable)
	}
	if w.view.ifaces[r.iface].masquerade {
		return w.masquerade(f, r)
	}
	return w.viaRoute(f, r, Routed)
}

// routable reports whether p's destination may leave a link: not multicast, not link-local.
func routable(p *stack.Packet) bool {
	return p.Dst.Netip().IsGlobalUnicast() // excludes 255.255.255.255 too
}

// viaRoute sends p to r's gateway, or to its destination when that is on r's link.
func (w *worker) viaRoute(f *tap.Frame, r *route, v Verdict) Verdict {
	slot, ok := w.slotOf(r)
	if !ok {
		return DropNoNeighbour
	}
	if !w.fits(f, r.iface) {
		return w.tooBig(f, r.iface)
	}
	w.p.DecTTL(f.Bytes())
	return w.toSlot(f, r.iface, slot, v)
}

// slotOf returns the next hop of p by r.
func (w *worker) slotOf(r *route) (neigh.Slot, bool) { return w.slotTo(r, w.p.Dst) }

// slotTo returns the next hop to a by r: the gateway, or a itself when that is on the link.
func (w *worker) slotTo(r *route, a stack.Addr) (neigh.Slot, bool) {
	if r.onLink {
		return w.d.neigh.Dynamic(int(r.iface), a)
	}
	return r.slot, true
}

// masquerade passes a server's own packet on with our DIP as its source. Only what has ports or an echo identifier can be told apart
// when it comes back; the rest, but for ICMP errors about such packets, is dropped.
func (w *worker) masquerade(f *tap.Frame, r *route) Verdict {
	p := w.p
	if v, ok := w.relayICMP(f); ok {
		return v
	}
	if !p.HasPorts && !isEchoRequest(p) {
		return DropNoPort
	}
	hop := flow.HopTo(w.in, stack.SrcWord(f.Bytes()))
	if w.touch(flow.Forward, hop) != flow.Found {
		if v, ok := w.newMasquerade(r, hop); !ok {
			return v
		}
	}
	return w.masqueradeBy(f, r)
}

// masqueradeForward is masquerade for a later fragment of a known connection.
func (w *worker) masqueradeForward(f *tap.Frame) Verdict {
	r := w.view.routeTo(w.p.Dst)
	if r == nil {
		return DropNoAnswer
	}
	return w.masqueradeBy(f, r)
}

// masqueradeBy gives a packet of w.conn the connection's source and sends it by r.
func (w *worker) masqueradeBy(f *tap.Frame, r *route) Verdict {
	p := w.p
	if !w.fits(f, r.iface) {
		return w.tooBig(f, r.iface)
	}
	slot, ok := w.slotOf(r)
	if !ok {
		return DropNoNeighbour
	}
	p.SetSrc(f.Bytes(), f.Header.Partial(), w.conn.Local, w.conn.LocalPort)
	p.DecTTL(f.Bytes())
	return w.toSlot(f, r.iface, slot, Masqueraded)
}

// newMasquerade makes the connection of a server's own first packet, in w.conn.
func (w *worker) newMasquerade(r *route, hop flow.Hop) (Verdict, bool) {
	p := w.p
	c := flow.Conn{
		Client: p.Src, ClientPort: p.SrcPort,
		Virtual: p.Dst, VirtualPort: p.DstPort,
		Local:  w.view.ifaces[r.iface].dip(p.Dst),
		Server: p.Dst, ServerPort: p.DstPort,
		Proto: p.Proto, Method: flow.Masquerade, ServerID: flow.NoServer, Hop: hop,
	}
	if c.Local.IsZero() {
		return DropNoPort, false
	}
	if w.p.Proto == stack.ProtoSCTP && w.p.Fragment {
		return DropSCTPFragment, false
	}
	switch w.d.table.InsertLocal(&c, localLow, localHigh, p.Event, w.now, &w.conn) {
	case flow.Full:
		return DropTableFull, false
	case flow.NoPort:
		return DropNoPort, false
	}
	return 0, true
}

func isEchoRequest(p *stack.Packet) bool {
	return p.Proto == stack.ProtoICMP && p.ICMPType == 8 || p.Proto == stack.ProtoICMPv6 && p.ICMPType == 128
}
