package host

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"

	"tapdirector/stack"
)

// TestLastHops runs the table against a slow twin: a list in the order in which clients came.
func TestLastHops(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	inNetstack := make(map[hopKey]stack.MAC)
	table := newLastHops(8,
		func(k hopKey, m stack.MAC) { inNetstack[k] = m },
		func(k hopKey) { delete(inNetstack, k) })
	var order []hopKey
	want := make(map[hopKey]stack.MAC)
	for range 5000 {
		k := hopKey{stack.AddrFrom4([]byte{10, 0, 0, byte(rnd.IntN(12))}), rnd.IntN(2)}
		m := stack.MAC{2, 0, 0, 0, 0, byte(rnd.IntN(3))}
		table.learn(k, m)
		if _, known := want[k]; !known {
			if order = append(order, k); len(order) > 8 {
				delete(want, order[0])
				order = order[1:]
			}
		}
		want[k] = m
		if !maps.Equal(want, inNetstack) || !maps.Equal(want, table.hops) {
			t.Fatalf("netstack has %v, the table %v, want %v", inNetstack, table.hops, want)
		}
	}
}

// TestLastHopsInNetstack checks that an off-link client becomes a static neighbour, and nobody else does.
func TestLastHopsInNetstack(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			w.hops.max = 2
			w.introduce(0, f.client, clientMAC, f.dip)
			w.introduce(0, f.gateway, routerMAC, f.dip) // else netstack asks for it while we count answers
			w.deliver(0, echo(clientMAC, f.client, f.vip, 1))
			w.deliver(0, echo(routerMAC, f.gateway, f.vip, 1))
			w.deliver(0, echo(routerMAC, f.routed, f.vip, 1))
			next := f.off
			for range 5 {
				next = next.Next()
				w.wantEchoReply(w.only(0, echo(routerMAC, next, f.vip, 1)), f.vip, next, routerMAC)
			}
			var static []tcpip.Address
			entries, err := w.Stack().Neighbors(1, protocolOf(f.dip))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.State.String() == "Static" {
					static = append(static, e.Addr)
				}
			}
			if len(static) != 2 || !slices.Contains(static, address(next)) {
				t.Errorf("static neighbours %v, want the last two clients", static)
			}
		})
	}
}
