package director

import (
	"slices"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/director/ftp"
	"tapdirector/stack"
	"tapdirector/tap"
)

// FTP
//
// A service with ftp = true has control connections: those to a port that it listens on alone. Their method is NATFTP or FullNATFTP, bound when
// they are made, so other connections know nothing of it. In front of the method's own edit their segments are read, and edited, by director/ftp.
//
//	passive  client -> VIP:port   ===>   client -> RIP:port        the port that the server's answer named (or another of the VIP)
//	active   VIP:20 -> client     <===   RIP:20 -> client          from the server, to the port that the client's command named
//
// Data connections are expected: a first packet that finds no connection asks for them before (server) or after (client) it asks for a service. They go to
// the control connection's server, whatever its weight, without a question to scheduler, templates or the service's defence: the client has passed that.
// A service that listens on just that port of the VIP goes first; so another port is announced then. Active connections from a port other than 20 leave from
// that port, those from 20 from the one in front of the service's.
//
// What is edited is as large as before or larger. What no longer fits the way out is answered as too big, by as much smaller.

// controlling is what a worker keeps for segments of control connections.
type controlling struct {
	segment ftp.Segment
	edges   [stack.MaxSACKs]uint32
	room    []byte
	match   ftp.Match
}

func newFTP(d *Director, c *conf.Config) *ftp.Table {
	return ftp.New(ftp.Options{Max: c.Limits.FTPSessions, Life: c.Timeouts.TCPListen, Taken: d.listensAlone})
}

// listensAlone reports whether a service listens on this port of a VIP that data connections must leave to it.
func (d *Director) listensAlone(vip stack.Addr, port uint16) bool {
	s := d.view.Load().services.find(virtual{vip, port, stack.ProtoTCP})
	return s != nil && !s.expects
}

// leavesPorts reports whether a service leaves ports to data connections: it has control connections itself, or listens on every port.
func leavesPorts(c *conf.Service) bool {
	return c.FTP || c.Protocol == "tcp" && slices.ContainsFunc(c.Listen, conf.Listen.Every)
}

// rememberControl is remember for a service with ftp = true: connections to a listen of one port are control connections.
func (w *worker) rememberControl(srv *server, f *tap.Frame) (Verdict, bool) {
	c := &w.conn
	if w.view.services.exact[virtual{c.Virtual, c.VirtualPort, c.Proto}] == srv.service {
		c.Marks |= flow.Control
		switch c.Method {
		case flow.NAT:
			c.Method = flow.NATFTP
		case flow.FullNAT:
			c.Method = flow.FullNATFTP
		}
	}
	return w.remember(srv, f)
}

// ftpForward reads a client's segment of a control connection, and then forwards it.
func (w *worker) ftpForward(f *tap.Frame) Verdict {
	if v, ok := w.control(f, flow.Forward, w.view.servers[w.conn.ServerID].iface); !ok {
		return v
	}
	if w.conn.Method == flow.NATFTP {
		return w.natForward(f)
	}
	return w.fullNATForward(f)
}

// ftpReply reads a server's.
func (w *worker) ftpReply(f *tap.Frame) Verdict {
	iface := w.conn.Hop.Iface()
	if w.view.ifaces[iface].byRoute {
		if r := w.view.routeTo(w.conn.Client); r != nil {
			iface = r.iface
		}
	}
	if v, ok := w.control(f, flow.Reply, iface); !ok {
		return v
	}
	if w.conn.Method == flow.NATFTP {
		return w.natReply(f)
	}
	return w.fullNATReply(f)
}

// control reads and edits a segment of a control connection that will leave by iface; when it must not go on, it says what became of it. What its method is going to
// answer, and later fragments, it leaves alone.
func (w *worker) control(f *tap.Frame, d flow.Direction, iface uint16) (Verdict, bool) {
	p, h := w.p, &w.ftp
	if !p.HasPorts || p.TTL <= 1 || !w.fits(f, iface) {
		return 0, true
	}
	b, g := f.Bytes(), &h.segment
	seq, ack := p.Numbers(b)
	payload := p.Payload(b)
	n, at := p.SACKs(b, &h.edges)
	*g = ftp.Segment{Seq: seq, Ack: ack, Flags: p.TCPFlags, SACKs: h.edges[:n], Payload: payload, Window: p.Window(b), Part: p.Fragment}
	g.Damaged = !stack.ChecksumOK(f, p)
	if need := ftp.Room(g); len(h.room) < need {
		h.room = make([]byte, need)
	}
	fate := w.d.ftp.Carry(&w.conn, d, g, w.now, h.room)
	if g.Held {
		a, ok := stack.ACKFrame(f, p, g.HeldAck, g.HeldWindow, w.arena)
		w.answer(&a, ok, 0)
	}
	switch fate {
	case ftp.Waits:
		return DropFTP, false
	case ftp.Changed, ftp.Cut:
		if v, ok := w.replacePayload(f, iface, len(g.Payload)-len(payload)); !ok {
			return v, false
		}
		if fate == ftp.Cut {
			p.ClearFlags(f.Bytes(), f.Header.Partial(), stack.FIN|stack.PSH)
		}
	}
	b = f.Bytes()
	if g.Seq != seq || g.Ack != ack {
		p.SetNumbers(b, f.Header.Partial(), g.Seq, g.Ack)
	}
	p.SetSACKs(b, f.Header.Partial(), at, g.SACKs)
	return 0, true
}

