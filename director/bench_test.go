package director

import (
	"fmt"
	"testing"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// One frame of a known connection, parse to ready-to-write: the number the project lives by.

// path is one way through a world: a frame that takes it, and its verdict.
type path struct {
	name  string
	world *world
	iface int
	frame tap.Frame
	want  Verdict
}

// knownPaths returns the ways of packets of known connections: method × family × direction, the connection being made.
func knownPaths(tb testing.TB) (paths []path) {
	for _, family := range []int{4, 6} {
		sctp := newWorld(tb, worldSpec{family: family, proto: "sctp"})
		sctp.step(ext, sctp.chunk(packettest.Init).Frame())
		paths = append(paths, path{fmt.Sprintf("nat/ipv%d/forward sctp", family), sctp, ext, sctp.chunk(packettest.Data).Frame(), ForwardedNAT})
		paths = append(paths, fullNATPaths(tb, family, family)...)
		paths = append(paths, fullNATPaths(tb, family, 10-family)...)
		for _, method := range []string{"nat", "dr", "tun"} {
			w := newWorld(tb, worldSpec{family: family, method: method})
			w.step(ext, w.toVIP(stack.SYN))
			name := fmt.Sprintf("%s/ipv%d/", method, family)
			switch method {
			case "dr":
				paths = append(paths, path{name + "forward", w, ext, w.toVIP(stack.ACK), ForwardedDR})
				continue
			case "tun":
				paths = append(paths, path{name + "forward", w, ext, w.toVIP(stack.ACK), ForwardedTUN})
				continue
			}
			w.step(in, w.fromServer(0, stack.SYN|stack.ACK))
			paths = append(paths,
				path{name + "forward", w, ext, w.toVIP(stack.ACK), ForwardedNAT},
				path{name + "reply", w, in, w.fromServer(0, stack.ACK), RepliedNAT})
		}
	}
	return paths
}

// fullNATPaths are those of a FullNAT connection to a server of that family, with the client's address told and without.
func fullNATPaths(tb testing.TB, family, servers int) (paths []path) {
	for _, service := range []string{"", "toa = true"} {
		w := newWorld(tb, worldSpec{family: family, outer: servers, method: "fullnat", service: service})
		_, left := w.step(ext, w.toVIP(stack.SYN))
		name := fmt.Sprintf("fullnat/ipv%d/", family)
		if servers != family {
			name = fmt.Sprintf("fullnat/ipv%d to ipv%d/", family, servers)
		}
		if service != "" {
			paths = append(paths, path{name + "forward with toa", w, ext, w.toVIP(stack.ACK), ForwardedFullNAT})
			continue
		}
		paths = append(paths,
			path{name + "forward", w, ext, w.toVIP(stack.ACK), ForwardedFullNAT},
			path{name + "reply", w, in, w.answerTo(&left[0].frame, stack.ACK).Frame(), RepliedFullNAT})
	}
	return paths
}

// again returns a function that sends p.frame once more, as it was at first.
func (p *path) again(tb testing.TB) func() {
	w := p.world.worker(p.iface)
	scratch := p.frame.Clone()
	first := append([]byte(nil), p.frame.Bytes()...)
	headers := min(len(first), 128)
	return func() {
		scratch.Prepend(len(first) - scratch.Len()) // out of the headroom, if it went there
		copy(scratch.Bytes()[:headers], first)
		scratch.Header = p.frame.Header
		if v := w.step(&scratch); v != p.want {
			tb.Fatalf("%s: verdict %v, want %v", p.name, v, p.want)
		}
		for i := range w.outs {
			w.outs[i].batch = w.outs[i].batch[:0]
		}
	}
}

func TestKnownConnectionsAllocateNothing(t *testing.T) {
	for _, p := range knownPaths(t) {
		if n := testing.AllocsPerRun(1000, p.again(t)); n != 0 {
			t.Errorf("%s: %v allocations for a packet of a known connection, want 0", p.name, n)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	for _, p := range knownPaths(b) {
		b.Run(p.name, func(b *testing.B) {
			again := p.again(b)
			b.ReportAllocs()
			for b.Loop() {
				again()
			}
		})
	}
}
