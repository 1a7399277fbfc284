package stack

import (
	"encoding/binary"
	"math/bits"

	"tapdirector/tap"
)

// Merging: segmentation backwards
//
// A TAP is paid for by the frame: the bridge, the veth pair and the receiver behind a write cost many times what the path before it
// does, however small the frame. Packets of one flow that wait in one batch may pass all of that as one superpacket, as packets from a fast
// card do (GRO). Merger makes it: what Segment, or the kernel, would cut into these very packets again.
//
//	batch    A1 B1 A2 C1 B2 A3 -> A1+A2+A3 B1+B2 C1
//
// A run is a row of packets of one flow, each of which continues the one before. The superpacket stands where its first packet stood, so a packet can
// pass only those of other flows; a packet of the flow that cannot join ends its run. Nothing waits for a packet that is not here already.
//
// What joins a run must be told by the superpacket alone:
//
//	Ethernet      alike
//	IPv4          alike but for length, checksum and identification; this counts by one, or has no meaning because of DF (RFC 6864).
//	              No options, no fragment
//	IPv6          alike but for length. No extension headers
//	UDP           ports alike; a payload, and a checksum
//	TCP           ports, acknowledgement, window, reserved bits, urgent pointer and options alike; the sequence number continues; flags alike
//	              and none but ACK and ECE. PSH is for the last: a packet with PSH joins and ends the run
//	payload       as long as the first one's. A shorter one joins and ends the run
//	checksum      right, for the superpacket has a partial one, which vouches for all: a packet that was damaged stays alone, and the
//	              receiver sees the damage. Partial, and vouched for by the kernel (DATA_VALID), is right; any other is summed, of no more
//	              packets than have a partner
//	size          a run has at most maxRun packets and 65,535 bytes of IP
//
// So acknowledgements, what opens and closes connections, and superpackets stay as they are. Whoever writes by small calls with TCP_NODELAY sets PSH
// on every packet, as a wish that it be passed on at once; those stay alone as well, as they do in the kernel's GRO.
//
// Two passes. The first goes over the batch and chains each packet to its run: the open runs are found by their flow in a small table. The second copies
// runs of two and more together; what has no partner was looked at and no more.

// maxRun is how many packets are merged: what kernels take as one UDP superpacket at the least (UDP_MAX_SEGMENTS).
const maxRun = 64

// mergeRoom is the bytes that one batch's superpackets may take: several of the largest. Runs beyond it stay as they are.
const mergeRoom = 512 << 10

// Merger merges the packets of batches. It is for one goroutine.
type Merger struct {
	arena  *tap.Arena
	frames []tap.Frame // those made of the batch in hand
	runs   []run       // of the batch in hand, in the order of their first packets; also those that ended
	next   []uint16    // by place in the batch: the place of the next packet of the same run
	slots  []uint16    // open addressing, by hash of the flow: 1 + the flow's last run; 0: free
	open   int         // how many runs may still be joined
	tried  bool        // slots are of this batch
	mask   uint32      // how many slots this batch uses, less one

	Merged Merged // of all batches since the owner set it to zero
}

// Merged counts packets that were merged, and the superpackets that were made of them.
type Merged struct{ Packets, Superpackets uint64 }

// NewMerger returns a Merger for batches of at most n frames.
func NewMerger(n int) *Merger {
	return &Merger{
		arena: tap.NewArena(mergeRoom), frames: make([]tap.Frame, 0, n/2), runs: make([]run, 0, n),
		next: make([]uint16, n), slots: make([]uint16, slotsFor(n)),
	}
}

// slotsFor is how many slots leave at least half of them free: a power of two.
func slotsFor(n int) int { return 2 << bits.Len(uint(n-1)) }

// Merge merges what may be merged of batch, for a device that carries o. It returns the batch that is to be written instead, in the same memory. The
// superpackets in it are borrowed until the next Merge. Every frame is one that Parse took, or was made here. A batch that is too long stays as it is.
func (m *Merger) Merge(batch []*tap.Frame, o tap.Offload) []*tap.Frame {
	if len(batch) < 2 || len(batch) > len(m.next) || !o.Csum {
		return batch
	}
	m.runs, m.open, m.tried = m.runs[:0], 0, false
	joined := 0
	for i, f := range batch {
		if m.chain(batch, i, f, o) {
			joined++
		}
	}
	if joined == 0 {
		return batch
	}
	return m.assemble(batch)
}

// chain puts the packet at place i where it belongs, and reports whether it joined a run.
func (m *Merger) chain(batch []*tap.Frame, i int, f *tap.Frame, o tap.Offload) bool {
	var s segment
	switch s.read(f, o) {
	case passes:
		return false
	case stops:
		m.endAll()
		return false
	case alone:
		if m.open > 0 {
			if r, _ := m.find(batch, f.Bytes(), &s); r != nil {
				m.end(r)
			}
		}
		return false
	}
	r, slot := m.find(batch, f.Bytes(), &s)
	if r != nil && r.open {
		if m.join(r, batch, f, &s) {
			m.next[r.last] = uint16(i)
			r.last = uint16(i)
			return true
		}
		m.end(r)
	}
	if !s.last {
		m.start(slot, i, &s)
	}
	return false
}

// find returns the last run of the packet's flow, nil when there is none, and the slot for the flow's next run.
func (m *Merger) find(batch []*tap.Frame, b []byte, s *segment) (*run, *uint16) {
	if !m.tried {
		n := slotsFor(len(batch))
		clear(m.slots[:n])
		m.mask, m.tried = uint32(n-1), true
	}
	for at := flowHash(b, s) & m.mask; ; at = (at + 1) & m.mask {
		slot := &m.slots[at]
		if *slot == 0 {
			return nil, slot
		}
		r := &m.runs[*slot-1]
		if r.proto == s.proto && r.l4 == s.l4 && sameFlow(batch[r.first].Bytes(), b, s.l4) {
			return r, slot
		}
	}
}

