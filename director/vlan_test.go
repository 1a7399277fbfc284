package director

import (
	"encoding/binary"
	"log/slog"
	"strings"
	"testing"

	"tapdirector/conf"
	"tapdirector/stack"
	"tapdirector/tap"
)

// trunkWorld is a world with both interfaces on one device: in always with VLAN 200, ext with the one given, 0 for none. wrote gets what leaves.
func trunkWorld(t testing.TB, s worldSpec, extVLAN string, wrote func(f *tap.Frame)) *world {
	t.Helper()
	s.setDefaults()
	text := strings.Replace(s.toml(), `tap = "tap1"`, "tap = \"tap0\"\nvlan = 200", 1)
	text = strings.Replace(text, `tap = "tap0"`, "tap = \"tap0\"\nvlan = "+extVLAN, 1)
	c, err := conf.Parse(strings.NewReader(text), "lb.toml")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	o := tap.MemoryOptions{Name: "tap0", Queues: 2, MTU: s.mtu}
	if !s.plain {
		o.Offload = tap.Offload{Csum: true, TSO4: true, TSO6: true, USO: true}
	}
	dev, m := tap.NewMemory(o)
	m.OnWrite(func(_ int, f *tap.Frame) { wrote(f) })
	w := &world{tb: t, spec: s}
	w.Director, err = New(Options{Config: c, Devices: []*tap.Device{dev, dev}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.host.Close()
		dev.Close()
	})
	return w
}

// onVLAN puts a tag on a frame; 0: none.
func onVLAN(t testing.TB, vlan uint16, f tap.Frame) tap.Frame {
	t.Helper()
	if vlan != 0 && !stack.PushTag(&f, vlan) {
		t.Fatal("no headroom")
	}
	return f
}

// A client's packet comes in with one tag and leaves with the other, and the answer the other way round; with and without offload, so that what is cut
// is tagged too.
func TestTrunk(t *testing.T) {
	for _, family := range []int{4, 6} {
		for extVLAN, tag := range map[string]uint16{"100": 100, "0": 0} {
			for _, plain := range []bool{false, true} {
				var left []tap.Frame
				w := trunkWorld(t, worldSpec{family: family, plain: plain}, extVLAN, func(f *tap.Frame) { left = append(left, f.Clone()) })
				if len(w.workers) != 2 {
					t.Fatalf("%d workers for two queues", len(w.workers))
				}
				k := w.worker(ext)
				carry := func(what string, f tap.Frame, in, out uint16, frames int) {
					t.Helper()
					left = nil
					k.batch([]tap.Frame{onVLAN(t, in, f)})
					if len(left) != frames {
						t.Fatalf("%s: %d frames left: %v", what, len(left), w.Verdicts())
					}
					for i := range left {
						if vlan, ok := stack.PopTag(&left[i]); vlan != out || !ok {
							t.Errorf("%s: left with VLAN %d, want %d", what, vlan, out)
						}
						w.checkFrame(&left[i])
					}
				}
				super := w.fromServerSpec(0, stack.ACK)
				super.Payload, super.GSOSize, super.Partial = make([]byte, 4000), 1000, true
				pieces := 1
				if plain {
					pieces = 4
				}
				carry("SYN", w.toVIP(stack.SYN), tag, 200, 1)
				carry("SYN and ACK", w.fromServer(0, stack.SYN|stack.ACK), 200, tag, 1)
				carry("ACK", w.toVIP(stack.ACK), tag, 200, 1)
				carry("superpacket", super.Frame(), 200, tag, pieces)
				carry("reset", w.from(w.spec.client(), stack.ACK), tag, 200, 1)
			}
		}
	}
}

