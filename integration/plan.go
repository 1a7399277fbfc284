package integration

import (
	"fmt"
	"net/netip"
	"strings"

	"tapdirector/stack"
)

// The LANs of a world; one with one arm has ext only. The director's interfaces are named as the LAN they are on.
const (
	Ext = "ext"
	Int = "int"
)

// Ports of the services and of the servers.
const (
	ServicePort   = 80
	NATServerPort = 8000
)

// Plan is a spec worked out: which host has which address where. Worlds build what it says.
type Plan struct {
	Spec       Spec // defaults filled in
	VIP        netip.AddrPort
	LANs       []string
	Client     Host
	Servers    []Host
	Interfaces []Interface // of the director
}

// Host is a client or server.
type Host struct {
	Name    string
	Legs    []Leg
	Gateway netip.Addr     // next hop of the default route; invalid: none
	Listen  netip.AddrPort // where its server listens, TCP and UDP; invalid: nowhere
	Hidden  netip.Addr     // an address on its loopback that it does not answer ARP or ND for; invalid: none
}

// Leg is a host's interface on a LAN.
type Leg struct {
	LAN     string
	Address netip.Prefix
}

// Addr is the address of the host's first leg: a server's RIP.
func (h Host) Addr() netip.Addr { return h.Legs[0].Address.Addr() }

// Interface is one of the director's.
type Interface struct {
	Name      string // also that of its LAN
	MAC       stack.MAC
	Addresses []netip.Prefix
	VLAN      uint16 // its tag, on the TAP that it shares with the others; 0: none
}

// NewPlan works out a spec.
func NewPlan(s Spec) (*Plan, error) {
	s, err := s.complete()
	if err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	p := &Plan{Spec: s, LANs: []string{Ext, Int}[:s.Arms]}
	p.VIP = netip.AddrPortFrom(p.addr(Ext, 100), ServicePort)
	p.Client = Host{Name: "client", Legs: []Leg{{Ext, p.prefix(Ext, 2)}}, Gateway: p.addr(Ext, 1)}
	for i := range s.Servers {
		p.Servers = append(p.Servers, p.server(i))
	}
	p.Interfaces = p.interfaces()
	for i := range p.Interfaces {
		if s.Trunk {
			p.Interfaces[i].VLAN = uint16(100 * (i + 1))
		}
	}
	return p, nil
}

// server plans server i, counted from 0.
func (p *Plan) server(i int) Host {
	n := 11 + i
	h := Host{Name: fmt.Sprintf("s%d", i+1)}
	if p.Spec.Method == "nat" {
		h.Legs = []Leg{{p.LANs[len(p.LANs)-1], p.prefix(Int, n)}}
		h.Gateway = p.addr(Int, 1)
		h.Listen = netip.AddrPortFrom(h.Addr(), NATServerPort)
		return h
	}
	if p.Spec.Method == "fullnat" {
		last := p.LANs[len(p.LANs)-1]
		h.Legs = []Leg{{last, prefix(p.Spec.ServerFamily, last, n)}}
		h.Listen = netip.AddrPortFrom(h.Addr(), NATServerPort)
		return h
	}
	h.Legs = []Leg{{Ext, p.prefix(Ext, n)}}
	if p.Spec.Arms == 2 {
		h.Legs = []Leg{{Int, prefix(p.Spec.ServerFamily, Int, n)}, {Ext, p.prefix(Ext, n)}}
	}
	h.Hidden = p.VIP.Addr()
	h.Listen = p.VIP
	return h
}

// interfaces plans the director's. Its MACs are fixed, so that a capture reads the same every time.
func (p *Plan) interfaces() []Interface {
	ext := Interface{Name: Ext, MAC: stack.MAC{0x02, 0, 0, 0, 0xaa, 1}, Addresses: []netip.Prefix{p.prefix(Ext, 1)}}
	inner := prefix(p.Spec.ServerFamily, Int, 1)
	switch {
	case p.Spec.Arms == 2:
		return []Interface{ext, {Name: Int, MAC: stack.MAC{0x02, 0, 0, 0, 0xaa, 2}, Addresses: []netip.Prefix{inner}}}
	case p.Spec.Method == "nat":
		ext.Addresses = append(ext.Addresses, inner)
	case p.Spec.across():
		ext.Addresses = append(ext.Addresses, prefix(p.Spec.ServerFamily, Ext, 1))
	}
	return []Interface{ext}
}

