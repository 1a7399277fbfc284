package host

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"tapdirector/tap"
)

// endpoint is a link as netstack sees it (stack.LinkEndpoint, stack.GSOEndpoint): Ethernet, addresses to be resolved,
// checksums verified on the way in. It has no goroutine and no queue of its own.
type endpoint struct {
	link     *Link
	counters *counters
	mac      tcpip.LinkAddress

	mu         sync.RWMutex
	dispatcher gstack.NetworkDispatcher // nil before the NIC is made and after it is gone
}

var (
	_ gstack.LinkEndpoint = (*endpoint)(nil)
	_ gstack.GSOEndpoint  = (*endpoint)(nil)
)

func newEndpoint(l *Link, c *counters) *endpoint {
	return &endpoint{link: l, counters: c, mac: tcpip.LinkAddress(l.MAC[:])}
}

// inject gives a frame with full checksums to netstack, which copies it. What it answers at once leaves before inject returns.
func (e *endpoint) inject(f *tap.Frame) {
	e.mu.RLock()
	d := e.dispatcher
	e.mu.RUnlock()
	if d == nil {
		return
	}
	b := f.Bytes()
	p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	defer p.DecRef()
	if !e.ParseHeader(p) {
		return
	}
	eth := header.Ethernet(b)
	p.PktType = packetType(eth)
	d.DeliverNetworkPacket(eth.Type(), p)
}

// packetType is how a frame was addressed: netstack sends no ICMP errors about frames to groups.
func packetType(eth header.Ethernet) tcpip.PacketType {
	switch dst := eth.DestinationAddress(); {
	case dst == header.EthernetBroadcastAddress:
		return tcpip.PacketBroadcast
	case header.IsMulticastEthernetAddress(dst):
		return tcpip.PacketMulticast
	}
	return tcpip.PacketHost
}

// frames lends arenas to WritePackets: each has room for one frame of ordinary size.
var frames = sync.Pool{New: func() any { return tap.NewArena(2048 + tap.Headroom) }}

// WritePackets sends each packet at once. They are netstack's: Send gets copies.
func (e *endpoint) WritePackets(pkts gstack.PacketBufferList) (int, tcpip.Error) {
	for _, p := range pkts.AsSlice() {
		e.write(p)
	}
	return pkts.Len(), nil
}

func (e *endpoint) write(p *gstack.PacketBuffer) {
	arena := frames.Get().(*tap.Arena)
	defer frames.Put(arena)
	arena.Reset()
	f, ok := arena.Frame(p.Size())
	if !ok { // a superpacket, or a link with a large MTU
		f, _ = tap.NewArena(p.Size() + tap.Headroom).Frame(p.Size())
	}
	b := f.Bytes()
	views, off := p.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		s := v.AsSlice()
		if off >= len(s) {
			off -= len(s)
			continue
		}
		b = b[copy(b, s[off:]):]
		off = 0
	}
	f.Header = virtio(p)
	e.counters.sent.Add(1)
	e.link.Send(&f)
}

// virtio says in virtio's words what netstack left undone.
func virtio(p *gstack.PacketBuffer) tap.Header {
	g := &p.GSOOptions
	if g.Type == gstack.GSONone {
		return tap.Header{}
	}
	var h tap.Header
	if g.NeedsCsum {
		h.Flags = tap.FlagNeedsCsum
		h.CsumStart = header.EthernetMinimumSize + g.L3HdrLen
		h.CsumOffset = g.CsumOffset
	}
	if p.Data().Size() > int(g.MSS) {
		h.GSOSize, h.HdrLen = g.MSS, uint16(p.HeaderSize())
		h.GSOType = tap.GSOTCPv4
		if g.Type == gstack.GSOTCPv6 {
			h.GSOType = tap.GSOTCPv6
		}
	}
	return h
}

// gsoMaxSize is the largest superpacket our own sockets send, in bytes. Half of what fits leaves room for every header and
// costs nothing that checks would notice.
const gsoMaxSize = 32 << 10

// GSOMaxSize implements stack.GSOEndpoint.
func (e *endpoint) GSOMaxSize() uint32 { return gsoMaxSize }

// SupportedGSO implements stack.GSOEndpoint. Netstack knows only all or nothing.
func (e *endpoint) SupportedGSO() gstack.SupportedGSO {
	if o := e.link.Offload; o.Csum && o.TSO4 && o.TSO6 {
		return gstack.HostGSOSupported
	}
	return gstack.GSONotSupported
}

// MTU implements stack.LinkEndpoint: bytes of L3.
func (e *endpoint) MTU() uint32 { return uint32(e.link.MTU) }

// SetMTU implements stack.LinkEndpoint: the MTU is the device's.
func (e *endpoint) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint.
func (e *endpoint) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress implements stack.LinkEndpoint.
func (e *endpoint) LinkAddress() tcpip.LinkAddress { return e.mac }

// SetLinkAddress implements stack.LinkEndpoint: the MAC is the director's.
func (e *endpoint) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint. Without receive offload netstack verifies every checksum itself.
func (e *endpoint) Capabilities() gstack.LinkEndpointCapabilities {
	return gstack.CapabilityResolutionRequired
}

// Attach implements stack.LinkEndpoint.
func (e *endpoint) Attach(d gstack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dispatcher = d
}

// IsAttached implements stack.LinkEndpoint.
func (e *endpoint) IsAttached() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.dispatcher != nil
}

// Wait implements stack.LinkEndpoint: there is nothing to wait for.
func (e *endpoint) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (e *endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint.
func (e *endpoint) AddHeader(p *gstack.PacketBuffer) {
	header.Ethernet(p.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: e.mac,
		DstAddr: p.EgressRoute.RemoteLinkAddress,
		Type:    p.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (e *endpoint) ParseHeader(p *gstack.PacketBuffer) bool {
	_, ok := p.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// Close implements stack.LinkEndpoint: the device is not ours.
func (e *endpoint) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (e *endpoint) SetOnCloseAction(func()) {}
