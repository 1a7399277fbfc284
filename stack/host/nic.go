package host

import (
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"tapdirector/stack"
)

// build makes the NICs, then their addresses, then the routes.
func (h *Host) build(o Options) error {
	all := map[stack.Addr]struct{}{}
	h.own.p.Store(&all)
	for i := range o.Links {
		if err := h.addLink(i, o.Links[i]); err != nil {
			return fmt.Errorf("link %q: %w", o.Links[i].Name, err)
		}
	}
	for _, l := range h.links {
		if err := h.addAddresses(l); err != nil {
			return fmt.Errorf("link %q: %w", l.Name, err)
		}
	}
	return h.SetRoutes(o.Routes)
}

// addLink checks a link and makes its NIC.
func (h *Host) addLink(i int, c Link) error {
	if c.Send == nil {
		return errors.New("no Send")
	}
	if c.MAC == (stack.MAC{}) || c.MAC[0]&1 != 0 {
		return fmt.Errorf("%x is not the MAC of a host", c.MAC)
	}
	if c.MTU <= 0 {
		c.MTU = defaultMTU
	}
	l := &link{Link: c, id: tcpip.NICID(i + 1)}
	l.ep = newEndpoint(&l.Link, &h.counters)
	for _, a := range l.enter(c.VIPs) {
		(*h.own.p.Load())[stack.AddrFrom(a)] = struct{}{}
	}
	h.links = append(h.links, l)
	if err := h.netstack.CreateNICWithOptions(l.id, l.ep, gstack.NICOptions{Name: c.Name}); err != nil {
		return errors.New(err.String())
	}
	return nil
}

// owned lists the link's VIPs and DIPs, each once, VIPs first.
func (l *Link) owned() []netip.Addr {
	var list []netip.Addr
	seen := make(map[netip.Addr]bool)
	add := func(a netip.Addr) {
		if a = a.Unmap(); a.IsValid() && !seen[a] {
			seen[a] = true
			list = append(list, a)
		}
	}
	for _, a := range l.VIPs {
		add(a)
	}
	for _, p := range l.Addresses {
		add(p.Addr())
	}
	return list
}

// addAddresses gives a NIC its DIPs, then everything else that is ours as single addresses.
func (h *Host) addAddresses(l *link) error {
	// A VIP may be a DIP as well, and a configuration may say things twice; netstack would refuse the second.
	has := make(map[stack.Addr]bool)
	add := func(a netip.Addr, bits int, peb gstack.PrimaryEndpointBehavior) error {
		a = a.Unmap()
		if has[stack.AddrFrom(a)] {
			return nil
		}
		has[stack.AddrFrom(a)] = true
		return h.addAddress(l.id, netip.PrefixFrom(a, bits), peb)
	}
	for _, p := range l.Addresses {
		if err := add(p.Addr(), p.Bits(), gstack.CanBePrimaryEndpoint); err != nil {
			return err
		}
	}
	ll := linkLocal(l.MAC)
	if l.own.has(stack.AddrFrom(ll)) {
		if err := add(ll, 64, gstack.CanBePrimaryEndpoint); err != nil {
			return err
		}
	}
	// Netstack answers only what is addressed to the NIC that a packet came in on. The other links' addresses make it the
	// weak host that people expect (RFC 1122 section 3.3.4.2); ARP for them is kept out by the filter.
	for a := range *h.own.p.Load() {
		if err := add(a.Netip(), a.Netip().BitLen(), gstack.NeverPrimaryEndpoint); err != nil {
			return err
		}
	}
	return nil
}

// addAddress gives a NIC one address; peb says whether it may be chosen as a source.
func (h *Host) addAddress(id tcpip.NICID, p netip.Prefix, peb gstack.PrimaryEndpointBehavior) error {
	pa := tcpip.ProtocolAddress{
		Protocol:          protocolOf(p.Addr()),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(p.Addr()), PrefixLen: p.Bits()},
	}
	if err := h.netstack.AddProtocolAddress(id, pa, gstack.AddressProperties{PEB: peb}); err != nil {
		return fmt.Errorf("address %s: %s", p, err)
	}
	return nil
}

// routeTable lists the connected prefixes, the configured routes, and at the end, for last hops, everything as on-link on
// every link. Netstack takes the longest prefix first and keeps this order among equals; an answer only looks at its own link's.
func (h *Host) routeTable(routes []Route) ([]tcpip.Route, error) {
	var table []tcpip.Route
	for _, l := range h.links {
		for _, p := range l.Addresses {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits())
			table = append(table, tcpip.Route{Destination: subnet(p), NIC: l.id})
		}
	}
	for _, r := range routes {
		if r.Link < 0 || r.Link >= len(h.links) || !r.To.IsValid() || r.To.Addr().Is4() != r.Via.Is4() {
			return nil, fmt.Errorf("route to %s via %s on link %d: no such route", r.To, r.Via, r.Link)
		}
		table = append(table, tcpip.Route{Destination: subnet(r.To), Gateway: address(r.Via), NIC: h.links[r.Link].id})
	}
	for _, l := range h.links {
		table = append(table,
			tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: l.id},
			tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: l.id})
	}
	return table, nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// address returns a as netstack has it.
func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// subnet returns p as netstack has it.
func subnet(p netip.Prefix) tcpip.Subnet {
	return tcpip.AddressWithPrefix{Address: address(p.Masked().Addr()), PrefixLen: p.Bits()}.Subnet()
}

// linkLocal returns the link-local address of a MAC.
func linkLocal(m stack.MAC) netip.Addr {
	return netip.AddrFrom16(header.LinkLocalAddr(tcpip.LinkAddress(m[:])).As16())
}
