package conf

import (
	"net/netip"
	"slices"
)

// resolve is stage 3: it fills in what one part of the file means by another. Interfaces come before routes, routes before servers.
// Where nothing can be filled in -1 or the zero value stays, and stage 4 says why.
func (d *draft) resolve() {
	c := d.c
	d.shareTaps()
	for i := range c.Routes {
		c.Routes[i].Interface, _ = d.onLink(c.Routes[i].Via)
	}
	for i := range c.Services {
		for j := range c.Services[i].Listen {
			c.Services[i].Listen[j].Interface = d.owner(i, c.Services[i].Listen[j].Addr)
		}
		for j := range c.Services[i].Servers {
			s := &c.Services[i].Servers[j]
			s.Via, s.Iface = d.hop(s.Address.Addr())
			if c.Services[i].Method == "tun" {
				s.Tunnel.Source = d.tunnelSource(s)
			}
			s.Sources = d.sources(&c.Services[i], s)
		}
	}
	for i := range c.Interfaces {
		c.Interfaces[i].Forward = d.forwards(i)
	}
}

// onLink returns the interface on whose network a is, and that network; -1 for none. The longest prefix wins, then the first in the file.
func (d *draft) onLink(a netip.Addr) (iface int, network netip.Prefix) {
	iface = -1
	for i := range d.c.Interfaces {
		for _, p := range d.c.Interfaces[i].Addresses {
			if p.Contains(a) && (iface < 0 || p.Bits() > network.Bits()) {
				iface, network = i, p
			}
		}
	}
	return iface, network
}

// owner returns the interface that answers ARP and NDP for a VIP of a service: the one it names, else the one whose network holds the VIP.
func (d *draft) owner(service int, vip netip.Addr) int {
	if name := d.owners[service]; name != "" {
		return d.named(name)
	}
	iface, _ := d.onLink(vip)
	return iface
}

// named returns the interface of that name, -1 for none.
func (d *draft) named(name string) int {
	for i := range d.c.Interfaces {
		if d.c.Interfaces[i].Name == name {
			return i
		}
	}
	return -1
}

// hop returns where a packet to a goes next: a itself when it is on a network of ours, else a gateway. A route that is more specific
// than the network wins, as in every routing table.
func (d *draft) hop(a netip.Addr) (via netip.Addr, iface int) {
	iface, network := d.onLink(a)
	best := -1
	if iface >= 0 {
		via, best = a, network.Bits()
	}
	for _, r := range d.c.Routes {
		if r.Interface >= 0 && r.To.Contains(a) && r.To.Bits() > best {
			via, iface, best = r.Via, r.Interface, r.To.Bits()
		}
	}
	return via, iface
}

// forwards returns an interface's forward: as written, else true where a NAT service has its servers, whose default gateway we are, or its
// VIP: what the world answers them comes in there.
func (d *draft) forwards(iface int) bool {
	if f := d.forward[iface]; f != nil {
		return *f
	}
	for i := range d.c.Services {
		if d.c.Services[i].Method != "nat" {
			continue
		}
		if d.c.Services[i].ownedBy(iface) {
			return true
		}
		for j := range d.c.Services[i].Servers {
			if d.c.Services[i].Servers[j].Iface == iface {
				return true
			}
		}
	}
	return false
}

// ownedBy reports whether an interface owns a VIP of v.
func (v *Service) ownedBy(iface int) bool {
	return slices.ContainsFunc(v.Listen, func(l Listen) bool { return l.Interface == iface })
}
