package director

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// In whatever order fragments come: reassembling what leaves is editing the reassembled original.
func TestFragmentsInEveryOrder(t *testing.T) {
	eachFragmentWay(t, func(t *testing.T, way *fragmentWay) {
		whole, want := way.datagram(3000)
		for id, order := range permutations(4) {
			frames := packettest.Fragments(whole, 800, uint32(id+1))
			shuffled := make([]tap.Frame, len(order))
			for i, j := range order {
				shuffled[i] = frames[j]
			}
			way.pass(t, shuffled, &want)
		}
		if s := settled(t, way.world.Director); s.Complete < 24 || s.Held == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// permutations returns every order of 0 to n-1.
func permutations(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, p := range permutations(n - 1) {
		for i := range n {
			q := append(append(append([]int(nil), p[:i]...), n-1), p[i:]...)
			all = append(all, q)
		}
	}
	return all
}

// Datagrams of 60 KB and of the largest size, at random.
func TestLargeDatagrams(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	eachFragmentWay(t, func(t *testing.T, way *fragmentWay) {
		for id, n := range []int{60000, 65507 - 20, 1473, 60001, 30000} {
			whole, want := way.datagram(n)
			frames := packettest.Fragments(whole, []int{1448, 1400, 1232, 552 + 8*r.IntN(100)}[r.IntN(4)]&^7, uint32(id+1))
			r.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
			way.pass(t, frames, &want)
		}
		settled(t, way.world.Director)
	})
}

// A fragment too large for its way out is cut again (IPv4), or answered if it may be (IPv6, of which only the first can be quoted).
func TestFragmentsAreFragmented(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "udp", mtu: 1000})
		s := w.toVIPSpec(0)
		s.DF, s.Payload = false, make([]byte, 4000)
		var out []tap.Frame
		for i, f := range packettest.Fragments(s.Frame(), 1480, 9) {
			v, left := w.step(ext, f)
			if family == 6 {
				if want := []Verdict{SentTooBig, DropFragment, DropFragment}[i]; v != want {
					t.Fatalf("fragment %d: %v, want %v", i, v, want)
				}
				continue
			}
			for _, l := range left {
				out = append(out, l.frame)
			}
		}
		if family == 6 {
			return
		}
		got, err := packettest.Reassemble(out)
		if err != nil || len(out) < 5 {
			t.Fatalf("%d fragments: %v", len(out), err)
		}
		w.checkFrame(&got)
	})
}

// When the first fragment is refused, so are all, and only one answer is sent.
func TestRefusedFragments(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		for name, c := range map[string]struct {
			change func(s *packettest.Spec)
			want   Verdict
		}{
			"no service":  {func(s *packettest.Spec) { s.Dst = netip.AddrPortFrom(s.Dst.Addr(), 81) }, SentUnreachable},
			"TTL 1":       {func(s *packettest.Spec) { s.TTL = 1 }, SentTimeExceeded},
			"TCP, no SYN": {func(s *packettest.Spec) { s.Proto, s.Flags = stack.ProtoTCP, stack.RST }, DropStray},
		} {
			w := newWorld(t, worldSpec{family: family, proto: "udp"})
			s := w.toVIPSpec(0)
			s.DF, s.Payload = false, make([]byte, 4000)
			c.change(&s)
			frames := packettest.Fragments(s.Frame(), 1448, 9)
			for i, want := range []Verdict{HeldFragment, c.want, DropFragment} {
				v, left := w.step(ext, frames[[]int{2, 0, 1}[i]])
				if v != want || len(left) > 1 || len(left) == 1 && i != 1 {
					t.Fatalf("%s: step %d: %v with %d frames, want %v", name, i, v, len(left), want)
				}
			}
			if s := settled(t, w.Director); s.Dropped != 1 {
				t.Errorf("%s: %+v", name, s)
			}
		}
	})
}

// A known connection's first fragment whose later ones have a TTL that ends here: nothing is answered about those.
func TestLaterFragmentsTTL(t *testing.T) {
	eachFragmentWay(t, func(t *testing.T, way *fragmentWay) {
		whole, _ := way.datagram(2000)
		frames := packettest.Fragments(whole, 1448, 1)
		way.world.step(way.iface, frames[0])
		s := way.spec
		s.TTL = 1
		short := *way
		short.spec = s
		whole, _ = short.datagram(2000)
		v, left := way.world.step(way.iface, packettest.Fragments(whole, 1448, 1)[1])
		if v != DropNoAnswer || len(left) != 0 {
			t.Errorf("%v with %d frames, want %v with none", v, len(left), DropNoAnswer)
		}
	})
}

