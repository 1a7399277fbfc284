package ftp

import (
	"time"

	"tapdirector/stack"
)

// Expected connections. A passive one comes from the client to a port of the VIP: as a rule the one that the server has chosen, another where a service
// listens there or two servers have chosen the same for one client. An active one comes from the server to the port that the client named.

// maxTries is how many ports of the VIP are tried for an answer, from the server's own upwards.
const maxTries = 64

// Match is an expectation that was met.
type Match struct {
	Control stack.Tuple // of the control connection, forward
	Port    uint16      // passive: the server's port
	owner   owner
	want    expectation
}

// Waiting reports whether any connection is expected; it costs a load.
func (t *Table) Waiting() bool { return t.waiting.Load() > 0 }

// Passive takes the expectation that a client's first packet to a VIP meets, if there is one.
func (t *Table) Passive(p *stack.Tuple, now time.Duration, m *Match) bool {
	return t.match(key{p.Src, p.Dst, p.DstPort}, false, now, m)
}

// Active takes the expectation that a server's first packet to a client meets, if there is one.
func (t *Table) Active(p *stack.Tuple, now time.Duration, m *Match) bool {
	return t.match(key{p.Src, p.Dst, p.DstPort}, true, now, m)
}

func (t *Table) match(k key, active bool, now time.Duration, m *Match) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.expected[k]
	if id == 0 {
		return false
	}
	s := t.at(id)
	if s.want.active != active || s.want.until <= now {
		return false
	}
	*m = Match{Control: s.control, Port: s.want.port, owner: owner{id, s.age}, want: s.want}
	t.drop(s)
	return true
}

// DataBegins notes that the connection of this forward tuple is the one that was expected. It is told before the connection is made.
func (t *Table) DataBegins(m *Match, data *stack.Tuple) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.datas[*data] = m.owner
	t.stats.Connections++
	if s := t.at(m.owner.id); s.age == m.owner.age {
		s.data++
	}
}

// DataEnds notes that a data connection is over.
func (t *Table) DataEnds(data *stack.Tuple) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.datas[*data]
	if !ok {
		return
	}
	delete(t.datas, *data)
	if s := t.at(o.id); s.age == o.age && s.data > 0 {
		s.data--
	}
}

// Refused notes that the connection which DataBegins was told of could not be made: it is expected again.
func (t *Table) Refused(m *Match, data *stack.Tuple) {
	t.DataEnds(data)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Connections--
	if s := t.at(m.owner.id); s.age == m.owner.age && s.want == (expectation{}) && t.expected[m.want.key] == 0 {
		t.enter(s, m.want)
	}
}

// expect makes w what s waits for.
func (t *Table) expect(s *session, w expectation) {
	t.forget(s)
	if id := t.expected[w.key]; id != 0 {
		t.forget(t.at(id))
	}
	t.enter(s, w)
}

func (t *Table) enter(s *session, w expectation) {
	s.want = w
	t.expected[w.key] = s.id
	t.waiting.Add(1)
}

// drop ends the waiting of s, which does wait.
func (t *Table) drop(s *session) {
	delete(t.expected, s.want.key)
	s.want = expectation{}
	t.waiting.Add(-1)
}

// forget ends the waiting of s, if it does, in vain.
func (t *Table) forget(s *session) {
	if s.want != (expectation{}) {
		t.stats.Expired++
		t.drop(s)
	}
}

// Expire forgets expectations whose time is over.
func (t *Table) Expire(now time.Duration) {
	if !t.Waiting() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range t.expected {
		if s := t.at(id); s.want.until <= now {
			t.forget(s)
		}
	}
}

// virtualPort chooses the port of the VIP for a server's that this session's client is to connect to; 0 when there is none.
func (t *Table) virtualPort(s *session, k key, server stack.Addr, port uint16, now time.Duration) uint16 {
	k.port = port
	for range maxTries {
		if !t.taken(k.to, k.port) && t.unclaimed(s, k, server, port, now) {
			return k.port
		}
		if k.port++; k.port < 1024 {
			k.port = 1024
		}
	}
	return 0
}

// unclaimed reports whether nobody but s waits for k, or for the same port of the same server, which then listens for s now.
func (t *Table) unclaimed(s *session, k key, server stack.Addr, port uint16, now time.Duration) bool {
	id := t.expected[k]
	if id == 0 || id == s.id {
		return true
	}
	o := t.at(id)
	return o.want.until <= now || o.want.port == port && o.server == server
}
