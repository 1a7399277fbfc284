package director

import (
	"tapdirector/director/flow"
	"tapdirector/director/frag"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Fragments of what is balanced or masqueraded all go the way of their datagram's first one, which alone has the ports; director/frag remembers it.
// The first is carried as any packet. What came of it, its fate, is that of the others: they take the same connection in the same
// direction, whatever its method, without asking the connection table again (so also where a connection is for one packet only). Edits change
// their addresses and no more: the L4 header, and the checksum over the whole datagram, are in the first.
//
// Fragments that come before their first are held and carried after it, by the worker that has the first. When such a frame is
// read its verdict is HeldFragment; what becomes of it in the end is counted apart (Director.released), so that verdicts still add up.
//
// SCTP's checksum depends on how many bytes follow the ports, which a first fragment does not tell. So it goes on only where its ports stay as they are:
// dr, tun, and nat to a server of the service's own port. (Addresses are not under that checksum.) Elsewhere the datagram is dropped. Ends of
// SCTP cut messages themselves, so that IP need not.
//
// All other fragments, those that are routed and those for the host, pass as they come.

// way is how the fragments of a datagram go on.
type way uint8

const (
	byForward way = iota // the connection's, from its client
	byReply              // the connection's, from its server
	byRoute              // no connection: routed
	byHost               // no connection: for the host
	byNone               // not at all
)

// fate is what came of a datagram's first fragment: what frag remembers for the others.
type fate struct {
	way  way
	conn flow.Conn
}

// ways carry a later fragment, w.conn being its connection.
var ways = [...]func(*worker, *tap.Frame) Verdict{
	byForward: func(w *worker, f *tap.Frame) Verdict { return forwarders[w.conn.Method](w, f) },
	byReply:   func(w *worker, f *tap.Frame) Verdict { return repliers[w.conn.Method](w, f) },
	byRoute:   (*worker).route,
	byHost:    (*worker).toHost,
}

// fragment carries a fragment whose ends are src and dst to us.
func (w *worker) fragment(f *tap.Frame, src, dst role) Verdict {
	p := w.p
	piece := p.Piece(f.Bytes())
	if !w.follows(piece.Proto, src, dst) {
		return w.carry(f, src, dst)
	}
	in := frag.Fragment{Key: frag.KeyOf(p, &piece), Piece: piece, Frame: f, In: w.in}
	var t fate
	switch w.d.frags.Take(&in, w.now, &t) {
	case frag.First:
		return w.firstFragment(f, &in.Key, src, dst)
	case frag.Known:
		return w.laterFragment(f, &t)
	case frag.Kept:
		return HeldFragment
	case frag.NoRoom:
		return DropFragmentsFull
	}
	return DropFragment
}

// follows reports whether a fragment may belong to a connection. An IPv6 fragment may name an extension header as its protocol: what
// follows that only the first one knows.
func (w *worker) follows(proto uint8, src, dst role) bool {
	icmp := proto == stack.ProtoICMP || proto == stack.ProtoICMPv6
	switch {
	case !icmp && proto != stack.ProtoTCP && proto != stack.ProtoUDP && proto != stack.ProtoSCTP && !stack.IsExtension(proto):
		return false
	case dst&roleVIP != 0 && !icmp:
		return true
	case dst&roleDIP != 0:
		return w.view.tracks
	case dst&(roleVIP|roleNever) != 0:
		return false
	case src&roleServer != 0 && !icmp:
		return true
	}
	return w.masquerades()
}

// masquerades reports whether the way to p's destination masquerades.
func (w *worker) masquerades() bool {
	if !w.view.tracks {
		return false
	}
	r := w.view.routeTo(w.p.Dst)
	return r != nil && w.view.ifaces[r.iface].masquerade
}

// firstFragment carries the first fragment of datagram k, and after it those that are held.
func (w *worker) firstFragment(f *tap.Frame, k *frag.Key, src, dst role) Verdict {
	from, to := w.p.Src, w.p.Dst
	w.conn = flow.Conn{}
	v := DropSCTPFragment
	if !w.spoils() {
		v = w.carry(f, src, dst)
	}
	t := fate{way: w.wayOf(v, from, to), conn: w.conn}
	if t.way == byNone {
		w.d.frags.Refuse(k, w.now)
		return v
	}
	if held := w.d.frags.Learn(k, &t, w.now); len(held) > 0 {
		w.release(held, &t)
	}
	return v
}

// spoils reports whether the first fragment in hand is of an SCTP connection that changes its ports. One that belongs to no connection yet is
// looked at when it makes one.
func (w *worker) spoils() bool {
	if w.p.Proto != stack.ProtoSCTP {
		return false
	}
	t := w.d.table
	return (t.Find(&w.p.Tuple, flow.Forward, &w.conn) || t.Find(&w.p.Tuple, flow.Reply, &w.conn)) && w.unsummable()
}

// unsummable reports whether the packet in hand is a fragment of SCTP whose ports w.conn would change.
func (w *worker) unsummable() bool {
	c := &w.conn
	return w.p.Proto == stack.ProtoSCTP && w.p.Fragment && (c.ServerPort != c.VirtualPort || c.LocalPort != c.ClientPort || c.Method.HidesClient())
}

// wayOf tells the way of a datagram from its first fragment, which was sent from one address to another, got verdict v, and has left its connection, if
// there is one, in w.conn.
func (w *worker) wayOf(v Verdict, from, to stack.Addr) way {
	c := &w.conn
	switch {
	case !v.passed():
		return byNone
	case c.Client == from && c.Virtual == to:
		return byForward
	case c.Server == from && c.Local == to:
		return byReply
	case v == Routed, v == Parked:
		return byRoute
	case v == ToHost:
		return byHost
	}
	return byNone
}

// laterFragment carries a fragment without an L4 header along with its first one.
func (w *worker) laterFragment(f *tap.Frame, t *fate) Verdict {
	p := w.p
	w.conn = t.conn
	if t.way == byForward || t.way == byReply {
		if p.TTL <= 1 {
			return DropNoAnswer // the first was answered
		}
		p.Tuple = t.conn.Tuple(flow.Direction(t.way)) // what would have stood in its header
	}
	return ways[t.way](w, f)
}

// release carries fragments that were held. They came in by any interface, so the worker stands in for that one's while it has them.
func (w *worker) release(held []frag.Held, t *fate) {
	defer func(in uint16) { w.in = in }(w.in)
	for i := range held {
		f := &held[i].Frame
		w.in = held[i].In
		if !w.parseSpare(f) {
			continue // It parsed when it was read, and is a copy.
		}
		w.d.released[w.laterFragment(f, t)].Add(1)
	}
}
