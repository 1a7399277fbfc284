//go:build linux

package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tapdirector/integration"
	"tapdirector/integration/app"
)

// Narrow links on both sides of the director
//
//	client -- c1 ==1400== c2 --ext-- director --int-- r1 ==1340== r2 -- f1, f2
//	                       '--------- s2, f2     '--- s1, s2
//
// All hosts have links of 1500 of their own, so nobody knows: the routers must tell. What r1 says is about packets of the client, or of the director's tunnel; what c2 says is
// about a server's, and goes to the VIP that they came from. s1 and f1 are servers of nat and fullnat, s2 and f2 of dr and tun with a link to ext, where their way to the client
// begins. A path's MTU is remembered for an address: so each case has a VIP and a client's address of its own. "across" is fullnat to a server of the other family: there
// what a router tells arrives with 20 bytes more or less.

const (
	narrowClient = 1400
	narrowServer = 1340
)

// narrowCase is a virtual service.
type narrowCase struct {
	method, server string
	family, number int
}

func (c narrowCase) String() string { return fmt.Sprintf("%s/%s/ipv%d", c.method, c.server, c.family) }

func (c narrowCase) vip() netip.AddrPort {
	return netip.AddrPortFrom(narrowAddr(c.family, 1, 100+c.number), 80)
}

func (c narrowCase) client() netip.Addr { return narrowAddr(c.family, 9, 10+c.number) }

// rip is the server's address.
func (c narrowCase) rip() netip.Addr {
	at := map[string][2]int{"s1": {2, 11}, "s2": {2, 12}, "f1": {3, 11}, "f2": {4, 11}}[c.server]
	return narrowAddr(c.serverFamily(), at[0], at[1])
}

// serverFamily is the other one with "across": fullnat to a server of the other family.
func (c narrowCase) serverFamily() int {
	if c.method == "across" {
		return 10 - c.family
	}
	return c.family
}

func (c narrowCase) listen() netip.AddrPort {
	if c.method == "dr" || c.method == "tun" {
		return c.vip()
	}
	return netip.AddrPortFrom(c.rip(), uint16(8000+c.number))
}

// peer is whom the server sees.
func (c narrowCase) peer() netip.Addr {
	switch c.method {
	case "fullnat":
		return narrowAddr(c.family, 2, 1)
	case "across": // another source than fullnat's, for what is learned is learned of an address
		return narrowAddr(c.serverFamily(), 2, 2)
	}
	return c.client()
}

// far says that the server is behind r1's narrow link.
func (c narrowCase) far() bool { return c.server[0] == 'f' }

// clientMTU is what the client must learn of the way to the VIP.
func (c narrowCase) clientMTU() int {
	switch {
	case !c.far():
		return narrowClient
	case c.method == "tun":
		return narrowServer - map[int]int{4: 20, 6: 40}[c.family]
	}
	return narrowServer + c.larger()
}

// serverMTU is what the server must learn of the way back. (The way of f2's answers does not lead by r2.)
func (c narrowCase) serverMTU() int {
	if c.server == "f1" {
		return narrowServer
	}
	return narrowClient - c.larger()
}

// larger is how much larger the client's packets are than what the server gets of them.
func (c narrowCase) larger() int {
	if c.method == "across" {
		return map[int]int{4: -20, 6: 20}[c.family]
	}
	return 0
}

func narrowCases() (all []narrowCase) {
	for _, family := range []int{4, 6} {
		for _, m := range []string{"nat s1", "nat f1", "fullnat s1", "fullnat f1", "across s1", "across f1", "dr s2", "tun s2", "tun f2"} {
			method, server, _ := strings.Cut(m, " ")
			all = append(all, narrowCase{method, server, family, len(all)})
		}
	}
	return all
}

// narrowAddr is host n in subnet s.
func narrowAddr(family, s, n int) netip.Addr {
	if family == 6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:77:%d::%d", s, n))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.77.%d.%d", s, n))
}

func narrowNet(family, s int) netip.Prefix {
	p, _ := narrowAddr(family, s, 0).Prefix(map[int]int{4: 24, 6: 64}[family])
	return p
}

// narrowWorld is the world at work.
type narrowWorld struct {
	*World
	ns map[string]*Namespace
}

