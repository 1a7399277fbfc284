// Package director is the path of a frame: from a queue's read to a queue's write, and what it needs beside the path: the connection table, the
// next hops' MACs, the director's own IP host, and counters.
//
// # Theory of operation
//
// One worker per queue runs to completion (worker.go), those of the same number on one thread (thread.go). Workers share the config as a view that never changes (view.go), the connection table
// (director/flow), datagrams in fragments (director/frag), the next hops (stack/neigh), the host (stack/host), and nothing else. Beside them run the janitor, which expires connections,
// the resolver and the host; all are tasks under one group, and the first that fails ends all.
package director

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/director/frag"
	"tapdirector/director/ftp"
	"tapdirector/director/persist"
	"tapdirector/stack"
	"tapdirector/stack/host"
	"tapdirector/stack/neigh"
	"tapdirector/tap"
)

// Options are what a director is made of.
type Options struct {
	Config  *conf.Config
	Devices []*tap.Device // one for each Config.Interfaces, in that order, the same for those that share a TAP; the director does not close them
	Log     *slog.Logger  // nil: slog.Default

	Confirm time.Duration // age of a next hop's last proof at which it is asked again, for tests; 0: the resolver's default
}

// Director is a load balancer on a set of devices.
type Director struct {
	log     *slog.Logger
	devices []*tap.Device
	start   time.Time
	view    atomic.Pointer[view]
	table   *flow.Table
	frags   *frag.Table[fate]
	neigh   *neigh.Resolver
	host    *host.Host
	workers []*worker
	threads []thread
	budget  budget

	templates *persist.Table
	ftp       *ftp.Table
	turn      time.Duration   // when the janitor's present one began
	stopping  <-chan struct{} // the janitor's: closed when it is to end
	resetter  resetter
	reloading reloading
	mortality mortality

	verdicts [numVerdicts]counter
	released [numVerdicts]counter // what became of fragments that were held: their own verdict was HeldFragment
	merged   merged
	panics   atomic.Int64 // unix second of the last panic that was logged
}

// New builds a director; nothing runs yet. Every interface of the config needs its MAC filled in.
func New(o Options) (*Director, error) {
	if len(o.Devices) != len(o.Config.Interfaces) {
		return nil, fmt.Errorf("director: %d devices for %d interfaces", len(o.Devices), len(o.Config.Interfaces))
	}
	d := &Director{log: o.Log, devices: o.Devices, start: time.Now()}
	if d.log == nil {
		d.log = slog.Default()
	}
	d.neigh = neigh.New(neigh.Options{Links: d.neighLinks(o.Config), Log: d.log, Confirm: o.Confirm})
	v, err := newView(o.Config, viewOptions{mtus: d.mtus(), pin: d.neigh.Pin})
	if err != nil {
		return nil, err
	}
	d.view.Store(v)
	tables := flow.Options{Max: o.Config.Limits.Connections, Timeouts: timeouts(o.Config), Count: d.count, Watch: watcher{d}, Evicted: d.evicted, Rest: d.rest}
	d.table = flow.New(tables)
	d.frags = frag.New[fate](fragments(o.Config))
	d.ftp = newFTP(d, o.Config)
	d.templates = persist.New(persist.Options{Max: o.Config.Limits.Templates, Count: d.countTemplates})
	if d.host, err = host.New(d.hostOptions(o.Config)); err != nil {
		return nil, err
	}
	d.addWorkers(o.Config)
	d.threads = newThreads(d.workers)
	d.resetter = newResetter(d)
	d.reloading = reloading{config: o.Config, reloads: &counter{}, refused: &counter{}, swept: &counter{}}
	d.mortality.moved = &counter{}
	d.adjust(o.Config, v)
	return d, nil
}

// Run forwards until ctx is cancelled (then nil) or something breaks that no retry mends. It is called once.
func (d *Director) Run(ctx context.Context) error {
	defer d.host.Close()
	g, ctx := errgroup.WithContext(ctx)
	for i := range d.threads {
		g.Go(func() error { return d.threads[i].run(ctx) })
	}
	g.Go(func() error { return d.neigh.Run(ctx) })
	g.Go(func() error { return d.host.Run(ctx) })
	g.Go(func() error { return d.janitor(ctx) })
	return g.Wait()
}

// Threads is how many threads of the system Run keeps busy.
func (d *Director) Threads() int { return len(d.threads) }

// janitor expires connections, persistence templates and datagrams in fragments.
func (d *Director) janitor(ctx context.Context) error {
	d.stopping = ctx.Done()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.tidy(d.clock())
		}
	}
}

