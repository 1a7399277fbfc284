package director

import (
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"

	"tapdirector/director/flow"
)

// Counters are pulled, never pushed: workers add what a batch brought to atomics when the batch is done, and whoever wants to know reads
// them. A frame of a batch costs a plain addition; only the last line of a batch touches memory that others read.

type counter struct{ atomic.Uint64 }

// traffic counts what was balanced, as ipvsadm --stats does. A superpacket is one packet, as it is one for LVS; bytes are IP lengths.
type traffic struct {
	conns             counter
	inPkts, inBytes   counter // client -> server
	outPkts, outBytes counter // server -> client; 0 with dr, where they do not pass here
}

// merged counts packets that left as part of a superpacket made here, and these superpackets.
type merged struct{ packets, superpackets counter }

// tally collects the traffic of servers during a batch. Those whose numbers end in the same bits share a place in turn.
type tally struct {
	used  uint64 // a bit for each place with something in it
	sheet [64]tallied
}

// tallied is what one server had.
type tallied struct {
	of          *traffic
	pkts, bytes [2]uint64 // by flow.Direction
}

// add counts one packet of n bytes.
func (t *tally) add(s *server, dir flow.Direction, n uint32) { t.place(s.id, &s.traffic).add(dir, n) }

// place returns the place of server id, whose traffic is of. It is that server's until another one's is asked for.
func (t *tally) place(id uint32, of *traffic) *tallied {
	e := &t.sheet[id&63]
	if e.of != of {
		t.turn(e, id, of)
	}
	return e
}

func (e *tallied) add(dir flow.Direction, n uint32) {
	e.pkts[dir&1]++
	e.bytes[dir&1] += uint64(n)
}

// turn gives a place to another server.
func (t *tally) turn(e *tallied, id uint32, of *traffic) {
	if e.of != nil {
		e.flush()
	}
	e.of = of
	t.used |= 1 << (id & 63)
}

// flush moves what was collected to the servers.
func (t *tally) flush() {
	for ; t.used != 0; t.used &= t.used - 1 {
		t.sheet[bits.TrailingZeros64(t.used)].flush()
	}
}

func (e *tallied) flush() {
	c := e.of
	if e.pkts[flow.Forward] > 0 {
		c.inPkts.Add(e.pkts[flow.Forward])
		c.inBytes.Add(e.bytes[flow.Forward])
	}
	if e.pkts[flow.Reply] > 0 {
		c.outPkts.Add(e.pkts[flow.Reply])
		c.outBytes.Add(e.bytes[flow.Reply])
	}
	*e = tallied{}
}

// Counter is one named number; Labels, "key=value", say whose it is.
type Counter struct {
	Name   string
	Labels []string
	Value  uint64
}

// Counters returns every counter in a stable order. Each is read at once but not all at the same instant: sums of a running director may be off by a batch.
func (d *Director) Counters() []Counter {
	var l counterList
	l.add("frames_read", d.framesRead())
	for v := range d.verdicts {
		l.add("verdict", d.verdicts[v].Load(), "verdict="+Verdict(v).String())
	}
	d.removedCounters(&l)
	l.add("merged_packets", d.merged.packets.Load())
	l.add("merged_superpackets", d.merged.superpackets.Load())
	d.deviceCounters(&l)
	d.serviceCounters(&l)
	d.tableCounters(&l)
	d.fragmentCounters(&l)
	d.hostCounters(&l)
	return l
}

type counterList []Counter

func (l *counterList) add(name string, value uint64, labels ...string) {
	*l = append(*l, Counter{Name: name, Labels: labels, Value: value})
}

// framesRead counts what workers took from their queues.
func (d *Director) framesRead() (n uint64) {
	for _, w := range d.workers {
		n += w.frames.Load()
	}
	return n
}

// FramesRead and Verdicts are for tests and listings that compare the two.
func (d *Director) FramesRead() uint64 { return d.framesRead() }

// Verdicts returns the count of each verdict by name.
func (d *Director) Verdicts() map[string]uint64 {
	m := make(map[string]uint64, numVerdicts)
	for v := range d.verdicts {
		m[Verdict(v).String()] = d.verdicts[v].Load()
	}
	return m
}

