package memlan

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// link is a netstack's NIC on a port. With offload it behaves as a Linux host does on a link with CSUM and TSO: TCP leaves in superpackets of up to
// 64 KiB with partial checksums, UDP with partial checksums; UDP superpackets that arrive are cut before the stack sees them. Without, every frame is whole and complete.
//
// The stack is told not to verify checksums itself when there is offload, since it cannot accept partial ones; so every frame that arrives is
// judged here, with and without.
type link struct {
	mac     stack.MAC
	mtu     int
	offload bool
	port    *Port
	faults  *faults

	tunnelEnd netip.Addr // the host takes packets to this address out of their tunnel; invalid: none

	down       atomic.Bool // nothing passes, either way
	dispatcher atomic.Pointer[gstack.NetworkDispatcher]
}

// plug connects the link to a switch.
func (l *link) plug(s *Switch, name string) { l.port = s.Plug(name, l.in) }

// WritePackets sends what the stack hands down. It is called with locks of the stack held.
func (l *link) WritePackets(pkts gstack.PacketBufferList) (int, tcpip.Error) {
	if l.down.Load() {
		return pkts.Len(), nil
	}
	for _, p := range pkts.AsSlice() {
		l.port.give(l.frame(p))
	}
	return pkts.Len(), nil
}

// frame copies a packet, whose views are borrowed, into a frame.
func (l *link) frame(p *gstack.PacketBuffer) tap.Frame {
	f, _ := tap.NewArena(tap.Headroom + p.Size()).Frame(p.Size())
	b := f.Bytes()
	views, skip := p.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		part := v.AsSlice()
		n := min(skip, len(part))
		skip -= n
		b = b[copy(b, part[n:]):]
	}
	if l.offload {
		f.Header = l.unfinished(p, f.Bytes())
	}
	return f
}

// unfinished returns the virtio header of an outgoing packet, and leaves its checksum to be completed where a kernel would.
func (l *link) unfinished(p *gstack.PacketBuffer, b []byte) (h tap.Header) {
	l4 := tap.EthernetLen + len(p.NetworkHeader().Slice())
	if p.TransportProtocolNumber == header.UDPProtocolNumber {
		return partialUDP(b, l4)
	}
	gso := p.GSOOptions
	if gso.Type == gstack.GSONone || !gso.NeedsCsum {
		return h
	}
	h = tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: uint16(l4), CsumOffset: gso.CsumOffset}
	if p.Data().Size() <= int(gso.MSS) {
		return h
	}
	h.GSOType, h.GSOSize, h.HdrLen = tap.GSOTCPv4, gso.MSS, uint16(p.HeaderSize())
	if gso.Type == gstack.GSOTCPv6 {
		h.GSOType = tap.GSOTCPv6
	}
	return h
}

// partialUDP takes the finished checksum of a UDP packet back to the pseudo-header's sum. Fragments keep theirs: no offload knows them.
func partialUDP(b []byte, l4 int) (h tap.Header) {
	ip := readIP(b)
	if ip == nil || ip.fragment || ip.l4 != l4 || len(b) < l4+header.UDPMinimumSize {
		return h
	}
	header.UDP(b[l4:]).SetChecksum(ip.pseudoHeader())
	return tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: uint16(l4), CsumOffset: udpChecksumOffset}
}

// in takes a frame from the switch to the stack. (The stack copies it.)
func (l *link) in(f *tap.Frame) {
	b := f.Bytes()
	dst := stack.DstMAC(b)
	group := dst[0]&1 != 0
	if dst != l.mac && !group || l.down.Load() {
		return // flooded, for somebody else; or the cable is pulled
	}
	l.faults.judge(l.port.Name, f, l.mtu, l.offload)
	for _, g := range datagrams(f) {
		l.deliver(g.Bytes(), group)
	}
}

// deliver hands one packet to the stack, or a superpacket of TCP, which the stack takes as a large segment.
func (l *link) deliver(b []byte, group bool) {
	d := l.dispatcher.Load()
	if d == nil {
		return
	}
	b = l.unwrap(b)
	p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	defer p.DecRef()
	eth, _ := p.LinkHeader().Consume(header.EthernetMinimumSize)
	if group {
		p.PktType = tcpip.PacketMulticast
	}
	(*d).DeliverNetworkPacket(header.Ethernet(eth).Type(), p)
}

// unwrap returns what a frame to the tunnel's end carried, as a frame; any other frame as it is. What is wrong with a tunnel was told by the judge.
func (l *link) unwrap(b []byte) []byte {
	if !l.tunnelEnd.IsValid() {
		return b
	}
	o, inner, err := packettest.Unwrap(b[header.EthernetMinimumSize:])
	if err != nil || o.Dst != l.tunnelEnd {
		return b
	}
	return frameOf(b, inner)
}

// frameOf returns the IP packet ip with the hardware addresses of frame b.
func frameOf(b, ip []byte) []byte {
	f := slices.Concat(b[:header.EthernetMinimumSize], ip)
	f[12], f[13] = 0x08, 0x00
	if header.IPVersion(ip) == header.IPv6Version {
		f[12], f[13] = 0x86, 0xdd
	}
	return f
}

// The rest is what a stack wants to know of its link.

func (l *link) MTU() uint32                             { return uint32(l.mtu) }
func (l *link) SetMTU(mtu uint32)                       { /* Nothing to do: the LAN's is fixed. */ }
func (l *link) MaxHeaderLength() uint16                 { return header.EthernetMinimumSize }
func (l *link) LinkAddress() tcpip.LinkAddress          { return tcpip.LinkAddress(l.mac[:]) }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        { /* Nothing to do: it is fixed. */ }
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (l *link) ParseHeader(*gstack.PacketBuffer) bool   { return true }
func (l *link) IsAttached() bool                        { return l.dispatcher.Load() != nil }
func (l *link) Wait()                                   { /* Nothing to do: the port's goroutine is the switch's. */ }
func (l *link) Close()                                  { /* Nothing to do. */ }
func (l *link) SetOnCloseAction(func())                 { /* Nothing to do. */ }
func (l *link) Capabilities() gstack.LinkEndpointCapabilities {
	if l.offload {
		return gstack.CapabilityResolutionRequired | gstack.CapabilityRXChecksumOffload
	}
	return gstack.CapabilityResolutionRequired
}

// AddHeader writes the Ethernet header.
func (l *link) AddHeader(p *gstack.PacketBuffer) {
	header.Ethernet(p.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: p.EgressRoute.LocalLinkAddress, DstAddr: p.EgressRoute.RemoteLinkAddress, Type: p.NetworkProtocolNumber})
}

// Attach is called with nil when the NIC goes.
func (l *link) Attach(d gstack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// GSOMaxSize is the largest IP packet that the stack may hand down.
func (l *link) GSOMaxSize() uint32 { return 65535 }

// SupportedGSO says that "the host", which is whoever reads the virtio header, cuts superpackets.
func (l *link) SupportedGSO() gstack.SupportedGSO {
	if l.offload {
		return gstack.HostGSOSupported
	}
	return gstack.GSONotSupported
}