// Attacks never reach a server whole, and are counted.
func TestFragmentAttacks(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "udp"})
		s := w.toVIPSpec(0)
		s.DF, s.Payload = false, make([]byte, 4000)
		whole := s.Frame()
		a, b, tiny := packettest.Fragments(whole, 1448, 1), packettest.Fragments(whole, 1440, 1), packettest.Fragments(whole, 40, 2)
		for i, c := range []struct {
			f    tap.Frame
			want Verdict
		}{
			{a[0], ForwardedNAT}, {b[1], DropFragment}, {a[1], DropFragment}, {b[2], DropFragment}, {b[0], DropFragment},
			{tiny[0], DropFragment}, {tiny[1], DropFragment},
		} {
			v, left := w.step(ext, c.f)
			if v != c.want || (v == DropFragment) != (len(left) == 0) {
				t.Errorf("step %d: %v with %d frames, want %v", i, v, len(left), c.want)
			}
		}
		if s := w.frags.Stats(); s.Overlaps != 1 || s.Tiny != 1 || s.Killed != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// Fragments of one datagram come by several interfaces and workers: what is held leaves as that interface's, and the worker is itself again.
func TestFragmentsByTwoInterfaces(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "udp"})
		s := w.toVIPSpec(0)
		s.DF, s.Payload = false, make([]byte, 4000)
		frames := packettest.Fragments(s.Frame(), 1448, 1)
		for i := range frames[1:] {
			f := frames[i+1].Clone()
			stack.SetMACs(f.Bytes(), stack.WordOf(inMAC), stack.WordOf(clientMAC))
			v, left := w.step(in, f)
			w.none(v, left, HeldFragment)
		}
		v, left := w.step(ext, frames[0])
		if v != ForwardedNAT || len(left) != 3 || w.workers[ext].in != ext {
			t.Fatalf("verdict %v with %d frames, the worker has interface %d", v, len(left), w.workers[ext].in)
		}
		if n := w.released[ForwardedNAT].Load(); n != 2 {
			t.Errorf("%d released, want 2", n)
		}
	})
}

// Every frame has one verdict when it is read, and none when it is released; also in one batch, where frames are borrowed.
func TestFragmentAccounts(t *testing.T) {
	eachFragmentWay(t, func(t *testing.T, way *fragmentWay) {
		w, out := way.world, []tap.Frame(nil)
		w.memory[way.out].OnWrite(func(_ int, f *tap.Frame) {
			for _, g := range apart(f) {
				out = append(out, way.unwrapped(t, g))
			}
		})
		whole, want := way.datagram(60000)
		frames := packettest.Fragments(whole, 1448, 1)
		before, read, released := w.Verdicts(), w.FramesRead(), w.released[way.verdict].Load()
		back := make([]tap.Frame, len(frames))
		for i := range frames {
			back[len(frames)-1-i] = frames[i]
		}
		w.workers[way.iface].batch(back)
		got, err := packettest.Reassemble(out)
		if err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("what left is not the datagram: %v", err)
		}
		n := uint64(len(frames))
		count := func(v Verdict) uint64 { return w.Verdicts()[v.String()] - before[v.String()] }
		if h, v := count(HeldFragment), count(way.verdict); h != n-1 || v != 1 || w.FramesRead()-read != n {
			t.Errorf("%d held and %d %v of %d frames", h, v, way.verdict, n)
		}
		if r := w.released[way.verdict].Load() - released; r != n-1 {
			t.Errorf("%d released, want %d", r, n-1)
		}
		settled(t, w.Director)
	})
}

// What is routed, or for the host, is not looked at: later fragments need no first one.
func TestOtherFragmentsPass(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "udp", ext: "forward = true", in: "forward = true"})
		far := netip.AddrPortFrom(w.spec.addr(1, 200), 53)
		w.neigh.Pin(ext, far.Addr(), stack.MAC{2, 0, 0, 0, 0xfa, 1})
		later := func(s packettest.Spec) tap.Frame {
			s.DF, s.Payload = false, make([]byte, 3000)
			return packettest.Fragments(s.Frame(), 1448, 1)[1]
		}
		v, left := w.step(in, later(w.base(in, netip.AddrPortFrom(w.spec.addr(2, 99), 5), far)))
		w.one(v, left, Routed, ext)
		echo := w.base(ext, w.spec.client(), w.spec.vip())
		echo.Proto, echo.ICMPType = stack.ProtoICMP, 8
		if family == 6 {
			echo.Proto, echo.ICMPType = stack.ProtoICMPv6, 128
		}
		v, left = w.step(ext, later(echo))
		w.none(v, left, ToHost)
		v, left = w.step(ext, later(w.base(ext, w.spec.client(), netip.AddrPortFrom(w.spec.addr(1, 1), 9))))
		w.none(v, left, ToHost)
		if s := w.frags.Stats(); s.Datagrams != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A server's own datagram, which belongs to no connection, is routed whole: in order, and after its first.
