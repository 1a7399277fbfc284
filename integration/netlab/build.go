//go:build linux

package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"tapdirector/integration"
)

// How a plan becomes kernels
//
//	host       one namespace; a leg is eth0, eth1, ...: one end of a cable
//	LAN        a bridge, br-ext or br-int, in the director's namespace; the other ends of the cables are its ports: client-ext, s1-int
//	trunk      br-trunk as well, and a VLAN switch between the three (trunk.go)
//	director   its namespace has no addresses and no IP of its own, only bridges; its TAPs tap0 and tap1 join them when it opens them
//
// A NAT server needs nothing but its default route. A DR server holds the VIP on lo. IPv4 hosts answer ARP for any address of theirs on
// any link, so arp_ignore=1 (answer on a link for its own addresses only) and arp_announce=2 (ask with the link's own address, never
// with the VIP) keep the VIP quiet. IPv6 needs neither: the kernel answers neighbour solicitations only for addresses of the
// link that they came in on, and solicits only with such.

// tapNames are the director's TAPs by interface, as lb.toml names them.
var tapNames = map[string]string{integration.Ext: "tap0", integration.Int: "tap1"}

// bridgeName is the name of a LAN's bridge in the director's namespace.
func bridgeName(lan string) string { return "br-" + lan }

// legName is the kernel's name of a host's leg, counted from 0.
func legName(i int) string { return fmt.Sprintf("eth%d", i) }

// portName is the bridge's end of a leg's cable.
func portName(host, lan string) string { return host + "-" + lan }

// legMAC makes hardware addresses that can be told apart by eye: 02:77:LAN:00:00:HOST, both numbers as they are written in the address.
func legMAC(lan string, a netip.Addr) net.HardwareAddr {
	number := byte(1)
	if lan == integration.Int {
		number = 2
	}
	b := a.AsSlice()
	last := b[len(b)-1]
	if a.Is4() {
		last = last/10<<4 | last%10 // 11 is written 11 in hexadecimal too
	}
	return net.HardwareAddr{0x02, 0x77, number, 0, 0, last}
}

// buildHosts builds the director's namespace and those of all hosts.
func (w *World) buildHosts() error {
	if err := w.buildDirector(); err != nil {
		return err
	}
	if err := w.startClock(); err != nil {
		return err
	}
	if w.plan.Spec.Trunk {
		if err := w.startTrunk(); err != nil {
			return err
		}
	}
	for _, h := range hostsOf(w.plan) {
		if err := w.buildHost(h); err != nil {
			return err
		}
	}
	return nil
}

// buildDirector makes the director's namespace with a bridge for each LAN.
func (w *World) buildDirector() (err error) {
	if w.director, err = NewNamespace("director"); err != nil {
		return err
	}
	err = w.director.sysctl(map[string]string{
		"ipv6/conf/all/disable_ipv6":     "1",
		"ipv6/conf/default/disable_ipv6": "1",
	})
	if err != nil {
		return err
	}
	for _, lan := range w.plan.LANs {
		if err := w.director.bridge(bridgeName(lan), w.plan.MTU(lan)); err != nil {
			return err
		}
	}
	return nil
}

// buildHost makes a host's namespace, joins it to its LANs and sets it up for its part.
func (w *World) buildHost(h integration.Host) error {
	ns, err := NewNamespace(h.Name)
	if err != nil {
		return err
	}
	w.hosts = append(w.hosts, host{Namespace: ns, plan: h})
	if err := ns.sysctl(hostSettings); err != nil {
		return err
	}
	for i, leg := range h.Legs {
		if err := w.buildLeg(ns, i, leg); err != nil {
			return err
		}
	}
	if h.Hidden.IsValid() {
		if err := ns.hide(h.Hidden); err != nil {
			return err
		}
	}
	if h.Gateway.IsValid() {
		return ns.route(netip.PrefixFrom(zeroOf(h.Gateway), 0), h.Gateway)
	}
	return nil
}

// hostSettings are the sysctls of every host: addresses are usable at once, and a packet may come in by another link than the one
// that leads back to its source (DR with two arms).
var hostSettings = map[string]string{
	"ipv4/conf/all/rp_filter":                "0",
	"ipv4/conf/default/rp_filter":            "0",
	"ipv6/conf/default/accept_dad":           "0",
	"ipv6/conf/default/accept_ra":            "0",
	"ipv6/conf/all/accept_redirects":         "0",
	"ipv6/conf/default/accept_redirects":     "0",
	"ipv4/conf/all/accept_redirects":         "0",
	"ipv4/conf/default/accept_redirects":     "0",
	"ipv4/ping_group_range":                  "0 0",
	"ipv4/icmp_ratelimit":                    "0",
	"ipv6/conf/default/disable_ipv6":         "0",
	"ipv6/conf/default/router_solicitations": "0",
}

// hide puts an address on lo and keeps every link quiet about it.
func (n *Namespace) hide(a netip.Addr) error {
	err := n.sysctl(map[string]string{"ipv4/conf/all/arp_ignore": "1", "ipv4/conf/all/arp_announce": "2"})
	if err != nil {
		return err
	}
	return n.address("lo", netip.PrefixFrom(a, a.BitLen()))
}

// buildLeg lays the cable of a host's leg and gives it its address.
func (w *World) buildLeg(ns *Namespace, i int, leg integration.Leg) error {
	name, port := legName(i), portName(ns.Name, leg.LAN)
	a := end{ns: ns, name: name, mac: legMAC(leg.LAN, leg.Address.Addr())}
	if err := cable(a, end{ns: w.director, name: port}, w.plan.MTU(leg.LAN)); err != nil {
		return err
	}
	if err := w.director.plug(port, bridgeName(leg.LAN)); err != nil {
		return err
	}
	if !w.plan.Offload(leg.LAN) {
		if err := ns.setOffload(name, false); err != nil {
			return err
		}
		if err := w.director.setOffload(port, false); err != nil {
			return err
		}
	}
	return ns.address(name, leg.Address)
}

// zeroOf is the unspecified address of a's family.
func zeroOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// withKernelKeys adds to the interfaces of a spec what only a kernel needs: the bridge, and an MTU that is not the default.
func withKernelKeys(s integration.Spec) (integration.Spec, error) {
	p, err := integration.NewPlan(s)
	if err != nil {
		return s, err
	}
	keys := map[string]string{}
	for _, lan := range p.LANs {
		bridge := bridgeName(lan)
		if p.Spec.Trunk {
			bridge = trunkBridge
		}
		keys[lan] = fmt.Sprintf("bridge    = %q\n", bridge)
		if mtu := p.MTU(lan); mtu != 1500 {
			keys[lan] += fmt.Sprintf("mtu       = %d\n", mtu)
		}
		if own := s.InterfaceKeys[lan]; own != "" {
			keys[lan] += own + "\n"
		}
	}
	s.InterfaceKeys = keys
	return s, nil
}

// hostsOf are the client and the servers of a plan.
func hostsOf(p *integration.Plan) []integration.Host {
	return slices.Concat([]integration.Host{p.Client}, p.Servers)
}
