package director

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// twins carry the same packets, one director in batches, the other one by one.
type twins struct {
	rows, alone *world
	went, inRow int // packets that went on in a row, and those of them that were alike
	remembered  int // packets of remembered connections
}

func newTwins(t testing.TB, spec worldSpec) *twins {
	return &twins{rows: newWorld(t, spec), alone: newWorld(t, spec)}
}

// compare carries a batch: what becomes of each packet, and of the connections, is what becomes of packets that come alone.
func (tw *twins) compare(t *testing.T, iface int, batch []tap.Frame) {
	t.Helper()
	rows, alone := tw.rows, tw.alone
	now := rows.clock()
	k := rows.workers[iface]
	k.open(rows.view.Load(), now)
	read := cloned(batch)
	k.looked = 0
	k.lookAll(read)
	for i := range batch {
		got, left := rows.carried(iface, k.oneOf(read, i))
		alone.workers[iface].open(alone.view.Load(), now)
		alone.workers[iface].recents.forget()
		f := batch[i].Clone()
		want, wanted := alone.carried(iface, alone.workers[iface].one(&f))
		if got != want || !slices.EqualFunc(left, wanted, sameFrame) {
			t.Fatalf("%s: %v and %d frames, alone %v and %d", stack.Describe(batch[i].Bytes()), got, len(left), want, len(wanted))
		}
		if k.streak.on && k.streak.event != noEvent {
			tw.went++
		}
		if k.streak.on && k.row.takes(&read[i], &k.looks[i]) {
			tw.inRow++
		}
		if k.streak.on && k.looks[i].of != nil {
			tw.remembered++
		}
	}
	if got, want := rows.connections(), alone.connections(); got != want {
		t.Fatalf("connections\n%s alone\n%s", got, want)
	}
}

// Batches with rows of packets of one connection.
func TestStreakAgainstTwin(t *testing.T) {
	for _, spec := range []worldSpec{
		{}, {method: "dr"}, {proto: "udp"}, {plain: true}, {method: "tun"}, {service: "idle = \"reset\""}, {ext: `reply = "route"`}, {service: "persistence_timeout = \"5m\""},
	} {
		bothFamilies(t, func(t *testing.T, family int) {
			spec.family = family
			rng := rand.New(rand.NewPCG(uint64(family), 7))
			tw := newTwins(t, spec)
			for range 2000 {
				iface, batch := tw.rows.randomBatch(rng)
				tw.compare(t, iface, batch)
			}
			if tw.went == 0 || tw.inRow == 0 && spec.method != "tun" {
				t.Errorf("of packets in a row there were %d, of such that are alike %d", tw.went, tw.inRow)
			}
		})
	}
}

// What fits as one packet fits; a superpacket does if the device can cut it to packets that do.
func TestRowFits(t *testing.T) {
	partial, super := tap.Header{Flags: tap.FlagNeedsCsum}, tap.Header{Flags: tap.FlagNeedsCsum, GSOType: tap.GSOTCPv4, GSOSize: 1448}
	csum, tso := tap.Offload{Csum: true}, tap.Offload{Csum: true, TSO4: true}
	for _, tc := range []struct {
		h         tap.Header
		o         tap.Offload
		n         uint32
		one, fits bool
	}{
		{tap.Header{}, tap.Offload{}, 1500, true, true}, {tap.Header{}, tso, 1501, false, false},
		{partial, tap.Offload{}, 1500, false, false}, {partial, csum, 1500, true, true}, {partial, tso, 1501, false, false},
		{super, csum, 1000, false, false}, {super, tso, 1000, false, true}, {super, tso, 60000, false, true},
		{tap.Header{GSOType: tap.GSOTCPv4, GSOSize: 1449}, tso, 60000, false, false},
	} {
		w := newWorld(t, worldSpec{})
		w.workers[ext].outs[in].offload = tc.o
		w.step(ext, w.toVIP(stack.SYN))
		w.step(ext, w.toVIP(stack.ACK))
		r, f := w.workers[ext].row, tap.NewFrame(tc.h, nil)
		r.headers = 52
		if one, fits := r.fitsOne(&f, tc.n), r.fits(&f, tc.n); one != tc.one || fits != tc.fits {
			t.Errorf("%+v, %d bytes, %+v: as one packet %v, at all %v", tc.h, tc.n, tc.o, one, fits)
		}
	}
}

// A frame to a multicast MAC is none of the row that it interrupts (RFC 1122 section 3.3.6), nor is one behind it.
func TestStreakMulticast(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		tw := newTwins(t, worldSpec{family: family})
		tw.compare(t, ext, tw.rows.opening())
		var batch []tap.Frame
		for i := range 9 {
			f := tw.rows.fromPort(40000, stack.ACK).Frame()
			f.Bytes()[0] |= byte(i / 3 % 2)
			batch = append(batch, f)
		}
		tw.compare(t, ext, batch)
	})
}

