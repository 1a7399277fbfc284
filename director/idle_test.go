package director

import (
	"testing"
	"time"

	"tapdirector/stack"
)

// resets returns what the resetter would send for the connections that wait.
func (w *world) resets() (left []sent) {
	k := w.resetter.worker()
	k.open(w.view.Load(), w.clock()+w.later)
	for i := range w.resetter.waiting {
		k.resetBoth(&w.resetter.waiting[i])
	}
	for i := range k.outs {
		for _, g := range k.outs[i].batch {
			w.checkFrame(g)
			left = append(left, sent{i, g.Clone()})
		}
		k.outs[i].batch = k.outs[i].batch[:0]
	}
	w.resetter.waiting = w.resetter.waiting[:0]
	k.flush()
	return left
}

// An established connection that idles out, or whose server is removed, is reset at both ends, each with the sequence number that it expects next.
func TestResets(t *testing.T) {
	for name, why := range map[string]struct {
		service string
		end     func(w *world, service string) // of the connection
	}{
		"idle":    {"idle = \"reset\"\n", func(w *world, _ string) { w.table.Expire(w.clock() + 10*time.Second) }},
		"removed": {"on_server_removed = \"reset\"\n", func(w *world, service string) { w.must(w.reload(w.with(1, service))) }},
	} {
		for _, method := range []string{"nat", "dr", "fullnat", "across"} {
			t.Run(name+" "+method, func(t *testing.T) {
				bothFamilies(t, func(t *testing.T, family int) { testResets(t, method, family, why.service, why.end) })
			})
		}
	}
}

// testResets: the connection is with the second server, or it would not be removed.
func testResets(t *testing.T, method string, family int, service string, end func(*world, string)) {
	outer := family
	if method == "across" {
		method, outer = "fullnat", 10-family
	}
	const index = 1
	server := map[int]uint32{4: 5001, 6: 0xf0000001}[family] // far from 0 either way
	w := newWorld(t, worldSpec{family: family, outer: outer, method: method, servers: 2, service: service, tail: "[timeouts]\ntcp = 7\n"})
	w.reaches(w.fromPort(2000, stack.SYN)) // with the first
	syn := w.toVIPSpec(stack.SYN)
	syn.Seq, syn.Ack, syn.Payload = 1000, 77, nil // 77 means nothing
	if got := w.reaches(syn); got != index {
		t.Fatalf("the connection is with server %d", got)
	}
	data := w.toVIPSpec(stack.ACK)
	data.Seq, data.Ack = 1001, server
	w.reaches(data) // "hello": 5 bytes
	data.Seq, data.Ack, data.Payload = 1006, server+99, nil
	w.reaches(data)
	end(w, service)
	left := w.resets()
	if len(left) != 2 || left[0].iface == left[1].iface {
		t.Fatalf("%d resets", len(left))
	}
	for _, l := range left {
		p := stack.Packet{}
		g := l.frame.Clone()
		if r := stack.Parse(&g, &p); r != stack.ReasonNone {
			t.Fatal(r)
		}
		seq, mac, to := uint32(1006), serverMAC(index), w.spec.server(index)
		if method == "dr" {
			to = w.spec.vip()
		}
		if l.iface == ext {
			seq, mac, to = server+99, clientMAC, w.spec.client()
			if endpoint(p.Src, p.SrcPort) != w.spec.vip() {
				t.Errorf("the client's comes from %v", endpoint(p.Src, p.SrcPort))
			}
		}
		got, _ := p.Sequence(g.Bytes())
		if p.TCPFlags != stack.RST || got != seq || stack.DstMAC(g.Bytes()) != mac || endpoint(p.Dst, p.DstPort) != to {
			t.Errorf("got %s, want a reset to %v with %d", stack.Describe(g.Bytes()), to, seq)
		}
	}
}

// Only what was established is reset, and only where the service says so.
func TestIdleResetOfOthers(t *testing.T) {
	w := newWorld(t, worldSpec{service: "idle = \"reset\"\n", tail: "[timeouts]\ntcp = 7\n"})
	w.reaches(w.fromPort(1000, stack.SYN))
	w.open(1001)
	w.reaches(w.fromPort(1001, stack.FIN|stack.ACK))
	w.pass(10 * time.Minute)
	if n := w.counter("idle_resets"); n != 0 || w.table.Len() != 0 {
		t.Errorf("%d resets, %d connections", n, w.table.Len())
	}
	w = newWorld(t, worldSpec{tail: "[timeouts]\ntcp = 7\n"})
	if w.open(1000); w.resetter.w != nil {
		t.Error("a resetter where nobody wants one")
	}
	w.pass(time.Minute)
}

// The janitor resets as many as the budget of answers allows, and the rest later; beyond what may wait they are dropped, and counted.
func TestIdleResetsAreBounded(t *testing.T) {
	w := newWorld(t, worldSpec{service: "idle = \"reset\"\n", tail: "[timeouts]\ntcp = 7\n[limits]\nicmp_rate = 10\n"})
	const n = maxIdled + 10
	for i := range uint16(n) {
		w.reaches(w.fromPort(2000+i, stack.SYN))
		w.reaches(w.fromPort(2000+i, stack.ACK))
	}
	w.later += 10 * time.Second
	w.tidy(w.clock() + w.later)
	if got := w.counter("idle_resets_dropped"); got != 10 {
		t.Errorf("%d dropped, want 10", got)
	}
	first := w.counter("idle_resets")
	if first > 10 {
		t.Errorf("%d resets at once", first)
	}
	w.pass(100 * time.Second)
	if got := w.counter("idle_resets"); got <= first || got > 600 {
		t.Errorf("%d resets after 100 s at 10 segments a second", got)
	}
}
