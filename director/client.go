package director

import (
	"tapdirector/director/flow"
	"tapdirector/director/sched"
	"tapdirector/stack"
	"tapdirector/tap"
)

// From a client to a VIP: the packet belongs to a connection, or makes one, or is answered.

// fromClient carries a packet to a VIP.
func (w *worker) fromClient(f *tap.Frame) Verdict {
	p := w.p
	if !p.HasPorts {
		return w.otherToUs(f)
	}
	if p.TTL <= 1 {
		return w.expiresHere(f)
	}
	hop := flow.HopTo(w.in, stack.SrcWord(f.Bytes()))
	if r := w.touch(flow.Forward, hop); r != flow.Found {
		if v, ok := w.notFound(r, f, hop); !ok {
			return v
		}
		return forwarders[w.conn.Method](w, f)
	}
	return w.known(f, flow.Forward)
}

// otherToUs carries what is no packet of a connection: ICMP errors about connections and tunnels go to their ends, the rest (echo) is the host's.
func (w *worker) otherToUs(f *tap.Frame) Verdict {
	if v, ok := w.relayICMP(f); ok {
		return v
	}
	if v, ok := w.tunnelError(f); ok {
		return v
	}
	return w.toHost(f)
}

// expiresHere answers a packet whose TTL does not reach a server. Without a service it has arrived: the VIP is ours.
func (w *worker) expiresHere(f *tap.Frame) Verdict {
	if w.view.service(w.p) == nil {
		return w.reject(f)
	}
	return w.answerICMP(f, stack.ICMPTimeExceeded, 0, SentTimeExceeded)
}

// notFound handles what is not simply a packet of a known connection: one whose sequence numbers are followed, or a first packet.
func (w *worker) notFound(r flow.Result, f *tap.Frame, hop flow.Hop) (Verdict, bool) {
	if r == flow.Follow {
		w.follow(f, false)
		return 0, true
	}
	return w.schedule(f, hop)
}

// schedule makes the connection that a first packet asks for, in w.conn. When it cannot, it says what became of the packet.
func (w *worker) schedule(f *tap.Frame, hop flow.Hop) (Verdict, bool) {
	p := w.p
	s := w.view.service(p)
	if v, ok, mine := w.expected(s, f, hop); mine {
		return v, ok
	}
	switch {
	case p.Aborts():
		return DropStray, false
	case s == nil:
		return w.reject(f), false
	}
	if v, ok := w.admit(s); !ok {
		return v, false
	}
	if !p.Opens() && !s.pickup {
		return w.reject(f), false
	}
	srv, marks := s.pick(w, s, f)
	if srv == nil {
		return w.noServer(f, s), false
	}
	w.conn = newConn(p, s, srv, hop)
	w.conn.Marks |= marks
	if w.unsummable() {
		w.unhold(&w.conn)
		return DropSCTPFragment, false
	}
	if s.method == flow.NAT && srv.addr == p.Src {
		w.unhold(&w.conn)
		return DropHairpin, false
	}
	return s.keep(w, srv, f)
}

// scheduled returns the server that the scheduler picks, nil when there is none.
func (w *worker) scheduled(s *service, f *tap.Frame) (*server, flow.Marks) {
	r := w.request(f)
	i := s.scheduler.Pick(r)
	if i < 0 {
		r.Dead = true
		if i = s.scheduler.Pick(r); i < 0 {
			return nil, 0
		}
	}
	return s.servers[i], 0
}

// remember puts w.conn, a connection to srv, into the table.
func (w *worker) remember(srv *server, f *tap.Frame) (Verdict, bool) {
	c := w.conn
	r := w.insert(&c, srv)
	if r == flow.Inserted {
		srv.conns.Add(1)
		if c.Marks&flow.Followed != 0 {
			w.follow(f, true)
		}
		return 0, true
	}
	w.unhold(&c)
	switch r {
	case flow.Full:
		return DropTableFull, false
	case flow.Clash:
		return DropClash, false
	case flow.NoPort:
		return DropNoPort, false
	}
	return 0, true
}

// request is what the scheduler sees of the packet in hand.
func (w *worker) request(f *tap.Frame) sched.Request {
	p := w.p
	r := sched.Request{Tuple: &p.Tuple, Now: w.now}
	if p.Proto == stack.ProtoUDP {
		r.Payload = f.Bytes()[p.L4+p.L4Len:]
	}
	return r
}

// newConn is the connection of p to srv.
func newConn(p *stack.Packet, s *service, srv *server, hop flow.Hop) flow.Conn {
	port := srv.port
	if port == 0 {
		port = p.DstPort
	}
	return flow.Conn{
		Client: p.Src, ClientPort: p.SrcPort,
		Virtual: p.Dst, VirtualPort: p.DstPort,
		Local: p.Src, LocalPort: p.SrcPort,
		Server: srv.addr, ServerPort: port,
		Proto: p.Proto, Method: srv.method, Marks: s.marks, ServerID: srv.id, Hop: hop,
	}
}

// insert puts c, to srv, into the table and in w.conn.
func (w *worker) insert(c *flow.Conn, srv *server) flow.Result {
	if len(srv.sources) > 0 {
		return w.insertFullNAT(c, srv)
	}
	return w.d.table.Insert(c, w.p.Event, w.now, &w.conn)
}

// noServer handles a first packet that no server of s can take.
func (w *worker) noServer(f *tap.Frame, s *service) Verdict {
	s.noServer.Add(1)
	if !s.reject {
		return DropNoServer
	}
	return w.reject(f)
}
