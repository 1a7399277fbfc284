//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tapdirector/integration"
)

// A world without a director and without servers: namespaces, bridges and cables of a plan, for who puts something else in the director's
// place. The parts are those of New, so what is measured there is measured where it is tested.

// NewBare builds the hosts and LANs of a spec and starts nothing in them. Before, change may alter the plan (nil: it stays): addresses, legs,
// gateways; not the names of hosts and LANs. The director's config is that of the plan before.
func NewBare(s integration.Spec, change func(*integration.Plan)) (*World, error) {
	s, err := withKernelKeys(s)
	if err != nil {
		return nil, err
	}
	w := &World{}
	if w.plan, err = integration.NewPlan(s); err != nil {
		return nil, err
	}
	w.config = w.plan.Config(tapNames)
	if change != nil {
		change(w.plan)
	}
	if err := w.buildBare(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) buildBare() error {
	if err := w.buildDirector(); err != nil {
		return err
	}
	for _, h := range hostsOf(w.plan) {
		if err := w.buildHost(h); err != nil {
			return err
		}
	}
	return nil
}

// StartDirector starts the director of a bare world, once, and returns when the client and the servers know where it is. Close ends it.
func (w *World) StartDirector(o Options) error {
	w.options = o
	return w.startDirector()
}

// Join lays a cable between the bridges of both LANs, where the director would be.
func (w *World) Join() error {
	a, b := "wire-"+integration.Ext, "wire-"+integration.Int
	mtu := min(w.plan.MTU(integration.Ext), w.plan.MTU(integration.Int))
	if err := cable(end{ns: w.director, name: a}, end{ns: w.director, name: b}, mtu); err != nil {
		return err
	}
	return errors.Join(w.director.plug(a, bridgeName(integration.Ext)), w.director.plug(b, bridgeName(integration.Int)))
}

// AttachTap makes the director's TAP of a LAN, which some process holds, a port of that LAN's bridge, and brings it up.
func (w *World) AttachTap(lan string) error { return w.Attach(tapNames[lan], lan) }

// Attach makes a link of the director's namespace a port of a LAN's bridge, and brings it up.
func (w *World) Attach(link, lan string) error {
	if err := w.director.plug(link, bridgeName(lan)); err != nil {
		return err
	}
	return w.director.linkUp(link)
}

// AddTAP makes a TAP in the director's namespace that some process there, a guest, will open by its name, as a port of a LAN's bridge. It is up before: a
// guest that cannot write its first frame gives up for good.
func (w *World) AddTAP(name, lan string) error {
	t := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: w.plan.MTU(lan)}, Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_NO_PI}
	err := w.director.Do(func() error { return netlink.LinkAdd(t) })
	if err != nil {
		return fmt.Errorf("TAP %s in %s: %w", name, w.director.Name, err)
	}
	return w.Attach(name, lan)
}

// SetOffload switches all offloads of a host's links on or off, at both ends of their cables.
func (w *World) SetOffload(host string, on bool) error {
	for _, h := range w.hosts {
		if h.Name != host {
			continue
		}
		for i, leg := range h.plan.Legs {
			if err := errors.Join(h.setOffload(legName(i), on), w.director.setOffload(portName(host, leg.LAN), on)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Isolate keeps what the director sends from reaching a host, and the host's frames from the director: their ports of the bridges are isolated from each
// other. Links stay up and nothing is forgotten, so it can be undone.
func (w *World) Isolate(host string, on bool) error {
	var ports []string
	for _, h := range w.hosts {
		for _, leg := range h.plan.Legs {
			if h.Name == host {
				ports = append(ports, portName(host, leg.LAN), tapNames[leg.LAN])
			}
		}
	}
	for _, name := range ports {
		port, err := w.director.link(name)
		if err == nil {
			err = w.director.links.LinkSetIsolated(port, on)
		}
		if err != nil {
			return fmt.Errorf("isolate %s: %w", name, err)
		}
	}
	return nil
}

// Address gives a link of the namespace an address.
func (n *Namespace) Address(link string, p netip.Prefix) error { return n.address(link, p) }

// Route sends what the namespace has for some network by way of a neighbour.
func (n *Namespace) Route(to netip.Prefix, via netip.Addr) error { return n.route(to, via) }

// Neighbour tells the namespace for good what hardware address an address on a link has: it will not ask.
func (n *Namespace) Neighbour(link string, a netip.Addr, mac net.HardwareAddr) error {
	l, err := n.link(link)
	if err != nil {
		return err
	}
	entry := &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}
	if err := n.links.NeighSet(entry); err != nil {
		return fmt.Errorf("neighbour %v on %s in %s: %w", a, link, n.Name, err)
	}
	return nil
}

// Sysctl writes settings of the namespace, by their path below /proc/sys/net.
func (n *Namespace) Sysctl(settings map[string]string) error { return n.sysctl(settings) }

// Start starts a command in the namespace. What Wait returns comes by the channel, once. The command is forked by a thread that lives as long as it
// does, so it may ask to die with its parent (Pdeathsig).
func (n *Namespace) Start(cmd *exec.Cmd) (<-chan error, error) {
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			started <- err
			return
		}
		defer goHome(home)
		if err = netns.Set(n.handle); err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", cmd.Path, n.Name, err)
	}
	return ended, nil
}
