package director

import (
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/director/persist"
	"tapdirector/stack"
	"tapdirector/stack/host"
	"tapdirector/stack/neigh"
)

// Reload
//
// A new config becomes a new view while packets go on. Workers take the view once for each batch, so two are in use for a moment, and connections that the one makes
// are met by the other. The order keeps that safe:
//
//	1  compare     what cannot change at run time is refused, and nothing has changed
//	2  build       the new view, with the numbers and records of the old one (roster.go)
//	3  introduce   servers that are new: a view as the old one, but with their numbers. Once every worker has it, a connection to one of them is understood by all
//	4  switch      the new view: new connections go by it. Weights, timeouts, limits, VIPs and routes follow
//	5  settle      once every worker has it nobody makes a connection to a server that is gone
//	6  sweep       connections and templates of what is gone, a batch under each lock
//
// To wait for workers costs the path two additions for each batch: a worker's epoch is odd while it is in one. Between batches it holds no view.
//
// What becomes of TCP connections of a server that is gone says on_server_removed: forgotten, kept, or reset at both ends. Resets have the budget of all answers; what
// finds no room among those that wait (idle.go) stays a connection, and the janitor sweeps again. UDP flows are always forgotten: their next datagram is
// scheduled anew. The janitor also looks for those that nobody speaks of any more and takes them out, by the same way, with the config as it is.

// settleTime is how long a worker may need for a batch before a reload gives up on it: a bug, or a machine that stands still.
const settleTime = 10 * time.Second

var errUnsettled = errors.New("a worker does not finish its batch")

// RestartError is what Reload returns for a config that differs in what cannot change at run time.
type RestartError struct{ Keys []string }

func (e *RestartError) Error() string {
	return "cannot change at run time, restart for it: " + strings.Join(e.Keys, ", ")
}

// reloading is what reloads, and only they, work with.
type reloading struct {
	mu     sync.Mutex
	config *conf.Config  // in force
	life   time.Duration // longest of a datagram in fragments so far
	left   bool          // connections wait for their resets

	reloads, refused *counter
	swept            *counter // connections that ended because their server was removed
}

// Reload makes c the config in force. Interfaces must be those of the start, their MACs filled in. What cannot change at run time is a RestartError, and then
// nothing has changed. An established connection keeps its server as long as that is configured.
func (d *Director) Reload(c *conf.Config) error {
	r := &d.reloading
	r.mu.Lock()
	defer r.mu.Unlock()
	diff := conf.Diff(r.config, c)
	if len(diff.Restart) > 0 {
		r.refused.Add(1)
		return &RestartError{diff.Restart}
	}
	if err := d.swapLocked(c, d.clock()); err != nil {
		r.refused.Add(1)
		return err
	}
	r.reloads.Add(1)
	d.log.Info("reload", "changes", diff.Summary())
	return nil
}

// swapLocked is Reload from 2 on.
func (d *Director) swapLocked(c *conf.Config, now time.Duration) error {
	prev := d.view.Load()
	next, err := newView(c, viewOptions{prev: prev, mtus: d.mtus(), pin: d.neigh.Pin, now: now, spent: d.spentLocked(now)})
	if err != nil {
		return err
	}
	if next.introduces(prev) {
		if err := d.settle(prev.introducing(next)); err != nil {
			d.view.Store(prev)
			return err
		}
	}
	unsettled := d.settle(next)
	d.reloading.config = c
	d.adjust(c, next)
	if err := d.rehost(c, next); err != nil {
		d.log.Error("the director's own host did not take a change; please report this", "error", err)
	}
	if unsettled != nil {
		d.log.Error("connections to removed servers may be left; please report this", "error", unsettled)
	}
	d.sweepLocked(prev, next)
	d.judgeHopsLocked(now)
	d.neigh.Retain(next.usedSlots())
	return nil
}

// settle makes v the view and waits until no worker uses another.
func (d *Director) settle(v *view) error {
	d.view.Store(v)
	return d.unused(time.Now().Add(settleTime))
}