// What has no interface is counted and dropped: other tags, no tag where none is untagged, priority only, two tags; and an interface's own
// MAC counts on its VLAN only.
func TestTrunkRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		ext     string
		spoil   func(f tap.Frame) tap.Frame
		verdict string
	}{
		{"another VLAN", "100", func(f tap.Frame) tap.Frame { return onVLAN(t, 300, f) }, "drop-vlan"},
		{"VLAN 4095", "100", func(f tap.Frame) tap.Frame { return onVLAN(t, 4095, f) }, "drop-vlan"},
		{"no tag", "100", func(f tap.Frame) tap.Frame { return f }, "drop-vlan"},
		{"priority only", "0", func(f tap.Frame) tap.Frame {
			f = onVLAN(t, 1, f)
			binary.BigEndian.PutUint16(f.Bytes()[14:], 0xe000)
			return f
		}, "drop-vlan"},
		{"two tags", "100", func(f tap.Frame) tap.Frame { return onVLAN(t, 100, onVLAN(t, 100, f)) }, "drop: 802.1Q tag"},
		{"802.1ad", "0", func(f tap.Frame) tap.Frame {
			f = onVLAN(t, 100, f)
			binary.BigEndian.PutUint16(f.Bytes()[12:], 0x88a8)
			return f
		}, "drop: 802.1Q tag"},
		{"the other's VLAN", "100", func(f tap.Frame) tap.Frame { return onVLAN(t, 200, f) }, "drop-other-host"},
	} {
		w := trunkWorld(t, worldSpec{}, tc.ext, func(*tap.Frame) { t.Errorf("%s: a frame left", tc.name) })
		w.worker(ext).batch([]tap.Frame{tc.spoil(w.toVIP(stack.SYN))})
		if w.Verdicts()[tc.verdict] != 1 {
			t.Errorf("%s: want %s: %v", tc.name, tc.verdict, w.Verdicts())
		}
	}
}

// A device without VLANs has no trunk, and refuses tags as ever. Its counters, and a shared device's, are told once.
func TestTrunkCounters(t *testing.T) {
	plain := newWorld(t, worldSpec{})
	if plain.worker(ext).trunk != nil {
		t.Error("a trunk without VLANs")
	}
	if v, _ := plain.step(ext, onVLAN(t, 100, plain.toVIP(stack.SYN))); v.String() != "drop: 802.1Q tag" {
		t.Error(v)
	}
	for want, w := range map[string]*world{"interface=ext interface=in": plain, "interface=ext,in": trunkWorld(t, worldSpec{}, "100", func(*tap.Frame) {})} {
		var got []string
		for _, c := range w.Counters() {
			if c.Name == "rx_frames" {
				got = append(got, c.Labels...)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}

// A panic on a trunk costs one frame.
func TestTrunkPanic(t *testing.T) {
	left := 0
	w := trunkWorld(t, worldSpec{}, "100", func(*tap.Frame) { left++ })
	k := w.worker(ext)
	outs := k.outs
	k.outs = nil
	k.batch([]tap.Frame{onVLAN(t, 100, w.toVIP(stack.SYN))})
	k.outs = outs
	k.batch([]tap.Frame{onVLAN(t, 100, w.toVIP(stack.ACK))})
	if v := w.Verdicts(); v["drop-panic"] != 1 || left != 1 {
		t.Errorf("%d left, %v", left, v)
	}
}

// A frame that panics while its batch is looked at costs itself; those before and behind it go on, the last two as a row.
func TestLookPanic(t *testing.T) {
	left := 0
	w := trunkWorld(t, worldSpec{}, "100", func(*tap.Frame) { left++ })
	k := w.worker(ext)
	k.trunk[300] = noIface - 1
	k.batch([]tap.Frame{
		onVLAN(t, 300, w.toVIP(stack.SYN)), onVLAN(t, 100, w.toVIP(stack.SYN)), onVLAN(t, 300, w.toVIP(stack.ACK)), onVLAN(t, 300, w.toVIP(stack.ACK)),
		onVLAN(t, 100, w.toVIP(stack.ACK)), onVLAN(t, 100, w.toVIP(stack.ACK)), onVLAN(t, 300, w.toVIP(stack.ACK)),
	})
	if v := w.Verdicts(); v["drop-panic"] != 4 || left != 3 || w.FramesRead() != 7 {
		t.Errorf("%d left, %d read, %v", left, w.FramesRead(), v)
	}
}

// Known connections on a trunk allocate nothing.
func TestTrunkAllocatesNothing(t *testing.T) {
	w := trunkWorld(t, worldSpec{}, "100", func(*tap.Frame) {})
	k, syn := w.worker(ext), onVLAN(t, 100, w.toVIP(stack.SYN))
	k.batch([]tap.Frame{syn})
	known := onVLAN(t, 100, w.toVIP(stack.ACK))
	again, was := known.Clone(), known.Bytes()
	if n := testing.AllocsPerRun(1000, func() {
		f := again
		copy(f.Bytes(), was)
		k.counts[k.one(&f)]++
		for i := range k.outs {
			if k.outs[i].vlan != 0 {
				k.outs[i].tag()
			}
			k.outs[i].batch = k.outs[i].batch[:0]
		}
	}); n > 1 { // f itself, which the test lets escape
		t.Errorf("%v allocations", n)
	}
}
