package worldtest

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
)

// turnTime is how long a server may take to be known dead, or to be back. The resolver asks for what has failed at growing intervals, of half a minute at most.
const turnTime = 2 * time.Minute

// dead has next hops asked every second, so that one that falls silent is soon missed.
func dead(s *integration.Spec, _ *integration.Plan) { s.Confirm = time.Second }

// checkDead takes the links of a server with a UDP flow down, and up again.
func checkDead(t *testing.T, e *labEnv) {
	flow := e.dial(t, "udp", e.from(), e.VIP())
	victim := e.answerer(t, flow, 1)
	i := slices.IndexFunc(e.plan.Servers, func(h integration.Host) bool { return h.Name == victim })
	at := fmt.Sprint("server=", netip.AddrPortFrom(e.plan.Servers[i].Addr(), e.plan.Servers[i].Listen.Port()))
	if sum(e, "server_weight", at) == 0 {
		t.Fatalf("no counter has the label %s", at)
	}
	if err := e.SetLinks(victim, false); err != nil {
		t.Fatal(err)
	}
	if !waitFor(turnTime, func() bool {
		flow.Write([]byte("anybody?"))        // only a next hop that is used is asked again
		return sum(e, "server_dead", at) == 2 // of both services
	}) {
		t.Fatalf("%s has no link and is not known to be dead", victim)
	}
	for range 2 * len(e.plan.Servers) {
		if got := e.ask(t, e.from(), e.VIP()); got == victim {
			t.Errorf("a connection went to %s, which is dead", got)
		}
	}
	if got := e.answerer(t, flow, 2); got == victim {
		t.Errorf("the UDP flow is still answered by %s", got)
	}
	if n := sum(e, "udp_flows_moved"); n != 1 {
		t.Errorf("%d UDP flows were moved, want 1", n)
	}
	if err := e.SetLinks(victim, true); err != nil {
		t.Fatal(err)
	}
	if !waitFor(turnTime, func() bool { return sum(e, "server_dead", at) == 0 }) {
		t.Fatalf("%s has links again and is still dead", victim)
	}
	if !waitFor(turnTime, func() bool { return e.ask(t, e.from(), e.VIP()) == victim }) {
		t.Errorf("%s gets no connections again", victim)
	}
}

// answerer is the server that answers request id over c.
func (e *labEnv) answerer(t *testing.T, c net.Conn, id uint64) string {
	t.Helper()
	a, err := app.Ask(c, id, nil, 0, e.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	return a.Server
}
