package director

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tapdirector/conf"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// reload makes the world one of spec s.
func (w *world) reload(s worldSpec) error {
	w.tb.Helper()
	s.setDefaults()
	return w.reloadText(s.toml())
}

func (w *world) reloadText(text string) error {
	w.tb.Helper()
	c, err := conf.Parse(strings.NewReader(text), "lb.toml")
	if err != nil {
		w.tb.Fatalf("%v\n%s", err, text)
	}
	return w.Reload(c)
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
}

// with returns the world's spec with some servers only.
func (w *world) with(servers int, service string) worldSpec {
	s := w.spec
	s.servers, s.service = servers, service
	return s
}

// methodsThatReload are every method with what its answers are called.
var methodsThatReload = []string{"nat", "dr", "tun", "fullnat"}

// openAll opens n connections and returns the server of each.
func (w *world) openAll(n int) (at []int) {
	for i := range n {
		at = append(at, w.reaches(w.fromPort(uint16(2000+i), stack.SYN)))
		w.reaches(w.fromPort(uint16(2000+i), stack.ACK))
	}
	return at
}

// A reload of the same file changes nothing: the schedulers go on where they were, counters stay, connections keep their servers.
func TestReloadSame(t *testing.T) {
	for _, scheduler := range []string{"rr", "wrr", "wlc", "lc", "sed", "nq", "fo", "twos", "sh", "dh", "mh", "lblc", "lblcr"} {
		t.Run(scheduler, func(t *testing.T) {
			bothFamilies(t, func(t *testing.T, family int) {
				s := worldSpec{family: family, sched: scheduler}
				w, twin := newWorld(t, s), newWorld(t, s)
				before := w.view.Load().ordered[0]
				for i := range 20 {
					port := uint16(1000 + i)
					got, want := w.reaches(w.fromPort(port, stack.SYN)), twin.reaches(w.fromPort(port, stack.SYN))
					if got != want && scheduler != "twos" {
						t.Fatalf("connection %d goes to server %d, without reloads to %d", i, got, want)
					}
					w.must(w.reload(s))
					if again := w.reaches(w.fromPort(port, stack.ACK)); again != got {
						t.Fatalf("connection %d moved from server %d to %d", i, got, again)
					}
				}
				v := w.view.Load()
				if after := v.ordered[0]; after.scheduler != before.scheduler || after.serviceRecord != before.serviceRecord || after.id != before.id || len(v.servers) != 3 {
					t.Error("service, scheduler or servers are others")
				}
				if n := w.counter("service_connections_total"); n != 20 {
					t.Errorf("%d connections counted, want 20", n)
				}
			})
		})
	}
}

// What becomes of the TCP connections of a server that is removed, by method and on_server_removed; those of the others stay in any case.
func TestReloadRemovesServer(t *testing.T) {
	for _, method := range methodsThatReload {
		for _, mode := range []string{"expire", "keep", "reset"} {
			t.Run(method+" "+mode, func(t *testing.T) {
				bothFamilies(t, func(t *testing.T, family int) {
					service := fmt.Sprintf("on_server_removed = %q\n", mode)
					w := newWorld(t, worldSpec{family: family, method: method, service: service})
					at := w.openAll(9)
					w.must(w.reload(w.with(2, service)))
					if got := len(w.resets()); got != map[string]int{"reset": 6}[mode] {
						t.Errorf("%d resets, want two for each of 3 connections if mode is reset", got)
					}
					for i, server := range at {
						s := w.fromPort(uint16(2000+i), stack.ACK)
						if server < 2 || mode == "keep" {
							w.reachesOf(s, server)
							continue
						}
						if v, _ := w.step(ext, s.Frame()); v != SentReset {
							t.Errorf("a packet of a connection to the removed server: %v, want %v", v, SentReset)
						}
						if got := w.reaches(w.fromPort(uint16(2000+i), stack.SYN)); got == 2 {
							t.Error("a new connection goes to the removed server")
						}
					}
				})
			})
		}
	}
}

// reachesOf fails unless a packet goes to one of n servers.
func (w *world) reachesOf(s packettest.Spec, server int) {
	w.tb.Helper()
	v, left := w.step(ext, s.Frame())
	if len(left) != 1 || stack.DstMAC(left[0].frame.Bytes()) != serverMAC(server) {
		w.tb.Fatalf("%v with %d frames, want one to server %d", v, len(left), server)
	}
}

