package worldtest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
)

// Ports of the VIP in the world "services".
const (
	portGroup1 = 81 + iota
	portGroup2
	portOnce
	portDenied
	portRate
	portClosed
)

// guest is the client's other address: 3 in its subnet.
const guest = 3

// services has a service for everything that needs a few connections only.
func services(s *integration.Spec, p *integration.Plan) {
	at := func(port int) string { return listen(p, fmt.Sprint(port)) }
	group := listen(p, fmt.Sprint(portGroup1), fmt.Sprint(portGroup2))
	const persistent = "scheduler = \"rr\"\npersistence_timeout = \"1h\"\npersistence_prefix4 = 25\npersistence_prefix6 = 121"
	all := []string{
		service(p, "group", "tcp", group, persistent, 0, 1, 2),
		service(p, "group-udp", "udp", group, persistent, 0, 1, 2),
		service(p, "denied", "tcp", at(portDenied), fmt.Sprintf("deny = [%q]", p.At(integration.Ext, guest).Addr()), 0),
		service(p, "rate", "tcp", at(portRate), "rate_per_source = 1\nburst_per_source = 5", 0),
		service(p, "closed", "tcp", at(portClosed), "", 0),
		service(p, "closed-udp", "udp", at(portClosed), "", 0),
		service(p, "range", "tcp", listen(p, "6000-6009"), "", 1),
		service(p, "every", "tcp", listen(p, "0"), "", 2),
	}
	if p.Spec.Method != "fullnat" {
		all = append(all, service(p, "once", "udp", at(portOnce), "scheduler = \"rr\"\none_packet = true", 0, 1, 2))
	}
	s.Extra = strings.Join(all, "")
}

// checkPersistence: connections to either port of the group, from each address of the client within the prefix, go to one server, which rr alone would not do;
// an address beyond it has a server of its own.
func checkPersistence(t *testing.T, e *labEnv) {
	e.serve(t, []uint16{portGroup1, portGroup2}, 0, 1, 2)
	near, far := e.another(t, guest), e.another(t, 130)
	for network, ask := range map[string]func(t *testing.T, from, to netip.AddrPort) string{"tcp": e.ask, "udp": e.askUDP} {
		first := ask(t, e.from(), e.vip(portGroup1))
		for i := range uint16(4) {
			for _, a := range []netip.Addr{e.plan.Client.Addr(), near} {
				from := netip.AddrPortFrom(a, e.from().Port())
				if got := ask(t, from, e.vip(portGroup1+i%2)); got != first {
					t.Errorf("%s from %v went to %s, the first connection to %s", network, from, got, first)
				}
			}
		}
		if got := ask(t, netip.AddrPortFrom(far, 20000), e.vip(portGroup2)); got == first {
			t.Errorf("%s from %v went to %s as well", network, far, got)
		}
	}
	if n := sum(e, "templates"); n != 4 {
		t.Errorf("%d templates, want 4", n)
	}
}

// checkPorts: one port wins over a range, a range over every port; and servers get the port that the client asked for.
func checkPorts(t *testing.T, e *labEnv) {
	inside, outside := []uint16{6000, 6004, 6009}, []uint16{1, 5999, 6010, 65535}
	e.serve(t, inside, 1)
	e.serve(t, outside, 2)
	for want, ports := range map[string][]uint16{"s2": inside, "s3": outside} {
		for _, port := range ports {
			if got := e.ask(t, e.from(), e.vip(port)); got != want {
				t.Errorf("port %d went to %s, want %s", port, got, want)
			}
		}
	}
	var seen []string
	for range e.plan.Servers {
		seen = append(seen, e.ask(t, e.from(), e.VIP()))
	}
	if slices.Sort(seen); len(slices.Compact(seen)) != len(e.plan.Servers) {
		t.Errorf("the service on one port used %v, want every server", seen)
	}
}

