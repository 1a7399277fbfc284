package memlan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"tapdirector/conf"
	"tapdirector/director"
	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/tap"
)

// World is a plan in memory, running. It is an integration.World that also counts faults and shows its frames.
type World struct {
	Plan   *integration.Plan
	Config string // the lb.toml that the director runs

	switches map[string]*Switch
	ports    []*Port
	devices  []*device
	client   *Host
	hosts    []*Host // of the servers
	servers  []*app.Server
	director *director.Director
	running  *running // the director's task
	faults   faults
	injector *Port // see Inject; nil until then

	ctx    context.Context // of all tasks
	cancel context.CancelFunc
	tasks  *errgroup.Group
	once   sync.Once
	err    error
}

// New builds the world of a spec and starts it. Nothing of it needs rights or a network. It is to be closed.
func New(s integration.Spec) (*World, error) {
	plan, err := integration.NewPlan(s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	tasks, ctx := errgroup.WithContext(ctx)
	w := &World{Plan: plan, Config: plan.Config(nil), switches: map[string]*Switch{}, ctx: ctx, cancel: cancel, tasks: tasks}
	if err := w.build(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// build goes from the wire to what hangs on it; the director comes last, so that it finds its servers.
func (w *World) build() error {
	for _, lan := range w.Plan.LANs {
		w.switches[lan] = NewSwitch()
	}
	for i, plan := range w.Plan.Servers {
		if err := w.addServer(plan, byte(11+i)); err != nil {
			return err
		}
	}
	client, err := newHost(w, w.Plan.Client, 2)
	w.client = client
	if err != nil {
		return err
	}
	for _, i := range w.Plan.Interfaces {
		w.devices = append(w.devices, newDevice(w, i))
	}
	return w.startDirector()
}

func (w *World) addServer(plan integration.Host, n byte) error {
	h, err := newHost(w, plan, n)
	w.hosts = append(w.hosts, h)
	if err != nil {
		return err
	}
	w.servers = append(w.servers, &app.Server{Name: plan.Name})
	return w.Serve(len(w.servers)-1, plan.Listen)
}

// Serve lets a server answer at an address.
func (w *World) Serve(i int, at netip.AddrPort) error {
	h, s := w.hosts[i], w.servers[i]
	l, err := h.Listen(at)
	if err != nil {
		return fmt.Errorf("server %s: %w", s.Name, err)
	}
	p, err := h.ListenPacket(at)
	if err != nil {
		l.Close()
		return fmt.Errorf("server %s: %w", s.Name, err)
	}
	w.tasks.Go(func() error { return s.Serve(w.ctx, l) })
	w.tasks.Go(func() error { return s.ServePacket(w.ctx, p) })
	return nil
}

// startDirector goes the way of main: the file's text, parsed, on devices.
func (w *World) startDirector() error {
	config, err := conf.Parse(strings.NewReader(w.Config), "lb.toml")
	if err != nil {
		return fmt.Errorf("%w\nin:\n%s", err, w.Config)
	}
	var devices []*tap.Device
	for _, d := range w.devices {
		devices = append(devices, d.dev)
	}
	w.director, err = director.New(director.Options{Config: config, Devices: devices, Log: w.Plan.Spec.Log, Confirm: w.Plan.Spec.Confirm})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(w.ctx)
	d, r := w.director, &running{cancel: cancel, done: make(chan struct{})}
	w.running = r
	w.tasks.Go(func() error {
		defer close(r.done)
		return d.Run(ctx)
	})
	return nil
}

// VIP returns the address of the services.
func (w *World) VIP() netip.AddrPort { return w.Plan.VIP }

// Dial connects the client to the VIP.
func (w *World) Dial(ctx context.Context, network string) (net.Conn, error) {
	return w.client.Dial(ctx, network, w.Plan.VIP)
}

// Servers returns the servers in the order of lb.toml.
func (w *World) Servers() []*app.Server { return w.servers }

// Client returns the client, for more than a dial to the VIP.
func (w *World) Client() *Host { return w.client }

// Host returns the host of server i.
func (w *World) Host(i int) *Host { return w.hosts[i] }

// everyHost returns those that were built.
func (w *World) everyHost() []*Host {
	if w.client == nil {
		return w.hosts
	}
	return append(slices.Clone(w.hosts), w.client)
}

// Counters returns the director's.
func (w *World) Counters() []director.Counter { return w.director.Counters() }

// Faults returns what hosts, links and the director's devices held against frames, by point and fault. Those that are 0 are left out.
func (w *World) Faults() map[string]uint64 {
	var now faults
	for name, n := range w.faults.all() {
		now.add(name, n)
	}
	for _, h := range w.everyHost() {
		h.countFaults(&now)
	}
	return now.all()
}

// Drops returns how many frames found a full queue, by point.
func (w *World) Drops() map[string]uint64 {
	drops := map[string]uint64{}
	for _, p := range w.ports {
		if n := p.Drops(); n > 0 {
			drops[p.Name] = n
		}
	}
	return drops
}

// Observe adds an observer to every point.
func (w *World) Observe(o integration.Observer) {
	w.ObserveFrames(func(point, dir string, f *tap.Frame) { o(point, dir, f.Bytes()) })
}

// ObserveFrames is Observe with virtio headers.
func (w *World) ObserveFrames(fn func(point, dir string, f *tap.Frame)) {
	for _, p := range w.ports {
		p.Observe(func(dir string, f *tap.Frame) { fn(p.Name, dir, f) })
	}
}

// Disturb has fn say how many times each frame that a host sends is delivered; see Port.Disturb.
func (w *World) Disturb(fn func(f *tap.Frame) int) {
	for _, p := range w.ports {
		p.Disturb(fn)
	}
}

// Plug adds a host of the test's own to a LAN: frames are made and read by hand.
func (w *World) Plug(lan, name string, deliver func(f *tap.Frame)) *Port {
	return w.switches[lan].Plug(name, deliver)
}

// SetDown takes the director's interface on a LAN down, or brings it up.
func (w *World) SetDown(lan string, down bool) {
	for _, d := range w.devices {
		if d.plan.Name == lan {
			d.mem.Load().SetDown(down)
		}
	}
}

// Close takes everything down: devices first, which ends the director's reads at once, then tasks, stacks and the wire.
func (w *World) Close() error {
	w.once.Do(func() {
		w.cancel()
		w.err = errors.Join(w.err, w.closeDevices())
		w.err = errors.Join(w.err, w.tasks.Wait())
		for _, h := range w.everyHost() {
			h.close()
		}
		for _, s := range w.switches {
			s.Close()
		}
	})
	return w.err
}