// replacePayload puts the payload of the segment in hand, longer by so many bytes, into f, if that fits the way out.
func (w *worker) replacePayload(f *tap.Frame, iface uint16, longer int) (Verdict, bool) {
	mtu := int(w.view.ifaces[iface].mtu)
	if w.p.DF && !f.Header.Super() && int(w.p.L3Len)+longer > mtu {
		return w.answerICMP(f, stack.ICMPTooBig, mtu-longer, SentTooBig), false
	}
	if !stack.ReplacePayload(f, w.p, w.ftp.segment.Payload) {
		return DropNoRoom, false
	}
	return 0, true
}

// requote gives the packet q that an ICMP error quotes the number that its sender knows it by; forward: the error is on the way to the server.
func (w *worker) requote(b []byte, q *stack.Packet, forward bool) {
	d := flow.Forward
	if forward {
		d = flow.Reply
	}
	q.Renumber(b, func(seq uint32) uint32 { return w.d.ftp.Quoted(&w.conn, d, seq) })
}

// expected makes the data connection that a client's first packet asks for, in w.conn, if it is expected; s is the service that it would go to. mine is false when
// it is not.
func (w *worker) expected(s *service, f *tap.Frame, hop flow.Hop) (v Verdict, ok, mine bool) {
	if s != nil && !s.expects || !w.d.ftp.Waiting() {
		return 0, false, false
	}
	var control flow.Conn
	m := &w.ftp.match
	if !w.opens() || !w.d.ftp.Passive(&w.p.Tuple, w.now, m) || !w.d.table.Find(&m.Control, flow.Forward, &control) {
		return 0, false, false
	}
	srv := w.view.servers[control.ServerID]
	w.conn = newConn(w.p, srv.service, srv, hop)
	w.conn.Server, w.conn.ServerPort = control.Server, m.Port
	w.conn.Marks |= flow.Data
	v, ok = w.rememberData(srv, f)
	return v, ok, true
}

// opens reports whether the packet in hand is TCP's first.
func (w *worker) opens() bool {
	return w.p.Proto == stack.ProtoTCP && w.p.TCPFlags&(stack.SYN|stack.ACK|stack.RST|stack.FIN) == stack.SYN
}

// rememberData puts w.conn, a data connection, into the table. When that cannot be, it is expected again.
func (w *worker) rememberData(srv *server, f *tap.Frame) (Verdict, bool) {
	data := w.conn.Tuple(flow.Forward)
	w.d.ftp.DataBegins(&w.ftp.match, &data)
	v, ok := w.remember(srv, f)
	if !ok {
		w.d.ftp.Refused(&w.ftp.match, &data)
	}
	return v, ok
}

// active carries the first packet of a server's data connection to a client, if it is expected.
func (w *worker) active(f *tap.Frame) (Verdict, bool) {
	p, m := w.p, &w.ftp.match
	var control flow.Conn
	if !w.d.ftp.Waiting() || !w.opens() || !w.d.ftp.Active(&p.Tuple, w.now, m) || !w.d.table.Find(&m.Control, flow.Forward, &control) {
		return 0, false
	}
	srv := w.view.servers[control.ServerID]
	c := flow.Conn{
		Client: p.Dst, ClientPort: p.DstPort, Local: p.Dst, LocalPort: p.DstPort,
		Virtual: control.Virtual, VirtualPort: p.SrcPort, Server: p.Src, ServerPort: p.SrcPort,
		Proto: p.Proto, Method: flow.NAT, Marks: flow.Data, ServerID: control.ServerID, Hop: control.Hop,
	}
	if p.SrcPort == control.ServerPort-1 {
		c.VirtualPort = control.VirtualPort - 1
	}
	w.conn = c
	if v, ok := w.rememberData(srv, f); !ok {
		return v, true
	}
	if w.conn.Server != c.Server || w.conn.ServerPort != c.ServerPort {
		return DropClash, true // the same two ends have another connection, of another server
	}
	return repliers[flow.NAT](w, f), true
}

// ftpEnded tells FTP's accounts that c is over. It is called with a shard of the connection table locked.
func (d *Director) ftpEnded(c *flow.Conn) {
	k := c.Tuple(flow.Forward)
	if c.Marks&flow.Control != 0 {
		d.ftp.Ended(&k)
	}
	if c.Marks&flow.Data != 0 {
		d.ftp.DataEnds(&k)
	}
}
