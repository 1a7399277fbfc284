package uml

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/netlab"
)

// Tunnels that a kernel ends
//
// One guest is all servers: each kind of tunnel has addresses of its own in int (.11 ...), each case a VIP of its own (.101 ...), because what a client learns of a
// path's MTU it knows of an address. The guest is set up by the commands that docs/install.md gives to people.

// tunnelKind is a way to wrap and the end of it.
type tunnelKind struct {
	name     string
	host     int    // the server's number
	keys     string // of lb.toml
	proto    uint8  // of the outer packet; 0: 4 or 41
	overhead int    // what it adds to the outer header
	devices  map[string]string
}

// tunnelKinds: devices are the guest's, by inner and outer family ("4in6").
var tunnelKinds = []tunnelKind{
	{"ipip", 11, `tunnel = "ipip"`, 0, 0, map[string]string{"4in4": "tunl0", "6in4": "sit0", "4in6": "ip6tnl0", "6in6": "ip6tnl0"}},
	{"gre", 12, `tunnel = "gre"`, unix.IPPROTO_GRE, 4, map[string]string{"4in4": "gre0", "6in4": "gre0", "4in6": "ip6gre0", "6in6": "ip6gre0"}},
	{"gre-csum", 13, "tunnel = \"gre\"\ntunnel_csum = true", unix.IPPROTO_GRE, 8, map[string]string{"4in4": "gre1", "6in4": "gre1", "4in6": "gre2", "6in6": "gre2"}},
	{"gue", 14, "tunnel = \"gue\"\ntunnel_csum = false", unix.IPPROTO_UDP, 12, map[string]string{"4in4": "tunl0", "6in4": "sit0", "4in6": "ip6tnl0", "6in6": "ip6tnl0"}},
	{"ipip-cut", 16, "tunnel = \"ipip\"\npmtu_disc = false", 0, 0, map[string]string{"4in4": "tunl0", "6in4": "sit0", "4in6": "ip6tnl0", "6in6": "ip6tnl0"}},
	{"gue-cut", 17, "tunnel = \"gue\"\npmtu_disc = false", unix.IPPROTO_UDP, 12, map[string]string{"4in4": "tunl0", "6in4": "sit0", "4in6": "ip6tnl0", "6in6": "ip6tnl0"}},
	{"gue-csum", 15, "tunnel = \"gue\"\ntunnel_csum = true", unix.IPPROTO_UDP, 12, map[string]string{"4in4": "tunl0", "6in4": "sit0", "4in6": "ip6tnl0", "6in6": "ip6tnl0"}},
}

const (
	tunnelBytes  = 1 << 20             // each way
	leastPackets = tunnelBytes / 65536 // even if all were superpackets
)

// tunnelModules are those of the devices.
var tunnelModules = []string{"ipip", "sit", "ip6_tunnel", "ip_gre", "ip6_gre", "fou", "fou6"}

// tunnelSetup is what a server's administrator types, RIP4 and RIP6 for the server's own addresses.
var tunnelSetup = []string{
	"ip link set tunl0 up",
	"ip link set sit0 up",
	"ip -6 tunnel change ip6tnl0 mode any",
	"ip link set ip6tnl0 up",
	"ip link set gre0 up",
	"ip link set ip6gre0 up",
	"ip link add gre1 type gre local RIP4 csum",
	"ip link set gre1 up",
	"ip link add gre2 type ip6gre local RIP6 csum",
	"ip link set gre2 up",
	"ip fou add port 6080 gue",
	"ip -6 fou add port 6080 gue",
}

// tunnelCase is a virtual service whose server is reached by one kind of tunnel.
type tunnelCase struct {
	tunnelKind
	inner, outer int // families
	vip          netip.Addr
}

func (c tunnelCase) String() string { return c.name + "/" + c.families() }

// families is "4in6".
func (c tunnelCase) families() string { return fmt.Sprintf("%din%d", c.inner, c.outer) }

// rip is the server's address.
func (c tunnelCase) rip() netip.Addr { return host(c.outer, integration.Int, c.host) }

// mtu is what fits inside on a LAN of 1500, as far as the client is told.
func (c tunnelCase) mtu() int {
	if strings.Contains(c.keys, "pmtu_disc = false") {
		return 1500 // not at all: the outer packets are cut, and the server's kernel puts them together
	}
	return 1500 - map[int]int{4: 20, 6: 40}[c.outer] - c.overhead
}

// wrapped reports whether a packet is this case's from the director to the server.
func (c tunnelCase) wrapped(proto uint8, dst netip.Addr) bool {
	want := c.proto
	if want == 0 {
		want = map[int]uint8{4: unix.IPPROTO_IPIP, 6: unix.IPPROTO_IPV6}[c.inner]
	}
	return proto == want && dst == c.rip()
}

func tunnelCases() (cases []tunnelCase) {
	for _, k := range tunnelKinds {
		for _, inner := range []int{4, 6} {
			for _, outer := range []int{4, 6} {
				cases = append(cases, tunnelCase{k, inner, outer, host(inner, integration.Ext, 101+len(cases))})
			}
		}
	}
	return cases
}

// tunnelConfig is the director's lb.toml.
func tunnelConfig(cases []tunnelCase) string {
	var b strings.Builder
	b.WriteString(interfaces)
	for _, c := range cases {
		for _, protocol := range []string{"tcp", "udp"} {
			fmt.Fprintf(&b, "[[service]]\nname = \"%v-%s\"\nlisten = %q\nprotocol = %q\nmethod = \"tun\"\n%s\n  [[service.server]]\n  address = %q\n",
				c, protocol, netip.AddrPortFrom(c.vip, 80), protocol, c.keys, netip.AddrPortFrom(c.rip(), 80))
		}
	}
	return b.String()
}

