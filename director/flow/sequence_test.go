package flow

import (
	"math/rand/v2"
	"testing"
	"time"

	"tapdirector/stack"
)

// witness writes down what a Watcher is told.
type witness struct {
	proven, ended int
	idled         []Sequence
	now           time.Duration // of the last end
	last          Conn
	controls      bool
}

func (w *witness) Proven(c *Conn)                   { w.proven++; w.last = *c }
func (w *witness) Ended(c *Conn, now time.Duration) { w.ended++; w.last, w.now = *c, now }
func (w *witness) Controls(c *Conn) bool            { w.last = *c; return w.controls }
func (w *witness) Idled(c *Conn, s Sequence)        { w.idled = append(w.idled, s); w.last = *c }

// marked makes connection n with these marks.
func (f family) marked(m Method, proto uint8, n int, marks Marks) Conn {
	c := f.conn(m, proto, n)
	c.Marks = marks
	return c
}

// A Persistent connection proves its client when TCP is established, or when a server answers by UDP; once. A flood of SYNs, and the
// answers to it, prove nothing.
func TestProven(t *testing.T) {
	type packet struct {
		d     Direction
		flags uint8
		want  int
	}
	for name, tc := range map[string]struct {
		m       Method
		proto   uint8
		packets []packet
	}{
		"tcp nat": {NAT, stack.ProtoTCP, []packet{{Forward, stack.SYN, 0}, {Reply, stack.SYN | stack.ACK, 0}, {Forward, stack.ACK, 1}, {Reply, stack.ACK, 1}}},
		"tcp dr":  {DR, stack.ProtoTCP, []packet{{Forward, stack.SYN, 0}, {Forward, stack.ACK, 1}, {Forward, stack.ACK, 1}}},
		"refused": {NAT, stack.ProtoTCP, []packet{{Reply, stack.RST | stack.ACK, 0}}},
		"udp nat": {NAT, stack.ProtoUDP, []packet{{Forward, 0, 0}, {Reply, 0, 1}, {Reply, 0, 1}}},
		"udp dr":  {DR, stack.ProtoUDP, []packet{{Forward, 0, 0}, {Forward, 0, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, ip family) {
				w := &witness{}
				table := New(Options{Max: 10, Watch: w})
				c := mustInsert(t, table, ip.marked(tc.m, tc.proto, 0, Persistent|Unproven), stack.SYN)
				for i, p := range tc.packets {
					k := c.Tuple(p.d)
					if r := table.touchTuple(&k, p.d, p.flags, aHop, 0, &Conn{}); r != Found || w.proven != p.want {
						t.Fatalf("packet %d: %v, proven %d times, want %d", i, r, w.proven, p.want)
					}
				}
			})
		})
	}
}

// A connection that begins as an established one (pick-up) proves its client at once.
func TestProvenByPickup(t *testing.T) {
	w := &witness{}
	table := New(Options{Max: 10, Watch: w})
	mustInsert(t, table, families[0].marked(NAT, stack.ProtoTCP, 0, Persistent|Unproven), stack.ACK)
	if w.proven != 1 {
		t.Errorf("proven %d times", w.proven)
	}
}

// Every end of a Persistent connection is told: by its timer, by a SYN that follows it, by Remove. Others end in silence.
func TestEnded(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		w := &witness{}
		table := New(Options{Max: 10, Watch: w})
		var all []Conn
		for n, marks := range []Marks{Persistent, Persistent, Persistent, 0} {
			all = append(all, mustInsert(t, table, ip.marked(NAT, stack.ProtoTCP, n, marks), stack.SYN))
		}
		k := all[0].Tuple(Forward)
		table.Remove(&k, Forward)
		if w.ended != 1 || w.last.Tuple(Forward) != k {
			t.Errorf("removed: ended %d times", w.ended)
		}
		k = all[1].Tuple(Reply)
		table.touchTuple(&k, Reply, stack.RST, aHop, 0, &Conn{})
		k = all[1].Tuple(Forward)
		if r := table.touchTuple(&k, Forward, stack.SYN, aHop, 0, &Conn{}); r != Reopen || w.ended != 2 {
			t.Errorf("%v: ended %d times", r, w.ended)
		}
		table.Expire(time.Hour)
		if w.ended != 3 || w.now < 59*time.Second || table.Len() != 0 {
			t.Errorf("ended %d times, at %v, %d left", w.ended, w.now, table.Len())
		}
	})
}

// Touch asks for the sequence numbers of a client's packets on Followed connections; the newest are what Idled tells.
func TestFollow(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		for _, m := range []Method{NAT, DR} {
			w := &witness{}
			table := New(Options{Max: 10, Watch: w})
			c := mustInsert(t, table, ip.marked(m, stack.ProtoTCP, 0, Followed), stack.SYN)
			k := c.Tuple(Forward)
			table.Follow(&k, Sequence{0, 0xfffffff1}, true)
			for _, s := range []Sequence{{7000, 0xfffffff1}, {7010, 5}, {7010, 4}, {7005, 5}, {6999, 0xffffffff}} { // wraps; a keepalive; old ones
				if r := table.touchTuple(&k, Forward, stack.ACK, aHop, 0, &Conn{}); r != Follow {
					t.Fatalf("touch: %v", r)
				}
				table.Follow(&k, s, false)
			}
			table.Expire(899 * time.Second)
			if len(w.idled) != 0 {
				t.Fatal("idled before its time")
			}
			table.Expire(901 * time.Second)
			if len(w.idled) != 1 || w.idled[0] != (Sequence{7010, 5}) || w.last.Tuple(Forward) != k {
				t.Errorf("method %d: %v of %+v", m, w.idled, w.last)
			}
			table.Follow(&k, Sequence{1, 1}, true) // it is gone: no harm
		}
	})
}