// start opens a run at place i of the batch.
func (m *Merger) start(slot *uint16, i int, s *segment) {
	m.runs = append(m.runs, run{segment: *s, first: uint16(i), last: uint16(i), n: 1, payload: int(s.size), open: true})
	*slot = uint16(len(m.runs))
	m.open++
}

// end closes a run to further packets.
func (m *Merger) end(r *run) {
	if r.open {
		r.open = false
		m.open--
	}
}

func (m *Merger) endAll() {
	for i := 0; m.open > 0; i++ {
		m.end(&m.runs[i])
	}
}

// join reports whether the packet s of f continues the run, and counts it in if so.
func (m *Merger) join(r *run, batch []*tap.Frame, f *tap.Frame, s *segment) bool {
	first := batch[r.first]
	if s.size > r.size || int(s.hdrLen)-tap.EthernetLen+r.payload+int(s.size) > maxDatagram || !r.continuedBy(first.Bytes(), f.Bytes(), s) {
		return false
	}
	if r.n == 1 && !r.intact(first) || !s.intact(f) {
		return false
	}
	r.n++
	r.payload += int(s.size)
	r.pushed = s.pushed
	if s.last || s.size < r.size || r.n == maxRun {
		m.end(r)
	}
	return true
}

// assemble puts the superpackets in the place of their packets.
func (m *Merger) assemble(batch []*tap.Frame) []*tap.Frame {
	m.arena.Reset()
	m.frames = m.frames[:0]
	for i := range m.runs {
		if r := &m.runs[i]; r.n > 1 {
			m.build(r, batch)
		}
	}
	kept := batch[:0]
	for _, f := range batch {
		if f != nil {
			kept = append(kept, f)
		}
	}
	return kept
}

// build makes a run's superpacket, and leaves nil in the batch where the other packets were. When there is no room for it nothing happens.
func (m *Merger) build(r *run, batch []*tap.Frame) {
	g, ok := m.arena.Frame(int(r.hdrLen) + r.payload)
	if !ok {
		return
	}
	b := g.Bytes()
	at := copy(b, batch[r.first].Bytes())
	for i, n := r.first, r.n; n > 1; n-- {
		i = m.next[i]
		at += copy(b[at:], batch[i].Bytes()[r.hdrLen:])
		batch[i] = nil
	}
	g.Header = r.describe(b)
	m.frames = append(m.frames, g)
	batch[r.first] = &m.frames[len(m.frames)-1]
	m.Merged.Packets += uint64(r.n)
	m.Merged.Superpackets++
}

// run is a row of packets that will leave as one.
type run struct {
	segment            // the first
	first, last uint16 // their places in the batch
	n           uint16 // packets
	open        bool   // the next packet may join
	payload     int    // bytes, of all
}

// continuedBy reports whether the packet s, whose frame is b, follows the run so that headers alone tell no difference; a is the run's first frame.
// The flow and that it is not too large are known.
func (r *run) continuedBy(a, b []byte, s *segment) bool {
	if s.hdrLen != r.hdrLen || load64(a) != load64(b) || load32(a[8:]) != load32(b[8:]) { // MACs; the EtherType is the flow's
		return false
	}
	ip, with := a[tap.EthernetLen:], b[tap.EthernetLen:]
	if s.l4 == l4OfIPv4 {
		const tos, flags = 0, 6 // and the TTL behind the flags
		if load16(ip[tos:]) != load16(with[tos:]) || load32(ip[flags:])>>8 != load32(with[flags:])>>8 {
			return false
		}
		if load16(ip[flags:])&ipv4DF == 0 && load16(ip[4:])+r.n != load16(with[4:]) {
			return false
		}
	} else if load32(ip) != load32(with) || ip[7] != with[7] { // traffic class and flow label; hop limit
		return false
	}
	return s.proto == ProtoUDP || load32(a[r.l4+4:])+uint32(r.payload) == load32(b[s.l4+4:]) && sameTCP(a[r.l4:r.hdrLen], b[s.l4:s.hdrLen])
}

// sameTCP compares two TCP headers of one length but for ports, sequence number, PSH and checksum.
func sameTCP(a, b []byte) bool {
	const ackOff, bitsOff, urgentOff, pshBit = 8, 12, 18, uint32(PSH) << 16 // the word of bits: data offset, reserved, flags, window
	word := load32(a[bitsOff:]) ^ load32(b[bitsOff:])
	return load32(a[ackOff:]) == load32(b[ackOff:]) && word&^pshBit == 0 &&
		string(a[urgentOff:]) == string(b[urgentOff:])
}

// describe finishes the headers in b, which are still those of the first packet, and returns the virtio header.
func (r *run) describe(b []byte) tap.Header {
	h := tap.Header{Flags: tap.FlagNeedsCsum, HdrLen: r.hdrLen, GSOSize: r.size, CsumStart: r.l4, CsumOffset: r.csumOffset(), GSOType: tap.GSOUDPL4}
	ip, l4 := b[tap.EthernetLen:], b[r.l4:]
	if r.l4 == l4OfIPv4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		setIPv4Checksum(ip[:ipv4MinLen])
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
	}
	if r.proto == ProtoUDP {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	} else {
		h.GSOType = tap.GSOTCPv4
		if r.l4 != l4OfIPv4 {
			h.GSOType = tap.GSOTCPv6
		}
		if r.pushed {
			l4[13] |= PSH
		}
	}
	binary.BigEndian.PutUint16(l4[h.CsumOffset:], r.seed(b, len(l4)))
	return h
}
