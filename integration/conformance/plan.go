package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"tapdirector/stack"
)

// The LAN that both sides are put into. Scripts know its hosts by name; the same names stand for IPv4 and IPv6 addresses.

// link is one of the director's two networks.
type link int

const (
	ext      link = iota // of the clients, the VIPs and the gateway to the world
	in                   // of the servers
	numLinks = 2
)

func (l link) String() string { return [...]string{"ext", "int"}[l] }

// ourMAC is the director's, by link.
var ourMAC = [numLinks]stack.MAC{{2, 0, 0, 0, 0xaa, 1}, {2, 0, 0, 0, 0xaa, 2}}

// kind is a family of hosts: "server3" is the third of its kind.
type kind struct {
	name  string
	link  link
	mac   byte   // the fifth byte of the MAC; the sixth is the number
	four  string // address of number 0, counted up
	six   string
	local bool // an address of the director itself
}

// kinds of hosts. far is any host of the world: its frames come and go by gw.
var kinds = []kind{
	{name: "client", link: ext, mac: 0xcc, four: "10.77.1.1", six: "2001:db8:77:1::1:1"},
	{name: "far", link: ext, mac: 0xfa, four: "198.51.100.0", six: "2001:db8:99::"},
	{name: "gw", link: ext, mac: 0xfe, four: "10.77.1.253", six: "2001:db8:77:1::fd"},
	{name: "probe", link: ext, mac: 0xee, four: "10.77.1.249", six: "2001:db8:77:1::f9"},
	{name: "server", link: in, mac: 0x55, four: "10.77.2.10", six: "2001:db8:77:2::1:10"},
	{name: "router", link: in, mac: 0x5e, four: "10.77.2.253", six: "2001:db8:77:2::fd"},
	{name: "inprobe", link: in, mac: 0xef, four: "10.77.2.249", six: "2001:db8:77:2::f9"},
	{name: "vip", link: ext, four: "10.77.1.99", six: "2001:db8:77:1::99", local: true},
	{name: "dip", link: ext, four: "10.77.1.0", six: "2001:db8:77:1::", local: true},
	{name: "indip", link: in, four: "10.77.2.0", six: "2001:db8:77:2::", local: true},
}

// host is one host of the LAN.
type host struct {
	name string
	link link
	mac  stack.MAC
	addr netip.Addr
}

// local reports whether h is the director itself.
func (h *host) local() bool { return h.mac == ourMAC[h.link] }

// hostNamed finds "client" (the first) or "client2" in a family, 4 or 6.
func hostNamed(name string, family int) (host, error) {
	base := strings.TrimRight(name, "0123456789")
	n := 1
	if base != name {
		n, _ = strconv.Atoi(name[len(base):])
	}
	for _, k := range kinds {
		if k.name != base || n < 1 || n > 100 {
			continue
		}
		h := host{name: name, link: k.link, mac: stack.MAC{2, 0, 0, 0, k.mac, byte(n)}, addr: k.address(n, family)}
		if k.local {
			h.mac = ourMAC[k.link]
		}
		if k.name == "far" {
			h.mac = gateway.mac
		}
		return h, nil
	}
	return host{}, fmt.Errorf("no host %q: there are client, far, gw, server, router, vip, dip and indip, each with a number or none for the first", name)
}

// gateway is the way to the world, for its MAC.
var gateway = host{name: "gw", link: ext, mac: stack.MAC{2, 0, 0, 0, 0xfe, 1}}

// address returns the n-th address of a kind.
func (k *kind) address(n, family int) netip.Addr {
	if family == 4 {
		a := netip.MustParseAddr(k.four).As4()
		a[3] += byte(n)
		return netip.AddrFrom4(a)
	}
	a := netip.MustParseAddr(k.six).As16()
	a[15] += byte(n)
	return netip.AddrFrom16(a)
}

// hostOf finds the host that has an address.
func hostOf(a netip.Addr) (host, bool) {
	family := 4
	if a.Is6() {
		family = 6
	}
	for _, k := range kinds {
		zero := k.address(0, family).AsSlice()
		b := a.AsSlice()
		last := len(b) - 1
		if n := int(b[last]) - int(zero[last]); n >= 1 && n <= 100 && string(b[:last]) == string(zero[:last]) {
			if h, err := hostNamed(k.name+number(n), family); err == nil && k.holds(n) {
				return h, true
			}
		}
	}
	return host{}, false
}

// holds keeps the kinds apart whose addresses lie close together.
func (k *kind) holds(n int) bool {
	switch k.name {
	case "gw", "router", "probe", "inprobe", "dip", "indip":
		return n == 1
	case "vip":
		return n <= 9
	case "client", "server":
		return n <= 80
	}
	return true
}

func number(n int) string {
	if n == 1 {
		return ""
	}
	return strconv.Itoa(n)
}

// nameOf writes an address as its host's name, or as it is.
func nameOf(a netip.Addr) string {
	if h, ok := hostOf(a); ok {
		return h.name
	}
	return a.String()
}

// nameOfMAC writes a MAC as its host's name, or as it is.
func nameOfMAC(m stack.MAC) string {
	for l, mac := range ourMAC {
		if mac == m {
			return "director/" + link(l).String()
		}
	}
	for _, k := range kinds {
		if !k.local && (stack.MAC{2, 0, 0, 0, k.mac}) == (stack.MAC{m[0], m[1], m[2], m[3], m[4]}) {
			return k.name + number(int(m[5]))
		}
	}
	return fmt.Sprintf("%x", m)
}

// endpoint resolves "server1:8000", "10.0.0.1:80", "client" (port 0).
func endpoint(text string, family int) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 0), nil
	}
	name, port, _ := strings.Cut(text, ":")
	h, err := hostNamed(name, family)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n := uint64(0)
	if port != "" {
		if n, err = strconv.ParseUint(port, 10, 16); err != nil {
			return netip.AddrPort{}, fmt.Errorf("port of %q: %w", text, err)
		}
	}
	return netip.AddrPortFrom(h.addr, uint16(n)), nil
}