// The janitor rests between connections that end: a million that do within seconds would else keep a CPU busy for milliseconds, and the system lets who has a packet
// wait for that long, even beside a CPU that is idle. The later it is, the shorter it rests, and in the end not at all, so that connections never end faster than it ends them.
const (
	longestRest  = 150 * time.Microsecond
	shortestRest = 20 * time.Microsecond
	shorterRests = 150 * time.Millisecond // from when on they are the shortest
	noRests      = time.Second
)

// rest is called after each few ends. A director that is to stop does not rest.
func (d *Director) rest() {
	select {
	case <-d.stopping:
		return
	default:
	}
	if late := d.clock() - d.turn; late < noRests {
		time.Sleep(max(shortestRest, longestRest*(shorterRests-late)/shorterRests))
	}
}

// tidy does what is due at now.
func (d *Director) tidy(now time.Duration) {
	d.turn = d.clock()
	d.table.Expire(now)
	d.resetter.run(now)
	d.templates.Expire(now)
	d.ftp.Expire(now)
	d.frags.Expire(now)
	d.reclaim(now)
	d.judgeHops(now)
}

// clock is the path's time: since the director's start, monotonic.
func (d *Director) clock() time.Duration { return time.Since(d.start) }

// count is the connection table's report on a server's connections; the table calls it with a shard locked.
func (d *Director) count(id uint32, active, inactive int32) {
	if id == flow.NoServer {
		return
	}
	s := d.view.Load().servers[id]
	if s == nil {
		return // it is forgotten, and so is the connection in a moment (sweepConnections)
	}
	s.Active.Add(active)
	s.Inactive.Add(inactive)
	n := active + inactive
	if n == 0 {
		return
	}
	s.open.Add(int64(n))
	if s.limit.upper > 0 {
		s.limit.judge(s.serverRecord, n > 0)
	}
}

// panicked logs a worker's panic, at most one a second: a frame made it, and who sends one may send many.
func (d *Director) panicked(r any) {
	if now := time.Now().Unix(); d.panics.Swap(now) != now {
		d.log.Error("a frame made the director panic: dropped, the rest goes on; please report this", "panic", r, "stack", string(debug.Stack()))
	}
}

// addWorkers makes one worker for each queue of each device.
func (d *Director) addWorkers(c *conf.Config) {
	for i, dev := range d.devices {
		if c.SharesWith(i) != i {
			continue
		}
		trunk := newTrunk(c, i)
		for q := range dev.Queues {
			d.workers = append(d.workers, d.newWorker(i, q, trunk))
		}
	}
}

func (d *Director) newWorker(iface, q int, trunk *trunk) *worker {
	w := &worker{
		d: d, in: uint16(iface), trunk: trunk, queue: d.devices[iface].Queues[q], number: q,
		arena: tap.NewArena(arenaSize), made: make([]tap.Frame, 0, madeFrames),
		merger: stack.NewMerger(tap.Batch + madeFrames),
	}
	for i, dev := range d.devices {
		w.outs = append(w.outs, out{
			queue: dev.Queues[q%len(dev.Queues)], vlan: d.view.Load().ifaces[i].vlan, offload: dev.Offload, batch: make([]*tap.Frame, 0, tap.Batch+madeFrames),
		})
	}
	w.l, w.p, w.row = &w.spare, &w.spare.p, &w.ownRow
	w.recents.init()
	w.cut = newCutter(w.arena, w.own)
	w.tun.init(w)
	w.pieces.init(w)
	w.ids = d.newIDs()
	return w
}

func (d *Director) mtus() []int {
	m := make([]int, len(d.devices))
	for i, dev := range d.devices {
		m[i] = dev.MTU
	}
	return m
}

func (d *Director) neighLinks(c *conf.Config) []neigh.Link {
	var links []neigh.Link
	for i := range c.Interfaces {
		links = append(links, neigh.Link{Name: c.Interfaces[i].Name, MAC: c.Interfaces[i].MAC, Addresses: c.Interfaces[i].Addresses, Send: d.sender(i, c.Interfaces[i].VLAN)})
	}
	return links
}

func (d *Director) hostOptions(c *conf.Config) host.Options {
	o := host.Options{Rate: c.Limits.HostRate, Log: d.log}
	for i := range c.Interfaces {
		o.Links = append(o.Links, host.Link{
			Name: c.Interfaces[i].Name, MAC: c.Interfaces[i].MAC, MTU: d.devices[i].MTU, Offload: d.devices[i].Offload,
			Addresses: c.Interfaces[i].Addresses, VIPs: vipsOf(c, i), Send: d.sender(i, c.Interfaces[i].VLAN),
		})
	}
	o.Routes = routesOf(c)
	return o
}

