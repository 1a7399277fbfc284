package flow

import (
	"math/rand/v2"
	"testing"
	"time"

	"tapdirector/stack"
)

// twin is the slow table: two maps and a scan.
type twin struct {
	max     int
	byTuple [2]map[stack.Tuple]*twinConn
	all     map[*twinConn]bool
	timeout Timeouts
	counts  map[uint32][2]int32 // by server: active, inactive
}

type twinConn struct {
	Conn
	deadline uint32
}

func newTwin(max int) *twin {
	return &twin{max: max, all: map[*twinConn]bool{}, timeout: DefaultTimeouts(), counts: map[uint32][2]int32{},
		byTuple: [2]map[stack.Tuple]*twinConn{{}, {}}}
}

func (w *twin) count(c *twinConn, n int32) {
	if c.ServerID == NoServer {
		return
	}
	counts := w.counts[c.ServerID]
	if c.State.Active() {
		counts[0] += n
	} else {
		counts[1] += n
	}
	w.counts[c.ServerID] = counts
}

func (w *twin) move(c *twinConn, v view, flags uint8, now time.Duration) {
	w.count(c, -1)
	c.State = c.State.next(c.Proto, v, flags)
	w.count(c, 1)
	c.deadline = tickOf(now) + ticks(w.timeout[c.State])
}

func (w *twin) drop(c *twinConn) {
	w.count(c, -1)
	delete(w.all, c)
	delete(w.byTuple[Forward], c.Tuple(Forward))
	if c.Method.replies() {
		delete(w.byTuple[Reply], c.Tuple(Reply))
	}
}

func (w *twin) touch(k stack.Tuple, d Direction, flags uint8, hop Hop, now time.Duration, out *Conn) Result {
	c := w.byTuple[d][k]
	if c == nil {
		return Miss
	}
	if d == Forward && c.State.reopens(c.Proto, flags) {
		*out = c.Conn
		w.drop(c)
		return Reopen
	}
	if d == Forward {
		c.Hop = hop
	} else {
		c.Marks &^= NoOutput
	}
	w.move(c, viewOf(d, c.Marks), flags, now)
	*out = c.Conn
	return Found
}

func (w *twin) insert(c Conn, flags uint8, now time.Duration, out *Conn) Result {
	if old := w.byTuple[Forward][c.Tuple(Forward)]; old != nil {
		*out = old.Conn
		return Exists
	}
	if c.Method.replies() && w.byTuple[Reply][c.Tuple(Reply)] != nil {
		return Clash
	}
	if len(w.all) == w.max {
		return Full
	}
	c.State, c.Marks = None, 0
	if c.Method == DR {
		c.Marks = NoOutput
	}
	added := &twinConn{Conn: c}
	w.count(added, 1)
	w.move(added, viewOf(Forward, c.Marks), flags, now)
	w.all[added] = true
	w.byTuple[Forward][c.Tuple(Forward)] = added
	if c.Method.replies() {
		w.byTuple[Reply][c.Tuple(Reply)] = added
	}
	*out = added.Conn
	return Inserted
}

func (w *twin) expire(now time.Duration) (n int) {
	for c := range w.all {
		if c.deadline <= tickOf(now) {
			w.drop(c)
			n++
		}
	}
	return n
}

// pair runs the same on both and compares.
type pair struct {
	t      *testing.T
	rng    *rand.Rand
	ip     family
	table  *Table
	twin   *twin
	counts map[uint32][2]int32
	now    time.Duration
	seen   map[string]int
}

func newPair(t *testing.T, ip family, max int) *pair {
	p := &pair{t: t, rng: rand.New(rand.NewPCG(uint64(ip), uint64(max))), ip: ip, twin: newTwin(max), counts: map[uint32][2]int32{}, seen: map[string]int{}}
	p.table = New(Options{Max: max, Count: func(server uint32, active, inactive int32) {
		c := p.counts[server]
		p.counts[server] = [2]int32{c[0] + active, c[1] + inactive}
	}})
	return p
}

// random makes a connection of a small world, where everything happens again and again.
func (p *pair) random() Conn {
	proto := []uint8{stack.ProtoTCP, stack.ProtoTCP, stack.ProtoUDP, stack.ProtoICMP}[p.rng.IntN(4)]
	if p.rng.IntN(4) == 0 {
		return p.ip.outward(proto, p.rng.IntN(4), 1000+p.rng.IntN(6))
	}
	c := p.ip.conn(Method(p.rng.IntN(2)), proto, p.rng.IntN(40))
	c.VirtualPort += uint16(p.rng.IntN(2))
	server := p.rng.IntN(3)
	c.Server, c.ServerID = p.ip.addr(servers, server), uint32(server)
	if c.Method == DR {
		c.ServerPort = c.VirtualPort
	}
	return c
}

func (p *pair) flags() uint8 {
	return []uint8{stack.SYN, stack.SYN | stack.ACK, stack.ACK, stack.ACK, stack.FIN | stack.ACK, stack.RST, 0}[p.rng.IntN(7)]
}

