package conf

import (
	"net/netip"
	"slices"
)

// serviceAt is the place of a service.
func (d *draft) serviceAt(i int) place { return itemPlace("service", d.c.Services[i].Name, i) }

// checkServices looks at names and servers, after the listens.
func (d *draft) checkServices() {
	names := firsts[string]{}
	for i := range d.c.Services {
		if first := names.taken(d.c.Services[i].Name, itemPlace("service", "", i).text); first != "" {
			d.add(itemPlace("service", "", i), "name %q: also the name of %s", d.c.Services[i].Name, first)
		}
	}
	d.checkListens()
	d.checkOwners()
	d.checkARP()
	d.checkFullNAT()
	d.checkServers()
	d.checkOnePacket()
	d.checkFTP()
}

// holds reports whether a is on a network of the interface.
func (d *draft) holds(iface int, a netip.Addr) bool {
	for _, p := range d.c.Interfaces[iface].Addresses {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// interfaceNames returns the names in the order of the file.
func (d *draft) interfaceNames() (names []string) {
	for i := range d.c.Interfaces {
		names = append(names, d.c.Interfaces[i].Name)
	}
	return names
}

// checkARP: a dr server holds the VIP, and a host does not answer a question for its MAC that comes from an address it holds itself. So
// the VIP must not be the address that we ask such a server from.
func (d *draft) checkARP() {
	for i := range d.c.Services {
		v := &d.c.Services[i]
		for _, l := range v.Listen {
			owner := d.holder(l.Addr)
			if v.Method != "dr" || owner < 0 {
				continue
			}
			if j := d.asksFrom(v, owner, d.networkOf(owner, l.Addr)); j >= 0 {
				d.add(d.serviceAt(i), "listen %q: the VIP is an address of %s, where dr server %d is: the server holds the VIP too and would "+
					"ignore our ARP and NDP questions, which come from that address: take another VIP", l, d.interfaceAt(owner).text, j+1)
			}
		}
	}
}

// asksFrom returns the first server of v that is on this network of an interface, -1 for none.
func (d *draft) asksFrom(v *Service, iface int, network netip.Prefix) int {
	return slices.IndexFunc(v.Servers, func(s Server) bool { return s.Iface == iface && network.Contains(s.Via) })
}

// networkOf returns the prefix with which an interface has its own address a.
func (d *draft) networkOf(iface int, a netip.Addr) netip.Prefix {
	for _, p := range d.c.Interfaces[iface].Addresses {
		if p.Addr() == a {
			return p
		}
	}
	return netip.Prefix{}
}

// checkServers judges each server by itself, then against the others: in its own service an address may appear once, in several services
// as often as one likes, but then always with the same MAC, because there is one neighbour slot for it.
func (d *draft) checkServers() {
	vips, macs := d.vips(), d.interfaceMACs()
	static := map[netip.Addr]*Server{}
	for i := range d.c.Services {
		v, twins := &d.c.Services[i], firsts[netip.AddrPort]{}
		for j := range v.Servers {
			s, at := &v.Servers[j], d.serviceAt(i).part("server", j)
			if !s.Address.Addr().IsValid() {
				continue
			}
			d.checkServer(at, v, s, vips[s.Address.Addr()])
			rip := s.Address.Addr()
			if first := twins.taken(s.Address, at.text); first != "" {
				d.add(at, "address %q: also the address of %s", s.Address, first)
			}
			if iface := macs[s.MAC]; iface != "" {
				d.add(at, "mac %q: the director's own, on %s", macText(s.MAC), iface)
			}
			if first := static[rip]; first == nil {
				static[rip] = s
			} else if first.MAC != s.MAC {
				d.add(at, "mac: %s, but %s in another place for the same address", orNone(s.MAC), orNone(first.MAC))
			}
		}
	}
}

// interfaceMACs returns the interfaces that say their MAC.
func (d *draft) interfaceMACs() map[[6]byte]string {
	macs := map[[6]byte]string{}
	for i := range d.c.Interfaces {
		if mac := d.c.Interfaces[i].MAC; mac != [6]byte{} {
			macs[mac] = d.interfaceAt(i).text
		}
	}
	return macs
}

// orNone writes a MAC that may be left out.
func orNone(mac [6]byte) string {
	if mac == [6]byte{} {
		return "none"
	}
	return macText(mac)
}

// checkServer judges one server against its service and the way to it; owner is the service whose VIP it is, if any. One slip has several
// consequences: only the first is told.
func (d *draft) checkServer(at place, v *Service, s *Server, owner string) {
	a := s.Address.Addr()
	var vip netip.Addr
	if len(v.Listen) > 0 {
		vip = v.Listen[0].Addr
	}
	behind := s.Iface >= 0 && s.Via != a
	switch {
	case v.Method != "tun" && v.Method != "fullnat" && vip.IsValid() && a.Is4() != vip.Is4():
		d.add(at, "address %q: %s, but the service listens on %s, and %s does not change the family", s.Address, family(a), family(vip), v.Method)
	case v.keepsPort() && vip.IsValid() && s.Address.Port() != v.port() && v.port() == 0:
		d.add(at, "address %q: %s does not change ports: leave the port out", s.Address, v.Method)
	case v.keepsPort() && vip.IsValid() && s.Address.Port() != v.port():
		d.add(at, "address %q: %s does not change ports: write %q or leave the port out", s.Address, v.Method, netip.AddrPortFrom(a, v.port()))
	case owner != "":
		d.add(at, "address %q: the VIP of %s: packets would come back to the director", s.Address, owner)
	case d.holder(a) >= 0:
		d.add(at, "address %q: the director's own address, on %s", s.Address, d.interfaceAt(d.holder(a)).text)
	// From here on by the way that packets take.
	case s.Iface < 0 && !d.vague:
		d.add(at, "address %q: on the network of no interface, and no route leads there", s.Address)
	case d.edge(a) != "":
		d.add(at, "address %q: %s", s.Address, d.edge(a))
	case behind && v.Method == "dr":
		d.add(at, "address %q: behind the gateway %s, but dr reaches only servers on a network of an interface", s.Address, s.Via)
	case behind && s.MAC != [6]byte{}:
		d.add(at, "mac %q: the server is behind the gateway %s, whose MAC is used", macText(s.MAC), s.Via)
	case v.Method == "tun" && s.Iface >= 0 && d.checkTunnel(v, s) != "":
		d.add(at, "%s", d.checkTunnel(v, s))
	}
}
