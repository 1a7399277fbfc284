package conf

import (
	"net/netip"
	"slices"
)

// FullNAT's own keys, through all stages: read, resolve, check. A connection to a server comes from a DIP: from one of those that the service names
// and that are on the server's interface, or of those on the network of the server's next hop.

// readFullNAT reads the keys that only a fullnat service has.
func (d *draft) readFullNAT(s *section, v *Service) {
	for _, text := range s.list("sources") {
		a, wrong := parseHost(text)
		if wrong == "" && slices.Contains(v.Sources, a) {
			wrong = "twice in the list"
		}
		if wrong != "" {
			s.add("sources: %q: %s", text, wrong)
			d.vague = true // it may have been the source for any server
			continue
		}
		v.Sources = append(v.Sources, a)
	}
	if toa := s.yes("toa"); toa != nil {
		v.TOA = *toa
	}
	switch {
	case v.Method != "fullnat" && len(v.Sources) > 0:
		s.add(`sources: only for method = "fullnat": %s does not change the client's address`, v.Method)
	case v.Method != "fullnat" && v.TOA:
		s.add(`toa: only for method = "fullnat": with %s servers see the client's address`, v.Method)
	case v.Protocol != "tcp" && v.TOA:
		s.add("toa: an option of TCP, but the service is %s", v.Protocol)
	}
}

// sources returns the DIPs that connections of v to s come from.
func (d *draft) sources(v *Service, s *Server) (pool []netip.Addr) {
	if v.Method != "fullnat" || s.Iface < 0 {
		return nil
	}
	var near []netip.Addr // on the network of the next hop
	for _, p := range d.c.Interfaces[s.Iface].Addresses {
		a := p.Addr()
		if a.Is4() != s.Address.Addr().Is4() || len(v.Sources) > 0 && !slices.Contains(v.Sources, a) {
			continue
		}
		if len(v.Sources) == 0 && a.IsLinkLocalUnicast() && !s.Address.Addr().IsLinkLocalUnicast() {
			continue // no answer to it would come through a router
		}
		pool = append(pool, a)
		if p.Contains(s.Via) {
			near = append(near, a)
		}
	}
	if len(v.Sources) == 0 && len(near) > 0 {
		return near
	}
	return pool
}

// checkFullNAT: every source that is named is a DIP on the way to some server, and every server has one.
func (d *draft) checkFullNAT() {
	for i := range d.c.Services {
		v, at := &d.c.Services[i], d.serviceAt(i)
		if v.Method != "fullnat" || d.vague {
			continue
		}
		used := map[netip.Addr]bool{}
		for j := range v.Servers {
			s := &v.Servers[j]
			for _, a := range s.Sources {
				used[a] = true
			}
			if s.Iface >= 0 && len(s.Sources) == 0 && len(v.Listen) > 0 {
				d.add(at.part("server", j), "address %q: no source for connections to it: %s has no address of its family%s", s.Address,
					d.interfaceAt(s.Iface).text, map[bool]string{true: " that is in sources", false: ": give it one"}[len(v.Sources) > 0])
			}
		}
		for _, a := range v.Sources {
			switch {
			case d.holder(a) < 0:
				d.add(at, "sources: %q: not an address of an interface", a)
			case !used[a]:
				d.add(at, "sources: %q: an address of %s, from which no server of its family is reached", a, d.interfaceAt(d.holder(a)).text)
			}
		}
	}
}
