//go:build linux

package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tapdirector/integration"
	"tapdirector/integration/app"
)

// Errors on their way through the director, between kernels. The client is a router here, and behind it, over a link that carries less than the LANs, is the
// one that talks to the VIP:
//
//	[far]---1300---[client]---ext---[director]---...
//
// Far says in its SYN that it takes full segments, as a host does that does not know of a narrow link in the middle.

const narrow = 1300 // bytes of L3 that far's link carries

// farNet is far's network: 1 is the router, 2 and 3 are far.
func farNet(family, n int) netip.Prefix {
	if family == 6 {
		return netip.MustParsePrefix(fmt.Sprintf("2001:db8:77:9::%d/64", n))
	}
	return netip.MustParsePrefix(fmt.Sprintf("10.77.9.%d/24", n))
}

// addFar puts far behind the client, and tells servers that answer by themselves how it is reached.
func addFar(t *testing.T, w *World) *Namespace {
	t.Helper()
	far, client, family := namespaces(t, "far")[0], w.Namespace("client"), w.plan.Spec.Family
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(far.sysctl(hostSettings))
	check(client.sysctl(map[string]string{"ipv4/conf/all/forwarding": "1", "ipv6/conf/all/forwarding": "1"}))
	check(cable(end{ns: far, name: "eth0"}, end{ns: client, name: "far"}, narrow))
	check(client.address("far", farNet(family, 1)))
	for _, n := range []int{2, 3} {
		check(far.address("eth0", farNet(family, n)))
		eventually(t, "far hears for its address", func() bool { return far.listens(farNet(family, n).Addr()) })
	}
	everywhere, router := netip.PrefixFrom(zeroOf(farNet(family, 1).Addr()), 0), farNet(family, 1).Addr()
	check(far.links.RouteAdd(&netlink.Route{Dst: ipNet(everywhere), Gw: router.AsSlice(), AdvMSS: 1500 - 60}))
	for _, h := range w.hosts[1:] {
		if !w.plan.Translates() {
			check(h.route(farNet(family, 2).Masked(), w.plan.Client.Addr()))
		}
	}
	return far
}

// TestErrorsFromBeyond: the router says of what servers send that it is too big for the way; they hear of it and send less. And the router, the director and
// the server are what a traceroute to the VIP sees.
func TestErrorsFromBeyond(t *testing.T) {
	needRights(t)
	for _, method := range integration.Methods {
		for _, family := range []int{4, 6} {
			for _, offload := range []bool{false, true} {
				spec := integration.Spec{Method: method, Family: family, Servers: 1, Offload: offload}
				t.Run(spec.String(), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, spec, Options{})
					far := addFar(t, w)
					t.Run("tcp", func(t *testing.T) { downloadFar(t, w, far) })
					t.Run("udp", func(t *testing.T) { datagramsFar(t, w, far) })
					if faults := w.Faults(); len(faults) > 0 {
						t.Errorf("faults: %v", faults)
					}
					t.Run("traceroute", func(t *testing.T) { tracerouteFar(t, w, far) })
				})
			}
		}
	}
}

func downloadFar(t *testing.T, w *World, far *Namespace) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := far.DialFrom(ctx, "tcp", netip.AddrPortFrom(farNet(w.plan.Spec.Family, 2).Addr(), 0), w.VIP())
	if err != nil {
		t.Fatal(err)
	}
	c := app.NewClient(conn, 20*time.Second)
	defer c.Close()
	if _, err := c.Source(1<<20, 1); err != nil {
		t.Error(err)
	}
	if _, err := c.Sink(1<<20, 1); err != nil {
		t.Error(err)
	}
	if heardTooBig(t, w) == 0 {
		t.Error("the server heard of no packet that was too big: the test shows nothing")
	}
}

// heardTooBig is how many errors that may be "fragmentation needed" or "packet too big" the server got.
func heardTooBig(t *testing.T, w *World) uint64 {
	t.Helper()
	counters, err := w.Namespace("s1").Counters()
	if err != nil {
		t.Fatal(err)
	}
	return counters["Icmp.InDestUnreachs"] + counters["Icmp6InPktTooBigs"]
}

// datagramsFar comes from another address than downloadFar: what a kernel knows of a path's MTU is about one destination. (With fullnat that is the director, for
// everybody.)
func datagramsFar(t *testing.T, w *World, far *Namespace) {
	before := heardTooBig(t, w)
	conn, err := far.DialFrom(t.Context(), "udp", netip.AddrPortFrom(farNet(w.plan.Spec.Family, 3).Addr(), 0), w.VIP())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range uint64(3) {
		if _, err := app.Ask(conn, i, nil, 1350, 20*time.Second); err != nil {
			t.Error(err)
		}
	}
	if heardTooBig(t, w) == before && w.plan.Spec.Method != "fullnat" {
		t.Error("the server heard of no datagram that was too big: the test shows nothing")
	}
}

func tracerouteFar(t *testing.T, w *World, far *Namespace) {
	for i, want := range []netip.Addr{farNet(w.plan.Spec.Family, 1).Addr(), w.VIP().Addr()} {
		if got := expiresAt(t, w, far, 1+i); got != want {
			t.Errorf("TTL %d runs out at %v, want %v", 1+i, got, want)
		}
	}
	conn := dialTTL(t, w, far, 3)
	if _, err := app.Ask(conn, 3, nil, 0, 20*time.Second); err != nil {
		t.Errorf("TTL 3 does not reach the server: %v", err)
	}
}

// dialTTL opens a socket to the VIP whose packets have this TTL and which keeps errors.
func dialTTL(t *testing.T, w *World, ns *Namespace, ttl int) *net.UDPConn {
	t.Helper()
	c, err := ns.Dial(t.Context(), "udp", w.VIP().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if w.plan.Spec.Family == 6 {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl), unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1))
		} else {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl), unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.UDPConn)
}

// expiresAt is who says that a datagram's TTL ran out.
func expiresAt(t *testing.T, w *World, ns *Namespace, ttl int) (who netip.Addr) {
	t.Helper()
	c := dialTTL(t, w, ns, ttl)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("the error about TTL %d", ttl), func() bool {
		c.Write([]byte("how far?"))
		c.SetReadDeadline(time.Now().Add(time.Second / 5))
		if _, err := c.Read(make([]byte, 100)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return false // an answer is no error, and errors wake the reader
		}
		raw.Control(func(fd uintptr) { who = offender(int(fd)) })
		return who.IsValid()
	})
	return who
}

// offender takes a "time exceeded" from the socket's errors and returns who sent it; invalid: there is none.
func offender(fd int) netip.Addr {
	control := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 100), control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return netip.Addr{}
	}
	messages, _ := unix.ParseSocketControlMessage(control[:n])
	for _, m := range messages {
		// struct sock_extended_err: errno, origin, type, code, ...: 16 bytes; then the sender's sockaddr.
		const extended = 16
		b := m.Data
		switch {
		case len(b) >= extended+8 && b[4] == unix.SO_EE_ORIGIN_ICMP && b[5] == 11:
			return netip.AddrFrom4([4]byte(b[extended+4:]))
		case len(b) >= extended+24 && b[4] == unix.SO_EE_ORIGIN_ICMP6 && b[5] == 3 && binary.NativeEndian.Uint16(b[extended:]) == unix.AF_INET6:
			return netip.AddrFrom16([16]byte(b[extended+8:]))
		}
	}
	return netip.Addr{}
}