// FuzzRows changes bytes of random batches, and fields of virtio headers: each three bytes of edits are a frame, a place in it, and what to flip there. Checksums are not mended
// behind them.
//
// How to run it: go test -fuzz FuzzRows ./director
func FuzzRows(f *testing.F) {
	specs := []worldSpec{{}, {method: "dr"}, {family: 6}, {method: "dr", family: 6}, {proto: "udp"}}
	for i := range specs {
		f.Add(uint8(i), uint64(i), []byte{})
		f.Add(uint8(i), uint64(i), []byte{1, 22, 1, 2, 47, 1, 3, 5, 0x80, 4, 37, 3, 5, 250, 1, 6, 251, 4, 7, 254, 1})
	}
	f.Fuzz(func(t *testing.T, spec uint8, seed uint64, edits []byte) {
		tw, rng := newTwins(t, specs[int(spec)%len(specs)]), rand.New(rand.NewPCG(seed, 8))
		iface, batch := tw.rows.randomBatch(rng)
		if iface == in { // answers are to be of connections
			tw.compare(t, ext, tw.rows.opening())
		}
		for ; len(edits) >= 3; edits = edits[3:] {
			f := &batch[int(edits[0])%len(batch)]
			flip(&f.Header, f.Bytes(), edits[1], edits[2])
		}
		tw.compare(t, iface, batch)
	})
}

// flip flips bits of a frame's first 80 bytes, or, with one of the last six places, of a field of its virtio header.
func flip(h *tap.Header, b []byte, place, bits byte) {
	switch place {
	case 250:
		h.Flags ^= bits
	case 251:
		h.GSOType ^= bits
	case 252:
		h.HdrLen ^= uint16(bits)
	case 253:
		h.GSOSize ^= uint16(bits)
	case 254:
		h.CsumStart ^= uint16(bits)
	case 255:
		h.CsumOffset ^= uint16(bits)
	default:
		b[int(place)%min(len(b), 80)] ^= bits
	}
}

// randomBatch is of one interface, with few different packets, often the same one again.
func (w *world) randomBatch(rng *rand.Rand) (iface int, batch []tap.Frame) {
	flags := []uint8{stack.ACK, stack.ACK, stack.ACK, stack.ACK | stack.PSH, stack.ACK | stack.FIN, stack.SYN, stack.SYN | stack.ACK, stack.RST, 0}
	iface = rng.IntN(2)
	for range 1 + rng.IntN(6) {
		s := w.fromPort(uint16(40000+rng.IntN(2)), flags[rng.IntN(len(flags))])
		if iface == in {
			client := s.Src
			s = w.fromServerSpec(rng.IntN(2), s.Flags)
			s.Dst = client
		}
		s.SrcMAC[5] += byte(rng.IntN(8) / 7)
		s.TTL = []uint8{64, 64, 64, 1}[rng.IntN(4)]
		for range 1 + rng.IntN(5) {
			s.Payload = make([]byte, rng.IntN(8)*rng.IntN(300))
			batch = append(batch, marked(rng, s).Frame())
		}
	}
	return iface, batch
}

// marked is s as it comes: with a full checksum, or with one to be completed, or as a superpacket, of segments that may be too large.
func marked(rng *rand.Rand, s packettest.Spec) packettest.Spec {
	if s.MF || rng.IntN(2) == 0 {
		return s
	}
	s.Partial = true
	if rng.IntN(2) == 0 && s.Flags&(stack.SYN|stack.RST) == 0 {
		s.GSOSize = 100 + 1400*rng.IntN(2)
		s.Payload = make([]byte, 1000+rng.IntN(3000))
	}
	return s
}

// opening is the first packets of those that randomBatch has.
func (w *world) opening() (batch []tap.Frame) {
	for port := range uint16(2) {
		batch = append(batch, w.fromPort(40000+port, stack.SYN).Frame())
	}
	return batch
}

// cloned copies a batch.
func cloned(batch []tap.Frame) []tap.Frame {
	c := make([]tap.Frame, len(batch))
	for i := range batch {
		c[i] = batch[i].Clone()
	}
	return c
}

// oneOf carries frame i of a batch at which the worker has looked.
func (w *worker) oneOf(frames []tap.Frame, i int) Verdict {
	w.counts, w.next = [len(w.counts)]uint32{}, i
	w.steps(frames[:i+1])
	for v, n := range w.counts {
		if n == 1 {
			return Verdict(v)
		}
	}
	return DropPanic
}

// carried is what became of one frame of a batch, whose verdict is v.
func (w *world) carried(iface int, v Verdict) (_ Verdict, left []sent) {
	k := w.workers[iface]
	for i := range k.outs {
		for _, g := range k.outs[i].batch {
			left = append(left, sent{i, g.Clone()})
		}
		k.outs[i].batch = k.outs[i].batch[:0]
	}
	k.flush()
	return v, left
}

func sameFrame(a, b sent) bool {
	return a.iface == b.iface && a.frame.Header == b.frame.Header && bytes.Equal(a.frame.Bytes(), b.frame.Bytes())
}

// connections lists all there are, in order.
func (w *world) connections() string {
	var all []string
	w.table.Each(0, func(c *flow.Conn, expires time.Duration) bool {
		all = append(all, fmt.Sprintf("%+v until %v", *c, expires))
		return true
	})
	slices.Sort(all)
	return strings.Join(all, "\n")
}
