//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"tapdirector/director"
	"tapdirector/integration"
	"tapdirector/integration/app"
)

// Options say how the director of a world runs.
type Options struct {
	// Program starts the director as a process of its own in its namespace: a path and arguments, to which "-conf FILE" is added. Empty: it runs
	// in this process.
	Program []string

	// Config is the lb.toml of a bare world's director instead of the plan's; "": the plan's.
	Config string

	// Log takes what the director logs; nil: the spec's logger, if it runs in this process, else nobody.
	Log io.Writer

	logger  *slog.Logger  // the spec's
	confirm time.Duration // the spec's
}

// host is a namespace with the plan it was built from.
type host struct {
	*Namespace
	plan integration.Host
}

// World is a running lab of kernels. It is an integration.World, Faulty and Observable.
type World struct {
	plan     *integration.Plan
	config   string
	director *Namespace
	hosts    []host // the client, then the servers
	before   map[string]uint64
	clock    *os.File // see startClock

	ends    []*tunnelEnd // of the servers, with tun
	servers []*app.Server
	ctx     context.Context    // of the servers
	stop    context.CancelFunc // its
	serving sync.WaitGroup
	options Options
	running runner
	hand    *os.File    // see Inject; nil until then
	vlans   *vlanSwitch // of a trunk

	mu       sync.Mutex
	watches  []*watch
	failures []error
	closed   bool
}

// runner is a director at work.
type runner interface {
	counters() []director.Counter // nil: it is another process's
	ended() error                 // nil while it runs
	pid() int
	reload(config string) error
	stop() error // returns when it has ended; its error is whatever ended badly, also before
}

// New builds the world of a spec with the director in this process, and returns when the hosts reach it.
func New(s integration.Spec) (*World, error) { return NewWith(s, Options{}) }

