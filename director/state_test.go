package director

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tapdirector/conf"
	"tapdirector/director/flow"
	"tapdirector/stack"
)

// open sends the first packets of a connection from a port, up to established, and returns its server.
func (w *world) open(port uint16) int {
	w.tb.Helper()
	i := w.reaches(w.fromPort(port, stack.SYN))
	if w.spec.proto == "tcp" {
		w.reaches(w.fromPort(port, stack.ACK))
	} else if w.spec.method == "nat" {
		w.answer(i, port)
	}
	return i
}

// answer sends server i's packet to the client's port.
func (w *world) answer(i int, port uint16) (Verdict, []sent) {
	w.tb.Helper()
	s := w.fromServerSpec(i, stack.ACK)
	s.Dst = netip.AddrPortFrom(s.Dst.Addr(), port)
	return w.step(in, s.Frame())
}

const sixMinutes = "persistence_timeout = \"6m\"\n"

// All connections of a client go to one server, from the first until the timeout after the last.
func TestPersistence(t *testing.T) {
	for _, method := range []string{"nat", "dr"} {
		for _, proto := range []string{"tcp", "udp"} {
			bothFamilies(t, func(t *testing.T, family int) {
				w := newWorld(t, worldSpec{family: family, method: method, proto: proto, service: sixMinutes})
				first := w.open(1000)
				for port := uint16(1001); port < 1020; port++ {
					if i := w.open(port); i != first {
						t.Fatalf("connection %d to server %d, the first to %d", port-1000, i, first)
					}
					w.pass(4 * time.Minute) // longer than 6 minutes in all
				}
				if n := w.counter("server_templates"); n != 1 {
					t.Errorf("%d templates, want 1", n)
				}
				w.pass(40 * time.Minute)
				if n := w.table.Len() + w.templates.Len(); n != 0 {
					t.Fatalf("%d connections and templates left", n)
				}
				if i := w.open(2000); i == first {
					t.Errorf("after the timeout still server %d", i)
				}
			})
		}
	}
}

// The netmask decides whose connections go together, by family.
func TestPersistencePrefix(t *testing.T) {
	for _, tc := range []struct {
		keys      string
		neighbour [2]bool // of IPv4 .2 and .3, of IPv6 ::2 and ::3: the same server?
	}{
		{"", [2]bool{false, false}},
		{"persistence_prefix4 = 24\n", [2]bool{true, false}},
		{"persistence_prefix6 = 64\n", [2]bool{false, true}},
	} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, service: sixMinutes + tc.keys})
			first := w.open(1000)
			s := w.toVIPSpec(stack.SYN)
			s.Src = netip.AddrPortFrom(w.spec.addr(1, 3), 1000)
			if same := w.reaches(s) == first; same != tc.neighbour[family/6] {
				t.Errorf("%q: the neighbour goes to the same server: %v", tc.keys, same)
			}
		})
	}
}

// A service that listens on several ports is one group: a client's connections to any of them go to one server.
func TestPersistenceOverGroup(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := manyPorts(t, worldSpec{family: family, listen: `["%s:80", "%s:443"]`, noPort: true, service: sixMinutes})
		first := w.open(1000)
		for port := uint16(1001); port < 1010; port++ {
			s := w.fromPort(port, stack.SYN)
			s.Dst = netip.AddrPortFrom(s.Dst.Addr(), []uint16{80, 443}[port%2])
			if i := w.reaches(s); i != first {
				t.Fatalf("port %d is on server %d, want %d", s.Dst.Port(), i, first)
			}
		}
	})
}

// A drained or overloaded server keeps the clients that have a template, unless expire_quiescent_template takes drained ones away.
func TestPersistenceToDrainedServer(t *testing.T) {
	for _, quiescent := range []bool{false, true} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, service: sixMinutes + fmt.Sprintf("expire_quiescent_template = %v\n", quiescent)})
			first := w.open(1000)
			srv := w.view.Load().servers[first]
			srv.Overload.Store(true)
			if i := w.open(1001); i != first {
				t.Errorf("an overloaded server lost its client")
			}
			srv.Weight.Store(0)
			i := w.open(1002)
			if (i != first) != quiescent {
				t.Errorf("quiescent %v: the client went from %d to %d", quiescent, first, i)
			}
			if again := w.open(1003); again != i {
				t.Errorf("quiescent %v: then to %d", quiescent, again)
			}
			w.pass(2 * time.Hour) // connections of the dropped template end as well
			if n := w.templates.Len() + int(w.counter("server_templates")); n != 0 {
				t.Errorf("%d templates left", n)
			}
		})
	}
}

