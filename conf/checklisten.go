package conf

import (
	"cmp"
	"net/netip"
	"slices"
)

// Which packets are for which service: every port of a VIP is one service's, and every VIP one interface's.

// listener is a listen and whose it is.
type listener struct {
	Listen
	protocol string
	place    string
}

// overlaps reports whether it is not clear which of two listens a packet is for. It is where one is a port, one a range that holds it, one every port: the
// narrower wins.
func (l *listener) overlaps(o *listener) bool {
	if l.protocol != o.protocol || l.Addr != o.Addr || l.Single() != o.Single() || l.Every() != o.Every() {
		return false
	}
	return l.Low <= o.High && o.Low <= l.High
}

// checkListens judges each listen by itself and against those before it.
func (d *draft) checkListens() {
	single := firsts[listener]{} // there may be thousands of either kind
	wide := map[wideKey][]listener{}
	for i := range d.c.Services {
		v, at := &d.c.Services[i], d.serviceAt(i)
		for _, l := range v.Listen {
			d.checkListen(at, v, l)
			l.Interface = 0
			if l.Single() {
				if first := single.taken(listener{Listen: l, protocol: v.Protocol}, at.text); first != "" {
					d.add(at, "listen %q: %s is also the listen of %s", l, v.Protocol, first)
				}
				continue
			}
			k := wideKey{l.Addr, v.Protocol, l.Every()}
			if first := enter(wide, k, listener{l, v.Protocol, at.text}); first != nil {
				d.add(at, "listen %q: has %s ports of %q of %s", l, v.Protocol, first.Listen, first.place)
			}
		}
	}
}

// wideKey is what listens of more than one port have in common if it may not be clear which of them a packet is for.
type wideKey struct {
	addr     netip.Addr
	protocol string
	every    bool
}

// enter adds l to those of k, which are sorted and have no port in common; if it has one with another, that is returned instead.
func enter(wide map[wideKey][]listener, k wideKey, l listener) *listener {
	all := wide[k]
	at, _ := slices.BinarySearchFunc(all, l.Low, func(o listener, low uint16) int { return cmp.Compare(o.Low, low) })
	for _, near := range []int{at - 1, at} {
		if near >= 0 && near < len(all) && l.overlaps(&all[near]) {
			return &all[near]
		}
	}
	wide[k] = slices.Insert(all, at, l)
	return nil
}

// checkListen judges one listen by itself.
func (d *draft) checkListen(at place, v *Service, l Listen) {
	if wrong := d.edge(l.Addr); wrong != "" {
		d.add(at, "listen %q: %s", l, wrong)
	}
	if first := v.Listen[0]; l.Addr.Is4() != first.Addr.Is4() {
		d.add(at, "listen %q: %s, but %q is %s: make it a service of its own", l, family(l.Addr), first, family(first.Addr))
	}
	if owner := d.holder(l.Addr); owner >= 0 && !l.Single() {
		d.add(at, "listen %q: the director's own address, on %s: so many ports of it would take what is for the director itself: take another VIP",
			l, d.interfaceAt(owner).text)
	}
}

// checkOwners: exactly one interface answers for a VIP.
func (d *draft) checkOwners() {
	owners := map[netip.Addr]int{} // the first service of each VIP that has an owner
	for i := range d.c.Services {
		// A name that is wrong hides what the prefix would have said, so only the name is told.
		if name := d.owners[i]; name != "" && d.named(name) < 0 {
			d.add(d.serviceAt(i), "interface %q: there is none of that name%s", name, didYouMean(name, d.interfaceNames()))
			continue
		}
		told := map[netip.Addr]bool{}
		for _, l := range d.c.Services[i].Listen {
			if !told[l.Addr] {
				told[l.Addr] = true
				d.checkOwner(i, l, owners)
			}
		}
	}
}

// checkOwner judges who answers for the VIP of a listen.
func (d *draft) checkOwner(service int, l Listen, owners map[netip.Addr]int) {
	at := d.serviceAt(service)
	natural, network := d.onLink(l.Addr)
	switch {
	case l.Interface < 0 && !d.vague:
		d.add(at, "listen %q: on the network of no interface: add interface = %q, the one to answer for it", l, d.c.Interfaces[0].Name)
	case l.Interface >= 0 && natural >= 0 && !d.holds(l.Interface, l.Addr):
		d.add(at, "interface %q: %s is on the network %s of %s", d.owners[service], l.Addr, network.Masked(), d.interfaceAt(natural).text)
	}
	if l.Interface < 0 {
		return
	}
	first, ok := owners[l.Addr]
	if !ok {
		owners[l.Addr] = service
		return
	}
	if other := d.ownerIn(first, l.Addr); other != l.Interface {
		d.add(at, "listen %q: its VIP is on %s, but on %s for %s", l, d.interfaceAt(l.Interface).text, d.interfaceAt(other).text, d.serviceAt(first).text)
	}
}

// ownerIn returns the owner of a VIP according to a service that has it.
func (d *draft) ownerIn(service int, vip netip.Addr) int {
	for _, l := range d.c.Services[service].Listen {
		if l.Addr == vip {
			return l.Interface
		}
	}
	return -1
}
