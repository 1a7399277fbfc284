package host

import (
	"context"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/tap"
)

// Announcing
//
// Whoever still has another MAC for one of our addresses, be it a predecessor's or a failed director's, would send there
// until his entry ages: minutes. So we tell everybody, unasked. IPv4: a gratuitous ARP as a request for ourselves (RFC 5227
// section 2.3), the form that every stack learns from. IPv6: an unsolicited advertisement to all nodes with the override flag
// (RFC 4861 section 7.2.6).
//
// Frames get lost, above all while a bridge port is still learning, so everything is said again after a second, and the
// VIPs once more after five, which is what keepalived's users are used to.

const (
	announceAgain = time.Second
	announceVIPs  = 5 * time.Second
)

// Announce sends the announcements for every VIP and DIP of a link once.
func (h *Host) Announce(link int) {
	l := h.links[link].current()
	h.announce(h.links[link], l.owned())
}

func (h *Host) announce(l *link, addrs []netip.Addr) {
	for _, a := range addrs {
		if !l.own.has(stack.AddrFrom(a)) {
			continue // a VIP that was removed meanwhile
		}
		f := announcement(l.MAC, a)
		h.counters.announced.Add(1)
		l.Send(&f)
	}
}

// announceAll announces until all has been said, or ctx is cancelled. It calls say with the addresses of each link.
func announceAll(ctx context.Context, links []*link, say func(*link, []netip.Addr)) {
	rounds := []struct {
		at    time.Duration
		addrs func(*Link) []netip.Addr
	}{
		{0, (*Link).owned},
		{announceAgain, (*Link).owned},
		{announceVIPs, func(l *Link) []netip.Addr { return l.VIPs }},
	}
	start := time.Now()
	for _, r := range rounds {
		if !sleep(ctx, time.Until(start.Add(r.at))) {
			return
		}
		for _, l := range links {
			say(l, r.addrs(&l.Link))
		}
	}
}

// sleep waits for d; false when ctx was cancelled.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// announcement builds the frame that says a is at mac.
func announcement(mac stack.MAC, a netip.Addr) tap.Frame {
	if a = a.Unmap(); a.Is4() {
		return gratuitousARP(mac, a)
	}
	return unsolicitedAdvert(mac, a)
}

func gratuitousARP(mac stack.MAC, a netip.Addr) tap.Frame {
	b := make([]byte, header.EthernetMinimumSize+header.ARPSize)
	ethernet(b, header.EthernetBroadcastAddress, mac, header.ARPProtocolNumber)
	p := header.ARP(b[header.EthernetMinimumSize:])
	p.SetIPv4OverEthernet()
	p.SetOp(header.ARPRequest)
	copy(p.HardwareAddressSender(), mac[:])
	copy(p.ProtocolAddressSender(), a.AsSlice())
	copy(p.ProtocolAddressTarget(), a.AsSlice())
	return tap.NewFrame(tap.Header{}, b)
}

func unsolicitedAdvert(mac stack.MAC, a netip.Addr) tap.Frame {
	const bodyLen = header.ICMPv6NeighborAdvertMinimumSize + header.NDPLinkLayerAddressSize
	b := make([]byte, header.EthernetMinimumSize+header.IPv6MinimumSize+bodyLen)
	src, dst := address(a), header.IPv6AllNodesMulticastAddress
	ethernet(b, header.EthernetAddressFromMulticastIPv6Address(dst), mac, header.IPv6ProtocolNumber)
	header.IPv6(b[header.EthernetMinimumSize:]).Encode(&header.IPv6Fields{
		PayloadLength:     bodyLen,
		TransportProtocol: header.ICMPv6ProtocolNumber,
		HopLimit:          header.NDPHopLimit,
		SrcAddr:           src,
		DstAddr:           dst,
	})
	icmp := header.ICMPv6(b[header.EthernetMinimumSize+header.IPv6MinimumSize:])
	icmp.SetType(header.ICMPv6NeighborAdvert)
	na := header.NDPNeighborAdvert(icmp.MessageBody())
	// No router flag: nobody learned us as a router by an advertisement, and netstack's answers do not set it either.
	na.SetOverrideFlag(true)
	na.SetTargetAddress(src)
	na.Options().Serialize(header.NDPOptionsSerializer{header.NDPTargetLinkLayerAddressOption(mac[:])})
	icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: src, Dst: dst}))
	return tap.NewFrame(tap.Header{}, b)
}

func ethernet(b []byte, dst tcpip.LinkAddress, src stack.MAC, t tcpip.NetworkProtocolNumber) {
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: tcpip.LinkAddress(src[:]), DstAddr: dst, Type: t})
}