// TestTunnels: through every kind of tunnel, with every pair of families, into a real kernel: TCP's content both ways though the tunnel eats of the MTU, datagrams, and those of
// 60 KB in fragments. The client learns what fits; the tunnel's end finds nothing wrong.
func TestTunnels(t *testing.T) {
	needGuests(t)
	cases := tunnelCases()
	l := newLab(t)
	g := l.boot(t, "server", tunnelModules, integration.Int, integration.Ext)
	setUpTunnels(t, g, cases)
	if err := l.StartDirector(netlab.Options{Config: tunnelConfig(cases)}); err != nil {
		t.Fatal(err)
	}
	wire := l.watchTunnels(cases)
	for i, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			before := deviceCount(t, g, c, "rx_packets")
			tcp := l.dial(t, "tcp", netip.AddrPortFrom(c.vip, 80))
			talkTCP(t, tcp, tunnelBytes, "server")
			if got := pathMTU(t, tcp); got != c.mtu() {
				t.Errorf("the client takes the path's MTU for %d, want %d", got, c.mtu())
			}
			udp := l.dial(t, "udp", netip.AddrPortFrom(c.vip, 80))
			for _, size := range []int{0, 1000, 4000, 60000} {
				if a, err := app.Ask(udp, uint64(size), make([]byte, size), size, waitLimit); err != nil || a.Server != "server" {
					t.Errorf("datagram of %d bytes: %v from %q", size, err, a.Server)
				}
			}
			if n := deviceCount(t, g, c, "rx_packets") - before; n < leastPackets {
				t.Errorf("%s had %d packets", c.devices[c.families()], n)
			}
			if n := wire(i); n < leastPackets {
				t.Errorf("%d packets of this tunnel left the director", n)
			}
		})
	}
	for _, c := range cases {
		for _, name := range []string{"rx_errors", "rx_dropped", "rx_crc_errors", "rx_frame_errors"} {
			if n := deviceCount(t, g, c, name); n != 0 {
				t.Errorf("%s: %s is %d", c.devices[c.families()], name, n)
			}
		}
	}
	if broken := faults(t, g); len(broken) > 0 {
		t.Errorf("the guest's counters: %v", broken)
	}
	l.checkAccounts(t)
}

// setUpTunnels makes the guest a server of all cases.
func setUpTunnels(t *testing.T, g *Guest, cases []tunnelCase) {
	do(t, g, "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce")
	lines := []string{"addr add 10.77.1.11/24 dev vec1", "addr add 2001:db8:77:1::11/64 dev vec1 nodad"}
	for _, k := range tunnelKinds {
		lines = append(lines, fmt.Sprintf("addr add %v/24 dev vec0", addr4(integration.Int, k.host)),
			fmt.Sprintf("addr add %v/64 dev vec0 nodad", addr6(integration.Int, k.host)))
	}
	var at []string
	for _, c := range cases {
		lines = append(lines, fmt.Sprintf("addr add %v/%d dev lo", c.vip, c.vip.BitLen()))
		at = append(at, netip.AddrPortFrom(c.vip, 80).String())
	}
	batch(t, g, lines...)
	csum := tunnelKinds[2].host
	for _, line := range tunnelSetup {
		do(t, g, strings.NewReplacer("RIP4", addr4(integration.Int, csum).String(), "RIP6", addr6(integration.Int, csum).String()).Replace(line))
	}
	serve(t, g, "server", "tcp", at...)
	serve(t, g, "server", "udp", at...)
}

// deviceCount reads a counter of the device that a case comes in by.
func deviceCount(t *testing.T, g *Guest, c tunnelCase, name string) int {
	t.Helper()
	n, err := strconv.Atoi(read(t, g, fmt.Sprintf("/sys/class/net/%s/statistics/%s", c.devices[c.families()], name)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// pathMTU is what the client's kernel believes of the path of a connection.
func pathMTU(t *testing.T, c net.Conn) (mtu int) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Pmtu)
}

// watchTunnels counts the frames that leave the director for each case; the function it returns tells how many did.
func (l *lab) watchTunnels(cases []tunnelCase) func(i int) int {
	var mu sync.Mutex
	counts := make([]int, len(cases))
	l.Observe(func(point, dir string, f []byte) {
		if point != "director/int" || dir != "out" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		proto, dst := outer(f)
		for i, c := range cases {
			if c.wrapped(proto, dst) {
				counts[i]++
			}
		}
	})
	return func(i int) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[i]
	}
}

// outer reads protocol and destination of a frame.
func outer(f []byte) (proto uint8, dst netip.Addr) {
	switch {
	case len(f) >= 34 && f[12] == 0x08 && f[13] == 0:
		dst, _ = netip.AddrFromSlice(f[30:34])
		return f[23], dst
	case len(f) >= 54 && f[12] == 0x86 && f[13] == 0xdd:
		dst, _ = netip.AddrFromSlice(f[38:54])
		if f[20] == unix.IPPROTO_FRAGMENT && len(f) > 54 {
			return f[54], dst
		}
		return f[20], dst
	}
	return 0, dst
}

// The commands that the test's guest was set up by are those that people read.
func TestTunnelSetupIsDocumented(t *testing.T) {
	docs, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range tunnelSetup {
		if line = strings.NewReplacer("RIP4", "10.77.2.11", "RIP6", "2001:db8:77:2::11").Replace(line); !strings.Contains(string(docs), line) {
			t.Errorf("docs/install.md does not have %q", line)
		}
	}
}