// vipsOf lists the VIPs that an interface owns, each once.
func vipsOf(c *conf.Config, iface int) (vips []netip.Addr) {
	seen := map[netip.Addr]bool{}
	for i := range c.Services {
		for _, l := range c.Services[i].Listen {
			if l.Interface == iface && !seen[l.Addr] {
				seen[l.Addr] = true
				vips = append(vips, l.Addr)
			}
		}
	}
	return vips
}

// sender returns a function that writes one frame out of an interface: for the resolver and the host, beside the path. It may be called by
// several goroutines; a frame that the device cannot carry is cut in memory of its own.
func (d *Director) sender(iface, vlan int) func(*tap.Frame) {
	dev := d.devices[iface]
	write := tagged(uint16(vlan), func(f *tap.Frame) { dev.Queues[0].Write([]*tap.Frame{f}) })
	return func(f *tap.Frame) {
		if dev.Offload.Carries(f.Header) && f.Len() <= dev.MTU+tap.EthernetLen {
			write(f)
			return
		}
		d.cutAlone(f, dev, write)
	}
}

// cutAlone finishes one frame for a device that cannot carry it as it is.
func (d *Director) cutAlone(f *tap.Frame, dev *tap.Device, write func(*tap.Frame)) {
	g := f.Clone()
	var p stack.Packet
	if stack.Parse(&g, &p) != stack.ReasonNone {
		return
	}
	if dev.Offload.Carries(g.Header) && stack.MaxSegment(g.Header, &p) <= dev.MTU {
		write(&g)
		return
	}
	arena := tap.NewArena(arenaSize)
	sink := func(f *tap.Frame) {
		write(f)
		arena.Reset()
	}
	newCutter(arena, sink).run(&g, &p, uint32(dev.MTU))
}

// heldBytes is the memory that a held fragment is reckoned with: a large one on most links, a part of one where frames are jumbo.
const heldBytes = 4096

// fragments are the bounds of what is remembered of datagrams in fragments.
func fragments(c *conf.Config) frag.Options {
	return frag.Options{Frames: c.Limits.Fragments, Bytes: c.Limits.Fragments * heldBytes, Life: c.Timeouts.Fragment}
}

// timeouts are LVS's, with what the config sets.
func timeouts(c *conf.Config) flow.Timeouts {
	t := flow.DefaultTimeouts()
	set := func(s flow.State, d time.Duration) {
		if d > 0 {
			t[s] = d
		}
	}
	set(flow.Established, c.Timeouts.TCP)
	set(flow.FinWait, c.Timeouts.TCPFin)
	set(flow.None, c.Timeouts.TCPNone)
	set(flow.SynSent, c.Timeouts.TCPSynSent)
	set(flow.SynRecv, c.Timeouts.TCPSynRecv)
	set(flow.TimeWait, c.Timeouts.TCPTimeWait)
	set(flow.Close, c.Timeouts.TCPClose)
	set(flow.CloseWait, c.Timeouts.TCPCloseWait)
	set(flow.LastAck, c.Timeouts.TCPLastAck)
	set(flow.Listen, c.Timeouts.TCPListen)
	set(flow.SynAck, c.Timeouts.TCPSynAck)
	set(flow.SCTPEstablished, c.Timeouts.SCTP)
	set(flow.SCTPNone, c.Timeouts.SCTPNone)
	set(flow.SCTPInit1, c.Timeouts.SCTPInit1)
	set(flow.SCTPInit, c.Timeouts.SCTPInit)
	set(flow.SCTPCookieSent, c.Timeouts.SCTPCookieSent)
	set(flow.SCTPCookieReplied, c.Timeouts.SCTPCookieReplied)
	set(flow.SCTPCookieWait, c.Timeouts.SCTPCookieWait)
	set(flow.SCTPCookie, c.Timeouts.SCTPCookie)
	set(flow.SCTPCookieEchoed, c.Timeouts.SCTPCookieEchoed)
	set(flow.SCTPShutdownSent, c.Timeouts.SCTPShutdownSent)
	set(flow.SCTPShutdownReceived, c.Timeouts.SCTPShutdownReceived)
	set(flow.SCTPShutdownAckSent, c.Timeouts.SCTPShutdownAckSent)
	set(flow.SCTPRejected, c.Timeouts.SCTPRejected)
	set(flow.SCTPClosed, c.Timeouts.SCTPClosed)
	set(flow.UDP, c.Timeouts.UDP)
	set(flow.ICMP, c.Timeouts.ICMP)
	return t
}