// TestPathMTU: by every method in both families, over TCP and in datagrams of 60 KB, content arrives whole in both directions, and both ends have learned what the routers told.
func TestPathMTU(t *testing.T) {
	needRights(t)
	w := newNarrowWorld(t)
	for _, c := range narrowCases() {
		t.Run(c.String(), func(t *testing.T) {
			tcp, udp := w.dial(t, c, "tcp"), w.dial(t, c, "udp")
			client := app.NewClient(tcp, 30*time.Second)
			if a, err := client.Sink(4<<20, 1); err != nil || a.Server != c.server || a.Remote.Addr() != c.peer() {
				t.Errorf("upload: %v by %v, want %s and %v", err, a, c.server, c.peer())
			}
			if _, err := client.Source(4<<20, 2); err != nil {
				t.Errorf("download: %v", err)
			}
			for _, size := range []int{1000, 20000, 60000} {
				if _, err := app.Ask(udp, uint64(size), make([]byte, size), size, 30*time.Second); err != nil {
					t.Errorf("datagram of %d bytes: %v", size, err)
				}
			}
			if got := socketMTU(t, tcp); got != c.clientMTU() {
				t.Errorf("the client takes the path's MTU for %d, want %d", got, c.clientMTU())
			}
			if got := routeMTU(t, w.ns[c.server], c.peer()); got != c.serverMTU() {
				t.Errorf("the server takes the path's MTU for %d, want %d", got, c.serverMTU())
			}
		})
	}
	for name, n := range w.ns {
		if broken, err := n.Errors(); err != nil || len(broken) > 0 {
			t.Errorf("%s: %v, %v", name, broken, err)
		}
	}
}

