package director

import (
	"testing"

	"tapdirector/stack"
)

// A connection that a worker remembers goes where the table, the next hops and the view say now.
func TestRecentIsUpToDate(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, unknown: true, servers: 1})
		k := w.workers[ext]
		w.step(in, w.neighbourAnswer(w.spec.server(0).Addr(), serverMAC(0)))
		w.step(ext, w.toVIP(stack.SYN))
		to := func(want stack.MAC, remembered bool) {
			t.Helper()
			v, left := w.step(ext, w.toVIP(stack.ACK))
			if v != ForwardedNAT || len(left) != 1 || stack.DstMAC(left[0].frame.Bytes()) != want {
				t.Fatalf("%v, %d frames left", v, len(left))
			}
			if got := k.recents.used == 1; got != remembered {
				t.Fatalf("remembered: %v", got)
			}
		}
		to(serverMAC(0), false)
		to(serverMAC(0), true)
		to(serverMAC(0), true)
		w.step(in, w.neighbourAnswer(w.spec.server(0).Addr(), serverMAC(7)))
		to(serverMAC(7), true)
		to(serverMAC(7), true)

		c := w.toVIPSpec(stack.ACK)
		f := c.Frame()
		var p stack.Packet
		stack.Parse(&f, &p)
		w.table.Remove(&p.Tuple, 0)
		if v, _ := w.step(ext, w.toVIP(stack.ACK)); v != SentReset {
			t.Errorf("the connection has ended: %v", v)
		}
		if v, _ := w.step(ext, w.toVIP(stack.SYN)); v != ForwardedNAT || w.table.Len() != 1 {
			t.Errorf("a new one: %v", v)
		}
		k.open(&view{ifaces: k.view.ifaces}, 0)
		if k.recents.used != 0 {
			t.Error("another view, and still remembered")
		}
	})
}