// insert puts one random connection into both.
func (p *pair) insert() string {
	c, flags := p.random(), p.flags()
	var got, want Conn
	var r Result
	if c.Method == Masquerade {
		lo := 2000
		r = p.table.InsertLocal(&c, uint16(lo), uint16(lo+600), flags, p.now, &got)
		if r == NoPort {
			return "no port"
		}
		if r == Inserted && (got.LocalPort < 2000 || got.LocalPort > 2600) {
			p.t.Fatalf("local port %d", got.LocalPort)
		}
		if r == Inserted { // The port is the table's choice; all else must be as the twin has it.
			setLocalPort(&c, &stack.Tuple{}, got.LocalPort)
			p.yield(c)
		}
	} else {
		r = p.table.Insert(&c, flags, p.now, &got)
	}
	if w := p.twin.insert(c, flags, p.now, &want); w != r || (w == Exists || w == Inserted) && got != want {
		p.t.Fatalf("insert %+v:\n%v %+v\n%v %+v", c, r, got, w, want)
	}
	return r.String()
}

// yield ends the connection in the twin whose port c has taken over: one that is over.
func (p *pair) yield(c Conn) {
	old := p.twin.byTuple[Reply][c.Tuple(Reply)]
	if old == nil {
		return
	}
	if old.State != TimeWait && old.State != Close {
		p.t.Fatalf("%+v took the port of a living connection, %+v", c, old)
	}
	p.twin.drop(old)
	p.seen["insert: port taken over"]++
}

// touch sends one packet, mostly of a living connection, through both.
func (p *pair) touch() string {
	c, d, flags := p.random(), Direction(p.rng.IntN(2)), p.flags()
	if p.rng.IntN(4) > 0 {
		for known := range p.twin.all {
			c = known.Conn
			break
		}
	}
	k, hop := c.Tuple(d), HopTo(uint16(p.rng.IntN(9)), 0)
	var got, want Conn
	r := p.table.touchTuple(&k, d, flags, hop, p.now, &got)
	if w := p.twin.touch(k, d, flags, hop, p.now, &want); w != r || got != want {
		p.t.Fatalf("touch %+v:\n%v %+v\n%v %+v", k, r, got, w, want)
	}
	return r.String()
}

// pass lets time go by: mostly little, sometimes a lot.
func (p *pair) pass() string {
	p.now += time.Duration(p.rng.IntN(1000)) * time.Millisecond
	if p.rng.IntN(50) == 0 {
		p.now += time.Duration(p.rng.IntN(400)) * time.Second
	}
	got, want := p.table.Expire(p.now), p.twin.expire(p.now)
	if got != want {
		p.t.Fatalf("at %v %d expired, want %d", p.now, got, want)
	}
	if got > 0 {
		return "expired"
	}
	return "nothing expired"
}

// check compares everything that can be seen from outside.
func (p *pair) check() {
	wantLen(p.t, p.table, len(p.twin.all))
	for server, want := range p.twin.counts {
		if p.counts[server] != want {
			p.t.Fatalf("server %d counts %v, want %v", server, p.counts[server], want)
		}
	}
	seen := 0
	p.table.Each(p.now, func(c *Conn, expires time.Duration) bool {
		want := p.twin.byTuple[Forward][c.Tuple(Forward)]
		if want == nil || want.Conn != *c || max(time.Duration(want.deadline)<<tickShift-p.now, 0) != expires {
			p.t.Fatalf("listed %+v for %v, want %+v", c, expires, want)
		}
		seen++
		return true
	})
	if seen != len(p.twin.all) {
		p.t.Fatalf("%d listed of %d", seen, len(p.twin.all))
	}
}

// The table against the slow twin: random operations over simulated time; nothing that a caller can see may differ. The active and inactive
// counts that Count was told always add up to the living connections.
func TestTableAgainstTwin(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		for _, max := range []int{60, 10_000} {
			p := newPair(t, ip, max)
			for i := range 60_000 {
				switch n := p.rng.IntN(100); {
				case n < 25:
					p.seen["insert: "+p.insert()]++
				case n < 95:
					p.seen["touch: "+p.touch()]++
				default:
					p.seen["expire: "+p.pass()]++
				}
				if i%100 == 0 {
					p.check()
				}
			}
			p.now += 24 * time.Hour
			p.seen["expire: "+p.pass()]++
			p.check()
			for server, c := range p.counts {
				if c != [2]int32{} {
					t.Errorf("server %d still counts %v", server, c)
				}
			}
			p.wantSeen("insert: inserted", "insert: exists", "insert: clash", "touch: found", "touch: miss", "touch: reopen", "expire: expired")
			if max == 60 {
				p.wantSeen("insert: full")
			}
		}
	})
}

// wantSeen fails unless the random operations came to each of these outcomes.
func (p *pair) wantSeen(outcomes ...string) {
	for _, o := range outcomes {
		if p.seen[o] == 0 {
			p.t.Errorf("never seen: %s; seen: %v", o, p.seen)
		}
	}
}
