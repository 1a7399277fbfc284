package memlan_test

import (
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/memlan"
	"tapdirector/stack"
)

// counterOf returns the sum of the counters of a name.
func counterOf(w *memlan.World, name string) (sum uint64) {
	for _, c := range w.Counters() {
		if c.Name == name {
			sum += c.Value
		}
	}
	return sum
}

// TestDenied: who is denied gets no answer at all, others are served.
func TestDenied(t *testing.T) {
	spec := integration.Spec{ServiceKeys: `deny = ["10.77.1.3", "2001:db8:77:1::3"]`}
	methods(t, spec, func(t *testing.T, w *memlan.World, p *probe) {
		p.send(p.tcp(stack.SYN))
		p.send(p.tcp(stack.ACK))
		p.send(p.udp("REQ 1 0\n"))
		waitVerdict(t, w, "drop-denied", 3)
		if n := counterOf(w, "connections_inserted") + verdict(w, "sent-reset"); n != 0 {
			t.Errorf("%d connections or resets", n)
		}
		conn, err := w.Dial(t.Context(), "tcp")
		if err != nil {
			t.Fatal(err)
		}
		c := app.NewClient(conn, 10*time.Second)
		defer c.Close()
		if _, err := c.Who(); err != nil {
			t.Error(err)
		}
	})
}
