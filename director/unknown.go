package director

import (
	"net/netip"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Packets that belong to no connection and are balanced all the same.
//
// One packet: each datagram of a one_packet service is scheduled by itself and forgotten. LVS sends the answers of nat servers on untranslated,
// which no client takes. Here they are known by what they come from, server and port, and leave as the VIP by the routing table: there is no
// last hop to remember.
//
// Pick-up: a packet of an established TCP or SCTP connection that the table does not know goes where the scheduler's hash says, and makes the connection
// anew. The packets of a nat server may come first, as in a download; they make it too, by the routing table, until the client's next packet says
// its last hop. Only where the service has one VIP and port, and the server a port of its own, or it could not be told which VIP it is.

// once makes no connection of w.conn: the datagram in hand goes on and is forgotten.
func (w *worker) once(srv *server, _ *tap.Frame) (Verdict, bool) {
	srv.conns.Add(1)
	return 0, true
}

// back is what an answer that belongs to no connection is known by; port 0 stands for all.
type back struct {
	server stack.Addr
	port   uint16
	proto  uint8
}

// addBacks enters the servers of a nat service whose answers are understood without a connection. A server of which that cannot be said, because two
// services have it, is there with nil.
func (v *view) addBacks(c *conf.Service, s *service) {
	if s.method != flow.NAT || !s.onePacket && !s.pickup {
		return
	}
	single := len(c.Listen) == 1 && c.Listen[0].Single()
	for _, srv := range s.servers {
		if s.pickup && !single {
			continue
		}
		k := back{srv.addr, srv.port, protocols[c.Protocol]}
		if _, taken := v.backs[k]; taken {
			v.backs[k] = nil
			continue
		}
		v.backs[k] = srv
		srv.vip = virtualOf(c.Listen[0], srv.port)
	}
}

// virtualOf returns the VIP that a server of listen l answers as; port 0: the one that it answers from.
func virtualOf(l conf.Listen, serverPort uint16) netip.AddrPort {
	if serverPort == 0 {
		return netip.AddrPortFrom(l.Addr, 0)
	}
	return netip.AddrPortFrom(l.Addr, l.Low)
}

// unknownReply carries a server's packet that belongs to no connection, if it is one of the above.
func (w *worker) unknownReply(f *tap.Frame) (Verdict, bool) {
	srv := w.view.answering(w.p)
	if srv == nil {
		return 0, false
	}
	p := w.p
	w.conn = flow.Conn{
		Client: p.Dst, ClientPort: p.DstPort, Local: p.Dst, LocalPort: p.DstPort,
		Virtual: stack.AddrFrom(srv.vip.Addr()), VirtualPort: srv.vip.Port(),
		Server: p.Src, ServerPort: p.SrcPort,
		Proto: p.Proto, Method: flow.NAT, Marks: srv.service.marks, ServerID: srv.id,
	}
	if w.conn.VirtualPort == 0 {
		w.conn.VirtualPort = p.SrcPort
	}
	if w.unsummable() {
		return DropSCTPFragment, true
	}
	if w.view.services.find(virtual{w.conn.Virtual, w.conn.VirtualPort, p.Proto}) != srv.service {
		return 0, false
	}
	if srv.service.pickup {
		if p.Opens() || p.Aborts() || p.Proto == stack.ProtoSCTP && p.Event == stack.ChunkInitAck {
			return 0, false
		}
		w.pickUp(srv, f)
	}
	return w.natReplyByRoute(f, srv), true
}

// answering returns the server that p comes from, if its answers need no connection.
func (v *view) answering(p *stack.Packet) *server {
	if len(v.backs) == 0 {
		return nil
	}
	if srv := v.backs[back{p.Src, p.SrcPort, p.Proto}]; srv != nil {
		return srv
	}
	return v.backs[back{p.Src, 0, p.Proto}]
}

// pickUp makes w.conn, which the server's packet in hand belongs to, if the way to the client is known. If not, the packet asks for it, and the next
// one picks up.
func (w *worker) pickUp(srv *server, f *tap.Frame) {
	r := w.view.routeTo(w.p.Dst)
	if r == nil || !srv.service.sources.Allows(w.p.Dst) {
		return
	}
	slot, ok := w.slotOf(r)
	if !ok {
		return
	}
	mac, ok := w.d.neigh.MAC(slot)
	if !ok {
		return
	}
	c := w.conn
	c.Hop = flow.HopTo(r.iface, mac)
	if w.d.table.Insert(&c, w.p.Event, w.now, &w.conn) != flow.Inserted {
		w.conn = c
		return
	}
	srv.conns.Add(1)
	if c.Marks&flow.Followed != 0 {
		end, ack := w.p.Sequence(f.Bytes())
		k := c.Tuple(flow.Forward)
		w.d.table.Follow(&k, flow.Sequence{Client: end, Server: ack}, true)
	}
}