// checkOnePacket: the datagrams of one socket go to all servers, answers come from the VIP (or the socket would not take them), and nothing is remembered.
func checkOnePacket(t *testing.T, e *labEnv) {
	e.serve(t, []uint16{portOnce}, 0, 1, 2)
	before := sum(e, "connections_inserted")
	c := e.dial(t, "udp", e.from(), e.vip(portOnce))
	seen := map[string]int{}
	for i := range uint64(9) {
		a, err := app.Ask(c, i, pattern(100), 100, e.Timeout)
		if err != nil {
			t.Fatal(err)
		}
		seen[a.Server]++
	}
	if len(seen) != len(e.plan.Servers) {
		t.Errorf("answers came from %v, want every server", seen)
	}
	if n := sum(e, "connections_inserted") - before; n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// checkDrain: a server of weight 0 keeps its connections and gets no more, until it has a weight again.
func checkDrain(t *testing.T, e *labEnv) {
	open := map[string]*app.Client{}
	for range e.plan.Servers {
		c := e.client(t, e.from(), e.VIP())
		open[who(t, c)] = c
	}
	s := e.plan.Servers[0]
	weigh := func(weight int) (seen map[string]int) {
		if err := e.SetWeight("web", netip.AddrPortFrom(s.Addr(), s.Listen.Port()), weight); err != nil {
			t.Fatal(err)
		}
		seen = map[string]int{}
		for range 6 {
			seen[e.ask(t, e.from(), e.VIP())]++
		}
		return seen
	}
	if seen := weigh(0); seen[s.Name] != 0 || len(seen) != len(e.plan.Servers)-1 {
		t.Errorf("with weight 0, connections went to %v", seen)
	}
	for name, c := range open {
		if got := who(t, c); got != name {
			t.Errorf("a connection moved from %s to %s", name, got)
		}
	}
	if seen := weigh(1); seen[s.Name] == 0 {
		t.Errorf("with weight 1 again, connections went to %v", seen)
	}
}

// checkDenied: who is denied gets no answer at all; others are served.
func checkDenied(t *testing.T, e *labEnv) {
	e.serve(t, []uint16{portDenied}, 0)
	ctx, cancel := context.WithTimeout(t.Context(), e.Timeout)
	defer cancel()
	failed := make(chan error)
	go func() {
		c, err := e.DialFrom(ctx, "client", "tcp", netip.AddrPortFrom(e.plan.At(integration.Ext, guest).Addr(), 20001), e.vip(portDenied))
		if err == nil {
			c.Close()
		}
		failed <- err
	}()
	if !waitFor(e.Timeout, func() bool { return sum(e, "verdict", "verdict=drop-denied") > 0 }) {
		t.Error("nothing was denied")
	}
	cancel()
	if err := <-failed; err == nil || app.IsRefused(err) {
		t.Errorf("the dial of who is denied ended with %v, want silence", err)
	}
	e.ask(t, e.from(), e.vip(portDenied))
}

// checkRate: a source that opens connections too fast is stopped, another one is not.
func checkRate(t *testing.T, e *labEnv) {
	e.serve(t, []uint16{portRate}, 0)
	hasty := e.stranger(0, 0)
	for i := range uint16(50) {
		e.inject(t, netip.AddrPortFrom(hasty, 1024+i), e.vip(portRate))
	}
	if !waitFor(e.Timeout, func() bool { return sum(e, "verdict", "verdict=drop-source-rate") >= 30 }) {
		t.Errorf("%d SYNs of 50 were over the rate", sum(e, "verdict", "verdict=drop-source-rate"))
	}
	e.ask(t, e.from(), e.vip(portRate))
}

// checkClosedPort: that nobody listens on a server's port reaches the client as if it had asked the server itself.
func checkClosedPort(t *testing.T, e *labEnv) {
	ctx, cancel := context.WithTimeout(t.Context(), e.Timeout)
	defer cancel()
	if c, err := e.DialFrom(ctx, "client", "tcp", e.from(), e.vip(portClosed)); !app.IsRefused(err) {
		t.Errorf("tcp: %v, %v; want connection refused", c, err)
	}
	c := e.dial(t, "udp", e.from(), e.vip(portClosed))
	var err error
	if !waitFor(e.Timeout, func() bool {
		c.SetDeadline(time.Now().Add(time.Second / 2))
		if _, err = c.Write([]byte("anybody?")); err == nil {
			_, err = c.Read(make([]byte, 100))
		}
		return app.IsRefused(err)
	}) {
		t.Errorf("udp: %v; want connection refused", err)
	}
}

// checkReuse: a client that uses its port again, right after the server has ended the connection, is served at once; where such SYNs are lost each of them is
// sent again, a second later. It is scheduled anew if the director knows that the connection is over. With dr and tun it has not seen the server's FIN, so it
// cannot tell, and the server, which can, gets the SYN.
func checkReuse(t *testing.T, e *labEnv) {
	const rounds = 9
	from, before := e.from(), e.Retransmitted()
	seen := map[string]int{}
	for range rounds {
		body, err := e.get(t, from)
		if err != nil {
			t.Fatal(err)
		}
		seen[strings.TrimSuffix(strings.Fields(body)[3], ",")]++
	}
	if e.plan.Translates() && len(seen) != len(e.plan.Servers) {
		t.Errorf("%d connections from %v went to %v, want every server", rounds, from, seen)
	}
	if n := e.Retransmitted() - before; n > rounds/3 {
		t.Errorf("%d SYNs were sent again in %d connections", n, rounds)
	}
}

// get asks for a page from a port that may have been used before. The client's own stack has to forget the last connection first.
func (e *labEnv) get(t *testing.T, from netip.AddrPort) (body string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), e.Timeout)
	defer cancel()
	waitFor(e.Timeout, func() bool {
		c, dialErr := e.DialFrom(ctx, "client", "tcp", from, e.VIP())
		if err = dialErr; err != nil {
			return false
		}
		defer c.Close()
		body, err = app.Get(c, e.Timeout)
		return true
	})
	return body, err
}