// UDP flows of a server that is removed go on with another at once.
func TestReloadMovesUDP(t *testing.T) {
	for _, method := range methodsThatReload {
		t.Run(method, func(t *testing.T) {
			bothFamilies(t, func(t *testing.T, family int) {
				w := newWorld(t, worldSpec{family: family, method: method, proto: "udp"})
				at := w.openAll(9)
				w.must(w.reload(w.with(2, "")))
				for i, server := range at {
					if got := w.reaches(w.fromPort(uint16(2000+i), 0)); got == 2 || server < 2 && got != server {
						t.Errorf("a flow of server %d goes to %d", server, got)
					}
				}
			})
		})
	}
}

// A server that comes back while it is remembered is the same: its connections and counters are there, whether it was kept or brought back by a new file.
func TestReloadRevives(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		keep := "on_server_removed = \"keep\"\n"
		w := newWorld(t, worldSpec{family: family, service: keep})
		at := w.openAll(6)
		ids := idsOf(w)
		w.must(w.reload(w.with(1, keep)))
		if n := w.counter("removed_servers"); n != 2 {
			t.Errorf("%d removed servers, want 2", n)
		}
		if n := w.counter("connections_to_removed_servers"); n != 4 {
			t.Errorf("%d connections to removed servers, want 4", n)
		}
		w.must(w.reload(w.with(3, keep)))
		if got := idsOf(w); !slices.Equal(got, ids) {
			t.Errorf("numbers %v, want %v", got, ids)
		}
		for i, server := range at {
			w.reachesOf(w.fromPort(uint16(2000+i), stack.ACK), server)
		}
		if n := w.counter("server_active_connections"); n != 6 {
			t.Errorf("%d active connections, want 6", n)
		}
	})
}

func idsOf(w *world) (ids []uint32) {
	for _, s := range w.view.Load().ordered[0].servers {
		ids = append(ids, s.id)
	}
	return ids
}

// Another method or protocol makes another server of it: connections of the old one end.
func TestReloadOtherMethod(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family})
		w.openAll(3)
		s := w.spec
		s.method = "fullnat"
		w.must(w.reload(s))
		if v, _ := w.step(ext, w.fromPort(2000, stack.ACK).Frame()); v != SentReset {
			t.Errorf("a connection by nat in a service by fullnat: %v", v)
		}
		w.one3(w.step(ext, w.fromPort(2000, stack.SYN).Frame()))
	})
}

func (w *world) one3(v Verdict, left []sent) {
	w.tb.Helper()
	if v != ForwardedFullNAT || len(left) != 1 {
		w.tb.Errorf("%v with %d frames, want %v", v, len(left), ForwardedFullNAT)
	}
}

// two is a file with two services; names and listens are the caller's.
func (w *world) two(a, b, listenA, listenB string) string {
	s := w.spec
	s.listen = listenA
	text := s.toml()
	text = strings.Replace(text, `name = "web"`, fmt.Sprintf("name = %q", a), 1)
	s.listen = listenB
	second := s.toml()
	second = strings.Replace(second[strings.Index(second, "[[service]]"):], `name = "web"`, fmt.Sprintf("name = %q", b), 1)
	return text + second
}

// A service is the one of its name; a renamed one the one that it shares a port with. Its servers keep their connections, and its number its templates.
func TestReloadMatchesServices(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, service: "persistence_timeout = \"5m\"\n"})
		at := w.openAll(4)
		id := w.view.Load().ordered[0].id
		vip, other := fmt.Sprintf("%q", w.spec.vip()), fmt.Sprintf("%q", netip.AddrPortFrom(w.spec.addr(1, 101), 80))
		for _, text := range []string{
			w.two("first", "web", other, vip), // one more before it
			w.two("first", "www", other, vip), // renamed
			w.two("www", "first", vip, other), // in another order
			w.two("first", "www", vip, other), // ports changed hands: the name counts
		} {
			w.must(w.reloadText(text))
			for i, server := range at {
				w.reachesOf(w.fromPort(uint16(2000+i), stack.ACK), server)
			}
		}
		v := w.view.Load()
		if v.ordered[1].id != id || v.ordered[1].name != "www" || len(v.servers) != 6 || len(v.gone) != 0 {
			t.Errorf("service %q has number %d, want www with %d; %d servers", v.ordered[1].name, v.ordered[1].id, id, len(v.servers))
		}
	})
}

