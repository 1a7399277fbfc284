package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/host"
	"tapdirector/tap"
)

// FullNAT
//
//	client -> VIP:vport   ===>   DIP:port -> RIP:rport
//	VIP:vport -> client   <===   RIP:rport -> DIP:port
//
// The server answers to an address on its own network, or one that its router knows: it needs no route for us, may be anywhere, and may be the client
// itself. The price is a port of ours for each connection, and that it does not see the client.
//
// Ports. Each server has its sources, DIPs of the interface that leads to it. New connections to it begin at one source after the other and try up to
// maxSources of them for a port (flow.InsertLocal). A port is one connection's for as long as that is remembered, TIME_WAIT included; when none is free one
// of an ended connection is taken over. The server may still remember that one: it answers the SYN with an ACK, gets the client's reset, and
// takes the next SYN, a second later. With none of these either the packet is dropped, and the client tries again.
//
// TOA. A connection of a service with toa = true is FullNATTOA at first: every packet of the client but SYN and RST carries the option with its
// address, until the server sends something that is no SYN. The server has then made its socket, from a packet that had the option. (A packet that the client
// sends twice, or several before the first answer, all carry it: any of them may be the one that completes the handshake.) The client's segments are
// smaller for it from the start, because the MSS of the server's SYN,ACK is lowered. A packet that it does not fit is sent without.

// What connections from our addresses leave from. The host's own sockets have the ports behind them.
const (
	localLow  = 1024
	localHigh = host.FirstPort - 1
)

// maxSources bounds what a new connection costs while ports are rare: looking for one in vain takes some 5 us for each source.
const maxSources = 4

// insertFullNAT puts c, to srv, into the table with a source and port that are free, and in w.conn.
func (w *worker) insertFullNAT(c *flow.Conn, srv *server) flow.Result {
	n := uint64(len(srv.sources))
	first := srv.turn.Add(1)
	for try := range min(n, maxSources) {
		c.Local = srv.sources[(first+try)%n]
		if r := w.d.table.InsertLocal(c, localLow, localHigh, w.p.Event, w.now, &w.conn); r != flow.NoPort {
			return r
		}
	}
	return flow.NoPort
}

// fullNATForward: both ends change, to DIP:port -> RIP:rport.
func (w *worker) fullNATForward(f *tap.Frame) Verdict {
	s, p, c := w.view.servers[w.conn.ServerID], w.p, &w.conn
	if !w.fits(f, s.iface) {
		return w.tooBig(f, s.iface)
	}
	w.tally.add(s, flow.Forward, p.L3Len)
	b := f.Bytes()
	p.SetEnds(b, f.Header.Partial(), &stack.Tuple{Src: c.Local, Dst: c.Server, SrcPort: c.LocalPort, DstPort: c.ServerPort})
	p.DecTTL(b)
	return w.toSlot(f, s.iface, s.slot, ForwardedFullNAT)
}

// toaForward is fullNATForward with the client's address, where it has a place.
func (w *worker) toaForward(f *tap.Frame) Verdict {
	s, c := w.view.servers[w.conn.ServerID], &w.conn
	mtu := w.view.ifaces[s.iface].mtu
	if !w.fits(f, s.iface) { // room for the option is asked for in the same breath
		return w.answerICMP(f, stack.ICMPTooBig, int(mtu)-stack.TOALen(c.Client), SentTooBig)
	}
	if w.p.TCPFlags&(stack.SYN|stack.RST) == 0 {
		stack.AddTOA(f, w.p, c.Client, c.ClientPort, mtu)
	}
	return w.fullNATForward(f)
}

// fullNATReply: both ends change, to VIP:vport -> client, to where the client's last packet came from.
func (w *worker) fullNATReply(f *tap.Frame) Verdict {
	s, p, hop := w.view.servers[w.conn.ServerID], w.p, w.conn.Hop
	if p.TTL <= 1 {
		return w.answerICMP(f, stack.ICMPTimeExceeded, 0, SentTimeExceeded)
	}
	if w.view.ifaces[hop.Iface()].byRoute {
		return w.fullNATReplyByRoute(f, s)
	}
	if !w.fits(f, hop.Iface()) {
		return w.tooBig(f, hop.Iface())
	}
	w.tally.add(s, flow.Reply, p.L3Len)
	b := f.Bytes()
	w.unFullNAT(f)
	p.DecTTL(b)
	return w.toMAC(f, hop.Iface(), hop.MAC(), RepliedFullNAT)
}

// unFullNAT gives an answer the ends that the client knows.
func (w *worker) unFullNAT(f *tap.Frame) {
	c := &w.conn
	w.p.SetEnds(f.Bytes(), f.Header.Partial(), &stack.Tuple{Src: c.Virtual, Dst: c.Client, SrcPort: c.VirtualPort, DstPort: c.ClientPort})
}

// fullNATReplyByRoute is fullNATReply where the routing table says the way.
func (w *worker) fullNATReplyByRoute(f *tap.Frame, s *server) Verdict {
	r := w.view.routeTo(w.conn.Client)
	if r == nil {
		return w.answerICMP(f, stack.ICMPNetUnreachable, 0, SentUnreachable)
	}
	if !w.fits(f, r.iface) {
		return w.tooBig(f, r.iface)
	}
	w.tally.add(s, flow.Reply, w.p.L3Len)
	w.unFullNAT(f)
	return w.viaRoute(f, r, RepliedFullNAT)
}

// toaReply is fullNATReply while the server is still to be told: by a SYN it says how large segments may be, by anything else that it knows.
func (w *worker) toaReply(f *tap.Frame) Verdict {
	if w.p.TCPFlags&stack.SYN != 0 {
		w.p.LowerMSS(f.Bytes(), f.Header.Partial(), stack.TOALen(w.conn.Client))
	} else {
		w.d.table.Rebind(&w.p.Tuple, flow.Reply, flow.FullNAT)
	}
	return w.fullNATReply(f)
}