// NewWith builds the world of a spec and returns when the hosts reach it.
func NewWith(s integration.Spec, o Options) (*World, error) {
	s, err := withKernelKeys(s)
	if err != nil {
		return nil, err
	}
	w := &World{options: o}
	if w.plan, err = integration.NewPlan(s); err != nil {
		return nil, err
	}
	w.config, w.options.logger, w.options.confirm = w.plan.Config(tapNames), w.plan.Spec.Log, w.plan.Spec.Confirm
	if err := w.build(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// ErrBuild is in the error of New when the hosts and their LANs could not be built: a matter of rights and kernel, not of the director.
var ErrBuild = errors.New("build namespaces, links and hosts")

// build goes from nothing to a world at work.
func (w *World) build() error {
	if err := w.buildHosts(); err != nil {
		return fmt.Errorf("%w: %w", ErrBuild, err)
	}
	if err := w.serve(); err != nil {
		return err
	}
	if err := w.startDirector(); err != nil {
		return err
	}
	w.before = w.faults()
	return nil
}

// serve starts an application server on each server, for TCP and for UDP.
func (w *World) serve() error {
	w.ctx, w.stop = context.WithCancel(context.Background())
	for i, h := range w.hosts[1:] {
		if w.plan.Spec.Method == "tun" {
			e, err := h.openTunnelEnd(w.plan.Spec.Tunnel, h.plan.Addr(), tunnelLink)
			if err != nil {
				return err
			}
			w.ends = append(w.ends, e)
		}
		w.servers = append(w.servers, &app.Server{Name: h.Name})
		if err := w.Serve(i, h.plan.Listen); err != nil {
			return err
		}
	}
	return nil
}

// startDirector runs the director in its namespace and waits for its first answer.
func (w *World) startDirector() error {
	start := startHere
	if len(w.options.Program) > 0 {
		start = startChild
	}
	if w.options.Config != "" {
		w.config = w.options.Config
	}
	r, err := start(w.director, w.options, w.config)
	if err != nil {
		return fmt.Errorf("start the director: %w", err)
	}
	w.running = r
	return w.awaitDirector()
}

// readyLimit bounds the wait for the director's first answer.
const readyLimit = 10 * time.Second

// awaitDirector waits until every host has a hardware address for the director: it owns its addresses and its TAPs forward. From the
// questions the director learns where the hosts are in turn, so the first request waits for nobody.
func (w *World) awaitDirector() error {
	for _, h := range w.hosts {
		if len(h.plan.Legs) == 0 {
			continue // a bare world without a client
		}
		question := w.directorFor(h.plan.Legs[0].Address)
		if err := w.awaitAnswer(h, question); err != nil {
			return fmt.Errorf("%s asks where the director (%v) is: %w", h.Name, question, err)
		}
	}
	return nil
}

// awaitAnswer waits until a host knows where the director's address is.
func (w *World) awaitAnswer(h host, question netip.Addr) error {
	var ended error
	err := waitFor(readyLimit, func() bool {
		ended = w.running.ended()
		return ended != nil || h.ask(legName(0), question) != nil
	})
	if ended != nil {
		return fmt.Errorf("the director ended at once: %w", ended)
	}
	return err
}

// directorFor is the director's address in the subnet of a host's.
func (w *World) directorFor(host netip.Prefix) netip.Addr {
	for _, i := range w.plan.Interfaces {
		for _, a := range i.Addresses {
			if a.Masked() == host.Masked() {
				return a.Addr()
			}
		}
	}
	return netip.Addr{}
}

// note keeps an error for Close.
func (w *World) note(err error) {
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failures = append(w.failures, err)
	}
}

// Plan returns the plan the world was built from.
func (w *World) Plan() *integration.Plan { return w.plan }

// Config returns the lb.toml that the director runs.
func (w *World) Config() string { return w.config }

// VIP returns the address of the services.
func (w *World) VIP() netip.AddrPort { return w.plan.VIP }

// Dial connects a kernel socket of the client to the VIP.
func (w *World) Dial(ctx context.Context, network string) (net.Conn, error) {
	return w.hosts[0].Dial(ctx, network, w.plan.VIP.String())
}

// Servers returns the application servers in the order of lb.toml.
func (w *World) Servers() []*app.Server { return w.servers }

// Counters returns the director's counters; nil when it is a process of its own.
func (w *World) Counters() []director.Counter { return w.running.counters() }

// Director returns the director; nil when it is a process of its own.
func (w *World) Director() *director.Director {
	if h, ok := w.running.(*here); ok {
		return h.Director
	}
	return nil
}

// Namespace returns the namespace of a host: "client", "director", "s1"; nil when there is none of that name.
func (w *World) Namespace(name string) *Namespace {
	if name == w.director.Name {
		return w.director
	}
	for _, h := range w.hosts {
		if h.Name == name {
			return h.Namespace
		}
	}
	return nil
}

// LinkName returns the name of a host's link on a LAN, "" when it has none there.
func (w *World) LinkName(host, lan string) string {
	if host == w.director.Name {
		return w.tapOn(lan)
	}
	for _, h := range w.hosts {
		if h.Name == host {
			return h.linkOn(lan)
		}
	}
	return ""
}

// linkOn is the name of the host's link on a LAN.
func (h host) linkOn(lan string) string {
	for i, leg := range h.plan.Legs {
		if leg.LAN == lan {
			return legName(i)
		}
	}
	return ""
}

// LinkMAC returns the hardware address that the kernel has on that link. On the director's TAPs this is not the director's own.
func (w *World) LinkMAC(host, lan string) net.HardwareAddr {
	ns, name := w.Namespace(host), w.LinkName(host, lan)
	if ns == nil || name == "" {
		return nil
	}
	l, err := ns.link(name)
	if err != nil {
		return nil
	}
	return l.Attrs().HardwareAddr
}

// Bridge returns the name of a LAN's bridge in the director's namespace.
func (w *World) Bridge(lan string) string { return bridgeName(lan) }

// DirectorPID is the process that the director is; ours, unless it is another.
func (w *World) DirectorPID() int { return w.running.pid() }

// Faults returns what the kernels of all hosts counted against frames since the world was built.
func (w *World) Faults() map[string]uint64 {
	faults := w.faults()
	for name, v := range w.before {
		faults[name] -= v
	}
	return faults
}

func (w *World) faults() map[string]uint64 {
	faults := map[string]uint64{}
	for _, h := range w.hosts {
		broken, err := h.Errors()
		w.note(err)
		for name, v := range broken {
			faults[h.Name+": "+name] = v
		}
	}
	return faults
}

// Close ends the director, the servers and the namespaces, in this order, and waits for the first two. The kernel removes the
// namespaces when it gets to it.
func (w *World) Close() error {
	w.mu.Lock()
	again := w.closed
	w.closed = true
	watches := w.watches
	w.mu.Unlock()
	if again {
		return nil
	}
	if w.running != nil {
		w.note(w.running.stop())
	}
	if w.stop != nil {
		w.stop()
	}
	w.serving.Wait()
	for _, e := range w.ends {
		w.note(e.close())
	}
	w.note(w.vlans.close())
	for _, o := range watches {
		o.stop()
	}
	if w.hand != nil {
		w.note(w.hand.Close())
	}
	if w.clock != nil {
		w.note(w.clock.Close())
	}
	for _, h := range w.hosts {
		w.note(h.Close())
	}
	if w.director != nil {
		w.note(w.director.Close())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.failures...)
}
