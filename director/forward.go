package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// The forwarding methods: what is edited in a packet of a known connection, and where it goes. A method is bound to a connection when that is
// made; the path only indexes these tables. Each costs a hop: TTL is decremented as by any router, so a loop of directors ends.

// forwarders carry a packet of w.conn from its client; repliers one from its server. They are given later fragments too, of which only addresses may be
// edited: SetDst and SetSrc know that.
var (
	forwarders [flow.NumMethods]func(*worker, *tap.Frame) Verdict
	repliers   [flow.NumMethods]func(*worker, *tap.Frame) Verdict
)

func init() {
	forwarders = [...]func(*worker, *tap.Frame) Verdict{
		flow.NAT: (*worker).natForward, flow.DR: (*worker).drForward, flow.TUN: (*worker).tunForward,
		flow.Masquerade: (*worker).masqueradeForward, flow.FullNAT: (*worker).fullNATForward, flow.FullNATTOA: (*worker).toaForward,
		flow.Across: (*worker).acrossForward, flow.AcrossTOA: (*worker).acrossTOAForward,
		flow.NATFTP: (*worker).ftpForward, flow.FullNATFTP: (*worker).ftpForward,
	}
	repliers = [...]func(*worker, *tap.Frame) Verdict{
		flow.NAT: (*worker).natReply, flow.DR: (*worker).notForwarded, flow.TUN: (*worker).notForwarded,
		flow.Masquerade: (*worker).demasquerade, flow.FullNAT: (*worker).fullNATReply, flow.FullNATTOA: (*worker).toaReply,
		flow.Across: (*worker).acrossReply, flow.AcrossTOA: (*worker).acrossTOAReply,
		flow.NATFTP: (*worker).ftpReply, flow.FullNATFTP: (*worker).ftpReply,
	}
}

// natForward: destination VIP:vport -> RIP:rport.
func (w *worker) natForward(f *tap.Frame) Verdict {
	s, p := w.view.servers[w.conn.ServerID], w.p
	if !w.fits(f, s.iface) {
		return w.tooBig(f, s.iface)
	}
	w.tally.add(s, flow.Forward, p.L3Len)
	b := f.Bytes()
	p.SetDst(b, f.Header.Partial(), w.conn.Server, w.conn.ServerPort)
	p.DecTTL(b)
	return w.toSlot(f, s.iface, s.slot, ForwardedNAT)
}

// natReply: source RIP:rport -> VIP:vport, to where the client's last packet came from.
func (w *worker) natReply(f *tap.Frame) Verdict {
	s, p, hop := w.view.servers[w.conn.ServerID], w.p, w.conn.Hop
	if w.view.ifaces[hop.Iface()].byRoute {
		return w.natReplyByRoute(f, s)
	}
	if !w.fits(f, hop.Iface()) {
		return w.tooBig(f, hop.Iface())
	}
	w.tally.add(s, flow.Reply, p.L3Len)
	b := f.Bytes()
	p.SetSrc(b, f.Header.Partial(), w.conn.Virtual, w.conn.VirtualPort)
	p.DecTTL(b)
	return w.toMAC(f, hop.Iface(), hop.MAC(), RepliedNAT)
}

// natReplyByRoute is natReply where the routing table says the way, as in LVS.
func (w *worker) natReplyByRoute(f *tap.Frame, s *server) Verdict {
	r := w.view.routeTo(w.p.Dst)
	if r == nil {
		return w.answerICMP(f, stack.ICMPNetUnreachable, 0, SentUnreachable)
	}
	w.tally.add(s, flow.Reply, w.p.L3Len)
	if w.fits(f, r.iface) { // else viaRoute answers, and quotes the packet as the server sent it
		w.p.SetSrc(f.Bytes(), f.Header.Partial(), w.conn.Virtual, w.conn.VirtualPort)
	}
	return w.viaRoute(f, r, RepliedNAT)
}

// drForward: only the MAC changes. The server holds the VIP and answers the client itself.
func (w *worker) drForward(f *tap.Frame) Verdict {
	s, p := w.view.servers[w.conn.ServerID], w.p
	if !w.fits(f, s.iface) {
		return w.tooBig(f, s.iface)
	}
	w.tally.add(s, flow.Forward, p.L3Len)
	p.DecTTL(f.Bytes())
	return w.toSlot(f, s.iface, s.slot, ForwardedDR)
}

// demasquerade: destination DIP:port -> the server that opened the connection.
func (w *worker) demasquerade(f *tap.Frame) Verdict {
	p, hop := w.p, w.conn.Hop
	if p.TTL <= 1 {
		return w.answerICMP(f, stack.ICMPTimeExceeded, 0, SentTimeExceeded)
	}
	if !w.fits(f, hop.Iface()) {
		return w.tooBig(f, hop.Iface())
	}
	b := f.Bytes()
	p.SetDst(b, f.Header.Partial(), w.conn.Client, w.conn.ClientPort)
	p.DecTTL(b)
	return w.toMAC(f, hop.Iface(), hop.MAC(), Demasqueraded)
}

// notForwarded is for directions that a method does not have: no such connection is ever found.
func (w *worker) notForwarded(*tap.Frame) Verdict { return DropStray }
