//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// end is one end of a cable: a link name and address within a namespace.
type end struct {
	ns   *Namespace
	name string
	mac  net.HardwareAddr // nil: the kernel's choice
}

// cable joins two namespaces with a veth pair; both ends are up.
func cable(a, b end, mtu int) error {
	veth := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: a.name, HardwareAddr: a.mac, MTU: mtu},
		PeerName:         b.name,
		PeerHardwareAddr: b.mac,
		PeerNamespace:    netlink.NsFd(int(b.ns.handle)),
		PeerMTU:          uint32(mtu),
	}
	if err := a.ns.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth %s in %s to %s in %s: %w", a.name, a.ns.Name, b.name, b.ns.Name, err)
	}
	return errors.Join(a.ns.linkUp(a.name), b.ns.linkUp(b.name))
}

// bridge makes a bridge that has no address and no opinion: it neither speaks IPv6 nor prunes multicast.
func (n *Namespace) bridge(name string, mtu int) error {
	snooping := false
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu}, MulticastSnooping: &snooping}
	if err := n.links.LinkAdd(br); err != nil {
		return fmt.Errorf("bridge %s in %s: %w", name, n.Name, err)
	}
	return n.linkUp(name)
}

// plug makes the link a port of the bridge.
func (n *Namespace) plug(link, bridge string) error {
	l, err := n.link(link)
	if err != nil {
		return err
	}
	br, err := n.link(bridge)
	if err != nil {
		return err
	}
	if err := n.links.LinkSetMasterByIndex(l, br.Attrs().Index); err != nil {
		return fmt.Errorf("put %s into bridge %s in %s: %w", link, bridge, n.Name, err)
	}
	return nil
}

// address gives the link an address; an IPv6 one is usable at once (nodad).
func (n *Namespace) address(link string, p netip.Prefix) error {
	l, err := n.link(link)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = syscall.IFA_F_NODAD
	}
	if err := n.links.AddrAdd(l, a); err != nil {
		return fmt.Errorf("address %v on %s in %s: %w", p, link, n.Name, err)
	}
	return nil
}

// ask looks for the hardware address of a neighbour on the link, and has the kernel ask for it; nil: not known yet, or no way there yet, as the neighbour may
// have asked before the kernel had a route. What the kernel holds of
// a question without an answer is forgotten, or it would wait a second before it asks again. It is a datagram to the discard port that makes
// the kernel ask, because a solicitation then has the sender's global address, from which the neighbour learns where that is.
func (n *Namespace) ask(link string, a netip.Addr) net.HardwareAddr {
	const known = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	l, err := n.link(link)
	if err != nil {
		return nil
	}
	var c *net.UDPConn
	err = n.Do(func() (err error) {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, discardPort)))
		return err
	})
	if err != nil {
		return nil
	}
	defer c.Close()
	entries, err := n.links.NeighList(l.Attrs().Index, 0)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if got, _ := netip.AddrFromSlice(e.IP); got.Unmap() != a {
			continue
		}
		if e.State&known != 0 {
			return e.HardwareAddr
		}
		n.links.NeighDel(&e)
	}
	c.Write([]byte{0}) // A failure is no answer either: the caller asks again.
	return nil
}

// discardPort is the service of RFC 863.
const discardPort = 9

// route sends what is for to by way of via.
func (n *Namespace) route(to netip.Prefix, via netip.Addr) error {
	r := &netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()}
	if err := n.links.RouteAdd(r); err != nil {
		return fmt.Errorf("route %v via %v in %s: %w", to, via, n.Name, err)
	}
	return nil
}

// sysctl writes values below /proc/sys/net: what is there is what the writing thread's namespace has.
func (n *Namespace) sysctl(settings map[string]string) error {
	return n.Do(func() error {
		for key, value := range settings {
			err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0)
			if err != nil {
				return fmt.Errorf("set %s to %s: %w", key, value, err)
			}
		}
		return nil
	})
}

// link looks the link up.
func (n *Namespace) link(name string) (netlink.Link, error) {
	l, err := n.links.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("link %s in %s: %w", name, n.Name, err)
	}
	return l, nil
}

// linkUp brings the link up.
func (n *Namespace) linkUp(name string) error {
	l, err := n.link(name)
	if err != nil {
		return err
	}
	if err := n.links.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring %s up in %s: %w", name, n.Name, err)
	}
	return nil
}

// setLink brings the link up, or takes it down.
func (n *Namespace) setLink(name string, up bool) error {
	if up {
		return n.linkUp(name)
	}
	l, err := n.link(name)
	if err != nil {
		return err
	}
	if err := n.links.LinkSetDown(l); err != nil {
		return fmt.Errorf("take %s down in %s: %w", name, n.Name, err)
	}
	return nil
}

// ipNet is p as the netlink package has it, host bits kept.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// waitFor polls until the condition holds or the limit has passed.
func waitFor(limit time.Duration, condition func() bool) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(pollEvery) {
		if condition() {
			return nil
		}
	}
	return fmt.Errorf("not within %v", limit)
}

// pollEvery is the pause between two looks at something the kernel tells nobody about.
const pollEvery = 10 * time.Millisecond