// unused waits until every worker has ended the batch that it is in, and so uses nothing that it read before.
func (d *Director) unused(deadline time.Time) error {
	for _, w := range d.workers {
		if !w.epoch.passes(deadline) {
			return errUnsettled
		}
	}
	if !d.resetter.epoch.passes(deadline) {
		return errUnsettled
	}
	return nil
}

// epoch is odd while its owner uses a view.
type epoch struct{ counter }

// begin comes before the view is loaded, end when it is not used any more.
func (e *epoch) begin() { e.Add(1) }
func (e *epoch) end()   { e.Add(1) }

// passes waits until who was using a view has ended; false when that is not before the deadline.
func (e *epoch) passes(deadline time.Time) bool {
	at := e.Load()
	for n := 0; at&1 != 0 && e.Load() == at; n++ {
		if n < 100 {
			runtime.Gosched()
			continue
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Microsecond)
	}
	return true
}

// introduces reports whether v has servers that prev does not know.
func (v *view) introduces(prev *view) bool {
	for id, s := range v.servers {
		if s != nil && (id >= len(prev.servers) || prev.servers[id] == nil || prev.servers[id].serverRecord != s.serverRecord) {
			return true
		}
	}
	return false
}

// introducing is v, a view in use, with the servers of next: it understands connections to them and their answers, and makes none.
func (v *view) introducing(next *view) *view {
	m := *v
	m.servers, m.paths, m.tracks = next.servers, next.paths, v.tracks || next.tracks
	roles := map[stack.Addr]role{}
	for _, e := range v.locals.slots {
		roles[e.addr] |= e.role
	}
	for _, e := range next.locals.slots {
		roles[e.addr] |= e.role & roleServer
	}
	delete(roles, stack.Addr{})
	m.locals = newAddrSet(roles)
	return &m
}

// usedSlots returns whether a next hop's slot is used by v.
func (v *view) usedSlots() func(neigh.Slot) bool {
	used := make(map[neigh.Slot]bool, len(v.servers)+len(v.routes))
	for _, s := range v.servers {
		if s != nil {
			used[s.slot] = true
		}
	}
	for i := range v.routes {
		used[v.routes[i].slot] = true
	}
	return func(s neigh.Slot) bool { return used[s] }
}

// adjust applies what lives outside of the view.
func (d *Director) adjust(c *conf.Config, v *view) {
	d.budget.rate.Store(int64(c.Limits.ICMPRate))
	d.table.SetTimeouts(timeouts(c))
	d.table.SetEviction(c.Limits.EarlyDrop)
	d.frags.SetLife(c.Timeouts.Fragment)
	d.ftp.Set(c.Limits.FTPSessions, c.Timeouts.TCPListen)
	d.host.SetRate(c.Limits.HostRate)
	d.reloading.life = max(d.reloading.life, c.Timeouts.Fragment)
	for _, s := range v.ordered {
		changed := false
		for _, srv := range s.servers {
			changed = srv.Weight.Swap(srv.weight) != srv.weight || changed
			srv.limit.apply(srv.serverRecord)
		}
		if changed {
			s.scheduler.Update()
		}
	}
}

// rehost tells the host its VIPs and routes.
func (d *Director) rehost(c *conf.Config, v *view) error {
	vips := make([][]netip.Addr, len(c.Interfaces))
	for i := range vips {
		vips[i] = vipsOf(c, i)
	}
	for _, s := range v.lost {
		if s.holdsVIPs() {
			for _, l := range s.conf.Listen {
				vips[l.Interface] = append(vips[l.Interface], l.Addr)
			}
		}
	}
	return errors.Join(d.host.SetVIPs(vips), d.host.SetRoutes(routesOf(c)))
}

func routesOf(c *conf.Config) (routes []host.Route) {
	for _, r := range c.Routes {
		routes = append(routes, host.Route{To: r.To, Via: r.Via, Link: r.Interface})
	}
	return routes
}

