//go:build linux

package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tapdirector/conf"
	"tapdirector/integration"
)

// shapes are all kinds of worlds, without a word about offload.
func shapes() (specs []integration.Spec) {
	for _, method := range []string{"nat", "dr"} {
		for _, family := range []int{4, 6} {
			for _, arms := range []int{1, 2} {
				specs = append(specs, integration.Spec{Method: method, Family: family, Arms: arms, Servers: 2, Offload: true})
			}
		}
	}
	return specs
}

// hostsOnly builds the hosts of a spec, and no director.
func hostsOnly(t *testing.T, s integration.Spec) *World {
	t.Helper()
	needRights(t)
	plan, err := integration.NewPlan(s)
	if err != nil {
		t.Fatal(err)
	}
	w := &World{plan: plan}
	t.Cleanup(func() { w.Close() })
	if err := w.buildHosts(); err != nil {
		t.Fatal(err)
	}
	return w
}

// Every host has the links, addresses and routes of its plan, and no other.
func TestHostsAreAsPlanned(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.String(), func(t *testing.T) {
			w := hostsOnly(t, s)
			for _, h := range w.hosts {
				checkAddresses(t, h)
				checkGateway(t, h)
			}
		})
	}
}

func checkAddresses(t *testing.T, h host) {
	t.Helper()
	want := []string{}
	for i, leg := range h.plan.Legs {
		want = append(want, fmt.Sprintf("%s %v", legName(i), leg.Address))
	}
	if h.plan.Hidden.IsValid() {
		want = append(want, fmt.Sprintf("lo %v", netip.PrefixFrom(h.plan.Hidden, h.plan.Hidden.BitLen())))
	}
	if got := addressesOf(t, h.Namespace); !slices.Equal(got, want) {
		t.Errorf("%s has the addresses %q, want %q", h.Name, got, want)
	}
}

// addressesOf lists a namespace's addresses but for those that every kernel gives itself. None may be tentative.
func addressesOf(t *testing.T, n *Namespace) (all []string) {
	t.Helper()
	links, err := n.links.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	// lo comes first in the kernel's list, last in ours.
	for _, l := range append(slices.Clone(links[1:]), links[0]) {
		addresses, err := n.links.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			if a.IP.IsLoopback() || a.IP.IsLinkLocalUnicast() {
				continue
			}
			if a.Flags&unix.IFA_F_TENTATIVE != 0 {
				t.Errorf("%s: %v is tentative", n.Name, a.IPNet)
			}
			all = append(all, fmt.Sprintf("%s %v", l.Attrs().Name, a.IPNet))
		}
	}
	return all
}

func checkGateway(t *testing.T, h host) {
	t.Helper()
	if !h.plan.Gateway.IsValid() {
		return
	}
	// An address that is on no LAN of ours (RFC 5737, RFC 3849).
	far := net.ParseIP("192.0.2.1")
	if h.plan.Gateway.Is6() {
		far = net.ParseIP("2001:db8:ffff::1")
	}
	routes, err := h.links.RouteGet(far)
	if err != nil || len(routes) != 1 || !routes[0].Gw.Equal(h.plan.Gateway.AsSlice()) {
		t.Errorf("%s: the way to the world is %v (%v), want by %v", h.Name, routes, err, h.plan.Gateway)
	}
}

// A server with DR keeps quiet about the VIP; one with NAT has no reason to.
func TestOnlyDRHides(t *testing.T) {
	for method, want := range map[string]string{"nat": "0 0", "dr": "1 2"} {
		w := hostsOnly(t, integration.Spec{Method: method, Servers: 1})
		got := sysctlOf(t, w.hosts[1].Namespace, "ipv4/conf/all/arp_ignore") + " " + sysctlOf(t, w.hosts[1].Namespace, "ipv4/conf/all/arp_announce")
		if got != want {
			t.Errorf("%s: arp_ignore and arp_announce of a server are %s, want %s", method, got, want)
		}
		if rp := sysctlOf(t, w.hosts[1].Namespace, "ipv4/conf/eth0/rp_filter"); rp != "0" {
			t.Errorf("%s: rp_filter of a server is %s, want 0", method, rp)
		}
	}
}

