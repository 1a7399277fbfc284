package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Where the packets of a streak go, and what is edited in them, is the same for all that are alike: a batch has one view, and what a next hop is at its first packet
// is good enough for the rest. So with dr, nat and fullnat it is worked out once, for the first; the others follow. What does not fit the way out, and what is not
// Simple, is left to the method's forwarder.

// row is how the packets of a streak go on.
type row struct {
	tried   bool
	usable  bool
	event   uint16 // of the packets that may follow; noEvent: not known yet
	verdict Verdict
	dir     flow.Direction
	mtu     uint32
	headers uint32        // bytes from L3 to the payload
	never   uint8         // the flags of virtio headers that the way out does not carry
	mac     stack.MACWord // where to
	out     *out
	tallied *tallied
	edit    stack.Rewrite
}

// takes reports whether the packet behind those of the streak follows them.
func (r *row) takes(f *tap.Frame, l *look) bool {
	return l.like == alike && r.event == uint16(l.p.Event) && r.fits(f, l.p.L3Len)
}

// takesOne is takes, without a call, for what is no superpacket; of those it reports false.
func (r *row) takesOne(f *tap.Frame, l *look) bool {
	return l.like == alike && r.event == uint16(l.p.Event) && r.fitsOne(f, l.p.L3Len)
}

// fits reports whether the way out carries a packet of n bytes of L3 as it is.
func (r *row) fits(f *tap.Frame, n uint32) bool {
	h := f.Header
	return (n <= r.mtu || h.Super() && r.headers+uint32(h.GSOSize) <= r.mtu) && r.out.offload.Carries(h)
}

// fitsOne is fits as takesOne is takes.
func (r *row) fitsOne(f *tap.Frame, n uint32) bool {
	return n <= r.mtu && f.Header.GSOType|f.Header.Flags&r.never == 0
}

// carry carries a packet that fits.
func (r *row) carry(f *tap.Frame, o *stack.Own) {
	r.edit.Apply(f, o.NoCsum)
	r.tallied.add(r.dir, o.L3Len)
	r.out.batch = append(r.out.batch, f)
}

// carryRow carries the frames from w.next on that the row takes.
func (w *worker) carryRow(frames []tap.Frame) {
	r := w.row
	for i := w.next; i < len(frames); i++ {
		w.next = i
		f, l := &frames[i], &w.looks[i&(tap.Batch-1)]
		if !r.takesOne(f, l) && !r.takes(f, l) {
			return
		}
		r.carry(f, &l.p.Own)
		w.counts[r.verdict]++
	}
	w.next = len(frames)
}

// beginRow carries the packet in hand, the first of w.conn in direction d, as the first of a row; false when it is none.
func (w *worker) beginRow(f *tap.Frame, d flow.Direction) bool {
	r, p := &w.ownRow, w.p
	w.row = r
	r.event, r.tried, r.usable = noEvent, false, false
	if p.TTL <= 1 || !p.Simple() {
		return false
	}
	if w.makeRow(d); !r.usable || !r.fits(f, p.L3Len) {
		return false
	}
	w.noteRecent(f)
	r.carry(f, &p.Own)
	return true
}

// makeRow does what the method's forwarder does, but for the packet itself. The row is usable, unless only that can tell.
func (w *worker) makeRow(d flow.Direction) {
	r, c, p, v := w.row, &w.conn, w.p, w.view
	r.tried, r.dir = true, d
	m := c.Method
	if m != flow.DR && m != flow.NAT && m != flow.FullNAT {
		return
	}
	s := v.servers[c.ServerID]
	iface, mac := c.Hop.Iface(), c.Hop.MAC()
	if d == flow.Forward {
		iface = s.iface
		if mac, r.usable = w.d.neigh.MAC(s.slot); !r.usable {
			return
		}
	} else if v.ifaces[iface].byRoute || m == flow.DR {
		return
	}
	i := &v.ifaces[iface]
	r.usable, r.mtu, r.mac, r.out, r.tallied = true, i.mtu, mac, &w.outs[iface], w.tally.place(s.id, &s.traffic)
	r.headers, r.never = uint32(p.L4+p.L4Len-p.L3), 0
	if !r.out.offload.Csum {
		r.never = tap.FlagNeedsCsum
	}
	r.edit.Begin(p, mac, i.mac)
	switch {
	case m == flow.DR:
		r.verdict = ForwardedDR
	case m == flow.NAT && d == flow.Forward:
		r.verdict = ForwardedNAT
		r.edit.SetDst(p, c.Server, c.ServerPort)
	case m == flow.NAT:
		r.verdict = RepliedNAT
		r.edit.SetSrc(p, c.Virtual, c.VirtualPort)
	case d == flow.Forward:
		r.verdict = ForwardedFullNAT
		r.edit.SetEnds(p, &stack.Tuple{Src: c.Local, Dst: c.Server, SrcPort: c.LocalPort, DstPort: c.ServerPort})
	default:
		r.verdict = RepliedFullNAT
		r.edit.SetEnds(p, &stack.Tuple{Src: c.Virtual, Dst: c.Client, SrcPort: c.VirtualPort, DstPort: c.ClientPort})
	}
}
