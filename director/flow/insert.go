package flow

import (
	"time"

	"tapdirector/stack"
)

// Insert adds c, whose state comes from its first packet (a client's, with this event), and copies it to out as it now is.
// Where another connection is in the way nothing changes:
// Exists when one has the same forward tuple (two workers met the same first packet; it is copied to out);
// Clash when replies would pass here and one has the same reply tuple (a client that reaches one server through two services);
// Full at Options.Max, unless another connection may be evicted for it.
//
// For methods with replies Local must be Client, port and all: any other goes through InsertLocal (here it is a Clash unless its shard
// happens to fit).
func (t *Table) Insert(c *Conn, event uint8, now time.Duration, out *Conn) Result {
	tuple := c.Tuple(Forward)
	var forward, reply key
	t.hash.key(&forward, &tuple, Forward)
	replies := c.Method.replies()
	if replies {
		tuple = c.Tuple(Reply)
		t.hash.key(&reply, &tuple, Reply)
	}
	s := &t.shards[forward.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.index.isFree(forward.hash) || replies && reply.hash != forward.hash {
		if i := t.find(s, &forward); i != 0 {
			t.load(t.entries.at(i), out)
			return Exists
		}
		if replies && (reply.shard != forward.shard || t.find(s, &reply) != 0) {
			s.stats.clashes++
			return Clash
		}
	}
	*out = *c
	return t.add(s, &forward, &reply, newcomer{out, event, tickOf(now)})
}

// InsertLocal is Insert for a connection whose local port (for an ICMP echo: its identifier towards the server) the director
// chooses: one of lo to hi, such that no other connection has the reply tuple. c's own LocalPort is ignored; out has the chosen one.
//
// Inserted, Exists and Full as Insert; NoPort when no port is free for that server in c's shard, which has every 256th port.
//
// A port is free again when its connection ends; while none is, that of the connection which has been over (TIME_WAIT, CLOSE, CLOSED) for longest is
// taken over, as by a client's own SYN. The next port tried follows from a secret and a counter (RFC 6056 section 3.3.3), so it is
// neither the one just given back nor easily guessed.
func (t *Table) InsertLocal(c *Conn, lo, hi uint16, event uint8, now time.Duration, out *Conn) Result {
	tuple := c.Tuple(Forward)
	var forward, reply key
	t.hash.key(&forward, &tuple, Forward)
	s := &t.shards[forward.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := t.find(s, &forward); i != 0 {
		t.load(t.entries.at(i), out)
		return Exists
	}
	*out = *c
	reply.shard = forward.shard
	if !t.choosePort(s, out, &reply, [2]uint16{lo, hi}) {
		s.stats.noPort++
		return NoPort
	}
	return t.add(s, &forward, &reply, newcomer{out, event, tickOf(now)})
}

// choosePort sets c's local port to a free one of those in ports that lead to the shard of reply, and fills that key. At most 256
// are tried: one for each upper byte. Where all are taken, that of a connection which is over becomes free.
func (t *Table) choosePort(s *shard, c *Conn, reply *key, ports [2]uint16) bool {
	var over uint32 // the connection that has been over for longest
	shard := reply.shard
	local := t.hash.client(c.Local)
	low, high := int(ports[0]>>8), int(ports[1]>>8)
	span := high - low + 1
	tuple := c.Tuple(Reply)
	start := int(s.nextPort) + int(t.hash.tuple(local, c.Server, uint64(c.ServerPort))>>24)
	for n := range max(span, 0) {
		port := t.hash.port(local, shard, uint8(low+(start+n)%span))
		if port < ports[0] || port > ports[1] {
			continue
		}
		setLocalPort(c, &tuple, port)
		t.hash.key(reply, &tuple, Reply)
		i := t.find(s, reply)
		if i == 0 {
			s.nextPort++
			return true
		}
		over = t.longerOver(over, i)
	}
	if over == 0 {
		return false
	}
	setLocalPort(c, &tuple, uint16(t.entries.at(over).ports[Reply]>>16))
	t.hash.key(reply, &tuple, Reply)
	t.remove(s, over)
	s.stats.reopened++
	return true
}

// longerOver returns a, unless entry b is a connection that is over and will be forgotten sooner; 0 is no entry.
func (t *Table) longerOver(a, b uint32) uint32 {
	e := t.entries.at(b)
	if !e.state.over() || a != 0 && t.entries.at(a).deadline <= e.deadline {
		return a
	}
	return b
}

// setLocalPort sets the local port in c and in its reply tuple; an echo has one identifier for both ends.
func setLocalPort(c *Conn, reply *stack.Tuple, port uint16) {
	c.LocalPort, reply.DstPort = port, port
	if c.Proto == stack.ProtoICMP || c.Proto == stack.ProtoICMPv6 {
		c.ServerPort, reply.SrcPort = port, port
	}
}

// newcomer is a connection about to be added.
type newcomer struct {
	conn  *Conn
	event uint8
	tick  uint32
}

// add makes the entry, whose keys are free.
func (t *Table) add(s *shard, forward, reply *key, n newcomer) Result {
	places := t.places(s, forward, reply, n.conn)
	refs := int64(1)
	if places[Reply] != 0 {
		refs = 2
	}
	conns, all := t.live.come(refs)
	if conns > t.max && !t.evict(s, n.tick) {
		t.live.gone(refs)
		s.stats.full++
		return Full
	}
	t.rows.reach(all)
	i := t.take(s, n.conn.kind())
	if i != 0 && t.enter(s, i, places, n) {
		t.begin(s, i, n.tick)
		return Inserted
	}
	if i != 0 {
		t.give(s, i)
	}
	t.live.gone(refs)
	s.stats.full++
	return Full
}

// places returns where the references to c are placed, as entry.hash.
func (t *Table) places(s *shard, forward, reply *key, c *Conn) (places [2]uint32) {
	places[Forward] = forward.hash
	own := c.Local != c.Client || c.LocalPort != c.ClientPort
	if s.index.isCrowded(forward.hash) {
		places[Forward], own = t.hash.wholeOf(forward), true
		s.index.crowded = true
	}
	if own && c.Method.replies() {
		places[Reply] = t.hash.wholeOf(reply)
	}
	return places
}

// enter fills and indexes entry i. When there is no memory for it, it is as it was.
func (t *Table) enter(s *shard, i uint32, places [2]uint32, n newcomer) bool {
	if n.conn.Marks&Followed != 0 && !t.sequences.cover(i) {
		return false
	}
	e := t.entries.at(i)
	e.hash = places // first: adding the second reference may already move the first
	if !s.index.add(places[Forward], refOf(i, Forward)) {
		return false
	}
	if places[Reply] != 0 && !s.index.add(places[Reply], refOf(i, Reply)) {
		s.index.remove(places[Forward], refOf(i, Forward))
		return false
	}
	n.conn.Marks &^= NoOutput
	if !n.conn.Method.replies() {
		n.conn.Marks |= NoOutput
	}
	n.conn.State = first(n.conn.Proto).next(n.conn.Proto, viewOf(Forward, n.conn.Marks), n.event)
	t.store(e, n.conn)
	return true
}

// begin files and counts entry i, which is new.
func (t *Table) begin(s *shard, i, tick uint32) {
	e := t.entries.at(i)
	e.deadline = tick + t.timeouts[e.state&stateMask].Load()
	s.wheel.file(i)
	s.stats.states[e.state]++
	t.comes(e.state)
	t.countOne(e, 1)
	if e.state.established() && e.marks&Unproven != 0 {
		t.prove(e)
	}
}
