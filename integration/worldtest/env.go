package worldtest

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
)

// env is a world under test and what is known of it.
type env struct {
	integration.World
	Options
	plan *integration.Plan

	dialled  [2]uint64               // connections to the VIP so far: TCP, UDP
	sockets  map[netip.AddrPort]bool // UDP sockets so far
	observed bool                    // the world shows its frames
	answers  atomic.Uint64           // frames from the VIP that reached the director: answers of servers with dr
}

const (
	tcp = iota
	udp
)

var networks = [2]string{"tcp", "udp"}

// watch starts to count servers' answers that come to the director although they should not.
func (e *env) watch() {
	w, ok := e.World.(integration.Observable)
	if !ok {
		return
	}
	e.observed = true
	vip := e.VIP().Addr().AsSlice()
	w.Observe(func(point, dir string, frame []byte) {
		if dir == "in" && strings.HasPrefix(point, "director/") && bytes.Equal(source(frame), vip) {
			e.answers.Add(1)
		}
	})
}

// source returns the source address of an IP packet, nil when the frame has none.
func source(frame []byte) []byte {
	switch {
	case len(frame) >= 14+20 && frame[12] == 0x08 && frame[13] == 0x00:
		return frame[26:30]
	case len(frame) >= 14+40 && frame[12] == 0x86 && frame[13] == 0xdd:
		return frame[22:38]
	}
	return nil
}

// dial connects to the VIP. A UDP socket has a port that none before it had: to the director it would be the earlier one's connection.
func (e *env) dial(t *testing.T, network int) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), e.Timeout)
	defer cancel()
	for ctx.Err() == nil {
		c, err := e.Dial(ctx, networks[network])
		if err != nil {
			t.Fatalf("dial VIP %v by %s: %v", e.VIP(), networks[network], err)
		}
		if network == udp && e.sockets[local(c)] {
			c.Close()
			continue
		}
		if network == udp {
			e.sockets[local(c)] = true
		}
		e.dialled[network]++
		return c
	}
	t.Fatal("every UDP port was used before")
	return nil
}

// client dials and returns a TCP client that is closed with the test.
func (e *env) client(t *testing.T) (*app.Client, netip.AddrPort) {
	t.Helper()
	c := e.dial(t, tcp)
	client := app.NewClient(c, e.Timeout)
	t.Cleanup(func() { client.Close() })
	return client, local(c)
}

// local is a socket's own address.
func local(c net.Conn) netip.AddrPort {
	a, _ := netip.ParseAddrPort(c.LocalAddr().String())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// counter returns the sum of the director's counters of that name that have all the labels.
func (e *env) counter(name string, labels ...string) (sum uint64) {
	for _, c := range e.Counters() {
		if c.Name == name && hasAll(c.Labels, labels) {
			sum += c.Value
		}
	}
	return sum
}

func hasAll(labels, want []string) bool {
	for _, w := range want {
		found := false
		for _, l := range labels {
			found = found || l == w
		}
		if !found {
			return false
		}
	}
	return true
}

// waitFor polls until cond holds; it reports false when timeout passed first.
func waitFor(timeout time.Duration, cond func() bool) bool {
	for end := time.Now().Add(timeout); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