// What cannot change at run time is refused as a whole.
func TestReloadRefuses(t *testing.T) {
	w := newWorld(t, worldSpec{})
	before := w.view.Load()
	s := w.spec
	s.ext, s.servers, s.tail = "mtu = 1400\n", 1, "[limits]\nconnections = 10\n"
	err := w.reload(s)
	var restart *RestartError
	if !errors.As(err, &restart) || !slices.Equal(restart.Keys, []string{`interface "ext": mtu`, "[limits] connections"}) {
		t.Errorf("error %v", err)
	}
	if w.view.Load() != before || w.counter("reloads_refused") != 1 || w.counter("reloads") != 0 {
		t.Error("something changed, or was not counted")
	}
}

// Servers of a removed service: with keep they and the VIP are there until the last connection has ended, with expire they are not.
func TestReloadRemovesService(t *testing.T) {
	for _, mode := range []string{"expire", "keep"} {
		bothFamilies(t, func(t *testing.T, family int) {
			service := fmt.Sprintf("on_server_removed = %q\n", mode)
			w := newWorld(t, worldSpec{family: family, service: service})
			at := w.openAll(3)
			s := w.spec
			s.listen = fmt.Sprintf("%q", netip.AddrPortFrom(w.spec.addr(1, 101), 80))
			other := strings.Replace(s.toml(), `name = "web"`, `name = "other"`, 1)
			w.must(w.reloadText(other))
			if mode == "expire" {
				if v, left := w.step(ext, w.fromPort(2000, stack.ACK).Frame()); v != Parked || len(left) != 0 { // routed to whoever has it now
					t.Errorf("a packet to a VIP that is no more: %v", v)
				}
			} else {
				for i, server := range at {
					w.reachesOf(w.fromPort(uint16(2000+i), stack.ACK), server)
				}
				if v, _ := w.step(ext, w.fromPort(3000, stack.SYN).Frame()); v != SentReset {
					t.Errorf("a new connection to a removed service: %v", v)
				}
				for i, server := range at { // they end
					w.reachesOf(w.fromPort(uint16(2000+i), stack.RST), server)
				}
			}
			w.pass(time.Hour)
			if v := w.view.Load(); len(v.gone) != 0 || len(v.lost) != 0 {
				t.Errorf("%d servers and %d services are still remembered", len(v.gone), len(v.lost))
			}
			if v, _ := w.step(ext, w.fromPort(2000, stack.ACK).Frame()); v != Parked {
				t.Errorf("a packet to a VIP that is no more: %v", v)
			}
		})
	}
}

// Persistence templates to a removed server do not count, and are gone.
func TestReloadDropsTemplates(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		service := "persistence_timeout = \"5m\"\n"
		w := newWorld(t, worldSpec{family: family, service: service + "on_server_removed = \"keep\"\n"})
		server := w.openAll(1)[0]
		w.step(in, w.fromServer(server, stack.SYN|stack.ACK))
		if server != 0 {
			t.Fatalf("the first connection goes to server %d", server)
		}
		text := w.spec.toml()
		first := text[strings.Index(text, "[[service.server]]"):]
		first = first[:strings.Index(first[1:], "[[service.server]]")+1]
		w.must(w.reloadText(strings.Replace(text, first, "", 1)))
		if n := w.counter("templates"); n != 0 {
			t.Errorf("%d templates", n)
		}
		if got := w.reaches(w.fromPort(3000, stack.SYN)); got == 0 {
			t.Error("the client's next connection goes to the removed server")
		}
		w.reachesOf(w.fromPort(2000, stack.ACK), 0) // it was kept
	})
}