// A flood of SYNs from invented addresses leaves no template behind, and established clients keep theirs, also when the table is too small for it.
func TestPersistenceInAFlood(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, service: sixMinutes, tail: "[limits]\ntemplates = 1000\n"})
		first := w.open(1000)
		for n := range 5000 {
			s := w.toVIPSpec(stack.SYN)
			s.Src = netip.AddrPortFrom(w.spec.addr(5, 2), uint16(1+n))
			if family == 4 {
				s.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(2 + n>>8), byte(n)}), 5)
			} else {
				s.Src = netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:f::%x", n+1)), 5)
			}
			w.reaches(s)
		}
		if n := w.templates.Len(); n != 1000 {
			t.Errorf("%d templates in the flood, want the limit", n)
		}
		if i := w.open(1001); i != first {
			t.Errorf("the flood moved an established client from %d to %d", first, i)
		}
		w.pass(70 * time.Second) // SYN_RECV
		if n := w.templates.Len(); n != 1 {
			t.Errorf("%d templates after the flood, want 1", n)
		}
		if i := w.open(1002); i != first {
			t.Errorf("then to %d", i)
		}
	})
}

// A connection that is not made holds nothing.
func TestPersistenceOfRefusedConnections(t *testing.T) {
	w := newWorld(t, worldSpec{service: sixMinutes, tail: "[limits]\nconnections = 1\n"})
	w.open(1000)
	v, left := w.step(ext, w.fromPort(1001, stack.SYN).Frame())
	w.none(v, left, DropTableFull)
	w.pass(40 * time.Minute)
	if n := w.templates.Len(); n != 0 {
		t.Errorf("%d templates left: a refused connection holds one", n)
	}
}

// model is LVS's rule for thresholds, as its sources have it.
type model struct {
	n, upper, lower int
	overload        bool
}

func (m *model) bind() {
	m.n++
	if m.upper != 0 && m.n >= m.upper {
		m.overload = true
	}
}

func (m *model) unbind() {
	m.n--
	switch {
	case m.lower != 0:
		if m.n < m.lower {
			m.overload = false
		}
	case m.upper != 0:
		if m.n*4 < m.upper*3 {
			m.overload = false
		}
	default:
		m.overload = false
	}
}

// Random connections come and go over simulated time: flag and counts of each server are always the model's, no server has more than its
// upper threshold, and when all are full clients are refused.
func TestThresholds(t *testing.T) {
	limits := []struct{ upper, lower int }{{0, 0}, {10, 0}, {10, 5}, {1, 0}, {7, 7}, {4, 1}}
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			for _, l := range limits[1:] {
				s := worldSpec{family: family, proto: proto, servers: 3, service: "on_no_server = \"drop\"\n"}
				w := newWorld(t, s)
				models := make([]model, 3)
				for i, srv := range w.view.Load().servers {
					srv.limit.upper, srv.limit.lower = int64(l.upper), int64(l.lower)
					models[i] = model{upper: l.upper, lower: l.lower}
				}
				rng := rand.New(rand.NewPCG(uint64(family), uint64(l.upper)))
				open := map[uint16]int{}
				refused := 0
				for range 2000 {
					port := uint16(1000 + rng.IntN(60))
					i, known := open[port]
					switch {
					case known && rng.IntN(2) == 0:
						k := w.fromPort(port, 0)
						tuple := stack.Tuple{Src: stack.AddrFrom(k.Src.Addr()), Dst: stack.AddrFrom(k.Dst.Addr()), SrcPort: port, DstPort: 80, Proto: w.proto()}
						w.table.Remove(&tuple, flow.Forward)
						delete(open, port)
						models[i].unbind()
					case known:
						w.reaches(w.fromPort(port, stack.ACK))
					default:
						v, left := w.step(ext, w.fromPort(port, stack.SYN).Frame())
						if v == DropNoServer {
							refused++
							break
						}
						w.one(v, left, ForwardedNAT, in)
						i := w.serverOf(port)
						open[port] = i
						models[i].bind()
					}
					w.wantModels(models)
				}
				if refused == 0 {
					t.Errorf("%+v: never full", l)
				}
				w.pass(2 * time.Hour)
				for i, srv := range w.view.Load().servers {
					if srv.Active.Load() != 0 || srv.Inactive.Load() != 0 || srv.Overload.Load() {
						t.Errorf("%+v: server %d at the end: %d active, %d inactive, overload %v", l, i, srv.Active.Load(), srv.Inactive.Load(), srv.Overload.Load())
					}
				}
			}
		})
	}
}

