package director

import (
	"fmt"
	"net/netip"
	"testing"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// bothFamilies runs a test in IPv4 and IPv6.
func bothFamilies(t *testing.T, run func(t *testing.T, family int)) {
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprintf("ipv%d", family), func(t *testing.T) { run(t, family) })
	}
}

// one fails unless the verdict is want and exactly one frame left, by iface; it returns that frame's packet.
func (w *world) one(v Verdict, left []sent, want Verdict, iface int) (stack.Packet, tap.Frame) {
	w.tb.Helper()
	if v != want || len(left) != 1 || left[0].iface != iface {
		w.tb.Fatalf("verdict %v with %d frames, want %v with one by interface %d", v, len(left), want, iface)
	}
	var p stack.Packet
	f := left[0].frame
	stack.Parse(&f, &p)
	return p, f
}

// none fails unless the verdict is want and nothing left.
func (w *world) none(v Verdict, left []sent, want Verdict) {
	w.tb.Helper()
	if v != want || len(left) != 0 {
		w.tb.Fatalf("verdict %v with %d frames, want %v with none", v, len(left), want)
	}
}

func endpoint(a stack.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Netip(), port) }

func TestNATBothWays(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, proto: proto})
			v, left := w.step(ext, w.toVIP(stack.SYN))
			p, f := w.one(v, left, ForwardedNAT, in)
			if dst := endpoint(p.Dst, p.DstPort); dst != w.spec.server(0) || endpoint(p.Src, p.SrcPort) != w.spec.client() {
				t.Errorf("server gets %v -> %v, want the client's address -> %v", endpoint(p.Src, p.SrcPort), dst, w.spec.server(0))
			}
			if stack.DstMAC(f.Bytes()) != serverMAC(0) || stack.SrcMAC(f.Bytes()) != inMAC || p.TTL != 63 {
				t.Errorf("wrong MACs or TTL %d: %s", p.TTL, stack.Describe(f.Bytes()))
			}
			v, left = w.step(in, w.fromServer(0, stack.SYN|stack.ACK))
			p, f = w.one(v, left, RepliedNAT, ext)
			if endpoint(p.Src, p.SrcPort) != w.spec.vip() || stack.DstMAC(f.Bytes()) != clientMAC {
				t.Errorf("client gets %s, want from %v", stack.Describe(f.Bytes()), w.spec.vip())
			}
		})
	}
}

func TestDRChangesTheMACOnly(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, proto: proto, method: "dr"})
			v, left := w.step(ext, w.toVIP(stack.SYN))
			p, f := w.one(v, left, ForwardedDR, in)
			if endpoint(p.Dst, p.DstPort) != w.spec.vip() || endpoint(p.Src, p.SrcPort) != w.spec.client() {
				t.Errorf("addresses changed: %s", stack.Describe(f.Bytes()))
			}
			if stack.DstMAC(f.Bytes()) != serverMAC(0) || stack.SrcMAC(f.Bytes()) != inMAC {
				t.Errorf("wrong MACs: %s", stack.Describe(f.Bytes()))
			}
		})
	}
}

func TestConnectionKeepsItsServer(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family})
		first := map[uint16]netip.AddrPort{}
		for round := range 3 {
			for port := uint16(1000); port < 1030; port++ {
				s := w.toVIPSpec(stack.ACK)
				if round == 0 {
					s.Flags = stack.SYN
				}
				s.Src = netip.AddrPortFrom(s.Src.Addr(), port)
				v, left := w.step(ext, s.Frame())
				p, _ := w.one(v, left, ForwardedNAT, in)
				if got := endpoint(p.Dst, p.DstPort); round == 0 {
					first[port] = got
				} else if first[port] != got {
					t.Fatalf("port %d moved from %v to %v", port, first[port], got)
				}
			}
		}
		for i := range 3 {
			if n := w.view.Load().servers[i].conns.Load(); n != 10 {
				t.Errorf("server %d has %d connections, want 10 of 30 by rr", i, n)
			}
		}
	})
}

// The reply follows the client's last packet: to another router's MAC at once.
func TestReplyFollowsTheLastHop(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family})
		w.step(ext, w.toVIP(stack.SYN))
		s := w.toVIPSpec(stack.ACK)
		s.SrcMAC = stack.MAC{2, 0, 0, 0, 0xcc, 2}
		w.step(ext, s.Frame())
		v, left := w.step(in, w.fromServer(0, stack.ACK))
		if _, f := w.one(v, left, RepliedNAT, ext); stack.DstMAC(f.Bytes()) != s.SrcMAC {
			t.Errorf("reply went to %x, want to the new last hop %x", stack.DstMAC(f.Bytes()), s.SrcMAC)
		}
	})
}

