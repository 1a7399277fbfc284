package worldtest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
)

// The reload table: lb.toml changes under traffic, seen from the sockets of both ends. RunReload runs it over any integration.Lab, for each method and family.
//
//	traffic   servers come, go and drain in a loop: no connection of theirs breaks or moves, each new one is served, UDP flows go on
//	expire    connections of a removed server end with the client's next word, those of others stay
//	reset     both ends of a silent connection to a removed server are told
//	services  a service comes, with a VIP of its own, and goes

// RunReload runs every check of the reload table.
func RunReload(t *testing.T, build func(t *testing.T, s integration.Spec) integration.Lab, o Options) {
	o = o.complete()
	for _, w := range reloadWorlds {
		for _, method := range integration.Methods {
			for _, family := range []int{4, 6} {
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

var reloadWorlds = []stateWorld{
	{"traffic", nil, removal("keep"), []stateCheck{{"traffic", checkReloadTraffic, ""}}},
	{"expire", nil, removal("expire"), []stateCheck{{"expire", checkReloadExpire, ""}}},
	{"reset", nil, removal("reset"), []stateCheck{{"reset", checkReloadReset, ""}}},
	{"services", nil, removal("expire"), []stateCheck{{"services", checkReloadServices, ""}}},
}

// removal is a world whose TCP service has that on_server_removed.
func removal(word string) func(*integration.Spec, *integration.Plan) {
	return func(s *integration.Spec, _ *integration.Plan) {
		s.WebKeys, s.Queues = fmt.Sprintf("on_server_removed = %q", word), 2
	}
}

// block is server i's part of lb.toml, in every service.
func (e *labEnv) block(i int) *regexp.Regexp {
	s := e.plan.Servers[i]
	at := netip.AddrPortFrom(s.Addr(), s.Listen.Port()).String()
	return regexp.MustCompile(`  \[\[service\.server\]\]\n  address = "` + regexp.QuoteMeta(at) + `"\n  weight  = 1\n`)
}

// without is lb.toml without server i.
func (e *labEnv) without(i int) func(string) string {
	return func(string) string { return e.block(i).ReplaceAllString(e.first, "") }
}

// drained is lb.toml with server i at weight 0.
func (e *labEnv) drained(i int) func(string) string {
	return func(string) string {
		return e.block(i).ReplaceAllStringFunc(e.first, func(b string) string { return strings.Replace(b, "weight  = 1", "weight  = 0", 1) })
	}
}

// again is lb.toml as it was at first.
func (e *labEnv) again(string) string { return e.first }

// begin keeps lb.toml as it is.
func (e *labEnv) begin(t *testing.T) {
	e.reload(t, func(text string) string {
		e.first = text
		return text
	})
}

func (e *labEnv) reload(t *testing.T, edit func(string) string) {
	t.Helper()
	if err := e.Reload(edit); err != nil {
		t.Fatal(err)
	}
}

// traffic is what goes on while lb.toml changes.
type traffic struct {
	e     *labEnv
	stop  atomic.Bool
	tasks sync.WaitGroup
	errs  chan error
	done  [3]atomic.Int64 // exchanges: on open connections, on new ones, by UDP
}

// run runs a task until it fails or is told to stop; one after the other, each task must have done something.
func (tr *traffic) run(kind int, exchange func() error) {
	tr.tasks.Go(func() {
		for !tr.stop.Load() {
			if err := exchange(); err != nil {
				tr.errs <- err
				return
			}
			tr.done[kind].Add(1)
		}
	})
}

// stays asks on one connection: always the same server answers.
func (tr *traffic) stays(t *testing.T) {
	c := tr.e.client(t, tr.e.from(), tr.e.VIP())
	first := who(t, c)
	n := uint64(0)
	tr.run(0, func() error {
		n++
		a, err := c.Sink(3000, n)
		if err != nil {
			return fmt.Errorf("a connection to %s broke after %d exchanges: %w", first, n, err)
		}
		if a.Server != "" && a.Server != first {
			return fmt.Errorf("a connection moved from %s to %s", first, a.Server)
		}
		return nil
	})
}

// dials asks on a new connection each time.
func (tr *traffic) dials(t *testing.T) {
	tr.run(1, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), tr.e.Timeout)
		defer cancel()
		conn, err := tr.e.Dial(ctx, "tcp")
		if err != nil {
			return fmt.Errorf("a new connection: %w", err)
		}
		c := app.NewClient(conn, tr.e.Timeout)
		defer c.Close()
		if _, err := c.Who(); err != nil {
			return fmt.Errorf("a new connection: %w", err)
		}
		time.Sleep(time.Millisecond) // ports are not without end
		return nil
	})
}

// flows asks by UDP from one port. What is under way when its server goes may be lost, like any datagram: app.Ask sends it again.
func (tr *traffic) flows(t *testing.T) {
	conn := tr.e.dial(t, "udp", tr.e.from(), tr.e.VIP())
	id := uint64(0)
	tr.run(2, func() error {
		id++
		if _, err := app.Ask(conn, id, []byte("x"), 10, tr.e.Timeout); err != nil {
			return fmt.Errorf("a UDP flow: %w", err)
		}
		return nil
	})
}

// end stops all and fails the test if anything broke.
func (tr *traffic) end(t *testing.T) {
	tr.stop.Store(true)
	tr.tasks.Wait()
	close(tr.errs)
	for err := range tr.errs {
		t.Error(err)
	}
	for kind := range tr.done {
		if tr.done[kind].Load() == 0 {
			t.Errorf("traffic %d: nothing was exchanged", kind)
		}
	}
}

func checkReloadTraffic(t *testing.T, e *labEnv) {
	e.begin(t)
	tr := &traffic{e: e, errs: make(chan error, 20)}
	for range 4 {
		tr.stays(t)
	}
	for range 2 {
		tr.flows(t)
	}
	tr.dials(t)
	for range reloadRounds {
		for _, edit := range []func(string) string{e.again, e.without(2), e.drained(1), e.without(0), e.again, e.without(1), e.drained(2)} {
			before := tr.done[0].Load() + tr.done[1].Load()
			e.reload(t, edit)
			waitFor(e.Timeout, func() bool { return tr.done[0].Load()+tr.done[1].Load() > before+3 || len(tr.errs) > 0 })
		}
	}
	e.reload(t, e.again)
	tr.end(t)
	if n := sum(e, "reloads"); n != reloadRounds*7+2 {
		t.Errorf("%d reloads, want %d", n, reloadRounds*7+2)
	}
}

// reloadRounds is how often servers come and go.
const reloadRounds = 6

// three opens a connection to each of three servers; rr gives them in turn.
func (e *labEnv) three(t *testing.T) (cs [3]*app.Client, names [3]string) {
	for i := range cs {
		cs[i] = e.client(t, e.from(), e.VIP())
		names[i] = who(t, cs[i])
	}
	return cs, names
}

// indexOf is the place of a server in lb.toml.
func (e *labEnv) indexOf(name string) int {
	for i, s := range e.Servers() {
		if s.Name == name {
			return i
		}
	}
	return -1
}

func checkReloadExpire(t *testing.T, e *labEnv) {
	e.begin(t)
	udp := e.dial(t, "udp", e.from(), e.VIP())
	cs, names := e.three(t)
	flow, err := app.Ask(udp, 1, nil, 10, e.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	gone := e.indexOf(flow.Server)
	e.reload(t, e.without(gone))
	for i, c := range cs {
		_, err := c.Who()
		if e.indexOf(names[i]) == gone {
			if !app.IsReset(err) {
				t.Errorf("a connection to the removed server ended with %v, want a reset", err)
			}
		} else if err != nil {
			t.Errorf("a connection to %s: %v", names[i], err)
		}
	}
	if a, err := app.Ask(udp, 2, nil, 10, e.Timeout); err != nil || a.Server == flow.Server {
		t.Errorf("the flow of the removed server: answered by %q, %v", a.Server, err)
	}
	for range 4 {
		if name := e.ask(t, e.from(), e.VIP()); e.indexOf(name) == gone {
			t.Error("a new connection to the removed server")
		}
	}
}

func checkReloadReset(t *testing.T, e *labEnv) {
	e.begin(t)
	c := e.dial(t, "tcp", e.from(), e.VIP())
	name := who(t, app.NewClient(c, e.Timeout))
	i := e.indexOf(name)
	e.reload(t, e.without(i))
	c.SetDeadline(time.Now().Add(e.Timeout))
	if _, err := c.Read(make([]byte, 1)); !app.IsReset(err) {
		t.Errorf("the client's read ended with %v, want a reset", err)
	}
	if !waitFor(e.Timeout, func() bool { return e.Servers()[i].Total().Resets == 1 }) {
		t.Error("the server's connection was not reset")
	}
}

func checkReloadServices(t *testing.T, e *labEnv) {
	e.begin(t)
	const port = 8090
	e.serve(t, []uint16{port}, 0, 1)
	late := e.vip(port)
	if _, err := e.tryDial(t, late, e.Timeout); !app.IsRefused(err) {
		t.Errorf("before there is a service: %v, want it refused", err)
	}
	e.reload(t, func(text string) string {
		return text + service(e.plan, "late", "tcp", fmt.Sprintf("%q", late), "", 0, 1)
	})
	kept := e.client(t, e.from(), e.VIP())
	name := who(t, kept)
	e.ask(t, e.from(), late)
	if e.plan.Translates() { // the others' servers would have to hold the VIP
		vip := netip.AddrPortFrom(e.plan.At(integration.Ext, 120).Addr(), port)
		e.reload(t, func(text string) string {
			return text + service(e.plan, "own VIP", "tcp", fmt.Sprintf("%q", vip), "", 0, 1)
		})
		e.ask(t, e.from(), vip)
		e.reload(t, func(text string) string { return text[:strings.Index(text, "[[service]]\nname = \"own VIP\"")] })
		if c, err := e.tryDial(t, vip, time.Second); err == nil {
			t.Error("a VIP that is no more takes connections")
			c.Close()
		}
	}
	e.reload(t, e.again)
	if _, err := e.tryDial(t, late, e.Timeout); !app.IsRefused(err) {
		t.Errorf("after the service is gone: %v, want it refused", err)
	}
	if got := who(t, kept); got != name {
		t.Errorf("a connection of another service moved from %s to %s", name, got)
	}
}

// tryDial connects the client, or tells why not.
func (e *labEnv) tryDial(t *testing.T, to netip.AddrPort, within time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return e.DialFrom(ctx, "client", "tcp", netip.AddrPort{}, to)
}