// serverOf returns the server of the client's connection from a port.
func (w *world) serverOf(port uint16) int {
	s := w.fromPort(port, 0)
	k := stack.Tuple{Src: stack.AddrFrom(s.Src.Addr()), Dst: stack.AddrFrom(s.Dst.Addr()), SrcPort: port, DstPort: s.Dst.Port(), Proto: w.proto()}
	var c flow.Conn
	if !w.table.Find(&k, flow.Forward, &c) {
		w.tb.Fatalf("no connection from port %d", port)
	}
	return int(c.ServerID)
}

func (w *world) wantModels(models []model) {
	w.tb.Helper()
	for i, srv := range w.view.Load().servers {
		n, m := int(srv.Active.Load()+srv.Inactive.Load()), models[i]
		if n != m.n || srv.Overload.Load() != m.overload || m.n > m.upper {
			w.tb.Fatalf("server %d: %d connections, overload %v; want %+v", i, n, srv.Overload.Load(), m)
		}
	}
}

// The thresholds of lb.toml reach the server, and the flag its counter.
func TestThresholdsFromTheFile(t *testing.T) {
	w := newWorld(t, worldSpec{servers: 1, tail: "u_threshold = 2\nl_threshold = 1\n"})
	w.open(1000)
	w.open(1001)
	s := w.fromPort(1002, stack.SYN)
	if v, _ := w.step(ext, s.Frame()); v != SentReset {
		t.Errorf("a third connection: %v", v)
	}
	if n := w.counter("server_overloaded"); n != 1 {
		t.Errorf("server_overloaded %d", n)
	}
	w.pass(time.Hour)
	w.open(1003)
}

// However workers race, when all is over the flag says what the count says.
func TestThresholdRace(t *testing.T) {
	var s serverRecord
	limit := threshold{upper: 2}
	for range 200 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 50 {
					s.open.Add(1)
					limit.judge(&s, true)
					s.open.Add(-1)
					limit.judge(&s, false)
				}
			})
		}
		all.Wait()
		if s.Overload.Load() {
			t.Fatal("overloaded with no connection: for ever")
		}
	}
}

// counter returns the sum of the director's counters of a name.
func (w *world) counter(name string) (sum uint64) {
	for _, c := range w.Counters() {
		if c.Name == name {
			sum += c.Value
		}
	}
	return sum
}

// Every key of [timeouts] reaches the table: a connection in that state ends then, not before.
func TestTimeouts(t *testing.T) {
	type packet struct {
		server bool
		flags  uint8
	}
	syn, ack, fin := packet{false, stack.SYN}, packet{false, stack.ACK}, packet{false, stack.FIN | stack.ACK}
	sfin := packet{true, stack.FIN | stack.ACK}
	for _, tc := range []struct {
		key     string
		packets []packet
	}{
		{"tcp_syn_recv", []packet{syn}},
		{"tcp", []packet{syn, ack}},
		{"tcp_close_wait", []packet{syn, ack, fin}},
		{"tcpfin", []packet{syn, ack, sfin}},
		{"tcp_time_wait", []packet{syn, ack, fin, sfin}},
		{"tcp_close", []packet{syn, {true, stack.RST}}},
		{"udp", []packet{ack}},
	} {
		bothFamilies(t, func(t *testing.T, family int) {
			s := worldSpec{family: family, servers: 1, tail: "[timeouts]\n" + tc.key + " = 70\n"}
			if tc.key == "udp" {
				s.proto = "udp"
			}
			w := newWorld(t, s)
			for _, p := range tc.packets {
				if p.server {
					w.answerFlags(p.flags)
				} else {
					w.reaches(w.fromPort(40000, p.flags))
				}
			}
			w.pass(60 * time.Second) // less than the timeout by more than a busy machine may take from here to there
			if w.table.Len() != 1 {
				t.Fatalf("%s: ended before its time", tc.key)
			}
			w.pass(11 * time.Second)
			if w.table.Len() != 0 {
				t.Errorf("%s: lives on after its time: %v", tc.key, w.table.Stats().States)
			}
		})
	}
	text := []string{"tcp_none", "tcp_syn_sent", "tcp_last_ack", "tcp_listen", "tcp_synack", "icmp", // not met so easily
		"sctp_none", "sctp_init1", "sctp_init", "sctp_cookie_sent", "sctp_cookie_replied", "sctp_cookie_wait", "sctp_cookie", "sctp_cookie_echoed", "sctp",
		"sctp_shutdown_sent", "sctp_shutdown_received", "sctp_shutdown_ack_sent", "sctp_rejected", "sctp_closed"}
	states := []flow.State{flow.None, flow.SynSent, flow.LastAck, flow.Listen, flow.SynAck, flow.ICMP}
	for s := flow.SCTPNone; s < flow.NumStates; s++ {
		states = append(states, s)
	}
	spec := worldSpec{tail: "[timeouts]\n" + strings.Join(text, " = 77\n") + " = 77\n"}
	spec.setDefaults()
	c, err := conf.Parse(strings.NewReader(spec.toml()), "lb.toml")
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range states {
		if got := timeouts(c)[s]; got != 77*time.Second {
			t.Errorf("%s: %v", text[i], got)
		}
	}
}