// removal is what becomes of a server's connections.
type removal uint8

const (
	stays removal = iota
	keeps         // those of TCP stay
	expires
	resets
)

var removals = map[string]removal{"keep": keeps, "expire": expires, "reset": resets}

// sweepLocked ends what has to end of servers that are gone. prev is the view before: templates that are found by another key now end as well.
func (d *Director) sweepLocked(prev, v *view) {
	d.sweepTemplates(prev, v)
	if len(prev.gone)+len(v.gone) > 0 {
		d.sweepConnections(v)
	}
}

func (d *Director) sweepConnections(v *view) {
	fates := make([]removal, len(v.servers))
	for id, s := range v.servers {
		switch {
		case s == nil:
			fates[id] = expires // made at the very moment in which the server was found spent
		case s.gone:
			fates[id] = removals[s.service.conf.OnServerRemoved]
		}
	}
	ended, left := d.table.Sweep(flow.Sweep{
		Of: func(server uint32, proto uint8) bool {
			return server < uint32(len(fates)) && (fates[server] > keeps || fates[server] == keeps && proto == stack.ProtoUDP)
		},
		Reset: func(c *flow.Conn, s flow.Sequence) bool {
			return fates[c.ServerID] != resets || d.resetter.offer(c, s)
		},
	})
	d.reloading.swept.Add(uint64(ended))
	d.reloading.left = left > 0
}

// sweepTemplates ends templates of servers that are gone, and of services that tell their clients apart in another way than before.
func (d *Director) sweepTemplates(prev, v *view) {
	rekeyed := map[uint32]bool{}
	bits := make(map[uint32][2]int, len(prev.ordered))
	for _, s := range prev.ordered {
		bits[s.id] = s.persistence.bits
	}
	for _, s := range v.ordered {
		if was, there := bits[s.id]; there && was != s.persistence.bits {
			rekeyed[s.id] = true
		}
	}
	if len(v.gone) == 0 && len(rekeyed) == 0 {
		return
	}
	d.templates.Sweep(func(k *persist.Key, server uint32) bool { return rekeyed[k.Service] || v.servers[server].gone })
}

// spentLocked returns whether nobody speaks any more of a server that is gone: no connection, no template, no reset that waits, no datagram in fragments.
func (d *Director) spentLocked(now time.Duration) func(*server) bool {
	busy := d.resetter.busy()
	return func(s *server) bool {
		return !busy && s.open.Load() == 0 && s.templates.Load() == 0 && now >= s.left+2*d.reloading.life
	}
}

// reclaim is the janitor's part: resets that had to wait, and servers that are spent.
func (d *Director) reclaim(now time.Duration) {
	v := d.view.Load()
	if len(v.gone) == 0 || !d.reloading.mu.TryLock() {
		return
	}
	defer d.reloading.mu.Unlock()
	v = d.view.Load()
	if d.reloading.left && !d.resetter.busy() {
		d.sweepConnections(v)
	}
	spent := d.spentLocked(now)
	for _, s := range v.gone {
		if spent(s) {
			if err := d.swapLocked(d.reloading.config, now); err != nil {
				d.log.Error("servers that were removed are not forgotten; please report this", "error", err)
			}
			return
		}
	}
}

// removedCounters tell of reloads and of what they removed.
func (d *Director) removedCounters(l *counterList) {
	l.add("reloads", d.reloading.reloads.Load())
	l.add("reloads_refused", d.reloading.refused.Load())
	l.add("connections_swept", d.reloading.swept.Load())
	l.add("udp_flows_moved", d.mortality.moved.Load())
	gone, kept := d.view.Load().gone, int64(0)
	for _, s := range gone {
		kept += s.open.Load()
	}
	l.add("removed_servers", uint64(len(gone)))
	l.add("connections_to_removed_servers", uint64(max(kept, 0)))
}
