package director

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// Frames of known connections, parse to ready-to-write: the number the project lives by.

// path is one way through a world: frames that take it, each of a connection of its own, and their verdict.
type path struct {
	name   string
	world  *world
	iface  int
	frames []tap.Frame
	want   Verdict
}

// knownPaths returns the ways of packets of known connections: method × family × direction, so many connections being made for each.
func knownPaths(tb testing.TB, conns int) (paths []path) {
	for _, family := range []int{4, 6} {
		for _, p := range []struct {
			name           string
			spec           worldSpec
			forward, reply Verdict // no reply: 0
			partial        bool    // as kernels of this host send them, checksums to be completed
			segment        int     // 0: no superpackets
		}{
			{"nat/ipv%d/", worldSpec{}, ForwardedNAT, RepliedNAT, false, 0},
			{"nat/ipv%d partial/", worldSpec{}, ForwardedNAT, RepliedNAT, true, 0},
			{"nat/ipv%d super/", worldSpec{}, ForwardedNAT, RepliedNAT, true, 1000},
			{"nat/ipv%d sctp/", worldSpec{proto: "sctp"}, ForwardedNAT, RepliedNAT, false, 0},
			{"dr/ipv%d/", worldSpec{method: "dr"}, ForwardedDR, 0, false, 0},
			{"dr/ipv%d partial/", worldSpec{method: "dr"}, ForwardedDR, 0, true, 0},
			{"tun/ipv%d/", worldSpec{method: "tun"}, ForwardedTUN, 0, false, 0},
			{"fullnat/ipv%d/", worldSpec{method: "fullnat"}, ForwardedFullNAT, RepliedFullNAT, false, 0},
			{"fullnat/ipv%d with toa/", worldSpec{method: "fullnat", service: "toa = true"}, ForwardedFullNAT, 0, false, 0},
			{"fullnat/ipv%d across/", worldSpec{method: "fullnat", outer: 10 - family}, ForwardedFullNAT, RepliedFullNAT, false, 0},
			{"fullnat/ipv%d across with toa/", worldSpec{method: "fullnat", outer: 10 - family, service: "toa = true"}, ForwardedFullNAT, 0, false, 0},
		} {
			p.spec.family = family
			w := newWorld(tb, p.spec)
			name := fmt.Sprintf(p.name, family)
			forward := path{name + "forward", w, ext, nil, p.forward}
			reply := path{name + "reply", w, in, nil, p.reply}
			places := map[*recent]bool{} // One for each: who shares one with another goes the long way, and which do is chance where ports are.
			for port := uint16(40000); len(forward.frames) < conns; port++ {
				to, from := w.connected(port, p.reply != 0)
				for _, s := range []*packettest.Spec{&to, &from} {
					s.Partial, s.GSOSize, s.Payload = p.partial, p.segment, make([]byte, 4*p.segment)
				}
				f, g := to.Frame(), from.Frame()
				a, b := w.workers[ext].recents.at(stack.Mix(f.Bytes())), w.workers[in].recents.at(stack.Mix(g.Bytes()))
				if places[a] || places[b] && p.reply != 0 {
					continue
				}
				places[a], places[b] = true, true
				forward.frames, reply.frames = append(forward.frames, f), append(reply.frames, g)
			}
			if paths = append(paths, forward); p.reply != 0 {
				paths = append(paths, reply)
			}
		}
	}
	return paths
}

// connected makes a connection from a port of the client, answered or not, and returns what either end says on it from then on.
func (w *world) connected(port uint16, answered bool) (to, from packettest.Spec) {
	w.tb.Helper()
	to = w.fromPort(port, stack.SYN)
	if w.proto() == stack.ProtoSCTP {
		to.Payload = packettest.Chunk(packettest.Init, nil)
	}
	_, left := w.step(ext, to.Frame())
	if len(left) != 1 {
		w.tb.Fatalf("the first packet made %d frames", len(left))
	}
	to.Flags, from = stack.ACK, w.fromServerSpec(0, stack.ACK)
	if answered {
		from = w.answerTo(&left[0].frame, stack.SYN|stack.ACK)
	}
	if w.proto() == stack.ProtoSCTP {
		to.Tag, to.Payload = 77, packettest.Chunk(packettest.Data, nil)
		from.Tag, from.Payload = 78, packettest.Chunk(packettest.Data, nil)
	}
	if answered {
		w.step(in, from.Frame())
		from.Flags = stack.ACK
	}
	return to, from
}

