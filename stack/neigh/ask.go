package neigh

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/tap"
)

// question is one ARP request or neighbour solicitation to be sent; to is the zero MAC for one to all.
type question struct {
	key
	to stack.MAC
}

// ask sends q; no lock is held.
func (r *Resolver) ask(q question) {
	l := &r.o.Links[q.iface]
	// Built anew each time: questions are few, and a DIP may be the sender of one and not of the next.
	var f tap.Frame
	if q.addr.Is4() {
		f = arpRequest(l, q)
	} else {
		f = solicitation(l, q)
	}
	r.counters.asked.Add(1)
	l.Send(&f)
}

// arpRequest builds the question of RFC 826. Without an IPv4 address of our own it is the probe of RFC 5227, which is answered too.
func arpRequest(l *Link, q question) tap.Frame {
	b := make([]byte, header.EthernetMinimumSize+header.ARPSize)
	to := q.to
	if to == (stack.MAC{}) {
		to = stack.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	ethernet(b, to, l.MAC, header.ARPProtocolNumber)
	a := header.ARP(b[header.EthernetMinimumSize:])
	a.SetIPv4OverEthernet()
	a.SetOp(header.ARPRequest)
	copy(a.HardwareAddressSender(), l.MAC[:])
	if src := l.source(q.addr.Netip()); src.IsValid() {
		copy(a.ProtocolAddressSender(), src.AsSlice())
	}
	q.addr.Put(a.ProtocolAddressTarget())
	return tap.NewFrame(tap.Header{}, b)
}

// solicitation builds the question of RFC 4861 section 4.3, with our MAC as an option, so that the answer needs no question back.
func solicitation(l *Link, q question) tap.Frame {
	const bodyLen = header.ICMPv6NeighborSolicitMinimumSize + header.NDPLinkLayerAddressSize
	b := make([]byte, header.EthernetMinimumSize+header.IPv6MinimumSize+bodyLen)

	target := tcpip.AddrFrom16(q.addr.As16())
	src := l.source(q.addr.Netip())
	if !src.IsValid() {
		src = linkLocal(l.MAC)
	}
	// Only hosts whose address ends in the same 24 bits listen to the group, so even a question to all wakes hardly anybody.
	dst, to := target, q.to
	if to == (stack.MAC{}) {
		dst = header.SolicitedNodeAddr(target)
		to = stack.MAC([]byte(header.EthernetAddressFromMulticastIPv6Address(dst)))
	}

	ethernet(b, to, l.MAC, header.IPv6ProtocolNumber)
	header.IPv6(b[header.EthernetMinimumSize:]).Encode(&header.IPv6Fields{
		PayloadLength:     bodyLen,
		TransportProtocol: header.ICMPv6ProtocolNumber,
		HopLimit:          header.NDPHopLimit,
		SrcAddr:           tcpip.AddrFrom16(src.As16()),
		DstAddr:           dst,
	})
	icmp := header.ICMPv6(b[header.EthernetMinimumSize+header.IPv6MinimumSize:])
	icmp.SetType(header.ICMPv6NeighborSolicit)
	ns := header.NDPNeighborSolicit(icmp.MessageBody())
	ns.SetTargetAddress(target)
	ns.Options().Serialize(header.NDPOptionsSerializer{header.NDPSourceLinkLayerAddressOption(l.MAC[:])})
	icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: icmp, Src: tcpip.AddrFrom16(src.As16()), Dst: dst,
	}))
	return tap.NewFrame(tap.Header{}, b)
}

// source returns the DIP to ask for target as: the one whose prefix holds it, else the first of its family (not for IPv6,
// where the link-local address does better), else the invalid Addr.
func (l *Link) source(target netip.Addr) netip.Addr {
	var first netip.Addr
	for _, p := range l.Addresses {
		a := p.Addr().Unmap()
		if a.Is4() != target.Is4() {
			continue
		}
		if netip.PrefixFrom(a, p.Bits()).Contains(target) {
			return a
		}
		if !first.IsValid() && a.Is4() {
			first = a
		}
	}
	return first
}

// linkLocal returns the link-local address of a MAC (RFC 4291 appendix A).
func linkLocal(m stack.MAC) netip.Addr {
	return netip.AddrFrom16(header.LinkLocalAddr(tcpip.LinkAddress(m[:])).As16())
}

// ethernet writes an Ethernet header.
func ethernet(b []byte, dst, src stack.MAC, t tcpip.NetworkProtocolNumber) {
	copy(b, dst[:])
	copy(b[6:], src[:])
	b[12], b[13] = byte(t>>8), byte(t)
}
