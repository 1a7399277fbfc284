package worldtest

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"tapdirector/integration/app"
)

// checkTCP uploads and downloads on one connection: content, the client's address, and that it stays on its server.
func checkTCP(t *testing.T, e *env) {
	c, addr := e.client(t)
	first, err := c.Who()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.seen(addr)(first, nil); err != nil {
		t.Error(err)
	}
	for name, request := range map[string]func() (app.Answer, error){
		"upload":   func() (app.Answer, error) { return c.Sink(e.Bytes, 1) },
		"download": func() (app.Answer, error) { return c.Source(e.Bytes, 2) },
	} {
		if a, err := request(); err != nil || a != first {
			t.Fatalf("%s of %d bytes: %v from %v; want no error, from %v", name, e.Bytes, err, a, first)
		}
	}
}

// datagramSizes are payloads, in bytes, that fit into one frame with the request's and the answer's line.
var datagramSizes = []int{0, 1, 2, 17, 100, 512, 1000, 1200, 1201}

// checkUDP asks with every size on one socket.
func checkUDP(t *testing.T, e *env) {
	c := e.dial(t, udp)
	defer c.Close()
	var first app.Answer
	for i := range 4 * len(datagramSizes) {
		size := datagramSizes[i%len(datagramSizes)]
		a, err := app.Ask(c, uint64(i), pattern(size), size, e.Timeout)
		if i == 0 {
			first = a
		}
		if err := e.seen(local(c))(a, err); err != nil || a != first {
			t.Fatalf("datagram %d of %d bytes: %v from %v (client is %v); want no error, from %v", i, size, err, a, local(c), first)
		}
	}
}

// largeSizes are payloads, in bytes, that pass in fragments, up to 60 KB in more than forty of them.
var largeSizes = []int{1600, 4000, 20000, 60000}

// checkFragments asks and is answered in datagrams that no LAN carries whole: by the kernel's or the stack's own fragments.
func checkFragments(t *testing.T, e *env) {
	if e.cramped() && e.DeafUDP {
		t.Skip("the client's stack does not take a path's MTU to heart for UDP: it would go on with fragments that do not fit into the tunnel")
	}
	c := e.dial(t, udp)
	defer c.Close()
	for i := range 3 * len(largeSizes) {
		size := largeSizes[i%len(largeSizes)]
		a, err := app.Ask(c, 1000+uint64(i), pattern(size), size, e.Timeout)
		if err := e.seen(local(c))(a, err); err != nil {
			t.Fatalf("datagram %d of %d bytes: %v from %v (client is %v)", i, size, err, a, local(c))
		}
	}
	if n := e.counter("fragments_complete"); n < uint64(3*len(largeSizes)) {
		t.Errorf("the director saw %d datagrams in fragments, want %d or more", n, 3*len(largeSizes))
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	app.Pattern(uint64(n)).Read(b)
	return b
}

func checkHTTP(t *testing.T, e *env) {
	c := e.dial(t, tcp)
	defer c.Close()
	body, err := app.Get(c, e.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range e.Servers() {
		if you, ok := strings.CutPrefix(body, "hello from server "+s.Name+", you are "); ok {
			seen, _ := netip.ParseAddrPort(strings.TrimSpace(you))
			if err := e.seen(local(c))(app.Answer{Remote: seen}, nil); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Errorf("GET: %q names no server", body)
}

// checkSpreadTCP opens connections one after the other and keeps them: so even lc and wlc have one right answer.
func checkSpreadTCP(t *testing.T, e *env) {
	checkSpread(t, e, func() (app.Answer, error) {
		c, _ := e.client(t)
		return c.Who()
	})
}

func checkSpreadUDP(t *testing.T, e *env) {
	checkSpread(t, e, func() (app.Answer, error) {
		c := e.dial(t, udp)
		t.Cleanup(func() { c.Close() })
		return app.Ask(c, 1, nil, 0, e.Timeout)
	})
}

// checkSpread makes rounds of connections and compares who answered with the shares. Earlier connections shift where a cycle begins, but not what whole cycles bring.
func checkSpread(t *testing.T, e *env, connect func() (app.Answer, error)) {
	const rounds = 3
	shares, sum := e.shares()
	got := map[string]int{}
	for range rounds * sum {
		a, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		got[a.Server]++
	}
	for i, s := range e.Servers() {
		if diff := got[s.Name] - rounds*shares[i]; diff < -e.slack() || diff > e.slack() {
			t.Errorf("server %s got %d of %d connections, want %d (all: %v)", s.Name, got[s.Name], rounds*sum, rounds*shares[i], got)
		}
	}
}

// slack is how far a spread may be off: for schedulers that look at connections, those of earlier checks count too.
func (e *env) slack() int {
	if s := e.plan.Spec.Scheduler; s == "lc" || s == "wlc" {
		return 2
	}
	return 0
}

// shares returns what each server gets of a whole cycle, and the cycle's length.
func (e *env) shares() (shares []int, sum int) {
	s := e.plan.Spec
	weighted := s.Scheduler == "wrr" || s.Scheduler == "wlc"
	for i := range s.Servers {
		w := 1
		if i < len(s.Weights) && (weighted || s.Weights[i] == 0) {
			w = s.Weights[i]
		}
		shares = append(shares, w)
		sum += w
	}
	return shares, sum
}

// checkMany runs connections of both kinds at once, so that several flows share queues and batches.
func checkMany(t *testing.T, e *env) {
	const clients = 8
	var wg sync.WaitGroup
	for i := range clients {
		stream, datagrams := e.dial(t, tcp), e.dial(t, udp)
		wg.Go(func() { report(t, stream, streamTask(stream, uint64(i), e)) })
		wg.Go(func() { report(t, datagrams, datagramTask(datagrams, uint64(i), e)) })
	}
	wg.Wait()
}

func report(t *testing.T, c net.Conn, err error) {
	c.Close()
	if err != nil {
		t.Error(err)
	}
}

// streamTask makes small and large requests by turns.
func streamTask(conn net.Conn, seed uint64, e *env) error {
	c := app.NewClient(conn, e.Timeout)
	n := e.Bytes / 32
	for range 4 {
		for name, request := range map[string]func() (app.Answer, error){
			"WHO":    c.Who,
			"SINK":   func() (app.Answer, error) { return c.Sink(n, seed) },
			"SOURCE": func() (app.Answer, error) { return c.Source(n, seed) },
		} {
			if err := e.seen(local(conn))(request()); err != nil {
				return fmt.Errorf("stream %d: %s: %w", seed, name, err)
			}
		}
	}
	return nil
}

func datagramTask(c net.Conn, seed uint64, e *env) error {
	for i := range 16 {
		id := seed<<32 | uint64(i)
		if err := e.seen(local(c))(app.Ask(c, id, pattern(1000), 1000, e.Timeout)); err != nil {
			return fmt.Errorf("datagrams %d: %w", seed, err)
		}
	}
	return nil
}

// seen returns a check of an answer to a client: no error, and the server saw who it should: the client's own address and port, or, with fullnat, the
// director's address and some port.
func (e *env) seen(client netip.AddrPort) func(app.Answer, error) error {
	peer := e.plan.Peer(client.Addr())
	return func(a app.Answer, err error) error {
		if err != nil {
			return err
		}
		if a.Remote.Addr() != peer || peer == client.Addr() && a.Remote != client {
			return fmt.Errorf("the server saw %v, not %v, for the client %v", a.Remote, peer, client)
		}
		return nil
	}
}
