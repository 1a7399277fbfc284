package director

import (
	"fmt"
	"net/netip"
	"testing"

	"tapdirector/stack"
	"tapdirector/tap"
)

// from is a client's packet to the service from another source.
func (w *world) from(src netip.AddrPort, flags uint8) tap.Frame {
	s := w.toVIPSpec(flags)
	s.Src = src
	return s.Frame()
}

// value returns a counter of the service.
func (w *world) value(name string) uint64 {
	w.tb.Helper()
	for _, c := range w.Counters() {
		if c.Name == name && len(c.Labels) > 0 && c.Labels[0] == "service=web" {
			return c.Value
		}
	}
	w.tb.Fatalf("no counter %s", name)
	return 0
}

// eachWorld runs f for both families, nat and dr, TCP and UDP.
func eachWorld(t *testing.T, s worldSpec, f func(t *testing.T, w *world)) {
	for _, family := range []int{4, 6} {
		for _, method := range []string{"nat", "dr"} {
			for _, proto := range []string{"tcp", "udp"} {
				s := s
				s.family, s.method, s.proto = family, method, proto
				t.Run(fmt.Sprintf("IPv%d/%s/%s", family, method, proto), func(t *testing.T) { f(t, newWorld(t, s)) })
			}
		}
	}
}

func forwarded(v Verdict) bool { return v == ForwardedNAT || v == ForwardedDR }

// Who is denied gets nothing, not even a reset; who is not is served; the others are as before.
func TestAllowAndDeny(t *testing.T) {
	deny := `deny = ["10.77.1.0/28", "2001:db8:77:1::/125"]` + "\n" + `allow = ["10.77.1.3", "10.77.1.0/24", "2001:db8:77:1::3", "2001:db8:77:1::/64"]`
	eachWorld(t, worldSpec{service: deny}, func(t *testing.T, w *world) {
		at := func(host int) netip.AddrPort { return netip.AddrPortFrom(w.spec.addr(1, host), 40000) }
		for _, tc := range []struct {
			host  int
			flags uint8
			want  bool
		}{{2, stack.SYN, false}, {3, stack.SYN, true}, {40, stack.SYN, true}, {2, stack.ACK, false}} {
			v, left := w.step(ext, w.from(at(tc.host), tc.flags))
			if forwarded(v) != tc.want || !tc.want && (v != DropDenied || len(left) != 0) {
				t.Errorf("host %d: %v, %d frames", tc.host, v, len(left))
			}
		}
		far := netip.AddrPortFrom(w.spec.addr(9, 1), 40000) // in neither list, but there is an allow
		if v, _ := w.step(ext, w.from(far, stack.SYN)); v != DropDenied {
			t.Errorf("in no list: %v", v)
		}
		if n := w.value("service_denied"); n != 3 {
			t.Errorf("%d denied, want 3", n)
		}
	})
}

// A source gets its burst of connections; what is open goes on, and another source is not held to it.
func TestRatePerSource(t *testing.T) {
	eachWorld(t, worldSpec{service: "rate_per_source = 1\nburst_per_source = 3"}, func(t *testing.T, w *world) {
		for i := range 6 {
			src := netip.AddrPortFrom(w.spec.addr(1, 2), uint16(40000+i))
			v, left := w.step(ext, w.from(src, stack.SYN))
			if forwarded(v) != (i < 3) || i >= 3 && (v != DropSourceRate || len(left) != 0) {
				t.Errorf("connection %d: %v", i, v)
			}
		}
		for i := range 3 {
			src := netip.AddrPortFrom(w.spec.addr(1, 2), uint16(40000+i))
			if v, _ := w.step(ext, w.from(src, stack.ACK)); !forwarded(v) {
				t.Errorf("known connection %d: %v", i, v)
			}
		}
		other := netip.AddrPortFrom(w.spec.addr(3, 2), 40000)
		if v, _ := w.step(ext, w.from(other, stack.SYN)); !forwarded(v) {
			t.Errorf("another source: %v", v)
		}
		if n := w.value("service_over_rate"); n != 3 {
			t.Errorf("%d over the rate, want 3", n)
		}
	})
}

// A packet of TCP that opens nothing is reset as ever, and costs its source nothing.
func TestRateIsForConnections(t *testing.T) {
	w := newWorld(t, worldSpec{service: "rate_per_source = 1"})
	for range 5 {
		if v, _ := w.step(ext, w.toVIP(stack.ACK)); v != SentReset {
			t.Fatal(v)
		}
	}
	if v, _ := w.step(ext, w.toVIP(stack.SYN)); v != ForwardedNAT {
		t.Error(v)
	}
}

// With a full table SYNs go on being served, what is established stays, and the service counts what went; with early_drop = false it is full.
func TestEarlyDrop(t *testing.T) {
	for _, family := range []int{4, 6} {
		for _, on := range []bool{true, false} {
			w := newWorld(t, worldSpec{family: family, tail: fmt.Sprintf("[limits]\nconnections = 3000\nearly_drop = %v\n", on)})
			established := w.toVIP(stack.SYN)
			w.step(ext, established)
			w.step(in, w.fromServer(0, stack.SYN|stack.ACK))
			w.step(ext, w.toVIP(stack.ACK))
			full, served := 0, 0
			for i := range 20_000 {
				src := netip.AddrPortFrom(w.spec.addr(3, 1+i%250), uint16(1024+i/250))
				switch v, _ := w.step(ext, w.from(src, stack.SYN)); v {
				case ForwardedNAT:
					served++
				case DropTableFull:
					full++
				default:
					t.Fatal(v)
				}
			}
			if on && full > 0 || !on && served != 2999 {
				t.Errorf("IPv%d, early_drop %v: %d served, %d refused", family, on, served, full)
			}
			if n := w.value("service_evicted"); n != uint64(served-2999) {
				t.Errorf("IPv%d, early_drop %v: %d evicted of %d", family, on, n, served)
			}
			if v, _ := w.step(ext, w.toVIP(stack.ACK)); v != ForwardedNAT {
				t.Errorf("IPv%d, early_drop %v: the established connection: %v", family, on, v)
			}
		}
	}
}

// First packets are judged without allocating.
func TestAdmitAllocatesNothing(t *testing.T) {
	w := newWorld(t, worldSpec{service: "rate_per_source = 1\ndeny = [\"10.99.0.0/16\"]"})
	k, f := w.worker(ext), w.toVIP(stack.SYN)
	if r := stack.Parse(&f, k.p); r != stack.ReasonNone {
		t.Fatal(r)
	}
	s := k.view.service(k.p)
	if n := testing.AllocsPerRun(1000, func() { k.admit(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
