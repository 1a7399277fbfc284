package worldtest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/app"
)

// The state table: what the director remembers of clients, and what it refuses, seen from the sockets of both ends. RunState runs it over any integration.Lab, for each
// method and family.
//
//	services    persistence, ports, one-packet, drain, allow/deny, rate of a source, a closed port, a client's port used again: many services in one world
//	thresholds  a server that is full, and room again
//	pickup      the director is started anew under open connections
//	idle        both ends of a silent connection are reset
//	dead        a server whose links go down gets nothing new, its UDP flows go on elsewhere, and it is back by itself
//	flood       SYNs from forged sources fill the table; the answers of the director are bounded
//
// Clients dial from a port that nobody had before, unless the check is about that.

// RunState runs every check of the state table.
func RunState(t *testing.T, build func(t *testing.T, s integration.Spec) integration.Lab, o Options) {
	o = o.complete()
	for _, w := range stateWorlds {
		for _, method := range integration.Methods {
			for _, family := range []int{4, 6} {
				if slices.Contains(w.not, method) {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/ipv%d", w.name, method, family), func(t *testing.T) {
					if o.Parallel {
						t.Parallel()
					}
					w.run(t, integration.Spec{Method: method, Family: family}, build, o)
				})
			}
		}
	}
}

// stateWorld is a world of the table and what is checked in it, in order.
type stateWorld struct {
	name   string
	not    []string // methods that it cannot be built for
	spec   func(s *integration.Spec, p *integration.Plan)
	checks []stateCheck
}

type stateCheck struct {
	name string
	run  func(t *testing.T, e *labEnv)
	not  string // a method that has no such thing
}

var stateWorlds = []stateWorld{
	{"services", nil, services, []stateCheck{
		{"persistence", checkPersistence, ""},
		{"ports", checkPorts, ""},
		{"one packet", checkOnePacket, "fullnat"},
		{"drain", checkDrain, ""},
		{"deny", checkDenied, ""},
		{"rate", checkRate, ""},
		{"closed port", checkClosedPort, ""},
		{"port used again", checkReuse, ""},
	}},
	{"thresholds", nil, thresholds, []stateCheck{{"thresholds", checkThresholds, ""}}},
	{"pickup", []string{"fullnat"}, pickup, []stateCheck{{"pickup", checkPickup, ""}}},
	{"idle", nil, idle, []stateCheck{{"idle", checkIdle, ""}}},
	{"dead", nil, dead, []stateCheck{{"dead", checkDead, ""}}},
	{"flood", nil, flooded, []stateCheck{{"rate of answers", checkAnswerRate, ""}, {"flood", checkFlood, ""}}},
}

// labEnv is a Lab under test.
type labEnv struct {
	integration.Lab
	Options
	plan *integration.Plan
	port uint16 // of the next dial

	first string // lb.toml as it was when the reload table began
}

// run builds the world and runs its checks.
func (w *stateWorld) run(t *testing.T, spec integration.Spec, build func(*testing.T, integration.Spec) integration.Lab, o Options) {
	plan, err := integration.NewPlan(spec)
	if err != nil {
		t.Fatal(err)
	}
	w.spec(&spec, plan)
	if plan, err = integration.NewPlan(spec); err != nil {
		t.Fatal(err)
	}
	e := &labEnv{Lab: build(t, spec), Options: o, plan: plan, port: 20000}
	defer e.Close()
	for _, c := range w.checks {
		if c.not == spec.Method {
			continue
		}
		t.Run(c.name, func(t *testing.T) { c.run(t, e) })
	}
	e.settle(t)
}

// settle checks what holds after all traffic: one verdict for each frame, no frame that is wrong.
func (e *labEnv) settle(t *testing.T) {
	if !waitFor(e.Timeout, func() bool { return sum(e, "frames_read") == sum(e, "verdict") }) {
		t.Errorf("%d frames read, %d verdicts", sum(e, "frames_read"), sum(e, "verdict"))
	}
	if n := sum(e, "verdict", "verdict=drop-panic") + sum(e, "tx_dropped_invalid"); n != 0 {
		t.Errorf("%d panics or frames that the kernel refused", n)
	}
	if w, ok := e.Lab.(integration.Faulty); ok {
		for name, n := range w.Faults() {
			if n != 0 {
				t.Errorf("%s = %d", name, n)
			}
		}
	}
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// vip is a port of the VIP.
func (e *labEnv) vip(port uint16) netip.AddrPort { return netip.AddrPortFrom(e.VIP().Addr(), port) }

// from is the client's address and a port that nobody had.
func (e *labEnv) from() netip.AddrPort {
	e.port++
	return netip.AddrPortFrom(e.plan.Client.Addr(), e.port)
}

// dial connects the client, or fails the test. The connection is closed with the test.
func (e *labEnv) dial(t *testing.T, network string, from, to netip.AddrPort) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), e.Timeout)
	defer cancel()
	c, err := e.DialFrom(ctx, "client", network, from, to)
	if err != nil {
		t.Fatalf("dial %v by %s: %v", to, network, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// client is dial with something to ask with.
func (e *labEnv) client(t *testing.T, from, to netip.AddrPort) *app.Client {
	t.Helper()
	return app.NewClient(e.dial(t, "tcp", from, to), e.Timeout)
}

// who is the server at the other end of c.
func who(t *testing.T, c *app.Client) string {
	t.Helper()
	a, err := c.Who()
	if err != nil {
		t.Fatal(err)
	}
	return a.Server
}

// ask connects and returns the server that answered.
func (e *labEnv) ask(t *testing.T, from, to netip.AddrPort) string {
	t.Helper()
	return who(t, e.client(t, from, to))
}

// askUDP is ask by one datagram.
func (e *labEnv) askUDP(t *testing.T, from, to netip.AddrPort) string {
	t.Helper()
	a, err := app.Ask(e.dial(t, "udp", from, to), 1, nil, 0, e.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	return a.Server
}

// serve lets servers, counted from 0, answer on more ports, where the VIP's packets reach them.
func (e *labEnv) serve(t *testing.T, ports []uint16, servers ...int) {
	t.Helper()
	for _, i := range servers {
		for _, port := range ports {
			if err := e.Serve(i, netip.AddrPortFrom(e.plan.Servers[i].Listen.Addr(), port)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// another gives the client another address.
func (e *labEnv) another(t *testing.T, n int) netip.Addr {
	t.Helper()
	p := e.plan.At(integration.Ext, n)
	if err := e.AddAddress("client", p); err != nil {
		t.Fatal(err)
	}
	return p.Addr()
}

// service renders one more service, with servers counted from 0 on the service's port.
func service(p *integration.Plan, name, protocol, listen, keys string, servers ...int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[service]]\nname = %q\nprotocol = %q\nlisten = %s\nmethod = %q\n%s\n", name, protocol, listen, p.Spec.Method, keys)
	for _, i := range servers {
		fmt.Fprintf(&b, "[[service.server]]\naddress = \"%v\"\n", p.Servers[i].Addr())
	}
	return b.String()
}

// listen renders ports of the VIP as they stand in lb.toml: numbers, or a range.
func listen(p *integration.Plan, ports ...string) string {
	var all []string
	for _, port := range ports {
		all = append(all, fmt.Sprintf("%q", strings.TrimSuffix(netip.AddrPortFrom(p.VIP.Addr(), 0).String(), "0")+port))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// sum returns the sum of the director's counters of that name that have all the labels.
func sum(w integration.World, name string, labels ...string) (n uint64) {
	for _, c := range w.Counters() {
		if c.Name == name && hasAll(c.Labels, labels) {
			n += c.Value
		}
	}
	return n
}
