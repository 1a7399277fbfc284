package conf

import (
	"fmt"
	"net/netip"
	"slices"
)

// check is stage 4: what two parts of the file say of each other.
func (d *draft) check() {
	d.checkInterfaces()
	d.checkRoutes()
	d.checkServices()
}

// firsts remembers who was the first to use a value, for mistakes that name both users.
type firsts[K comparable] map[K]string

// taken returns who used k before; the first to ask is noted and gets an empty answer. Zero values are nobody's.
func (f firsts[K]) taken(k K, user string) string {
	var zero K
	if k == zero {
		return ""
	}
	if first, ok := f[k]; ok {
		return first
	}
	f[k] = user
	return ""
}

// interfaceAt is the place of an interface.
func (d *draft) interfaceAt(i int) place { return itemPlace("interface", d.c.Interfaces[i].Name, i) }

// checkInterfaces looks at each interface by itself and against the others.
func (d *draft) checkInterfaces() {
	if n := len(d.c.Interfaces); n > maxInterfaces {
		d.add(place{rank: rank{rankInterface}}, "%d interfaces: at most %d", n, maxInterfaces)
	}
	d.checkTwins()
	d.checkTrunks()
	for i := range d.c.Interfaces {
		at, f := d.interfaceAt(i), &d.c.Interfaces[i]
		if f.Masquerade && len(f.Addresses) == 0 && !d.vague {
			d.add(at, "masquerade: needs an address of the interface to put in the place of the source")
		}
		if f.MTU != 0 && f.MTU < minMTU6 && d.carriesIPv6(i) {
			d.add(at, "mtu %d: at least %d where IPv6 is used", f.MTU, minMTU6)
		}
	}
}

// checkTwins looks for what two interfaces cannot both have.
func (d *draft) checkTwins() {
	names, devices, macs, addresses := firsts[string]{}, firsts[port]{}, firsts[[6]byte]{}, firsts[netip.Addr]{}
	taps := map[string]string{} // by name, to find a bridge that is a tap; it may be defined further down
	for i := range d.c.Interfaces {
		f, at := &d.c.Interfaces[i], d.interfaceAt(i)
		if first := names.taken(f.Name, itemPlace("interface", "", i).text); first != "" {
			d.add(itemPlace("interface", "", i), "name %q: also the name of %s", f.Name, first)
		}
		d.checkDevice(i, devices)
		if first := macs.taken(f.MAC, at.text); first != "" {
			d.add(at, "mac %q: also the mac of %s", macText(f.MAC), first)
		}
		for _, p := range f.Addresses {
			if first := addresses.taken(p.Addr(), at.text); first != "" {
				d.add(at, "addresses: %q: also an address of %s", p, first)
			}
		}
		if f.Tap != "" {
			taps[f.Tap] = at.text
		}
	}
	for i := range d.c.Interfaces {
		f := &d.c.Interfaces[i]
		if owner := taps[f.Bridge]; owner != "" && f.Bridge != f.Tap {
			d.add(d.interfaceAt(i), "bridge %q: is the tap of %s", f.Bridge, owner)
		}
	}
}

// carriesIPv6 reports whether an interface has an IPv6 address, VIP, server or gateway.
func (d *draft) carriesIPv6(iface int) bool {
	for _, p := range d.c.Interfaces[iface].Addresses {
		if p.Addr().Is6() {
			return true
		}
	}
	for i := range d.c.Services {
		v := &d.c.Services[i]
		if slices.ContainsFunc(v.Listen, func(l Listen) bool { return l.Interface == iface && l.Addr.Is6() }) {
			return true
		}
		// Servers and gateways are on a network of the interface, so one of its addresses is IPv6 as well.
	}
	return false
}

// checkRoutes: a gateway must be another host on a network of ours. What is behind it is not judged: it is the gateway's business.
func (d *draft) checkRoutes() {
	destinations := firsts[netip.Prefix]{}
	vips := d.vips()
	for i := range d.c.Routes {
		r, at := &d.c.Routes[i], itemPlace("route", "", i)
		if first := destinations.taken(r.To, at.text); first != "" {
			d.add(at, "to %q: also the destination of %s", r.To, first)
		}
		if !r.Via.IsValid() {
			continue
		}
		owner := d.holder(r.Via)
		switch {
		case owner >= 0:
			d.add(at, "via %q: the director's own address, on %s", r.Via, d.interfaceAt(owner).text)
		case vips[r.Via] != "":
			d.add(at, "via %q: the VIP of %s", r.Via, vips[r.Via])
		case r.Interface < 0 && !d.vague:
			d.add(at, "via %q: on the network of no interface", r.Via)
		case d.edge(r.Via) != "":
			d.add(at, "via %q: %s", r.Via, d.edge(r.Via))
		case d.masqueradesFromLinkLocal(r):
			d.add(at, "to %q: leaves by %s with masquerade, which has no IPv6 address but link-local ones", r.To, d.interfaceAt(r.Interface).text)
		}
	}
}

// masqueradesFromLinkLocal: an answer to a link-local source would not come back through a router. Other families need no look: the
// gateway is on a network of the interface, so the interface has an address of its family.
func (d *draft) masqueradesFromLinkLocal(r *Route) bool {
	if r.Interface < 0 || !d.c.Interfaces[r.Interface].Masquerade {
		return false
	}
	for _, p := range d.c.Interfaces[r.Interface].Addresses {
		if p.Addr().Is4() == r.Via.Is4() && (r.Via.Is4() || !p.Addr().IsLinkLocalUnicast()) {
			return false
		}
	}
	return true
}

// holder returns the interface that has a as its own address, -1 for none.
func (d *draft) holder(a netip.Addr) int {
	for i := range d.c.Interfaces {
		for _, p := range d.c.Interfaces[i].Addresses {
			if p.Addr() == a {
				return i
			}
		}
	}
	return -1
}

// edge says whether a is the first or last address of the network it is on, where no host can be.
func (d *draft) edge(a netip.Addr) string {
	if iface, network := d.onLink(a); iface >= 0 {
		return edge(network, a)
	}
	return ""
}

// vips returns every VIP with the first service that has it.
func (d *draft) vips() map[netip.Addr]string {
	vips := map[netip.Addr]string{}
	for i := range d.c.Services {
		for _, l := range d.c.Services[i].Listen {
			if _, ok := vips[l.Addr]; !ok {
				vips[l.Addr] = d.serviceAt(i).text
			}
		}
	}
	return vips
}

// macText writes a MAC as people do.
func macText(mac [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
}
