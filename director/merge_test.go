package director

import (
	"encoding/binary"
	"testing"

	"tapdirector/stack"
	"tapdirector/tap"
)

// apart returns the packets that a frame stands for, finished.
func apart(f *tap.Frame) (packets []tap.Frame) {
	g, p := f.Clone(), stack.Packet{}
	if stack.Parse(&g, &p) != stack.ReasonNone {
		panic(stack.Describe(f.Bytes()))
	}
	if !g.Header.Super() {
		stack.CompleteChecksum(&g, &p)
		return []tap.Frame{g}
	}
	stack.Segment(&g, &p, tap.NewArena(1<<20), func(s *tap.Frame) { packets = append(packets, s.Clone()) })
	return packets
}

const mergedPayload = 16

// alternating makes connections, and of each a number of packets that follow each other, the connections taking turns. What they carry is which
// connection's they are and the how manieth.
func (w *world) alternating(conns, each int) (frames []tap.Frame) {
	if w.spec.proto == "tcp" {
		for c := range conns {
			w.step(ext, w.fromPort(uint16(40000+c), stack.SYN).Frame())
		}
	}
	for i := range each {
		for c := range conns {
			s := w.fromPort(uint16(40000+c), stack.ACK)
			s.Seq, s.Payload = uint32(1+i*mergedPayload), make([]byte, mergedPayload)
			binary.BigEndian.PutUint32(s.Payload, uint32(c))
			binary.BigEndian.PutUint32(s.Payload[4:], uint32(i))
			frames = append(frames, s.Frame())
		}
	}
	return frames
}

// wantAlternating fails unless what left are the packets of alternating, in order in each connection.
func (w *world) wantAlternating(left []tap.Frame, conns, each int) {
	w.tb.Helper()
	next := make([]uint32, conns)
	for i := range left {
		w.checkFrame(&left[i])
		for _, f := range apart(&left[i]) {
			p := w.parsed(&f)
			data := f.Bytes()[p.L4+p.L4Len:]
			c := binary.BigEndian.Uint32(data)
			if n := binary.BigEndian.Uint32(data[4:]); n != next[c] || len(data) != mergedPayload || p.TTL != 63 && w.spec.method != "dr" {
				w.tb.Fatalf("connection %d: packet %d with %d bytes and TTL %d, want packet %d with %d", c, n, len(data), p.TTL, next[c], mergedPayload)
			}
			next[c]++
		}
	}
	for c, n := range next {
		if n != uint32(each) {
			w.tb.Fatalf("connection %d: %d packets, want %d", c, n, each)
		}
	}
}

// A batch of small packets of connections that alternate leaves as one superpacket for each connection, whatever the method; where the
// device has no offload, as it came.
func TestBatchIsMerged(t *testing.T) {
	const conns, each = 4, 10
	for _, method := range []string{"nat", "dr", "fullnat"} {
		for _, proto := range []string{"udp", "tcp"} {
			for plain, want := range map[bool]int{false: conns, true: conns * each} {
				bothFamilies(t, func(t *testing.T, family int) {
					w := newWorld(t, worldSpec{family: family, method: method, proto: proto, plain: plain})
					frames := w.alternating(conns, each)
					var left []tap.Frame
					w.memory[in].OnWrite(func(_ int, f *tap.Frame) { left = append(left, f.Clone()) })
					w.workers[ext].batch(frames)
					if len(left) != want {
						t.Fatalf("%s, %s, plain %v: left as %d frames, want %d", method, proto, plain, len(left), want)
					}
					w.wantAlternating(left, conns, each)
					packets, supers := uint64(conns*each), uint64(conns)
					if plain {
						packets, supers = 0, 0
					}
					if p, s := w.counter("merged_packets"), w.counter("merged_superpackets"); p != packets || s != supers {
						t.Errorf("counted %d packets in %d superpackets, want %d in %d", p, s, packets, supers)
					}
				})
			}
		}
	}
}

// Superpackets get their tag like other frames.
func TestMergedOnTrunk(t *testing.T) {
	const conns, each = 3, 5
	bothFamilies(t, func(t *testing.T, family int) {
		var left []tap.Frame
		w := trunkWorld(t, worldSpec{family: family, proto: "udp"}, "100", func(f *tap.Frame) { left = append(left, f.Clone()) })
		var frames []tap.Frame
		for _, f := range w.alternating(conns, each) {
			frames = append(frames, onVLAN(t, 100, f))
		}
		w.workers[ext].batch(frames)
		if len(left) != conns {
			t.Fatalf("left as %d frames, want %d", len(left), conns)
		}
		for i := range left {
			if vlan, ok := stack.PopTag(&left[i]); vlan != 200 || !ok {
				t.Errorf("left with VLAN %d, want 200", vlan)
			}
		}
		w.wantAlternating(left, conns, each)
	})
}

// A whole batch, from parse to merged, allocates nothing.
func TestMergedBatchAllocatesNothing(t *testing.T) {
	for _, proto := range []string{"udp", "tcp"} {
		w := newWorld(t, worldSpec{proto: proto})
		if n := testing.AllocsPerRun(100, w.repeat(w.alternating(4, 16))); n != 0 {
			t.Errorf("%s: %v allocations for a batch, want 0", proto, n)
		}
	}
}

// repeat returns a function that carries the frames as one batch, as they were at first.
func (w *world) repeat(frames []tap.Frame) func() {
	batch := make([]tap.Frame, len(frames))
	for i := range frames {
		batch[i] = frames[i].Clone()
	}
	return func() {
		for i := range frames {
			copy(batch[i].Bytes(), frames[i].Bytes())
			batch[i].Header = frames[i].Header
		}
		w.workers[ext].batch(batch)
	}
}

// A batch of small packets, from parse to written to memory.
func BenchmarkBatch(b *testing.B) {
	for name, conns := range map[string]int{"one flow": 1, "8 flows": 8, "64 flows": 64} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, worldSpec{proto: "udp"})
			again := w.repeat(w.alternating(conns, 64/conns))
			for b.Loop() {
				again()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
		})
	}
}
