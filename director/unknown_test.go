package director

import (
	"fmt"
	"net/netip"
	"testing"

	"tapdirector/director/flow"
	"tapdirector/stack"
)

// Each datagram of a one_packet service goes where the scheduler says and leaves nothing behind; the answers of nat servers leave as the VIP.
func TestOnePacket(t *testing.T) {
	for _, method := range []string{"nat", "dr"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, method: method, proto: "udp", service: "one_packet = true\n"})
			seen := map[int]int{}
			for range 9 {
				seen[w.reaches(w.fromPort(5000, 0))]++
			}
			if len(seen) != 3 || seen[0] != 3 || seen[1] != 3 {
				t.Errorf("datagrams went to %v, want three each", seen)
			}
			if w.table.Len() != 0 || w.counter("service_connections_total") != 9 {
				t.Errorf("%d connections remembered, %d counted", w.table.Len(), w.counter("service_connections_total"))
			}
			if method != "nat" {
				return
			}
			w.neigh.Pin(ext, w.spec.client().Addr(), clientMAC)
			for i := range 3 {
				v, left := w.answer(i, 5000)
				if p, _ := w.one(v, left, RepliedNAT, ext); endpoint(p.Src, p.SrcPort) != w.spec.vip() {
					t.Errorf("answered from %v", endpoint(p.Src, p.SrcPort))
				}
			}
		})
	}
}

// One-packet services may be persistent too: no connection then holds the template.
func TestOnePacketPersistent(t *testing.T) {
	w := newWorld(t, worldSpec{proto: "udp", service: "one_packet = true\n" + sixMinutes})
	first := w.reaches(w.fromPort(5000, 0))
	for port := uint16(5001); port < 5020; port++ {
		if i := w.reaches(w.fromPort(port, 0)); i != first {
			t.Fatalf("datagram from port %d to server %d, the first to %d", port, i, first)
		}
	}
	if w.table.Len() != 0 {
		t.Errorf("%d connections", w.table.Len())
	}
}

// Every packet but a reset begins a connection of a service with pickup, and goes where it went in another director of the same config.
func TestPickup(t *testing.T) {
	for _, sched := range []string{"sh", "mh"} {
		for _, method := range []string{"nat", "dr"} {
			bothFamilies(t, func(t *testing.T, family int) {
				spec := worldSpec{family: family, method: method, sched: sched, service: "hash_port = true\npickup = true\n"}
				before, after := newWorld(t, spec), newWorld(t, spec)
				for port := uint16(3000); port < 3020; port++ {
					want := before.reaches(before.fromPort(port, stack.SYN))
					if got := after.reaches(after.fromPort(port, stack.ACK)); got != want {
						t.Fatalf("port %d went to server %d, now to %d", port, want, got)
					}
				}
				if n := after.table.Stats().States[flow.Established]; n != 20 {
					t.Errorf("%d established, want 20", n)
				}
				if v, left := after.step(ext, after.fromPort(4000, stack.RST).Frame()); v != DropStray || len(left) != 0 {
					t.Errorf("a reset: %v", v)
				}
			})
		}
	}
}

// The server's packets pick up too, once the way to the client is known; what begins or ends a connection does not.
func TestPickupByTheServer(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, sched: "sh", service: "pickup = true\n"})
		for _, flags := range []uint8{stack.SYN, stack.SYN | stack.ACK, stack.RST} {
			if v, _ := w.step(in, w.fromServer(1, flags)); v == RepliedNAT {
				t.Errorf("flags %#x were translated", flags)
			}
		}
		w.neigh.Pin(ext, w.spec.client().Addr(), clientMAC)
		v, left := w.step(in, w.fromServer(1, stack.ACK))
		if p, _ := w.one(v, left, RepliedNAT, ext); endpoint(p.Src, p.SrcPort) != w.spec.vip() {
			t.Errorf("answered from %v", endpoint(p.Src, p.SrcPort))
		}
		if w.table.Len() != 1 {
			t.Fatalf("%d connections, want 1", w.table.Len())
		}
		if i := w.reaches(w.toVIPSpec(stack.ACK)); i != 1 {
			t.Errorf("the client's next packet went to server %d", i)
		}
	})
}

// A client that may not open connections gets none through its server's packets either, and each one picked up counts against its rate.
func TestPickupAndDefence(t *testing.T) {
	s := worldSpec{}
	s.setDefaults()
	w := newWorld(t, worldSpec{sched: "sh", service: fmt.Sprintf("pickup = true\ndeny = [%q]\n", s.client().Addr())})
	w.neigh.Pin(ext, w.spec.client().Addr(), clientMAC)
	w.step(in, w.fromServer(1, stack.ACK))
	if v, left := w.step(ext, w.toVIP(stack.ACK)); v != DropDenied || len(left) != 0 || w.table.Len() != 0 {
		t.Errorf("%v, %d connections", v, w.table.Len())
	}
	w = newWorld(t, worldSpec{sched: "sh", service: "pickup = true\nrate_per_source = 1\nburst_per_source = 2\n"})
	for n, want := range []Verdict{ForwardedNAT, ForwardedNAT, DropSourceRate} {
		if v, _ := w.step(ext, w.fromPort(uint16(3000+n), stack.ACK).Frame()); v != want {
			t.Errorf("packet %d: %v, want %v", n, v, want)
		}
	}
}

// What is refused after a template was held for it gives the template back.
func TestPersistenceOfHairpins(t *testing.T) {
	w := newWorld(t, worldSpec{servers: 1, service: sixMinutes})
	s := w.base(in, netip.AddrPortFrom(w.spec.server(0).Addr(), 5000), w.spec.vip())
	s.Flags = stack.SYN
	if v, left := w.step(in, s.Frame()); v != DropHairpin || len(left) != 0 {
		t.Fatalf("%v", v)
	}
	if n := w.templates.Len(); n != 0 {
		t.Errorf("%d templates", n)
	}
}