// thresholds has a server for two connections that are soon forgotten.
func thresholds(s *integration.Spec, _ *integration.Plan) {
	s.Servers, s.ServerKeys = 1, "u_threshold = 2\nl_threshold = 2\n"
	s.Extra = "[timeouts]\ntcp_time_wait = 1\ntcpfin = 1\ntcp_close_wait = 1\ntcp_last_ack = 1\n"
}

// checkThresholds: the third connection is refused, the first two live on; when one of them has ended and is forgotten, another is made.
func checkThresholds(t *testing.T, e *labEnv) {
	a, b := e.client(t, e.from(), e.VIP()), e.client(t, e.from(), e.VIP())
	who(t, a)
	who(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), e.Timeout)
	defer cancel()
	if c, err := e.DialFrom(ctx, "client", "tcp", e.from(), e.VIP()); !app.IsRefused(err) {
		t.Errorf("a third connection: %v, %v; want connection refused", c, err)
	}
	who(t, a)
	who(t, b)
	a.Close()
	if !waitFor(e.Timeout, func() bool {
		c, err := e.DialFrom(ctx, "client", "tcp", e.from(), e.VIP())
		if err == nil {
			c.Close()
		}
		return err == nil
	}) {
		t.Error("no connection was made after one had ended")
	}
	who(t, b)
}

// pickup has a service for each scheduler by hash, and one that picks nothing up.
func pickup(s *integration.Spec, p *integration.Plan) {
	s.Scheduler, s.WebKeys = "mh", "pickup = true\nhash_port = true\n"
	s.Extra = service(p, "by-sh", "tcp", listen(p, "81"), "scheduler = \"sh\"\npickup = true\nhash_port = true", 0, 1, 2) +
		service(p, "by-dh", "tcp", listen(p, "82"), "scheduler = \"dh\"\npickup = true", 0, 1, 2) +
		service(p, "not", "tcp", listen(p, "83"), "", 0, 1, 2)
}

// checkPickup: connections go on through a director that has just started, on the servers that they were on; without pickup they are reset.
func checkPickup(t *testing.T, e *labEnv) {
	e.serve(t, []uint16{81, 82, 83}, 0, 1, 2)
	before := map[*app.Client]string{}
	for _, port := range []uint16{e.VIP().Port(), 81, 82} {
		for range 4 {
			c := e.client(t, e.from(), e.vip(port))
			before[c] = who(t, c)
		}
	}
	lost := e.client(t, e.from(), e.vip(83))
	who(t, lost)
	if err := e.Restart(); err != nil {
		t.Fatal(err)
	}
	for c, server := range before {
		if got := who(t, c); got != server {
			t.Errorf("a connection moved from %s to %s", server, got)
		}
		if _, err := c.Sink(100000, 1); err != nil {
			t.Error(err)
		}
	}
	if a, err := lost.Who(); !app.IsReset(err) {
		t.Errorf("without pickup: %v, %v; want a reset", a, err)
	}
}

// idle has connections that are soon silent for too long.
func idle(s *integration.Spec, _ *integration.Plan) {
	s.Servers, s.WebKeys, s.Extra = 1, `idle = "reset"`, "[timeouts]\ntcp = 1\n"
}

// checkIdle: both ends are told in a way that their TCP believes.
func checkIdle(t *testing.T, e *labEnv) {
	c := e.dial(t, "tcp", e.from(), e.VIP())
	who(t, app.NewClient(c, e.Timeout))
	c.SetDeadline(time.Now().Add(e.Timeout))
	if _, err := c.Read(make([]byte, 1)); !app.IsReset(err) {
		t.Errorf("the client's read ended with %v, want a reset", err)
	}
	if !waitFor(e.Timeout, func() bool { return e.Servers()[0].Total().Resets == 1 }) {
		t.Error("the server's connection was not reset")
	}
	if n := sum(e, "idle_resets"); n != 1 {
		t.Errorf("%d connections were reset, want 1", n)
	}
}
