//go:build linux

package netlab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/worldtest"
)

// What merging may not change, seen by the kernel's sockets.

// mergedLimit is how long a burst of datagrams, or an upload, may take on the busiest of machines.
const mergedLimit = time.Minute

// counter returns a counter of the director without labels.
func (w *World) counter(name string) uint64 {
	for _, c := range w.Counters() {
		if c.Name == name {
			return c.Value
		}
	}
	return 0
}

// sizeOf is how long the datagram of that number is: small ones of one size, among them now and then a shorter and a longer one, and two of those.
func sizeOf(n int) int {
	switch n % 97 {
	case 17, 60, 61:
		return 9
	case 33, 80, 81:
		return 300
	}
	return 18
}

// Datagrams that come in bursts reach an ordinary socket one by one, in order, none changed and none lost, whether the server's link takes superpackets or
// the kernel must cut them; and many did travel as superpackets.
func TestMergedDatagrams(t *testing.T) {
	needRights(t)
	n := 100_000
	if testing.Short() || worldtest.RaceEnabled {
		n = 10_000
	}
	for _, c := range []struct {
		spec    integration.Spec
		cutting bool // the server's link has no offload
		n       int
	}{
		{integration.Spec{Method: "nat", Family: 4}, false, n},
		{integration.Spec{Method: "dr", Family: 6}, false, n},
		{integration.Spec{Method: "nat", Family: 6}, true, n / 10},
		{integration.Spec{Method: "dr", Family: 4, Arms: 1}, true, n / 10},
		{integration.Spec{Method: "fullnat", Family: 4}, false, n / 10},
	} {
		c.spec.Servers, c.spec.Offload = 1, true
		t.Run(fmt.Sprintf("%v/cutting=%v", c.spec, c.cutting), func(t *testing.T) {
			w := mergeWorld(t, c.spec)
			if c.cutting {
				w.withoutOffload(t, w.plan.Servers[0].Name)
			}
			sendInBursts(t, w, c.n)
			if p, s := w.counter("merged_packets"), w.counter("merged_superpackets"); s == 0 || p < 2*s {
				t.Errorf("%d packets merged, in %d superpackets: the test shows nothing", p, s)
			}
		})
	}
}

// mergeWorld is a world with a director and no servers.
func mergeWorld(t *testing.T, s integration.Spec) *World {
	t.Helper()
	w, err := NewBare(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if err := w.StartDirector(Options{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// withoutOffload takes all offloads from a host's links.
func (w *World) withoutOffload(t *testing.T, host string) {
	t.Helper()
	if err := w.SetOffload(host, false); err != nil {
		t.Fatal(err)
	}
}

// sendInBursts sends n datagrams of one flow, a burst at a time, and checks each where it arrives.
func sendInBursts(t *testing.T, w *World, n int) {
	t.Helper()
	server := w.plan.Servers[0]
	in, err := w.Namespace(server.Name).ListenPacket("udp", server.Listen.String())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := w.Dial(t.Context(), "udp")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	b := make([]byte, 512)
	exchange := func(from, to int) {
		for i := from; i < to; i++ {
			binary.BigEndian.PutUint64(b, uint64(i))
			b[8] = byte(i * 7)
			if _, err := out.Write(b[:sizeOf(i)]); err != nil {
				t.Fatal(err)
			}
		}
		for i := from; i < to; i++ {
			in.SetReadDeadline(time.Now().Add(mergedLimit))
			got, _, err := in.ReadFrom(b)
			if err != nil || got != sizeOf(i) || binary.BigEndian.Uint64(b) != uint64(i) || b[8] != byte(i*7) {
				t.Fatalf("datagram %d: got number %d with %d bytes, want %d bytes: %v", i, binary.BigEndian.Uint64(b), got, sizeOf(i), err)
			}
		}
	}
	const burst = 64
	exchange(0, 1) // Alone, until all know their neighbours: a kernel lets what is sent when an answer comes overtake what waited for it.
	for at := 1; at < n; at += burst {
		exchange(at, at+burst)
	}
}

// A client without offload, or behind a wire, sends TCP in small segments: they are merged, and what arrives is what was sent.
func TestMergedSegments(t *testing.T) {
	needRights(t)
	for _, c := range []struct {
		spec    integration.Spec
		cutting bool
	}{
		{integration.Spec{Method: "nat", Family: 4}, false},
		{integration.Spec{Method: "dr", Family: 6}, false},
		{integration.Spec{Method: "nat", Family: 6}, true},
		{integration.Spec{Method: "fullnat", Family: 4, WebKeys: "toa = true"}, false},
	} {
		c.spec.Servers, c.spec.Offload = 1, true
		t.Run(fmt.Sprintf("%v/cutting=%v", c.spec, c.cutting), func(t *testing.T) {
			w := newWorld(t, c.spec, Options{})
			w.withoutOffload(t, "client")
			if c.cutting {
				w.withoutOffload(t, w.plan.Servers[0].Name)
			}
			conn := w.dialSegments(t, 200)
			defer conn.Close()
			if _, err := app.NewClient(conn, mergedLimit).Sink(4<<20, 1); err != nil {
				t.Errorf("upload: %v", err)
			}
			if p, s := w.counter("merged_packets"), w.counter("merged_superpackets"); s == 0 || p < 2*s {
				t.Errorf("%d packets merged, in %d superpackets: the test shows nothing", p, s)
			}
			if faults := w.Faults(); len(faults) > 0 {
				t.Errorf("faults: %v", faults)
			}
		})
	}
}

// dialSegments connects to the service from the client, with segments of at most mss bytes.
func (w *World) dialSegments(t *testing.T, mss int) (conn net.Conn) {
	t.Helper()
	var set atomic.Value
	d := net.Dialer{Timeout: mergedLimit, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, mss); err != nil {
				set.Store(err)
			}
		})
	}}
	err := w.Namespace("client").Do(func() (err error) {
		conn, err = d.DialContext(context.Background(), "tcp", w.VIP().String())
		return err
	})
	if err == nil && set.Load() != nil {
		err = set.Load().(error)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