// What cannot be balanced is answered, or dropped with a reason.
func TestEdges(t *testing.T) {
	type edge struct {
		name  string
		spec  worldSpec
		iface int
		frame func(w *world) packettest.Spec
		want  Verdict
		sent  int
	}
	edges := []edge{
		{"no service, TCP", worldSpec{}, ext, func(w *world) packettest.Spec {
			s := w.toVIPSpec(stack.SYN)
			s.Dst = netip.AddrPortFrom(s.Dst.Addr(), 81)
			return s
		}, SentReset, 1},
		{"no service, UDP", worldSpec{proto: "udp"}, ext, func(w *world) packettest.Spec {
			s := w.toVIPSpec(0)
			s.Dst = netip.AddrPortFrom(s.Dst.Addr(), 81)
			return s
		}, SentUnreachable, 1},
		{"no connection, not a SYN", worldSpec{}, ext, func(w *world) packettest.Spec { return w.toVIPSpec(stack.ACK) }, SentReset, 1},
		{"no connection, RST", worldSpec{}, ext, func(w *world) packettest.Spec { return w.toVIPSpec(stack.RST) }, DropStray, 0},
		{"TTL 1 to a service", worldSpec{}, ext, func(w *world) packettest.Spec {
			s := w.toVIPSpec(stack.SYN)
			s.TTL = 1
			return s
		}, SentTimeExceeded, 1},
		{"source is an address of ours", worldSpec{}, ext, func(w *world) packettest.Spec {
			s := w.toVIPSpec(stack.SYN)
			s.Src = netip.AddrPortFrom(w.spec.addr(1, 1), 5)
			return s
		}, DropMartian, 0},
		{"to another host's MAC", worldSpec{}, ext, func(w *world) packettest.Spec {
			s := w.toVIPSpec(stack.SYN)
			s.DstMAC = serverMAC(7)
			return s
		}, DropOtherHost, 0},
		{"routed", worldSpec{}, in, func(w *world) packettest.Spec {
			s := w.fromServerSpec(0, stack.SYN)
			s.Src = netip.AddrPortFrom(s.Src.Addr(), 33000)
			return s
		}, Parked, 0},
		{"routed, TTL 1", worldSpec{}, in, func(w *world) packettest.Spec {
			s := w.fromServerSpec(0, stack.SYN)
			s.TTL = 1
			return s
		}, SentTimeExceeded, 1},
		{"routed, no route", worldSpec{}, in, func(w *world) packettest.Spec {
			s := w.fromServerSpec(0, stack.SYN)
			s.Dst = netip.AddrPortFrom(w.spec.addr(9, 9), 53)
			return s
		}, SentUnreachable, 1},
		{"not forwarding", worldSpec{in: "forward = false"}, in, func(w *world) packettest.Spec {
			return w.fromServerSpec(0, stack.SYN)
		}, DropNotOurs, 0},
		{"server unknown to ARP", worldSpec{unknown: true}, ext, func(w *world) packettest.Spec { return w.toVIPSpec(stack.SYN) }, Parked, 0},
		{"all servers drained, reject", worldSpec{servers: 1, tail: "weight = 0\n"}, ext, func(w *world) packettest.Spec {
			return w.toVIPSpec(stack.SYN)
		}, SentReset, 1},
		{"all servers drained, reject, UDP", worldSpec{servers: 1, proto: "udp", tail: "weight = 0\n"}, ext, func(w *world) packettest.Spec {
			return w.toVIPSpec(0)
		}, SentUnreachable, 1},
		{"all servers drained, drop", worldSpec{servers: 1, service: `on_no_server = "drop"`, tail: "weight = 0\n"}, ext,
			func(w *world) packettest.Spec { return w.toVIPSpec(stack.SYN) }, DropNoServer, 0},
		{"a DF packet too large", worldSpec{mtu: 1300}, ext, func(w *world) packettest.Spec {
			s := w.toVIPSpec(stack.SYN)
			s.Payload = make([]byte, 1400)
			return s
		}, SentTooBig, 1},
	}
	for _, e := range edges {
		bothFamilies(t, func(t *testing.T, family int) {
			e.spec.family = family
			w := newWorld(t, e.spec)
			v, left := w.step(e.iface, e.frame(w).Frame())
			if v != e.want || len(left) != e.sent {
				t.Fatalf("%s: verdict %v with %d frames, want %v with %d", e.name, v, len(left), e.want, e.sent)
			}
			if e.sent == 1 && left[0].iface != e.iface {
				t.Errorf("%s: answer left by interface %d, want back by %d", e.name, left[0].iface, e.iface)
			}
			if n := w.table.Len(); e.want != Parked && e.want != SentTooBig && n != 0 {
				t.Errorf("%s: %d connections made, want none", e.name, n)
			}
		})
	}
}

