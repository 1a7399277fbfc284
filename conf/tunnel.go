package conf

import (
	"fmt"
	"net/netip"
	"slices"
)

// Tunnels are a matter of the server, as in ipvsadm: servers of one service may be moved from one kind to another one by one. What is the same for all
// is said once, in the service, and is the default of its servers.

var tunnels = words{"ipip", "gue", "gre"}

const (
	guePort = 6080 // IANA's for GUE
	minMSS  = 88   // bytes; Linux does not go below
	maxMSS  = 65495
)

// tunnelKeys is what one section says of tunnels; what it leaves out is zero.
type tunnelKeys struct {
	kind string
	port int
	csum *bool
}

// tunnelNames are the keys that both sections have, tunnelServiceNames those of the service alone.
var (
	tunnelNames        = []string{"tunnel", "tunnel_port", "tunnel_csum"}
	tunnelServiceNames = []string{"tunnel_ttl", "pmtu_disc", "mss_clamp"}
)

// readTunnelKeys reads them from a service or a server.
func readTunnelKeys(s *section) (k tunnelKeys) {
	if kind := s.word("tunnel", tunnels); s.has("tunnel") {
		k.kind = kind
	}
	k.port = s.whole("tunnel_port", span{0, 1, 65535})
	k.csum = s.yes("tunnel_csum")
	return k
}

// readTunnelService reads what is the same for all servers of v.
func readTunnelService(s *section, v *Service) tunnelKeys {
	k := readTunnelKeys(s)
	v.TunnelTTL = s.whole("tunnel_ttl", span{64, 0, 255})
	v.PMTUDisc = true
	if disc := s.yes("pmtu_disc"); disc != nil {
		v.PMTUDisc = *disc
	}
	v.MSSClamp = s.whole("mss_clamp", span{0, 0, maxMSS})
	if v.MSSClamp != 0 && v.MSSClamp < minMSS {
		s.add("mss_clamp %d: out of range: %d to %d, or 0 for none", v.MSSClamp, minMSS, maxMSS)
		v.MSSClamp = 0
	}
	onlyWithTun(s, v.Method, append(tunnelNames, tunnelServiceNames...))
	return k
}

// onlyWithTun refuses the keys of tunnels where there are none.
func onlyWithTun(s *section, method string, keys []string) {
	for _, key := range keys {
		if method != "tun" && s.has(key) {
			s.add(`%s: only with method = "tun"`, key)
		}
	}
}

// readTunnel reads the tunnel of one server of v, whose own keys are base.
func readTunnel(s *section, v *Service, base tunnelKeys, address netip.AddrPort) (t Tunnel) {
	own := readTunnelKeys(s)
	onlyWithTun(s, v.Method, tunnelNames)
	if v.Method != "tun" {
		return t
	}
	t.Kind = first(own.kind, base.kind, tunnels[0])
	if t.Kind == "gue" {
		t.Port = first(own.port, base.port, guePort)
		t.Csum = address.Addr().Is6() // RFC 8200 section 8.1: without one only by agreement with the other end
	} else if own.port != 0 {
		s.add("tunnel_port %d: only with gue: %s has no ports", own.port, t.Kind)
	}
	if t.Kind == "ipip" {
		if own.csum != nil {
			s.add("tunnel_csum: only with gue and gre: ipip has no checksum")
		}
		return t
	}
	if said := first(own.csum, base.csum); said != nil {
		t.Csum = *said
	}
	return t
}

// first returns the first of its arguments that is not zero, else the zero value.
func first[T comparable](of ...T) (none T) {
	for _, v := range of {
		if v != none {
			return v
		}
	}
	return none
}

// checkTunnelKeys refuses what the service says of tunnels but none of its servers has a use for.
func checkTunnelKeys(s *section, v *Service, base tunnelKeys) {
	ports, sums := false, false
	for i := range v.Servers {
		kind := v.Servers[i].Tunnel.Kind
		ports, sums = ports || kind == "gue", sums || kind != "ipip"
	}
	if v.Method != "tun" || len(v.Servers) == 0 {
		return
	}
	if base.port != 0 && !ports {
		s.add("tunnel_port %d: only with gue, which no server has", base.port)
	}
	if base.csum != nil && !sums {
		s.add("tunnel_csum: only with gue and gre, which no server has")
	}
}

// tunnelSource returns the source of the outer header to a server: our address on the network of its next hop, else the first of its family that a router
// would send errors back to. Invalid when there is none.
func (d *draft) tunnelSource(s *Server) (source netip.Addr) {
	a := s.Address.Addr()
	if s.Iface < 0 {
		return source
	}
	for _, p := range d.c.Interfaces[s.Iface].Addresses {
		usable := p.Addr().Is4() == a.Is4() && (s.Via == a || !p.Addr().IsLinkLocalUnicast())
		if usable && p.Contains(s.Via) {
			return p.Addr()
		}
		if usable && !source.IsValid() && !p.Addr().IsLinkLocalUnicast() {
			source = p.Addr()
		}
	}
	return source
}

// checkTunnel says what is wrong with the way into a server's tunnel; empty: nothing.
func (d *draft) checkTunnel(v *Service, s *Server) string {
	switch source := s.Tunnel.Source; {
	case !source.IsValid():
		return fmt.Sprintf("address %q: behind the gateway %s, but %s has no %s address other than link-local ones for the tunnel to start from",
			s.Address, s.Via, d.interfaceAt(s.Iface).text, family(s.Address.Addr()))
	case slices.ContainsFunc(v.Listen, func(l Listen) bool { return l.Addr == source }):
		return fmt.Sprintf("address %q: the tunnel would start from the VIP, which the server holds itself: take another VIP, or give %s another address first",
			s.Address, d.interfaceAt(s.Iface).text)
	}
	return ""
}
