package conf

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The functions of this file turn one text into one value. What is wrong with the text comes back as words that follow the key and the
// quoted text in a message; no words, no mistake.

// parsePrefix reads an address with its prefix length, host bits kept.
func parsePrefix(text string) (netip.Prefix, string) {
	if a, err := netip.ParseAddr(text); err == nil {
		bits := map[bool]string{true: "/24", false: "/64"}[a.Is4()]
		return netip.Prefix{}, `no prefix length: write "` + text + bits + `" or whatever its network has`
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, `not an address with prefix length, like "10.77.1.1/24" or "2001:db8:1::1/64"`
	case p.Addr().Is4In6():
		return netip.Prefix{}, "an IPv4 address in IPv6: write " + p.Addr().Unmap().String()
	}
	return p, ""
}

// parseDIP reads an address of the director with the prefix of its network.
func parseDIP(text string) (netip.Prefix, string) {
	p, wrong := parsePrefix(text)
	if wrong != "" {
		return p, wrong
	}
	if wrong = unfit(p.Addr()); wrong == "" {
		wrong = edge(p, p.Addr())
	}
	if wrong == "" && p.Bits() == 0 {
		wrong = "a prefix length of 0 would put every address on this link"
	}
	if wrong != "" {
		return netip.Prefix{}, wrong
	}
	return p, ""
}

// parseDestination reads the destination of a route.
func parseDestination(text string) (netip.Prefix, string) {
	if text == "default" {
		return netip.Prefix{}, `write "0.0.0.0/0" or "::/0"`
	}
	p, wrong := parsePrefix(text)
	switch {
	case wrong != "":
		return p, wrong
	case p != p.Masked():
		return netip.Prefix{}, "bits are set behind the prefix: write " + p.Masked().String()
	case p.Addr().IsMulticast():
		return netip.Prefix{}, "a multicast network"
	}
	return p, ""
}

// parseHost reads the address of one host.
func parseHost(text string) (netip.Addr, string) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, "not an IP address"
	}
	if wrong := unfit(a); wrong != "" {
		return netip.Addr{}, wrong
	}
	return a, ""
}

// unfit says why a can be the address of no host on a network; empty when it can.
func unfit(a netip.Addr) string {
	switch {
	case a.Zone() != "":
		return "an address with a zone"
	case a.Is4In6():
		return "an IPv4 address in IPv6: write " + a.Unmap().String()
	case a.IsUnspecified():
		return "the unspecified address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsMulticast():
		return "a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	case a.Is4() && a.As4()[0] == 0:
		return "an address in 0.0.0.0/8, which is nobody's"
	}
	return ""
}

// edge says why a cannot be a host's within the network p: its first address (IPv6: the routers' anycast address, RFC 4291 section 2.6.1)
// and the last of IPv4. Networks of one or two addresses have no edges (RFC 3021, RFC 6164).
func edge(p netip.Prefix, a netip.Addr) string {
	if p.Bits() >= a.BitLen()-1 {
		return ""
	}
	switch {
	case a == p.Masked().Addr():
		return "the address of the network " + p.Masked().String() + " itself, not of a host"
	case a.Is4() && a == lastOf(p):
		return "the broadcast address of " + p.Masked().String()
	}
	return ""
}

// lastOf returns the last address of an IPv4 network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// parseEndpoint reads "address:port" or, with port 0 as the result, an address alone.
func parseEndpoint(text string) (netip.AddrPort, string) {
	host, port, hasPort := splitEndpoint(text)
	a, wrong := parseHost(host)
	if wrong != "" || !hasPort {
		return netip.AddrPortFrom(a, 0), wrong
	}
	n, wrong := parsePort(port)
	return netip.AddrPortFrom(a, n), wrong
}

// parseListen reads "address:port", with a range of ports, or with port 0 for every one.
func parseListen(text string) (l Listen, wrong string) {
	host, ports, hasPort := splitEndpoint(text)
	a, wrong := parseHost(host)
	switch {
	case wrong != "":
		return l, wrong
	case !hasPort:
		return l, "no port: write " + strconv.Quote(netip.AddrPortFrom(a, 80).String())
	case ports == "0":
		return Listen{Addr: a, High: 65535, Interface: -1}, ""
	}
	l = Listen{Addr: a, Interface: -1}
	low, high, isRange := strings.Cut(ports, "-")
	if !isRange {
		high = low
	}
	if l.Low, wrong = parsePort(low); wrong != "" {
		return Listen{}, wrong
	}
	if l.High, wrong = parsePort(high); wrong != "" {
		return Listen{}, wrong
	}
	if isRange && l.Low >= l.High {
		return Listen{}, "ports " + strconv.Quote(ports) + ": the first must be lower than the last"
	}
	return l, ""
}

// splitEndpoint cuts the port off: behind brackets, or behind the only colon. More colons without brackets are an IPv6 address alone.
func splitEndpoint(text string) (host, port string, hasPort bool) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		host, rest, closed := strings.Cut(inner, "]")
		if closed && rest == "" && strings.Contains(host, ":") {
			return host, "", false
		}
		if port, ok := strings.CutPrefix(rest, ":"); ok && strings.Contains(host, ":") {
			return host, port, true
		}
		return text, "", false
	}
	if strings.Count(text, ":") == 1 {
		return strings.Cut(text, ":")
	}
	return text, "", false
}

// parsePort reads one port, 1 to 65535.
func parsePort(text string) (uint16, string) {
	// Port 0 and ranges are right in a listen: they get an answer of their own, not "wrong".
	n, err := strconv.ParseUint(text, 10, 16)
	low, high, isRange := strings.Cut(text, "-")
	switch {
	case err == nil && n == 0:
		return 0, "port 0: 1 to 65535, or leave the port out"
	case err == nil:
		return uint16(n), ""
	case isRange && isNumber(low) && isNumber(high):
		return 0, "a range of ports is for listen: name one, or leave the port out for the one that the client asks for"
	}
	return 0, "port " + strconv.Quote(text) + ": not a number from 1 to 65535"
}

// isNumber reports whether text is digits.
func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// parseMAC reads the hardware address of one Ethernet station.
func parseMAC(text string) (mac [6]byte, wrong string) {
	b, err := net.ParseMAC(text) // takes EUI-64 and InfiniBand too
	switch {
	case err != nil || len(b) != len(mac):
		return mac, `not a MAC address, like "02:00:00:00:aa:01"`
	case b[0]&1 != 0:
		return mac, "a multicast MAC: the first byte must be even"
	case [6]byte(b) == mac:
		return mac, "the zero MAC: leave the key out for the default"
	}
	return [6]byte(b), ""
}

// deviceName says why text cannot be the kernel's name of an interface (dev_valid_name, and TUNSETIFF's use of %).
func deviceName(text string) string {
	const maxName = 15 // bytes: IFNAMSIZ - 1
	switch {
	case len(text) > maxName:
		return strconv.Itoa(len(text)) + " bytes long: the kernel takes at most 15"
	case text == "." || text == "..", strings.ContainsAny(text, "/:% \t\n\v\f\r\x00"):
		return `not a name of an interface: no blank, "/", ":" or "%"`
	}
	return ""
}
