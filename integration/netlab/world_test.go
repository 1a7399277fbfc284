//go:build linux

package netlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/worldtest"
)

// asDirector makes the test binary the director of the child tests (TestMain).
const asDirector = "NETLAB_TEST_IS_DIRECTOR"

// What runs where real kernels are both ends, each in both families:
//
//	method    TCP, UDP, 60 KB in fragments         SCTP           802.1Q           a path's MTU, from routers
//	nat       TestWorlds                           uml.TestSCTP   uml.TestTagged   TestPathMTU
//	dr        TestWorlds                           uml.TestSCTP   uml.TestTagged   TestPathMTU (on the client's side: to the servers there is no router)
//	tun       TestWorlds (a program of ours        uml.TestSCTP   uml.TestTagged   TestPathMTU
//	          unwraps), uml.TestTunnels (a kernel:
//	          ipip, gre, gue, inner by outer family)
//	fullnat   TestWorlds                           uml.TestSCTP   uml.TestTagged   TestPathMTU
//
// On the host's kernel, which may be without 802.1Q, the trunks of TestWorlds have a switch of ours; the tests of uml run in a guest's kernel.

// TestWorlds runs the table of every world over kernels: method, family, arms, offload. With offload 100 MB go each way, without it less:
// forty times the frames for each byte.
func TestWorlds(t *testing.T) {
	needRights(t)
	full := worldtest.Options{Bytes: 100 << 20}
	if testing.Short() || worldtest.RaceEnabled {
		full.Bytes = 8 << 20
	}
	less := worldtest.Options{Bytes: full.Bytes / 8}
	for _, s := range append(worldtest.Specs(), worldtest.AcrossSpecs()...) {
		if s.Offload && (s.ServerFamily == 0 || s.Arms == 2 && s.Queues < 2 && !s.Mixed && !s.Trunk) {
			full.Specs = append(full.Specs, s)
		} else {
			less.Specs = append(less.Specs, s)
		}
	}
	full.Specs = append(full.Specs, integration.Spec{Method: "nat", Offload: true, Mixed: true}, integration.Spec{Method: "dr", Family: 6, Offload: true, Mixed: true},
		integration.Spec{Method: "fullnat", Offload: true, Mixed: true, WebKeys: "toa = true"})
	// Tunnels end in a program of ours, packet by packet.
	tunnels := worldtest.Options{Bytes: full.Bytes / 8, Specs: worldtest.TunnelSpecs()}
	for _, family := range []int{4, 6} { // outer packets in fragments, which the server's kernel puts together
		tunnels.Specs = append(tunnels.Specs, integration.Spec{Method: "tun", Tunnel: "gue", Family: 4, ServerFamily: family, IntMTU: 1400,
			Offload: true, ServiceKeys: "pmtu_disc = false"})
	}
	build := func(t *testing.T, s integration.Spec) integration.World { return newWorld(t, s, Options{}) }
	worldtest.RunTable(t, build, tunnels)
	worldtest.RunTable(t, build, full)
	worldtest.RunTable(t, build, less)
}

// TestWorldsOfChild is one world of each method and family with the director as a process of its own.
func TestWorldsOfChild(t *testing.T) {
	needRights(t)
	t.Setenv(asDirector, "1")
	for _, s := range []integration.Spec{
		{Method: "nat", Family: 4, Offload: true},
		{Method: "nat", Family: 6, Arms: 1},
		{Method: "dr", Family: 4, Arms: 1},
		{Method: "dr", Family: 6, Offload: true},
		{Method: "tun", Family: 4, Arms: 1},
		{Method: "tun", Family: 6, Tunnel: "gue", ServerFamily: 4, Offload: true},
		{Method: "fullnat", Family: 4, Arms: 1},
		{Method: "fullnat", Family: 6, Offload: true},
		{Method: "fullnat", Family: 6, ServerFamily: 4, Offload: true},
		{Method: "fullnat", Family: 4, ServerFamily: 6, Arms: 1},
	} {
		t.Run(s.String(), func(t *testing.T) {
			var log bytes.Buffer
			w := newWorld(t, s, Options{Program: []string{"/proc/self/exe"}, Log: &log})
			// With few ports each is soon used again.
			if err := w.Namespace("client").Sysctl(map[string]string{"ipv4/ip_local_port_range": "40000 40011"}); err != nil {
				t.Fatal(err)
			}
			fetch(t, w)
			if pid := w.DirectorPID(); pid == os.Getpid() {
				t.Error("the director is this process")
			}
			if err := w.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if log.Len() == 0 {
				t.Error("the director logged nothing")
			}
		})
	}
}