// Thousands of reloads, each with other servers and services, leave no more behind than a few did: not in tables, not in memory.
func TestReloadIsBounded(t *testing.T) {
	w := newWorld(t, worldSpec{unknown: true}) // next hops come and go too
	text := func(n int) string {
		var b strings.Builder
		b.WriteString(w.spec.toml()[:strings.Index(w.spec.toml(), "[[service]]")])
		for s := range 3 {
			fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\nlisten = \"10.77.1.%d:80\"\n", n*3+s, 100+(n*3+s)%100)
			for i := range 4 {
				fmt.Fprintf(&b, "[[service.server]]\naddress = \"10.77.2.%d:%d\"\n", 10+(n+i)%200, 8000+n)
			}
		}
		return b.String()
	}
	round := func(from, to int) {
		for n := from; n < to; n++ {
			w.must(w.reloadText(text(n)))
			w.step(ext, w.toVIP(stack.SYN))
			w.later += time.Minute
			w.tidy(w.clock() + w.later)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	round(0, 300)
	before := heap()
	round(300, 3000)
	v := w.view.Load()
	if len(v.servers) > 40 || len(v.ordered) != 3 || len(v.gone) > 12 || len(v.lost) > 3 {
		t.Errorf("%d numbers, %d services, %d servers and %d services removed", len(v.servers), len(v.ordered), len(v.gone), len(v.lost))
	}
	if st := w.neigh.Stats(); st.Slots > 40 {
		t.Errorf("%d next hops", st.Slots)
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d bytes of heap after 3000 reloads, %d after 300", after, before)
	}
}

// A worker that is in a batch has the view from before: a reload waits for it, so a connection that it makes to a server that is being removed is swept too,
// and none is made to a new server before all know it.
func TestReloadWaitsForWorkers(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family})
		before := w.view.Load()
		k := w.worker(ext) // with the view that is in force
		k.epoch.begin()
		s := w.with(3, "")
		text := strings.Replace((&s).toml(), w.spec.server(0).String(), netip.AddrPortFrom(w.spec.addr(2, 50), 8000).String(), 1)
		text = strings.Replace(text, "mac = "+fmt.Sprintf("%q", mac(serverMAC(0))), fmt.Sprintf("mac = %q", mac(serverMAC(9))), 1)
		c, err := conf.Parse(strings.NewReader(text), "lb.toml")
		w.must(err)
		done := make(chan error, 1)
		go func() { done <- w.Reload(c) }()
		until(t, "the new server is introduced", func() bool { return w.view.Load() != before })
		if v := w.view.Load(); len(v.servers) != 4 || len(v.ordered[0].servers) != 3 || v.ordered[0].servers[0] != before.ordered[0].servers[0] {
			t.Error("new connections may go to the new server though a worker does not know it")
		}
		f := w.fromPort(1000, stack.SYN).Frame()
		if v := k.one(&f); v != ForwardedNAT || k.view != before {
			t.Fatalf("the worker with the former view: %v", v)
		}
		k.flush()
		select {
		case err := <-done:
			t.Fatalf("the reload did not wait: %v", err)
		default:
		}
		k.epoch.end()
		w.must(<-done)
		if v, _ := w.step(ext, w.fromPort(1000, stack.ACK).Frame()); v != SentReset {
			t.Errorf("a connection that was made to the removed server meanwhile: %v, want %v", v, SentReset)
		}
		if n := w.counter("connections_swept"); n != 1 {
			t.Errorf("%d connections swept, want 1", n)
		}
	})
}

// An epoch passes when who was in a batch has left it, also when the next one has begun; not before, and not for ever.
func TestEpoch(t *testing.T) {
	var e epoch
	long := time.Now().Add(time.Hour)
	if !e.passes(long) {
		t.Error("nobody was there, and it did not pass")
	}
	e.begin()
	if e.passes(time.Now()) {
		t.Error("it passed somebody who was there")
	}
	passed := make(chan bool)
	go func() { passed <- e.passes(long) }()
	for range 1000 {
		e.end()
		e.begin()
	}
	e.end()
	if !<-passed {
		t.Error("it did not pass")
	}
}

// Reloads, traffic in every direction and the janitor, all at once: no connection of a server that stays moves or ends. For the race detector above all.
func TestReloadRace(t *testing.T) {
	for _, method := range methodsThatReload {
		t.Run(method, func(t *testing.T) {
			bothFamilies(t, func(t *testing.T, family int) {
				service := "persistence_timeout = \"5m\"\npersistence_prefix4 = 32\n"
				w := newWorld(t, worldSpec{family: family, method: method, service: service})
				stop := make(chan struct{})
				var all sync.WaitGroup
				all.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							w.tidy(w.clock())
							w.Counters()
						}
					}
				})
				all.Go(func() {
					defer close(stop)
					for i := range 40 {
						if err := w.reload(w.with([]int{3, 1, 2, 3, 2}[i%5], service)); err != nil {
							t.Error(err)
						}
					}
				})
				k := w.workers[ext]
				for port := uint16(1); ; port++ {
					select {
					case <-stop:
						all.Wait()
						if n := w.Verdicts()["drop-panic"]; n != 0 {
							t.Errorf("%d panics", n)
						}
						return
					default:
					}
					syn, ack, old := w.fromPort(1000+port%5000, stack.SYN).Frame(), w.fromPort(1000+port%5000, stack.ACK).Frame(), w.fromPort(1000, stack.ACK).Frame()
					k.batch([]tap.Frame{syn, ack, old})
				}
			})
		})
	}
}