func (d *Director) deviceCounters(l *counterList) {
	ifaces := d.view.Load().ifaces
	for i, dev := range d.devices {
		if slices.Index(d.devices, dev) < i {
			continue // counted already
		}
		var names []string
		for j := i; j < len(ifaces); j++ {
			if d.devices[j] == dev {
				names = append(names, ifaces[j].name)
			}
		}
		l.addFields("", dev.Stats(), "interface="+strings.Join(names, ","))
	}
}

func (d *Director) serviceCounters(l *counterList) {
	for _, s := range d.view.Load().ordered {
		who := "service=" + s.name
		all := s.all()
		all.list(l, "service", who)
		l.add("service_no_server", s.noServer.Load(), who)
		s.listDefence(l, who)
		for _, srv := range s.servers {
			srv.list(l, who)
		}
	}
}

func (s *server) list(l *counterList, service string) {
	who := []string{service, "server=" + s.name.String()}
	all := s.totals()
	all.list(l, "server", who...)
	l.add("server_active_connections", uint64(max(s.Active.Load(), 0)), who...)
	l.add("server_inactive_connections", uint64(max(s.Inactive.Load(), 0)), who...)
	l.add("server_weight", uint64(s.Weight.Load()), who...)
	l.add("server_templates", s.templates.Load(), who...)
	l.add("server_overloaded", s.overloaded(), who...)
	l.add("server_dead", s.deadFlag(), who...)
	if s.tunnel != nil {
		l.add("server_path_mtu", uint64(s.tunnel.path.learnedMTU()), who...)
	}
}

// totals are counts of traffic as of one moment.
type totals struct{ conns, inPkts, inBytes, outPkts, outBytes uint64 }

func (c *traffic) totals() totals {
	return totals{c.conns.Load(), c.inPkts.Load(), c.inBytes.Load(), c.outPkts.Load(), c.outBytes.Load()}
}

func (t *totals) add(o totals) {
	t.conns += o.conns
	t.inPkts += o.inPkts
	t.inBytes += o.inBytes
	t.outPkts += o.outPkts
	t.outBytes += o.outBytes
}

// all sums up a service: its servers, also those that are gone and those that are forgotten.
func (s *service) all() totals {
	t := s.former
	for _, srv := range s.servers {
		t.add(srv.totals())
	}
	for _, srv := range s.gone {
		t.add(srv.totals())
	}
	return t
}

func (t *totals) list(l *counterList, prefix string, who ...string) {
	l.add(prefix+"_connections_total", t.conns, who...)
	l.add(prefix+"_in_packets", t.inPkts, who...)
	l.add(prefix+"_in_bytes", t.inBytes, who...)
	l.add(prefix+"_out_packets", t.outPkts, who...)
	l.add(prefix+"_out_bytes", t.outBytes, who...)
}

func (d *Director) tableCounters(l *counterList) {
	l.add("connections", uint64(d.table.Len()))
	l.addFields("connections_", d.table.Stats())
	l.add("templates", uint64(d.templates.Len()))
	l.addFields("templates_", d.templates.Stats())
	l.addFields("ftp_", d.ftp.Stats())
	l.add("idle_resets", d.resetter.sent.Load())
	l.add("idle_resets_dropped", d.resetter.dropped.Load())
}

// fragmentCounters tell of datagrams in fragments. Of what became of held fragments only what happened is listed: one of many verdicts, as a rule.
func (d *Director) fragmentCounters(l *counterList) {
	l.addFields("fragments_", d.frags.Stats())
	for v := range d.released {
		if n := d.released[v].Load(); n > 0 {
			l.add("released_fragments", n, "verdict="+Verdict(v).String())
		}
	}
}

func (d *Director) hostCounters(l *counterList) {
	l.addFields("neighbours_", d.neigh.Stats())
	l.addFields("host_", d.host.Stats())
}

// addFields adds each unsigned field of a struct of counters under its name in snake case: RxFrames is rx_frames.
func (l *counterList) addFields(prefix string, stats any, labels ...string) {
	v := reflect.ValueOf(stats)
	for i := range v.NumField() {
		if f := v.Field(i); f.CanUint() {
			l.add(prefix+snake(v.Type().Field(i).Name), f.Uint(), labels...)
		}
	}
}

func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// String is "name{labels} value", as it is logged.
func (c Counter) String() string {
	if len(c.Labels) == 0 {
		return fmt.Sprintf("%s %d", c.Name, c.Value)
	}
	return fmt.Sprintf("%s%v %d", c.Name, c.Labels, c.Value)
}
