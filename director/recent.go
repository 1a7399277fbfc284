package director

import (
	"math/bits"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/neigh"
	"tapdirector/tap"
)

// Connections of a moment ago
//
// A worker remembers some connections whose packets began rows: where they are in the table (flow.Place), and their rows. The next packet, of this batch or a later one, then costs a comparison and
// a word with the table, which advances the connection as ever and says whether it is the same. That a packet of its ends goes to the table, and in which direction it is asked, depends on the view alone; so
// all is forgotten when that changes. A next hop is asked for its MAC each time, and the counters of traffic are those of the batch.
//
// Memory is a small table with one place for each hash. Who comes for the first time leaves his hash, and is remembered when he finds it again: so packets of more
// connections than there are places, in turn, write little.

const recentBits = 11 // 500 KB for a worker, of which it touches what it uses

// recents are those of a worker.
type recents struct {
	tags [1 << recentBits]uint32 // of hashes: who came last
	all  []recent                // as many
	used int                     // how many of them
}

// recent is a connection and a direction.
type recent struct {
	used    bool
	place   flow.Place
	slot    neigh.Slot
	server  uint32
	traffic *traffic // of it
	conn    flow.Conn
	row     row
}

func (r *recents) init() { r.all = make([]recent, 1<<recentBits) }

// forget forgets all.
func (r *recents) forget() {
	if r.used == 0 {
		return
	}
	for i, tag := range &r.tags {
		if tag != 0 { // else it was never touched
			r.all[i] = recent{}
		}
	}
	r.used = 0
}

// drop forgets one, if it was remembered.
func (r *recents) drop(e *recent) {
	if e.used {
		e.used = false
		r.used--
	}
}

// recall notes in l which place of recents the connection of its packet would have.
func (l *look) recall() {
	p := &l.p
	srcHigh, src := p.Src.Words()
	dstHigh, dst := p.Dst.Words()
	x := src ^ srcHigh<<1 ^ bits.RotateLeft64(dst^dstHigh<<1, 32) ^ uint64(p.SrcPort)<<48 ^ uint64(p.DstPort)<<16
	x *= 0x9e3779b97f4a7c15
	l.slot, l.tag = uint16(x>>(64-recentBits)), uint32(x>>16)|1
}

// find returns what may be remembered of a packet's connection, nil when nothing is.
func (r *recents) find(l *look) *recent {
	slot := l.slot & (1<<recentBits - 1)
	if e := &r.all[slot]; r.tags[slot] == l.tag && e.used {
		return e
	}
	return nil
}

// is reports whether r is the connection of a packet.
func (r *recent) is(p *stack.Packet) bool {
	c := &r.conn
	if r.place.Dir() == flow.Forward {
		return p.SrcPort == c.ClientPort && p.Src == c.Client && p.Dst == c.Virtual && p.DstPort == c.VirtualPort && p.Proto == c.Proto
	}
	return p.DstPort == c.LocalPort && p.Dst == c.Local && p.Src == c.Server && p.SrcPort == c.ServerPort && p.Proto == c.Proto
}

// again carries the packet in hand if its connection is remembered, and begins a row by it.
func (w *worker) again(f *tap.Frame) bool {
	p, s := w.p, &w.streak
	r := w.recents.find(w.l)
	if r == nil || !r.is(p) || p.L3Len > r.row.mtu {
		return false
	}
	hop, d := r.conn.Hop, r.place.Dir()
	if d == flow.Forward {
		mac, ok := w.d.neigh.MAC(r.slot)
		if !ok || mac != r.row.mac {
			w.recents.drop(r)
			return false
		}
		hop = flow.HopTo(w.in, stack.SrcWord(f.Bytes()))
	}
	if !w.d.table.Again(&r.place, p.Event, hop, w.now, &r.conn) {
		return false
	}
	if r.conn.Hop != hop { // Answers go another way by now. The table is asked once more, which does no harm.
		w.recents.drop(r)
		return false
	}
	s.on, s.dir, s.event, s.of = true, d, noEvent, r
	w.row = &r.row
	r.row.event, r.row.tallied = noEvent, w.tally.place(r.server, r.traffic)
	r.row.carry(f, p)
	return true
}

// noteRecent remembers the connection of the packet in hand, which has begun a row.
func (w *worker) noteRecent() {
	t, l := &w.recents, w.l
	if l.tag == 0 {
		return
	}
	if t.tags[l.slot] != l.tag {
		t.tags[l.slot] = l.tag
		t.drop(&t.all[l.slot])
		return
	}
	s := w.view.servers[w.conn.ServerID]
	t.drop(&t.all[l.slot])
	t.used++
	t.all[l.slot] = recent{used: true, place: l.key.Place(), slot: s.slot, server: s.id, traffic: &s.traffic, conn: w.conn, row: *w.row}
}