// newWorld builds a world that is closed at the end of the test.
func newWorld(t *testing.T, s integration.Spec, o Options) *World {
	t.Helper()
	w, err := NewWith(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// fetch asks over TCP and UDP until every server has answered both. Its sockets stay open till then: a port that is used again would be the same UDP flow, and no
// turn of the next server.
func fetch(t *testing.T, w *World) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		answered := map[string]int{}
		for i := range 2 * len(w.Servers()) {
			c := dial(t, w, network)
			defer c.Close()
			answered[ask(t, c, network, uint64(i)).Server]++
		}
		for _, s := range w.Servers() {
			if answered[s.Name] != 2 {
				t.Errorf("%s: %s answered %d of %d requests, want 2 (all: %v)", network, s.Name, answered[s.Name], 2*len(w.Servers()), answered)
			}
		}
	}
	if faults := w.Faults(); len(faults) > 0 {
		t.Errorf("faults: %v", faults)
	}
}

func dial(t *testing.T, w *World, network string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := w.Dial(ctx, network)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ask makes one request.
func ask(t *testing.T, c net.Conn, network string, id uint64) (a app.Answer) {
	t.Helper()
	var err error
	if network == "tcp" {
		a, err = app.NewClient(c, 5*time.Second).Who()
	} else {
		a, err = app.Ask(c, id, []byte("hello"), 100, 5*time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A program that ends at once is reported with what it said, and nothing is left.
func TestDirectorThatEnds(t *testing.T) {
	needRights(t)
	t.Setenv(asDirector, "1")
	spec := integration.Spec{Method: "nat"}
	spec.Extra = "nonsense = 1\n"
	files := openFiles(t)
	w, err := NewWith(spec, Options{Program: []string{"/proc/self/exe"}})
	if err == nil {
		w.Close()
		t.Fatal("no error for a config that no director takes")
	}
	if !bytes.Contains([]byte(err.Error()), []byte("nonsense")) {
		t.Errorf("error does not repeat what the director said: %v", err)
	}
	eventually(t, "descriptors as before", func() bool { return openFiles(t) <= files })
}

// A killed director is an error of Close.
func TestDirectorThatIsKilled(t *testing.T) {
	needRights(t)
	t.Setenv(asDirector, "1")
	w := newWorld(t, integration.Spec{Method: "dr"}, Options{Program: []string{"/proc/self/exe"}})
	p, err := os.FindProcess(w.DirectorPID())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the death is seen", func() bool { return w.running.ended() != nil })
	if w.Close() == nil {
		t.Error("Close: no error although the director was killed")
	}
}

// TestHiddenVIP asks every DR server by ARP or ND for the VIP, which it holds: none may answer, nor name it as the sender of a question of
// its own. The director alone answers.
func TestHiddenVIP(t *testing.T) {
	needRights(t)
	for _, s := range []integration.Spec{
		{Method: "dr", Family: 4, Arms: 1}, {Method: "dr", Family: 4, Arms: 2},
		{Method: "dr", Family: 6, Arms: 1}, {Method: "dr", Family: 6, Arms: 2},
	} {
		t.Run(s.String(), func(t *testing.T) {
			w := newWorld(t, s, Options{})
			var mu sync.Mutex
			leaks, questions := 0, 0
			w.Observe(func(point, dir string, frame []byte) {
				mu.Lock()
				defer mu.Unlock()
				if dir == "out" && point[0] == 's' && namesVIP(frame, w.VIP().Addr()) {
					leaks++
					t.Errorf("%s told of the VIP: %x", point, frame)
				}
				if dir == "in" && point[0] == 's' && asksFor(frame, w.VIP().Addr()) {
					questions++
				}
			})
			client := w.Namespace("client")
			for range 5 {
				forget(t, client, w.VIP().Addr())
				eventually(t, "the VIP is found", func() bool { return client.ask("eth0", w.VIP().Addr()) != nil })
				if mac := client.ask("eth0", w.VIP().Addr()); !bytes.Equal(mac, w.plan.Interfaces[0].MAC[:]) {
					t.Fatalf("the VIP is at %v, want the director's %x", mac, w.plan.Interfaces[0].MAC)
				}
			}
			fetch(t, w)
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if s.Family == 4 && questions == 0 {
				t.Error("no server was ever asked: the test shows nothing")
			}
		})
	}
}

// forget drops what the namespace knows of its neighbours.
func forget(t *testing.T, n *Namespace, a netip.Addr) {
	t.Helper()
	entries, err := n.links.NeighList(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if got, _ := netip.AddrFromSlice(e.IP); got.Unmap() == a {
			n.links.NeighDel(&e)
		}
	}
}

// namesVIP reports whether an ARP packet has the VIP as its sender, or a neighbour message as the source or as an advertisement's target.
func namesVIP(frame []byte, vip netip.Addr) bool {
	v := vip.AsSlice()
	switch etherType(frame) {
	case 0x0806:
		return len(frame) >= 42 && bytes.Equal(frame[28:32], v)
	case 0x86dd:
		if len(frame) < 78 || frame[20] != 58 {
			return false
		}
		return frame[54] == 136 && bytes.Equal(frame[62:78], v) || frame[54] == 135 && bytes.Equal(frame[22:38], v)
	}
	return false
}

// asksFor reports whether a frame is an ARP request for a.
func asksFor(frame []byte, a netip.Addr) bool {
	return etherType(frame) == 0x0806 && len(frame) >= 42 && frame[21] == 1 && bytes.Equal(frame[38:42], a.AsSlice())
}

func etherType(frame []byte) uint16 {
	if len(frame) < 14 {
		return 0
	}
	return binary.BigEndian.Uint16(frame[12:])
}

// A capture sees a packet at every point of its way, in the order of time, with the director's side of its TAPs.
func TestCaptureFollowsAPacket(t *testing.T) {
	needRights(t)
	for _, family := range []int{4, 6} {
		w := newWorld(t, integration.Spec{Method: "nat", Family: family, Servers: 1}, Options{})
		c, err := w.Capture()
		if err != nil {
			t.Fatal(err)
		}
		socket := dial(t, w, "udp")
		ask(t, socket, "udp", 7)
		socket.Close()
		var way []string
		for _, s := range c.Stop() {
			if bytes.Contains(s.Bytes, []byte("REQ 7")) {
				dir := " in"
				if s.Out {
					dir = " out"
				}
				way = append(way, s.Point.String()+dir)
			}
		}
		want := []string{"client/ext out", "director/ext in", "director/int out", "s1/int in"}
		if !slices.Equal(way, want) {
			t.Errorf("family %d: way %q, want %q", family, way, want)
		}
	}
}

// The bulk of a TCP stream comes to the director in superpackets when offload is on, and in frames of the MTU when it is off. It leaves in superpackets either
// way: those that it came in, or those that it was merged to.
func TestOffloadReachesTheDirector(t *testing.T) {
	needRights(t)
	for _, on := range []bool{true, false} {
		w := newWorld(t, integration.Spec{Method: "nat", Servers: 1, Offload: on}, Options{})
		largest := map[string]int{}
		c, err := w.Capture()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := w.Dial(t.Context(), "tcp")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := app.NewClient(conn, 0).Sink(4<<20, 1); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		for _, s := range c.Stop() {
			largest[s.Point.String()] = max(largest[s.Point.String()], s.Len)
		}
		for point, want := range map[string]bool{"director/ext": on, "director/int": true} {
			if super := largest[point] > 1514; super != want {
				t.Errorf("offload %v: the largest frame at %s has %d bytes", on, point, largest[point])
			}
		}
	}
}

// Whatever was open, running or there before a world is so after it: descriptors, goroutines, threads' namespaces, links.
func TestWorldLeavesNothing(t *testing.T) {
	needRights(t)
	t.Setenv(asDirector, "1")
	once := func(o Options) {
		w := newWorld(t, integration.Spec{Method: "nat", Servers: 2}, o)
		fetch(t, w)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	both := func() {
		once(Options{})
		once(Options{Program: []string{"/proc/self/exe"}})
	}
	both()
	files, routines, links := openFiles(t), runtime.NumGoroutine(), linkNames(t)
	both()
	eventually(t, "descriptors and goroutines as before", func() bool {
		return openFiles(t) <= files && runtime.NumGoroutine() <= routines
	})
	if after := linkNames(t); !slices.Equal(after, links) {
		t.Errorf("links of this namespace: %v before, %v after", links, after)
	}
}

func linkNames(t *testing.T) (names []string) {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		names = append(names, l.Name)
	}
	return names
}