// Only what was established until its timeout is told; a cell used again begins anew.
func TestIdledOnlyEstablished(t *testing.T) {
	w := &witness{}
	table := New(Options{Max: 10, Watch: w})
	ip := families[0]
	c := mustInsert(t, table, ip.marked(NAT, stack.ProtoTCP, 0, Followed), stack.SYN)
	k := c.Tuple(Forward)
	table.Follow(&k, Sequence{5, 5}, true)
	table.Expire(time.Hour)
	if len(w.idled) != 0 {
		t.Error("a half-open connection was told of")
	}
	mustInsert(t, table, ip.marked(NAT, stack.ProtoTCP, 0, Followed), stack.SYN)
	table.Follow(&k, Sequence{1, 2}, true)
	table.touchTuple(&k, Forward, stack.ACK, aHop, time.Hour, &Conn{})
	table.Expire(3 * time.Hour)
	if len(w.idled) != 1 || w.idled[0] != (Sequence{1, 2}) {
		t.Errorf("%v", w.idled)
	}
}

// Of many connections with random marks every Persistent one is told to have ended exactly once, whatever happened to it.
func TestMarksOfMany(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		w := &witness{}
		table := New(Options{Max: 100_000, Watch: w})
		rng := rand.New(rand.NewPCG(uint64(ip), 3))
		persistent, now := 0, time.Duration(0)
		for range 50_000 {
			var out Conn
			c := ip.marked(Method(rng.IntN(2)), stack.ProtoTCP, rng.IntN(3000), Marks(rng.IntN(8))<<1)
			if table.Insert(&c, stack.SYN, now, &out) == Inserted && c.Marks&Persistent != 0 {
				persistent++
			}
			k, d := c.Tuple(Forward), Forward
			if rng.IntN(2) == 0 {
				k, d = c.Tuple(Reply), Reply
			}
			if table.touchTuple(&k, d, []uint8{stack.SYN, stack.ACK, stack.FIN | stack.ACK, stack.RST}[rng.IntN(4)], aHop, now, &out) == Follow {
				table.Follow(&k, Sequence{rng.Uint32(), rng.Uint32()}, rng.IntN(2) == 0)
			}
			if rng.IntN(100) == 0 {
				now += time.Duration(rng.IntN(20)) * time.Second
				table.Expire(now)
			}
		}
		table.Expire(now + 24*time.Hour)
		if w.ended != persistent || table.Len() != 0 || persistent == 0 || w.proven == 0 || len(w.idled) == 0 {
			t.Errorf("%d of %d told to have ended, %d proven, %d idled, %d left", w.ended, persistent, w.proven, len(w.idled), table.Len())
		}
	})
}

func TestFollowAllocatesNothing(t *testing.T) {
	table := New(Options{Max: 10, Watch: &witness{}})
	c := mustInsert(t, table, families[1].marked(NAT, stack.ProtoTCP, 0, Followed), stack.SYN)
	k := c.Tuple(Forward)
	if n := testing.AllocsPerRun(100, func() { table.Follow(&k, Sequence{1, 2}, false) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFollow(b *testing.B) {
	table := New(Options{Max: 10, Watch: &witness{}})
	c := mustInsert(b, table, families[0].marked(NAT, stack.ProtoTCP, 0, Followed), stack.SYN)
	k := c.Tuple(Forward)
	for b.Loop() {
		table.Follow(&k, Sequence{1, 2}, false)
	}
}

// An established control connection whose time is over is kept as long as the watcher says so, for its timeout each time; its end, and that of a data connection,
// are told.
func TestControlIsKept(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		w := &witness{controls: true}
		table := New(Options{Max: 10, Watch: w})
		c := mustInsert(t, table, ip.marked(NATFTP, stack.ProtoTCP, 0, Control), stack.ACK)
		half := mustInsert(t, table, ip.marked(NATFTP, stack.ProtoTCP, 1, Control), stack.SYN)
		data := mustInsert(t, table, ip.marked(NAT, stack.ProtoTCP, 2, Data), stack.ACK)
		for i := range time.Duration(40) {
			table.Expire(i * 100 * time.Second)
		}
		if k, h, d := c.Tuple(Forward), half.Tuple(Reply), data.Tuple(Forward); !table.Find(&k, Forward, &Conn{}) || table.Find(&h, Reply, &Conn{}) || table.Find(&d, Forward, &Conn{}) || w.ended != 2 {
			t.Errorf("%d connections, %d ended: want the established control connection alone", table.Len(), w.ended)
		}
		w.controls = false
		table.Expire(5000 * time.Second)
		if table.Len() != 0 || w.ended != 3 {
			t.Errorf("%d connections, %d ended", table.Len(), w.ended)
		}
	})
}
