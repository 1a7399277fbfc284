package director

import (
	"context"
	"strings"
	"testing"
	"time"

	"tapdirector/stack"
	"tapdirector/stack/neigh"
)

// answers lets server i say where it is, as an answer to our ARP or ND question.
func (w *world) answers(i int) {
	w.tb.Helper()
	if v, _ := w.step(in, w.neighbourAnswer(w.spec.server(i).Addr(), serverMAC(i))); v != Neighbour && v != ToHost {
		w.tb.Fatalf("server %d's answer: %v", i, v)
	}
}

// until fails the test unless cond holds soon.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within a minute: " + what)
		}
	}
}

// A server whose next hop does not answer gets nothing new while others can take it, its UDP flows and its persistent clients go to others, and TCP connections stay.
// It is back by itself when it answers. With no other server it is as if none were dead.
func TestDeadServer(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		for _, service := range []string{"", "persistence_timeout = \"5m\"\n", "scheduler = \"mh\"\n", "one_packet = true\n"} {
			if proto == "tcp" && strings.Contains(service, "one_packet") {
				continue
			}
			t.Run(proto+" "+strings.TrimSpace(service), func(t *testing.T) {
				t.Parallel()
				bothFamilies(t, func(t *testing.T, family int) {
					testDead(t, worldSpec{family: family, proto: proto, unknown: true, service: service})
				})
			})
		}
	}
}

func testDead(t *testing.T, s worldSpec) {
	w := newWorld(t, s)
	once := strings.Contains(s.service, "one_packet")
	for i := range 3 {
		w.answers(i)
	}
	at := w.openAll(12)
	victim := at[0]
	// Forget what it said: the next hops are found out anew, and it is silent.
	srv := w.view.Load().servers[victim]
	w.neigh.Retain(func(n neigh.Slot) bool { return n != srv.slot })
	w.must(w.reload(w.with(3, s.service)))
	srv = w.view.Load().servers[victim]
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = w.neigh.Run(ctx) }()
	until(t, "a silent next hop fails", func() bool { return w.neigh.Failed(srv.slot) })
	w.tidy(w.clock())
	if n := w.counter("server_dead"); n != 1 {
		t.Fatalf("%d servers are dead, want 1", n)
	}
	for i := range 20 {
		if got := w.reaches(w.fromPort(uint16(4000+i), stack.SYN)); got == victim {
			t.Fatal("a new connection goes to the dead server")
		}
	}
	for i, was := range at {
		v, left := w.step(ext, w.fromPort(uint16(2000+i), stack.ACK).Frame())
		switch {
		case was == victim && w.proto() == stack.ProtoTCP:
			if v != Parked && v != DropNoNeighbour {
				t.Errorf("a connection of the dead server: %v, want it to wait", v)
			}
		case len(left) != 1 || stack.DstMAC(left[0].frame.Bytes()) == serverMAC(victim):
			t.Errorf("connection %d: %v", i, v)
		}
	}
	if n := w.counter("udp_flows_moved"); (n > 0) != (s.proto == "udp" && !once) {
		t.Errorf("%d UDP flows moved", n)
	}
	w.answers(victim)
	w.tidy(w.clock())
	if n := w.counter("server_dead"); n != 0 {
		t.Errorf("%d servers are dead, want none", n)
	}
	back := strings.Contains(s.service, "persistence")
	for i := 0; i < 200 && !back; i++ {
		p := w.fromPort(uint16(5000+i), stack.SYN)
		p.Src = endpoint(stack.AddrFrom(w.spec.addr(1, 10+i%200)), 5000)
		back = w.reaches(p) == victim
	}
	if !back {
		t.Error("the server answers, and gets nothing")
	}
}

// Where all are dead they get connections, which wait for their next hops, as if none were.
func TestAllDead(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, proto: proto, unknown: true, servers: 2})
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() { _ = w.neigh.Run(ctx) }()
			until(t, "silent next hops fail", func() bool {
				w.tidy(w.clock())
				return w.counter("server_dead") == 2
			})
			var left []sent
			for i := range 4 {
				v, l := w.step(ext, w.fromPort(uint16(1000+i), stack.SYN).Frame())
				left = append(left, l...)
				if v != Parked {
					t.Fatalf("verdict %v, want %v", v, Parked)
				}
			}
			if got := w.counter("server_connections_total"); got != 4 || len(left) != 0 {
				t.Errorf("%d connections, %d frames left", got, len(left))
			}
			w.answers(0)
			w.tidy(w.clock())
			if proto == "udp" { // all flows go where somebody lives
				for i := range 4 {
					if got := w.reaches(w.fromPort(uint16(1000+i), 0)); got != 0 {
						t.Errorf("flow %d goes to server %d", i, got)
					}
				}
			}
		})
	}
}