// train is a batch that a worker carries again and again.
type train struct {
	*path
	worker *worker
	frames []tap.Frame // as they are now, side by side as a queue has them
	first  []tap.Frame // as they were read
	bytes  [][]byte
}

// train returns a batch of the path's frames in turn.
func (p *path) train(n int) *train {
	t := &train{path: p, worker: p.world.worker(p.iface), frames: make([]tap.Frame, n)}
	p.world.verdicts[p.want].Store(0)
	arena := tap.NewArena(arenaSize)
	for i := range n {
		of := &p.frames[i%len(p.frames)]
		f, _ := arena.Frame(of.Len())
		f.Header = of.Header
		t.first, t.bytes = append(t.first, f), append(t.bytes, of.Bytes())
	}
	return t
}

// restore makes the frames what they were.
func (t *train) restore() {
	copy(t.frames, t.first)
	for i := range t.frames {
		copy(t.frames[i].Bytes(), t.bytes[i])
	}
}

// carry is a batch's way up to where it would be written.
func (t *train) carry() {
	w := t.worker
	w.open(w.view, w.now)
	w.carryAll(t.frames)
	w.settle()
}

// sent fails the test when not all frames left, and forgets them.
func (t *train) sent(tb testing.TB) {
	w, left := t.worker, 0
	for i := range w.outs {
		left += len(w.outs[i].batch)
		w.outs[i].batch = w.outs[i].batch[:0]
	}
	n := t.world.verdicts[t.want].Swap(0)
	if n != uint64(len(t.frames)) || left != len(t.frames) {
		tb.Fatalf("%s: of %d frames %d left, and %d as %v", t.name, len(t.frames), left, n, t.want)
	}
}

func TestKnownConnectionsAllocateNothing(t *testing.T) {
	for _, conns := range []int{1, 8} {
		for _, p := range knownPaths(t, conns) {
			tr := p.train(tap.Batch)
			n := testing.AllocsPerRun(100, func() {
				tr.restore()
				tr.carry()
				tr.sent(t)
			})
			if n != 0 {
				t.Errorf("%s: %v allocations for packets of %d known connections, want 0", p.name, n, conns)
			}
		}
	}
}

// BenchmarkStep carries batches of 64 frames: of one connection, of 8 and of 64 that take turns. ns/frame is the way from parse to ready-to-write; ns/op, of a
// batch, counts making the frames anew as well. Machines differ, and so does one from hour to hour: BenchmarkYardstick of the same run says by how much.
func BenchmarkStep(b *testing.B) {
	for _, conns := range []int{1, 8, 64} {
		for _, p := range knownPaths(b, conns) {
			b.Run(fmt.Sprintf("%s/%d", p.name, conns), func(b *testing.B) {
				t := p.train(tap.Batch)
				var spent time.Duration
				b.ReportAllocs()
				for b.Loop() {
					t.restore()
					start := time.Now()
					t.carry()
					spent += time.Since(start)
					t.sent(b)
				}
				b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*tap.Batch), "ns/frame")
			})
		}
	}
}

// BenchmarkYardstick is what other code takes on this machine now: a chain of a hundred multiplications, each of which waits for the one before, so of its
// clock alone; a question to a map of 64 numbers; and a checksum over 64 words in a simple loop.
func BenchmarkYardstick(b *testing.B) {
	b.Run("multiply", func(b *testing.B) {
		x := uint64(b.N) | 1
		for b.Loop() {
			for range 100 {
				x *= 0x9e3779b97f4a7c15
			}
		}
		yard = x
	})
	b.Run("map", func(b *testing.B) {
		m := map[uint64]uint64{}
		for i := range uint64(64) {
			m[i*i] = i
		}
		i, sum := uint64(0), uint64(0)
		for b.Loop() {
			sum += m[i*i]
			i = (i + 1) & 63
		}
		yard = sum
	})
	b.Run("sum", func(b *testing.B) {
		var words [128]byte
		for b.Loop() {
			sum := uint32(0)
			for i := 0; i < len(words); i += 2 {
				sum += uint32(binary.BigEndian.Uint16(words[i:]))
			}
			yard = uint64(sum)
		}
	})
}

var yard uint64
