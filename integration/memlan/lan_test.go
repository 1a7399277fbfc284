package memlan

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/stack"
	"tapdirector/tap"
)

// collector is a host that only keeps what it gets.
type collector struct {
	port *Port

	mu  sync.Mutex
	got []string // payloads behind the Ethernet header
}

func collect(s *Switch, name string) *collector {
	c := &collector{}
	c.port = s.Plug(name, func(f *tap.Frame) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got = append(c.got, string(f.Bytes()[tap.EthernetLen:]))
	})
	return c
}

// wait waits until n frames came, and returns them.
func (c *collector) wait(t *testing.T, n int) []string {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		got := slices.Clone(c.got)
		c.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("port %s got %q, want %d frames", c.port.Name, got, n)
		}
	}
}

func ethernet(dst, src byte, payload string) *tap.Frame {
	b := make([]byte, tap.EthernetLen, tap.EthernetLen+len(payload))
	b[0], b[6], b[5], b[11] = 2, 2, dst, src
	if dst == 0xff {
		stack.SetMACs(b, 1<<48-1, stack.SrcWord(b))
	}
	f := tap.NewFrame(tap.Header{}, append(b, payload...))
	return &f
}

func TestSwitchFloodsThenLearns(t *testing.T) {
	s := NewSwitch()
	defer s.Close()
	a, b, c := collect(s, "a"), collect(s, "b"), collect(s, "c")
	a.port.Send(ethernet(2, 1, "to unknown"))
	b.wait(t, 1)
	c.wait(t, 1)
	b.port.Send(ethernet(1, 2, "answer"))
	a.wait(t, 1)
	a.port.Send(ethernet(2, 1, "to known"))
	a.port.Send(ethernet(0xff, 1, "to all"))
	if got := b.wait(t, 3); !slices.Equal(got, []string{"to unknown", "to known", "to all"}) {
		t.Errorf("b got %q", got)
	}
	if got := c.wait(t, 2); !slices.Equal(got, []string{"to unknown", "to all"}) {
		t.Errorf("c got %q", got)
	}
	if got := a.wait(t, 1); !slices.Equal(got, []string{"answer"}) {
		t.Errorf("a got %q: a frame came back to where it was sent", got)
	}
}

func TestSwitchFollowsAHostThatMoves(t *testing.T) {
	s := NewSwitch()
	defer s.Close()
	a, b, c := collect(s, "a"), collect(s, "b"), collect(s, "c")
	b.port.Send(ethernet(0xff, 9, "here"))
	c.port.Send(ethernet(0xff, 9, "now here"))
	a.wait(t, 2)
	a.port.Send(ethernet(9, 1, "where?"))
	if got := c.wait(t, 2); got[1] != "where?" {
		t.Errorf("c got %q", got)
	}
}

// TestSwitchDropsWhenFull: a port whose host does not take its frames loses the newest, counts them, and blocks nobody.
func TestSwitchDropsWhenFull(t *testing.T) {
	s := NewSwitch()
	block := make(chan struct{})
	defer s.Close()
	defer close(block)
	stuck := s.Plug("stuck", func(*tap.Frame) { <-block })
	a := collect(s, "a")
	const extra = 100
	for range queueFrames + extra {
		a.port.Send(ethernet(0xff, 1, ""))
	}
	if n := stuck.Drops(); n < extra-1 || n > extra {
		t.Errorf("%d frames dropped, want %d or one less", n, extra)
	}
}

func TestSwitchIgnoresWhatIsNoFrame(t *testing.T) {
	s := NewSwitch()
	defer s.Close()
	a, b := collect(s, "a"), collect(s, "b")
	runt := tap.NewFrame(tap.Header{}, make([]byte, tap.EthernetLen-1))
	a.port.Send(&runt)
	a.port.Send(ethernet(0xff, 1, "whole"))
	if got := b.wait(t, 1); got[0] != "whole" {
		t.Errorf("b got %q", got)
	}
}

// pair is a world without a director: one server with a listener, one client that is on its link.
func pair(t *testing.T, s integration.Spec) (*World, *Host, *Host) {
	t.Helper()
	s.Method, s.Arms, s.Servers = "dr", 1, 1
	plan, err := integration.NewPlan(s)
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	w := &World{Plan: plan, switches: map[string]*Switch{integration.Ext: NewSwitch()}}
	plan.Servers[0].Hidden = netip.Addr{}
	var hosts []*Host
	for i, p := range []integration.Host{plan.Servers[0], plan.Client} {
		h, err := newHost(w, p, byte(i+1))
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	w.hosts = hosts
	t.Cleanup(func() {
		hosts[0].close()
		hosts[1].close()
		w.switches[integration.Ext].Close()
		for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	})
	return w, hosts[0], hosts[1]
}

// TestHosts has two hosts talk without a director between them, so that a fault of the LAN is told from one of the director.
func TestHosts(t *testing.T) {
	for _, family := range []int{4, 6} {
		for _, offload := range []bool{false, true} {
			spec := integration.Spec{Family: family, Offload: offload}
			t.Run(spec.String(), func(t *testing.T) {
				w, server, client := pair(t, spec)
				at := netip.AddrPortFrom(w.Plan.Servers[0].Addr(), 7)
				serve(t, server, at)
				var kinds headerKinds
				w.ObserveFrames(kinds.note)
				conn, err := client.Dial(t.Context(), "tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				c := app.NewClient(conn, 20*time.Second)
				defer c.Close()
				if _, err := c.Sink(1<<20, 1); err != nil {
					t.Error(err)
				}
				if _, err := c.Source(1<<20, 1); err != nil {
					t.Error(err)
				}
				datagrams, err := client.Dial(t.Context(), "udp", at)
				if err != nil {
					t.Fatal(err)
				}
				defer datagrams.Close()
				if _, err := app.Ask(datagrams, 1, make([]byte, 3000), 1000, 20*time.Second); err != nil {
					t.Error(err)
				}
				for name, n := range w.Faults() {
					t.Errorf("%s = %d", name, n)
				}
				kinds.check(t, offload)
			})
		}
	}
}

func serve(t *testing.T, h *Host, at netip.AddrPort) {
	t.Helper()
	l, err := h.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.ListenPacket(at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &app.Server{Name: h.Name}
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(ctx, l) })
	wg.Go(func() { s.ServePacket(ctx, p) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// headerKinds counts what virtio headers were seen.
type headerKinds struct {
	mu                    sync.Mutex
	plain, partial, super int
}

func (k *headerKinds) note(_, _ string, f *tap.Frame) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case f.Header.Super():
		k.super++
	case f.Header.Partial():
		k.partial++
	default:
		k.plain++
	}
}

func (k *headerKinds) check(t *testing.T, offload bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if (k.super > 0) != offload || (k.partial > 0) != offload || k.plain == 0 {
		t.Errorf("offload %v: %d superpackets, %d partial, %d plain frames", offload, k.super, k.partial, k.plain)
	}
}