// sysctlOf reads one setting of a namespace.
func sysctlOf(t *testing.T, n *Namespace, key string) (value string) {
	t.Helper()
	err := n.Do(func() error {
		b, err := os.ReadFile("/proc/sys/net/" + key)
		value = strings.TrimSpace(string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// A setting that the kernel does not know names itself in the error.
func TestSysctlUnknown(t *testing.T) {
	n := namespaces(t, "a")[0]
	err := n.sysctl(map[string]string{"ipv4/no_such_setting": "1"})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("error %v", err)
	}
}

// The director's namespace holds bridges and ports and speaks no IP of its own.
func TestDirectorNamespaceIsMute(t *testing.T) {
	for _, s := range shapes() {
		w := hostsOnly(t, s)
		if got := addressesOf(t, w.director); len(got) != 0 {
			t.Errorf("%v: the director's namespace has addresses %q", s, got)
		}
		for _, h := range w.hosts {
			for _, leg := range h.plan.Legs {
				port, err := w.director.link(portName(h.Name, leg.LAN))
				if err != nil {
					t.Fatal(err)
				}
				br, err := w.director.link(w.Bridge(leg.LAN))
				if err != nil {
					t.Fatal(err)
				}
				if port.Attrs().MasterIndex != br.Attrs().Index {
					t.Errorf("%v: %s is no port of %s", s, port.Attrs().Name, br.Attrs().Name)
				}
			}
		}
	}
}

// MTU and offload are those of the LAN, at both ends of every cable.
func TestLinksAreAsTheirLAN(t *testing.T) {
	for _, s := range []integration.Spec{
		{Method: "dr", Servers: 1, MTU: 9000, IntMTU: 1400, Offload: true},
		{Method: "dr", Servers: 1, Offload: true, Mixed: true},
		{Method: "nat", Servers: 1, Family: 6},
	} {
		w := hostsOnly(t, s)
		for _, h := range w.hosts {
			for i, leg := range h.plan.Legs {
				checkLink(t, w, h.Namespace, legName(i), leg.LAN)
				checkLink(t, w, w.director, portName(h.Name, leg.LAN), leg.LAN)
			}
		}
	}
}

func checkLink(t *testing.T, w *World, n *Namespace, name, lan string) {
	t.Helper()
	l, err := n.link(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Attrs().MTU, w.plan.MTU(lan); got != want {
		t.Errorf("%s %s: MTU %d, want %d", n.Name, name, got, want)
	}
	state, err := n.offload(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"tx checksums", "TCP segmentation"} {
		if state[what] != w.plan.Offload(lan) {
			t.Errorf("%s %s: %s is %v, want %v", n.Name, name, what, state[what], w.plan.Offload(lan))
		}
	}
}

func TestLegMAC(t *testing.T) {
	for _, c := range []struct{ lan, address, want string }{
		{integration.Ext, "10.77.1.2", "02:77:01:00:00:02"},
		{integration.Int, "10.77.2.11", "02:77:02:00:00:11"},
		{integration.Int, "2001:db8:77:2::11", "02:77:02:00:00:11"},
		{integration.Int, "10.77.2.99", "02:77:02:00:00:99"},
	} {
		if got := legMAC(c.lan, netip.MustParseAddr(c.address)).String(); got != c.want {
			t.Errorf("%s on %s: %s, want %s", c.address, c.lan, got, c.want)
		}
	}
}

// What a kernel needs is added to lb.toml, what the spec wants stays, and conf takes the result.
func TestKernelKeys(t *testing.T) {
	spec := integration.Spec{Method: "nat", IntMTU: 1400, InterfaceKeys: map[string]string{"ext": "reply = \"route\""}}
	s, err := withKernelKeys(spec)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := integration.NewPlan(s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := conf.Parse(strings.NewReader(plan.Config(tapNames)), "lb.toml")
	if err != nil {
		t.Fatal(err)
	}
	ext, inner := c.Interfaces[0], c.Interfaces[1]
	if ext.Tap != "tap0" || ext.Bridge != "br-ext" || ext.MTU != 0 || ext.Reply != "route" {
		t.Errorf("ext: %+v", ext)
	}
	if inner.Tap != "tap1" || inner.Bridge != "br-int" || inner.MTU != 1400 {
		t.Errorf("int: %+v", inner)
	}
	if len(spec.InterfaceKeys) != 1 {
		t.Error("the caller's keys were changed")
	}
	if _, err := withKernelKeys(integration.Spec{Method: "masq"}); err == nil {
		t.Error("no error for a spec that no world is built of")
	}
}
