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

const recentBits = 9

// recents are those of a worker.
type recents struct {
	tags [1 << recentBits]uint32 // of hashes: who came last
	all  []recent                // as many
	slot uint32                  // of the packet in hand
	tag  uint32                  // its hash; 0: it is none to be remembered
}

// recent is a connection and a direction.
type recent struct {
	used   bool
	place  flow.Place
	slot   neigh.Slot
	server *server
	conn   flow.Conn
	row    row
}

func (r *recents) init() { r.all = make([]recent, 1<<recentBits) }

// forget forgets all.
func (r *recents) forget() { clear(r.all) }

// find returns what may be remembered of a packet's connection, nil when nothing is.
func (r *recents) find(p *stack.Packet) *recent {
	srcHigh, src := p.Src.Words()
	dstHigh, dst := p.Dst.Words()
	x := src ^ srcHigh<<1 ^ bits.RotateLeft64(dst^dstHigh<<1, 32) ^ uint64(p.SrcPort)<<48 ^ uint64(p.DstPort)<<16
	x *= 0x9e3779b97f4a7c15
	r.slot, r.tag = uint32(x>>(64-recentBits)), uint32(x>>16)|1
	if e := &r.all[r.slot]; r.tags[r.slot] == r.tag && e.used {
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
	r := w.recents.find(p)
	if r == nil || !r.is(p) || p.L3Len > r.row.mtu {
		return false
	}
	hop, d := r.conn.Hop, r.place.Dir()
	if d == flow.Forward {
		mac, ok := w.d.neigh.MAC(r.slot)
		r.used = ok && mac == r.row.mac
		hop = flow.HopTo(w.in, stack.SrcWord(f.Bytes()))
	}
	if !r.used || !w.d.table.Again(&r.place, p.Event, hop, w.now, &r.conn) {
		return false
	}
	if r.conn.Hop != hop { // Answers go another way by now. The table is asked once more, which does no harm.
		r.used = false
		return false
	}
	s.on, s.dir, s.event, s.of = true, d, noEvent, r
	w.row = &r.row
	r.row.event, r.row.tallied = noEvent, w.tally.place(r.server)
	r.row.carry(f, p)
	return true
}

// noteRecent remembers the connection of the packet in hand, which has begun a row.
func (w *worker) noteRecent() {
	t := &w.recents
	if t.tag == 0 {
		return
	}
	if t.tags[t.slot] != t.tag {
		t.tags[t.slot], t.all[t.slot].used = t.tag, false
		return
	}
	s := w.view.servers[w.conn.ServerID]
	t.all[t.slot] = recent{used: true, place: w.l.key.Place(), slot: s.slot, server: s, conn: w.conn, row: *w.row}
}