func (w *world) answerFlags(flags uint8) {
	w.tb.Helper()
	v, left := w.step(in, w.fromServer(0, flags))
	w.one(v, left, RepliedNAT, ext)
}

// A connection that makes room for another gives its template back, so a flood of half-open ones leaves no more templates than connections.
func TestPersistenceAndEviction(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, service: sixMinutes, tail: "[limits]\nconnections = 100\n"})
		for i := range 5000 {
			s := w.toVIPSpec(stack.SYN)
			s.Src = netip.AddrPortFrom(w.spec.addr(9, 1+i%250), uint16(1000+i))
			w.step(ext, s.Frame())
		}
		if w.counter("connections_evicted") == 0 {
			t.Error("nothing was evicted")
		}
		if n := w.templates.Len(); n > w.table.Len() {
			t.Errorf("%d templates of %d connections", n, w.table.Len())
		}
		if got := w.counter("server_templates"); got != uint64(w.templates.Len()) {
			t.Errorf("servers count %d templates, the table %d", got, w.templates.Len())
		}
	})
}

// Persistence, thresholds and ranges do not ask which method it is.
func TestStateByFullNATAndTunnel(t *testing.T) {
	for _, method := range []string{"fullnat", "tun"} {
		bothFamilies(t, func(t *testing.T, family int) {
			s := worldSpec{family: family}
			s.setDefaults()
			listen := fmt.Sprintf("[\"%v-89\", %q]", netip.AddrPortFrom(s.vip().Addr(), 80), netip.AddrPortFrom(s.vip().Addr(), 443))
			w := newWorld(t, worldSpec{family: family, method: method, noPort: true, listen: listen, service: sixMinutes})
			first := w.open(1000)
			for _, port := range []uint16{80, 85, 89, 443} {
				p := w.fromPort(2000, stack.SYN)
				p.Dst = netip.AddrPortFrom(p.Dst.Addr(), port)
				if i := w.reaches(p); i != first {
					t.Errorf("port %d: server %d, the first %d", port, i, first)
				}
			}
			p := w.fromPort(2000, stack.SYN)
			p.Dst = netip.AddrPortFrom(p.Dst.Addr(), 90)
			if v, _ := w.step(ext, p.Frame()); v != SentReset {
				t.Errorf("port 90: %v", v)
			}
		})
	}
}

// Thresholds that a reload changes: raised or taken away, the upper one lets new connections in at once; lowered, or the same, it does not.
func TestThresholdsReloaded(t *testing.T) {
	spec := func(upper int) worldSpec {
		return worldSpec{servers: 1, tail: fmt.Sprintf("u_threshold = %d\n", upper)}
	}
	w := newWorld(t, spec(3))
	port := uint16(1000)
	opens := func(upper int, want int) {
		t.Helper()
		w.must(w.reload(spec(upper)))
		n := 0
		for range 4 {
			port++
			s := w.fromPort(port, stack.SYN)
			if v, _ := w.step(ext, s.Frame()); v == ForwardedNAT {
				n++
			}
		}
		if n != want {
			t.Errorf("upper threshold %d: %d connections more, want %d", upper, n, want)
		}
	}
	opens(3, 3)
	opens(3, 0)
	opens(4, 1) // 3 of 4 is not below three quarters
	opens(2, 0)
	opens(3, 0) // raised, but less than there are
	opens(6, 2)
	opens(0, 4)
}