// Peer returns the address that servers see connections to the VIP come from, given the client's.
func (p *Plan) Peer(client netip.Addr) netip.Addr {
	if p.Spec.Method != "fullnat" {
		return client
	}
	addresses := p.Interfaces[len(p.Interfaces)-1].Addresses
	return addresses[len(addresses)-1].Addr()
}

// Translates reports whether servers' answers pass the director.
func (p *Plan) Translates() bool { return p.Spec.Method == "nat" || p.Spec.Method == "fullnat" }

// addr returns host n's address in the subnet of a LAN; n is written as it is, so 11 is .11 and also ::11.
func (p *Plan) addr(lan string, n int) netip.Addr { return p.prefix(lan, n).Addr() }

// At returns the address of host n in the subnet of a LAN, and its prefix length; n is written as it is, so 11 is .11 and also ::11.
func (p *Plan) At(lan string, n int) netip.Prefix { return p.prefix(lan, n) }

func (p *Plan) prefix(lan string, n int) netip.Prefix { return prefix(p.Spec.Family, lan, n) }

func prefix(family int, lan string, n int) netip.Prefix {
	subnet := 1
	if lan == Int {
		subnet = 2
	}
	if family == 6 {
		return netip.MustParsePrefix(fmt.Sprintf("2001:db8:77:%d::%d/64", subnet, n))
	}
	return netip.MustParsePrefix(fmt.Sprintf("10.77.%d.%d/24", subnet, n))
}

// MTU returns the bytes of L3 that a LAN carries.
func (p *Plan) MTU(lan string) int {
	if lan == Int {
		return p.Spec.IntMTU
	}
	return p.Spec.MTU
}

// Offload reports whether hosts and devices on a LAN hand over partial checksums and superpackets.
func (p *Plan) Offload(lan string) bool { return p.Spec.Offload && !(p.Spec.Mixed && lan == Int) }

// Config renders the lb.toml of the plan: interfaces, and the services web (TCP) and datagrams (UDP) on the VIP. The taps are the kernel's
// names of the director's devices, by interface (of a trunk: ext's); one not named is "tap-" and its interface.
func (p *Plan) Config(taps map[string]string) string {
	var b strings.Builder
	for _, i := range p.Interfaces {
		name := i.Name
		if i.VLAN != 0 {
			name = Ext
		}
		p.renderInterface(&b, i, orDefault(taps[name], "tap-"+name))
	}
	p.renderService(&b, "web", "tcp")
	p.renderService(&b, "datagrams", "udp")
	b.WriteString(p.Spec.Extra)
	return b.String()
}

func (p *Plan) renderInterface(b *strings.Builder, i Interface, tap string) {
	fmt.Fprintf(b, "[[interface]]\nname      = %q\ntap       = %q\nmac       = %q\n", i.Name, tap, macString(i.MAC))
	fmt.Fprintf(b, "addresses = [%s]\nqueues    = %d\n", quoted(i.Addresses), p.Spec.Queues)
	if i.VLAN != 0 {
		fmt.Fprintf(b, "vlan      = %d\n", i.VLAN)
	}
	if p.Spec.Masquerade && i.Name == Ext {
		b.WriteString("masquerade = true\n")
	}
	fmt.Fprintln(b, p.Spec.InterfaceKeys[i.Name])
}

func (p *Plan) renderService(b *strings.Builder, name, protocol string) {
	fmt.Fprintf(b, "[[service]]\nname      = %q\nlisten    = %q\nprotocol  = %q\nmethod    = %q\nscheduler = %q\n%s\n",
		name, p.VIP, protocol, p.Spec.Method, p.Spec.Scheduler, p.Spec.ServiceKeys)
	if p.Spec.Method == "tun" {
		fmt.Fprintf(b, "tunnel    = %q\n\n", p.Spec.Tunnel)
	}
	if protocol == "tcp" && p.Spec.WebKeys != "" {
		fmt.Fprintln(b, p.Spec.WebKeys)
	}
	for i, s := range p.Servers {
		at := netip.AddrPortFrom(s.Addr(), s.Listen.Port())
		fmt.Fprintf(b, "  [[service.server]]\n  address = %q\n  weight  = %d\n%s\n", at, p.Spec.weight(i), p.Spec.ServerKeys)
	}
}

func macString(m stack.MAC) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// quoted renders prefixes as the inside of a TOML array of strings.
func quoted(prefixes []netip.Prefix) string {
	var s []string
	for _, p := range prefixes {
		s = append(s, fmt.Sprintf("%q", p))
	}
	return strings.Join(s, ", ")
}
