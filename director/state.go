package director

import (
	"time"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/director/persist"
	"tapdirector/stack"
	"tapdirector/tap"
)

// What services do beyond scheduling each connection and remembering it. What one asks for is bound when the view is built, so that the path has no
// ifs for it: pick and keep.

// state is a service's part of it.
type state struct {
	marks       flow.Marks // of each of its connections
	pickup      bool       // a connection may begin with any packet but a reset or an ABORT
	onePacket   bool
	persistence persistence

	// pick returns the server for the first packet in hand, nil when there is none, and the marks that the connection gets by that.
	pick func(w *worker, s *service, f *tap.Frame) (*server, flow.Marks)

	// keep does what is to be done with w.conn, the connection of the first packet in hand; when it must not go on, it says what became of the packet.
	keep func(w *worker, srv *server, f *tap.Frame) (Verdict, bool)
}

// persistence is how a service's clients stay on their server.
type persistence struct {
	timeout   time.Duration
	bits      [2]int // of a client's address: IPv4, IPv6
	quiescent bool   // a server of weight 0 loses its templates
}

// newState reads a service's config.
func newState(c *conf.Service) state {
	s := state{
		pickup:    c.Pickup,
		onePacket: c.OnePacket,
		persistence: persistence{
			timeout: c.PersistenceTimeout, bits: [2]int{c.PersistencePrefix4, c.PersistencePrefix6}, quiescent: c.ExpireQuiescentTemplate,
		},
		pick: func(w *worker, s *service, f *tap.Frame) (*server, flow.Marks) { return w.scheduled(s, f) },
		keep: (*worker).remember,
	}
	if c.PersistenceTimeout > 0 {
		s.pick = (*worker).persistent
	}
	if c.OnePacket {
		s.keep = (*worker).once
	}
	if c.FTP {
		s.keep = (*worker).rememberControl
	}
	if c.Idle == "reset" || c.OnServerRemoved == "reset" {
		s.marks |= flow.Followed
	}
	return s
}

// Persistence: LVS's templates, kept by director/persist.

// templateKey is what the template of a client is found by.
func (s *service) templateKey(client stack.Addr) persist.Key {
	bits := s.persistence.bits[1]
	if client.Is4() {
		bits = s.persistence.bits[0]
	}
	return persist.Key{Client: client.Mask(bits), Service: s.id}
}

// persistent picks the server of the client's template, and makes one of the scheduler's pick where there is none. A template holds also for a
// server that is drained or overloaded, unless the service says otherwise of drained ones.
func (w *worker) persistent(s *service, f *tap.Frame) (*server, flow.Marks) {
	k := s.templateKey(w.p.Src)
	l := persist.Lease{Now: w.now, Timeout: s.persistence.timeout, Hold: !s.onePacket}
	if srv := w.ofTemplate(s, &k, l); srv != nil {
		return srv, heldMarks(l.Hold)
	}
	srv, _ := w.scheduled(s, f)
	if srv == nil {
		return nil, 0
	}
	id, held := w.d.templates.Put(&k, srv.id, l)
	if w.view.servers[id].gone { // Another worker was faster, with the view before.
		w.d.templates.Drop(&k, id)
		return srv, 0
	}
	return w.view.servers[id], heldMarks(held)
}

// heldMarks are those of a connection that holds a template, or does not.
func heldMarks(held bool) flow.Marks {
	if held {
		return flow.Persistent | flow.Unproven
	}
	return 0
}

// ofTemplate returns the server of k's template, nil when there is none that counts. Of UDP, where a server's answers may not pass here, a second
// connection is what shows that the client is real.
func (w *worker) ofTemplate(s *service, k *persist.Key, l persist.Lease) *server {
	id, ok := w.d.templates.Find(k, l)
	if !ok {
		return nil
	}
	srv := w.view.servers[id]
	if srv.gone || srv.Dead.Load() && s.lives() || s.persistence.quiescent && srv.Weight.Load() == 0 {
		w.d.templates.Drop(k, id)
		return nil
	}
	if w.p.Proto == stack.ProtoUDP {
		w.d.templates.Assure(k, id)
	}
	return srv
}

// release gives back the template of a connection that is no more, or never was.
func (d *Director) release(c *flow.Conn, now time.Duration) {
	srv := d.view.Load().servers[c.ServerID]
	if srv == nil {
		return // it was forgotten the moment its last connection was counted out, and its templates before
	}
	k := srv.service.templateKey(c.Client)
	d.templates.Release(&k, c.ServerID, now)
}

// unhold gives back the template of c, a connection that will not be, if it has one.
func (w *worker) unhold(c *flow.Conn) {
	if c.Marks&flow.Persistent != 0 {
		w.d.release(c, w.now)
	}
}

// countTemplates is the template table's report on a server's; it is called with a shard locked.
func (d *Director) countTemplates(id uint32, n int32) {
	d.view.Load().servers[id].templates.Add(uint64(int64(n)))
}

// watcher is told by the connection table of connections with marks.
type watcher struct{ d *Director }

// Controls keeps a control connection of FTP while it has data connections.
func (w watcher) Controls(c *flow.Conn) bool {
	k := c.Tuple(flow.Forward)
	return w.d.ftp.HasData(&k)
}

// Proven assures the template of c.
func (w watcher) Proven(c *flow.Conn) {
	k := w.d.view.Load().servers[c.ServerID].service.templateKey(c.Client)
	w.d.templates.Assure(&k, c.ServerID)
}

// Ended gives back c's template, and tells FTP's accounts.
func (w watcher) Ended(c *flow.Conn, now time.Duration) {
	if c.Marks&flow.Persistent != 0 {
		w.d.release(c, now)
	}
	if c.Marks&(flow.Control|flow.Data) != 0 {
		w.d.ftpEnded(c)
	}
}

// Idled has c reset.
func (w watcher) Idled(c *flow.Conn, s flow.Sequence) { w.d.resetter.add(c, s) }

// Thresholds, as LVS has them: a server that reaches the upper one is overloaded until it falls below the lower one, or below three quarters of the
// upper one where there is no lower one. Active and inactive connections count alike. Workers that pick at the same instant may each
// take the last place: with n queues a server may have n-1 connections more.

// threshold is a server's.
type threshold struct {
	upper, lower int64 // connections; upper 0: none
}

// judge sets or clears Overload of s after a connection was added, or ended.
func (t threshold) judge(s *serverRecord, added bool) {
	s.judging.Lock()
	defer s.judging.Unlock()
	t.judgeLocked(s, added)
}

func (t threshold) judgeLocked(s *serverRecord, added bool) {
	n := s.open.Load()
	switch {
	case added:
		if n >= t.upper {
			s.Overload.Store(true)
		}
	case t.lower > 0:
		if n < t.lower {
			s.Overload.Store(false)
		}
	case n*4 < t.upper*3:
		s.Overload.Store(false)
	}
}

// apply sets or clears Overload of s after the thresholds may have changed. An upper one that was raised clears it, as in LVS: who raises it wants the server
// to get more. Else it stays as it is between the two.
func (t threshold) apply(s *serverRecord) {
	s.judging.Lock()
	defer s.judging.Unlock()
	if t.upper == 0 || t.upper > s.upper {
		s.Overload.Store(false)
	}
	s.upper = t.upper
	if t.upper == 0 {
		return
	}
	t.judgeLocked(s, true)
	if s.open.Load() < t.upper {
		t.judgeLocked(s, false)
	}
}

// overloaded is the flag as a counter shows it.
func (s *server) overloaded() uint64 {
	if s.Overload.Load() {
		return 1
	}
	return 0
}
