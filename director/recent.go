package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/neigh"
	"tapdirector/tap"
)

// Connections of a moment ago
//
// A worker remembers some connections whose packets began rows: their headers, where they are in the table (flow.Place), and their rows. The next packet, of this batch or a later one, then costs a
// comparison of headers and a word with the table, which advances the connection as ever and says whether it is the same. What else decided where it went, is either in the headers that were compared,
// or follows from the view; so all is forgotten when that changes. A next hop is asked for its MAC each time, and the counters of traffic are those of the batch. A packet whose headers say something else
// than those before, another TTL for instance, goes the long way, and is what is remembered then.
//
// Memory is a small table with one place for each hash. Who comes for the first time leaves his hash, and is remembered when he finds it again: so packets of more
// connections than there are places, in turn, write little.

const recentBits = 11 // 512 KB for a worker, of which it touches what it uses

// recents are those of a worker.
type recents struct {
	tags [1 << recentBits]uint32 // of hashes: who came last
	all  *[1 << recentBits]recent
	used int // how many of them
}

// recent is a connection and a direction.
type recent struct {
	headers [stack.HeadersLen]byte // of a packet as it came; zero: nothing is remembered
	in      uint16                 // the interface that it came in on
	serial  uint16                 // another one, within a batch, for each that is remembered here
	place   flow.Place
	slot    neigh.Slot
	server  uint32
	traffic *traffic // of it
	row     row

	_ [8]byte // to whole cache lines
}

func (r *recents) init() { r.all = new([1 << recentBits]recent) }

// at returns what may be remembered of a connection whose packets have such a hash (stack.Mix).
func (r *recents) at(hash uint64) *recent { return &r.all[hash>>(64-recentBits)] }

// forget forgets all.
func (r *recents) forget() {
	if r.used == 0 {
		return
	}
	for i, tag := range &r.tags {
		if tag != 0 { // else it was never touched
			r.drop(&r.all[i])
		}
	}
}

// drop forgets one, if it was remembered.
func (r *recents) drop(e *recent) {
	if e.traffic != nil {
		*e = recent{serial: e.serial + 1}
		r.used--
	}
}

// again carries a frame whose connection is remembered, and begins a row by it; false when it has to go the long way.
func (w *worker) again(f *tap.Frame, l *look) bool {
	r := l.of
	if r.serial != l.serial || !r.row.fitsOne(f, l.p.L3Len) && !r.row.fits(f, l.p.L3Len) {
		return false
	}
	if r.row.dir == flow.Forward {
		if mac, _ := w.d.neigh.MAC(r.slot); mac != r.row.mac { // 0 while it is not known
			w.recents.drop(r)
			return false
		}
	}
	if !w.d.table.Again(&r.place, l.p.Event, w.now) {
		return false
	}
	if t := r.row.tallied; t.of != r.traffic {
		w.tally.turn(t, r.server, r.traffic)
	}
	r.row.event = uint16(l.p.Event)
	w.streak.on, w.row = true, &r.row
	r.row.carry(f, &l.p.Own)
	return true
}

// noteRecent remembers the connection of the packet in hand, which begins a row.
func (w *worker) noteRecent(f *tap.Frame) {
	if w.l.passing {
		return
	}
	t, b := &w.recents, f.Bytes()
	hash := stack.Mix(b)
	e, tag := t.at(hash), &t.tags[hash>>(64-recentBits)]
	t.drop(e)
	if *tag != uint32(hash)|1 {
		*tag = uint32(hash) | 1
		return
	}
	s := w.view.servers[w.conn.ServerID]
	t.used++
	*e = recent{in: w.in, serial: e.serial, place: w.l.key.Place(&w.conn), slot: s.slot, server: s.id, traffic: &s.traffic, row: *w.row}
	copy(e.headers[:], b)
}