// IPv4 without DF is fragmented when the way out is smaller; the pieces add up to the whole.
func TestFragmentsWhatMayBe(t *testing.T) {
	w := newWorld(t, worldSpec{proto: "udp", mtu: 1300})
	s := w.toVIPSpec(0)
	s.DF, s.Payload = false, make([]byte, 1472)
	v, left := w.step(ext, s.Frame())
	if v != ForwardedNAT || len(left) != 2 {
		t.Fatalf("verdict %v with %d frames, want %v with 2", v, len(left), ForwardedNAT)
	}
	total := 0
	for _, l := range left {
		var p stack.Packet
		stack.Parse(&l.frame, &p)
		if !p.Fragment || p.L3Len > 1300 || p.Dst.Netip() != w.spec.server(0).Addr() {
			t.Errorf("not a fragment to the server that fits: %s", stack.Describe(l.frame.Bytes()))
		}
		total += int(p.L3Len) - 20
	}
	if total != 8+1472 {
		t.Errorf("fragments carry %d bytes, want %d", total, 8+1472)
	}
}

// A superpacket stays whole where the way out carries it, and is cut where not.
func TestSuperpackets(t *testing.T) {
	for _, plain := range []bool{false, true} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, plain: plain})
			w.step(ext, w.toVIP(stack.SYN))
			s := w.toVIPSpec(stack.ACK)
			s.Payload, s.Partial, s.GSOSize = make([]byte, 60000), true, 1400
			v, left := w.step(ext, s.Frame())
			want := 1
			if plain {
				want = (60000 + 1399) / 1400
			}
			if v != ForwardedNAT || len(left) != want {
				t.Fatalf("plain %v: verdict %v with %d frames, want %d", plain, v, len(left), want)
			}
			if got := left[0].frame.Header.Super(); got == plain {
				t.Errorf("plain %v: first frame is a superpacket: %v", plain, got)
			}
		})
	}
}

// Verdicts add up to frames, also when a frame makes the worker panic.
func TestVerdictsAddUp(t *testing.T) {
	w := newWorld(t, worldSpec{})
	k := w.worker(ext)
	bad := w.toVIPSpec(stack.ACK)
	bad.IPOptions = []byte{1, 1, 1, 0} // not for a row, which knows no forwarders
	frames := []tap.Frame{w.toVIP(stack.SYN), bad.Frame(), {}, w.toVIP(stack.RST), tap.NewFrame(tap.Header{}, make([]byte, 60))}
	good := forwarders
	forwarders[0] = func(w *worker, f *tap.Frame) Verdict {
		if w.p.TCPFlags == stack.ACK {
			panic("a bug")
		}
		return good[0](w, f)
	}
	defer func() { forwarders = good }()
	k.batch(frames)
	var sum uint64
	for _, n := range w.Verdicts() {
		sum += n
	}
	if sum != uint64(len(frames)) || w.FramesRead() != sum {
		t.Errorf("%d verdicts for %d frames, %d read", sum, len(frames), w.FramesRead())
	}
	if n := w.Verdicts()["drop-panic"]; n != 1 {
		t.Errorf("%d panics counted, want 1", n)
	}
}

// Every verdict has a name of its own.
func TestVerdictNames(t *testing.T) {
	seen := map[string]Verdict{}
	for v := range Verdict(numVerdicts) {
		name := v.String()
		if other, ok := seen[name]; ok || name == "" {
			t.Errorf("verdicts %d and %d are both called %q", other, v, name)
		}
		seen[name] = v
	}
}

// A server that is its own client by nat would be sent its own address as the sender.
func TestHairpinByNATIsDropped(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, servers: 1})
		s := w.base(in, netip.AddrPortFrom(w.spec.server(0).Addr(), 5000), w.spec.vip())
		s.Flags = stack.SYN
		v, left := w.step(in, s.Frame())
		w.none(v, left, DropHairpin)
		if w.table.Len() != 0 {
			t.Error("a connection was made")
		}
	})
}
