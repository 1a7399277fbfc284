package memlan

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"tapdirector/integration"
	"tapdirector/stack"
)

// Host is a client or server: a netstack with a link for each leg of its plan.
type Host struct {
	Name  string
	stack *gstack.Stack
	links []*link
}

// The tuning without which bulk transfers between two netstacks in one process stall now and then: buffers well above what is in flight,
// and no RACK, which takes round trips of some microseconds for reordering.
const (
	tcpBuffer    = 4 << 20
	tcpBufferMax = 8 << 20
)

// nicLoopback is the number of the NIC that carries the hidden address; legs count from 1.
const nicLoopback = 100

// newHost builds the stack of a host and plugs its links in.
func newHost(w *World, plan integration.Host, n byte) (*Host, error) {
	h := &Host{Name: plan.Name}
	h.stack = gstack.New(gstack.Options{
		NetworkProtocols:   []gstack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []gstack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol},
		HandleLocal:        true,
		NUDConfigs:         gstack.NUDConfigurations{RetransmitTimer: 200 * time.Millisecond, MaxMulticastProbes: 20},
	})
	tune(h.stack)
	var routes []tcpip.Route
	for i, leg := range plan.Legs {
		nic := tcpip.NICID(i + 1)
		if err := h.addLeg(w, leg, nic, stack.MAC{0x02, 0, 0, n, byte(i), 0x10}); err != nil {
			return h, err
		}
		routes = append(routes, tcpip.Route{Destination: subnet(leg.Address), NIC: nic})
	}
	if plan.Gateway.IsValid() {
		routes = append(routes, tcpip.Route{Destination: everything(plan.Gateway), Gateway: address(plan.Gateway), NIC: 1})
	}
	h.stack.SetRouteTable(routes)
	if w.Plan.Spec.Method == "tun" && plan.Hidden.IsValid() {
		h.links[0].tunnelEnd = plan.Addr()
	}
	return h, h.hide(plan.Hidden)
}

// tune sets the options of TCP; they cannot fail.
func tune(s *gstack.Stack) {
	recovery := tcpip.TCPRecovery(0)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: tcpBuffer, Max: tcpBufferMax}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: tcpBuffer, Max: tcpBufferMax}
	timeWait := tcpip.TCPTimeWaitTimeoutOption(time.Second)
	for _, o := range []tcpip.SettableTransportProtocolOption{&recovery, &receive, &send, &timeWait} {
		s.SetTransportProtocolOption(tcp.ProtocolNumber, o)
	}
}

// addLeg adds one NIC with one address.
func (h *Host) addLeg(w *World, leg integration.Leg, nic tcpip.NICID, mac stack.MAC) error {
	l := &link{mac: mac, mtu: w.Plan.MTU(leg.LAN), offload: w.Plan.Offload(leg.LAN), faults: &w.faults}
	l.plug(w.switches[leg.LAN], h.Name+"/"+leg.LAN)
	w.ports = append(w.ports, l.port)
	h.links = append(h.links, l)
	if err := h.stack.CreateNICWithOptions(nic, l, gstack.NICOptions{Name: leg.LAN}); err != nil {
		return fmt.Errorf("host %s: add NIC %s: %s", h.Name, leg.LAN, err)
	}
	return h.addAddress(nic, leg.Address)
}

// hide puts an address on a loopback NIC: the host has it, but no link answers ARP or ND for it, as a direct-routing server with arp_ignore.
// A netstack takes in what comes by another NIC only when both forward.
func (h *Host) hide(a netip.Addr) error {
	if !a.IsValid() {
		return nil
	}
	if err := h.stack.CreateNIC(nicLoopback, loopback.New()); err != nil {
		return fmt.Errorf("host %s: add loopback: %s", h.Name, err)
	}
	if err := h.stack.SetForwardingDefaultAndAllNICs(protocol(a), true); err != nil {
		return fmt.Errorf("host %s: forward: %s", h.Name, err)
	}
	return h.addAddress(nicLoopback, netip.PrefixFrom(a, a.BitLen()))
}

func (h *Host) addAddress(nic tcpip.NICID, p netip.Prefix) error {
	a := tcpip.ProtocolAddress{Protocol: protocol(p.Addr()), AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(p.Addr()), PrefixLen: p.Bits()}}
	if err := h.stack.AddProtocolAddress(nic, a, gstack.AddressProperties{}); err != nil {
		return fmt.Errorf("host %s: add address %v: %s", h.Name, p, err)
	}
	return nil
}

// Dial connects to an address; network is "tcp" or "udp".
func (h *Host) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	full := tcpip.FullAddress{Addr: address(to.Addr()), Port: to.Port()}
	if network == "udp" {
		return gonet.DialUDP(h.stack, nil, &full, protocol(to.Addr()))
	}
	return gonet.DialContextTCP(ctx, h.stack, full, protocol(to.Addr()))
}

// Listen opens a TCP listener.
func (h *Host) Listen(at netip.AddrPort) (net.Listener, error) {
	return gonet.ListenTCP(h.stack, tcpip.FullAddress{Addr: address(at.Addr()), Port: at.Port()}, protocol(at.Addr()))
}

// ListenPacket opens a UDP socket.
func (h *Host) ListenPacket(at netip.AddrPort) (net.PacketConn, error) {
	return gonet.DialUDP(h.stack, &tcpip.FullAddress{Addr: address(at.Addr()), Port: at.Port()}, nil, protocol(at.Addr()))
}

// MAC returns the address of the host's first leg.
func (h *Host) MAC() stack.MAC { return h.links[0].mac }

// countFaults adds what the stack itself held against packets. With offload it does not look at checksums of TCP and UDP; the links do.
func (h *Host) countFaults(f *faults) {
	s := h.stack.Stats()
	for name, c := range map[string]*tcpip.StatCounter{
		"Tcp.ChecksumErrors":         s.TCP.ChecksumErrors,
		"Tcp.InvalidSegments":        s.TCP.InvalidSegmentsReceived,
		"Udp.ChecksumErrors":         s.UDP.ChecksumErrors,
		"Udp.MalformedPackets":       s.UDP.MalformedPacketsReceived,
		"Ip.MalformedPackets":        s.IP.MalformedPacketsReceived,
		"Ip.MalformedFragments":      s.IP.MalformedFragmentsReceived,
		"Arp.MalformedPackets":       s.ARP.MalformedPacketsReceived,
		"Icmp.InvalidPackets":        s.ICMP.V4.PacketsReceived.Invalid,
		"Icmp6.InvalidPackets":       s.ICMP.V6.PacketsReceived.Invalid,
		"Ip.InvalidSourceAddresses":  s.IP.InvalidSourceAddressesReceived,
		"Stack.MalformedRcvdPackets": s.NICs.MalformedL4RcvdPackets,
	} {
		f.add(h.Name+": "+name, c.Value())
	}
}

// close takes the stack down and waits for its goroutines.
func (h *Host) close() { h.stack.Destroy() }

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func protocol(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func subnet(p netip.Prefix) tcpip.Subnet {
	return tcpip.AddressWithPrefix{Address: address(p.Addr()), PrefixLen: p.Bits()}.Subnet()
}

func everything(a netip.Addr) tcpip.Subnet {
	if a.Is4() {
		return header.IPv4EmptySubnet
	}
	return header.IPv6EmptySubnet
}