func TestServersOwnFragmentsAreRouted(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "udp", ext: "forward = true", in: "forward = true"})
		far := netip.AddrPortFrom(w.spec.addr(1, 200), 53)
		w.neigh.Pin(ext, far.Addr(), stack.MAC{2, 0, 0, 0, 0xfa, 1})
		s := w.outbound(5353, far)
		s.DF, s.Payload = false, make([]byte, 4000)
		frames := packettest.Fragments(s.Frame(), 1448, 1)
		for i, want := range []int{0, 2, 1} {
			v, left := w.step(in, frames[[]int{1, 0, 2}[i]])
			if len(left) != want || v != Routed && v != HeldFragment {
				t.Fatalf("step %d: %v with %d frames, want %d", i, v, len(left), want)
			}
		}
		settled(t, w.Director)
	})
}

// A ping of 4,000 bytes is masqueraded by its identifier, and the answer finds back.
func TestMasqueradedEchoInFragments(t *testing.T) {
	types := map[int][3]uint8{4: {stack.ProtoICMP, 8, 0}, 6: {stack.ProtoICMPv6, 128, 129}}
	bothFamilies(t, func(t *testing.T, family int) {
		w, far := masqueradeWorld(t, family, "tcp")
		pass := func(iface int, s packettest.Spec, want Verdict) stack.Packet {
			t.Helper()
			s.Proto, s.DF, s.Payload = types[family][0], false, make([]byte, 4000)
			frames := packettest.Fragments(s.Frame(), 1448, 1)
			var out []tap.Frame
			for _, i := range []int{2, 0, 1} {
				v, left := w.step(iface, frames[i])
				if v != want && v != HeldFragment {
					t.Fatalf("fragment %d: %v, want %v", i, v, want)
				}
				for _, l := range left {
					out = append(out, l.frame)
				}
			}
			whole, err := packettest.Reassemble(out)
			if err != nil {
				t.Fatal(err)
			}
			w.checkFrame(&whole)
			var p stack.Packet
			stack.Parse(&whole, &p)
			return p
		}
		s := w.outbound(0, far)
		s.ICMPType, s.ICMPID = types[family][1], 77
		p := pass(in, s, Masqueraded)
		back := w.base(ext, far, endpoint(p.Src, 0))
		back.ICMPType, back.ICMPID = types[family][2], p.SrcPort
		if q := pass(ext, back, Demasqueraded); q.DstPort != 77 || q.Dst.Netip() != w.spec.server(0).Addr() {
			t.Errorf("the answer arrives at %v with identifier %d", q.Dst, q.DstPort)
		}
		settled(t, w.Director)
	})
}

// IPv6 extension headers on both sides of the fragment header: what the datagram carries only its first fragment knows.
func TestFragmentsWithExtensionHeaders(t *testing.T) {
	w := newWorld(t, worldSpec{family: 6, proto: "udp"})
	s := w.toVIPSpec(0)
	s.Payload, s.ExtFirst, s.Ext = make([]byte, 4000), 60, []byte{stack.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}
	frames := packettest.Fragments(s.Frame(), 1232, 1)
	var out []tap.Frame
	for _, i := range []int{3, 1, 0, 2} {
		_, left := w.step(ext, frames[i])
		for _, l := range left {
			out = append(out, l.frame)
		}
	}
	whole, err := packettest.Reassemble(out)
	if err != nil {
		t.Fatal(err)
	}
	w.checkFrame(&whole)
	settled(t, w.Director)
}

// What is held is dropped when its time is over; without room it is not held at all. Both are counted.
func TestHeldFragmentsEnd(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		for _, c := range []struct {
			limit int
			want  Verdict
		}{{1, HeldFragment}, {0, DropFragmentsFull}} {
			tail := fmt.Sprintf("[limits]\nfragments = %d\n[timeouts]\nfragment = \"2s\"\n", c.limit)
			w := newWorld(t, worldSpec{family: family, proto: "udp", tail: tail})
			s := w.toVIPSpec(0)
			s.DF, s.Payload = false, make([]byte, 3000)
			v, left := w.step(ext, packettest.Fragments(s.Frame(), 1448, 1)[1])
			w.none(v, left, c.want)
			w.frags.Expire(w.clock() + 2*time.Second)
			if s := settled(t, w.Director); s.Dropped != s.Held {
				t.Errorf("%+v", s)
			}
		}
	})
}

// In order fragments cost no allocation.
func TestFragmentsInOrderAllocateNothing(t *testing.T) {
	eachFragmentWay(t, func(t *testing.T, way *fragmentWay) {
		whole, _ := way.datagram(6000)
		frames := packettest.Fragments(whole, 1400, 1)
		k := way.world.worker(way.iface)
		scratch := make([]tap.Frame, len(frames))
		for i := range frames {
			scratch[i] = frames[i].Clone()
		}
		if n := testing.AllocsPerRun(100, func() {
			for i := range frames {
				scratch[i].Prepend(frames[i].Len() - scratch[i].Len()) // out of the headroom, if it went there
				copy(scratch[i].Bytes(), frames[i].Bytes())
				k.one(&scratch[i])
			}
			for i := range k.outs {
				k.outs[i].batch = k.outs[i].batch[:0]
			}
		}); n != 0 {
			t.Errorf("%v allocations for a datagram, want 0", n)
		}
	})
}