// newNarrowWorld builds it.
func newNarrowWorld(t *testing.T) *narrowWorld {
	t.Helper()
	bare, err := NewBare(integration.Spec{Method: "nat"}, func(p *integration.Plan) {
		p.Servers, p.Client.Legs, p.Client.Gateway = nil, nil, netip.Addr{} // ours are others
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &narrowWorld{World: bare, ns: map[string]*Namespace{}}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, n := range namespaces(t, "client", "c1", "c2", "r1", "r2", "s1", "s2", "f1", "f2") {
		w.ns[n.Name] = n
		must(t, n.sysctl(hostSettings))
		if router := n.Name[0] == 'c' && n.Name != "client" || n.Name[0] == 'r'; router {
			must(t, n.sysctl(map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}))
		}
	}
	w.lay(t)
	w.serve(t)
	must(t, w.StartDirector(Options{Config: narrowConfig()}))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lay lays the cables, and gives addresses and routes.
func (w *narrowWorld) lay(t *testing.T) {
	t.Helper()
	type place struct {
		name        string
		subnet, num int
	}
	w.ns["br-ext"], w.ns["br-int"] = w.director, w.director
	for _, c := range []struct {
		a, b place
		mtu  int
	}{
		{place{"client", 9, 10}, place{"c1", 9, 254}, 1500},
		{place{"c1", 8, 1}, place{"c2", 8, 2}, narrowClient},
		{place{"c2", 1, 3}, place{"br-ext", 0, 0}, 1500},
		{place{"r1", 2, 254}, place{"br-int", 0, 0}, 1500},
		{place{"r1", 5, 1}, place{"r2", 5, 2}, narrowServer},
		{place{"r2", 3, 254}, place{"f1", 3, 11}, 1500},
		{place{"r2", 4, 254}, place{"f2", 4, 11}, 1500},
		{place{"s1", 2, 11}, place{"br-int", 0, 0}, 1500},
		{place{"s2", 2, 12}, place{"br-int", 0, 0}, 1500},
		{place{"s2", 1, 12}, place{"br-ext", 0, 0}, 1500},
		{place{"f2", 1, 13}, place{"br-ext", 0, 0}, 1500},
	} {
		a, b := c.a.name+"-"+c.b.name, c.b.name+"-"+c.a.name // of the link in a to b
		must(t, cable(end{ns: w.ns[c.a.name], name: a}, end{ns: w.ns[c.b.name], name: b}, c.mtu))
		if c.b.subnet == 0 {
			must(t, w.director.plug(b, c.b.name))
		}
		for _, family := range []int{4, 6} {
			for _, at := range []struct {
				place
				link string
			}{{c.a, a}, {c.b, b}} {
				if at.subnet != 0 {
					must(t, w.ns[at.name].address(at.link, narrowPrefix(family, at.subnet, at.num)))
				}
			}
		}
	}
	delete(w.ns, "br-ext")
	delete(w.ns, "br-int")
	for _, family := range []int{4, 6} {
		for name, via := range map[string][2]int{"client": {9, 254}, "c1": {8, 2}, "r1": {2, 1}, "r2": {5, 1}, "s1": {2, 1}, "f1": {3, 254}, "s2": {1, 3}, "f2": {1, 3}} {
			must(t, w.ns[name].route(netip.PrefixFrom(zeroOf(narrowAddr(family, 0, 0)), 0), narrowAddr(family, via[0], via[1])))
		}
		must(t, w.ns["c2"].route(narrowNet(family, 9), narrowAddr(family, 8, 1)))
		must(t, w.ns["r1"].route(narrowNet(family, 3), narrowAddr(family, 5, 2)))
		must(t, w.ns["r1"].route(narrowNet(family, 4), narrowAddr(family, 5, 2)))
		must(t, w.ns["f2"].route(narrowNet(family, 2), narrowAddr(family, 4, 254)))
	}
	for _, c := range narrowCases() {
		if c.number != 0 { // the client's first address is there
			must(t, w.ns["client"].address("client-c1", narrowPrefix(c.family, 9, 10+c.number)))
		}
	}
}

func narrowPrefix(family, s, n int) netip.Prefix {
	return netip.PrefixFrom(narrowAddr(family, s, n), narrowNet(family, s).Bits())
}

// serve starts the servers, and the ends of their tunnels.
func (w *narrowWorld) serve(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	for _, c := range narrowCases() {
		n, s := w.ns[c.server], &app.Server{Name: c.server}
		if c.method == "dr" || c.method == "tun" {
			must(t, n.hide(c.vip().Addr()))
		}
		l, err := n.Listen("tcp", c.listen().String())
		must(t, err)
		p, err := n.ListenPacket("udp", c.listen().String())
		must(t, err)
		serving.Go(func() { s.Serve(ctx, l) })
		serving.Go(func() { s.ServePacket(ctx, p) })
	}
	for _, name := range []string{"s2", "f2"} {
		c := narrowCase{server: name}
		for _, c.family = range []int{4, 6} {
			e, err := w.ns[name].openTunnelEnd("ipip", c.rip(), fmt.Sprintf("unwrapped%d", c.family))
			must(t, err)
			t.Cleanup(func() {
				if err := e.close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// methodKeys are the lines of lb.toml that say the method.
func (c narrowCase) methodKeys() string {
	if c.method == "fullnat" || c.method == "across" {
		return fmt.Sprintf("method = \"fullnat\"\nsources = [\"%v\"]\n", c.peer())
	}
	return fmt.Sprintf("method = %q\n", c.method)
}

// narrowConfig is the director's lb.toml.
func narrowConfig() string {
	var b strings.Builder
	for i, lan := range []string{integration.Ext, integration.Int} {
		fmt.Fprintf(&b, "[[interface]]\nname = %q\ntap = %q\nbridge = %q\nmac = \"02:00:00:00:aa:%02d\"\naddresses = [\"%v\", \"%v\"%s]\n", lan, tapNames[lan], bridgeName(lan), i+1,
			narrowPrefix(4, i+1, 1), narrowPrefix(6, i+1, 1), []string{"", fmt.Sprintf(", \"%v\", \"%v\"", narrowPrefix(4, 2, 2), narrowPrefix(6, 2, 2))}[i])
	}
	for _, family := range []int{4, 6} {
		for _, s := range []int{3, 4, 5} {
			fmt.Fprintf(&b, "[[route]]\nto = %q\nvia = %q\n", narrowNet(family, s), narrowAddr(family, 2, 254))
		}
		for _, s := range []int{8, 9} {
			fmt.Fprintf(&b, "[[route]]\nto = %q\nvia = %q\n", narrowNet(family, s), narrowAddr(family, 1, 3))
		}
	}
	for _, c := range narrowCases() {
		for _, protocol := range []string{"tcp", "udp"} {
			fmt.Fprintf(&b, "[[service]]\nname = \"%v-%s\"\nlisten = %q\nprotocol = %q\n%s  [[service.server]]\n  address = %q\n",
				c, protocol, c.vip(), protocol, c.methodKeys(), netip.AddrPortFrom(c.rip(), c.listen().Port()))
		}
	}
	return b.String()
}

// dial connects the client from the case's own address.
func (w *narrowWorld) dial(t *testing.T, c narrowCase, network string) (conn net.Conn) {
	t.Helper()
	from := netip.AddrPortFrom(c.client(), 0)
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(from)}
	if network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	err := w.ns["client"].Do(func() (err error) {
		conn, err = d.Dial(network, c.vip().String())
		return err
	})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// socketMTU is what the kernel believes of the path of a connection.
func socketMTU(t *testing.T, c net.Conn) int {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	must(t, err)
	var info *unix.TCPInfo
	raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	must(t, err)
	return int(info.Pmtu)
}

// routeMTU is what it believes of the way to an address.
func routeMTU(t *testing.T, n *Namespace, to netip.Addr) int {
	t.Helper()
	routes, err := n.links.RouteGet(to.AsSlice())
	must(t, err)
	return routes[0].MTU
}
