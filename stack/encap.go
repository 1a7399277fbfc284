package stack

import (
	"encoding/binary"
	"math/bits"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/tap"
)

// Tunnels
//
// A packet travels to a server as the payload of another whose ends are the director and the server. Inner and outer family are free of each
// other: four combinations. In front of the inner packet stand, from the outside in,
//
//	        Ethernet | outer IPv4 (20) or IPv6 (40) |                                  | inner packet
//	IPIP                                              -                                  protocol 4 or 41: RFC 2003, 4213, 2473
//	GUE                                               UDP (8) + GUE (4)                  draft-ietf-intarea-gue: variant 0, no options
//	GRE                                               GRE (4), with checksum 8           RFC 2784
//
// What of the inner header shows outside:
//
//	TOS / traffic class   copied whole, so ECN too: a CE mark survives outside (RFC 6040 normal mode, section 4.1); the tunnel's end merges it back
//	DF                    as the caller says; the outer identification is then 0, else the caller's, for only a datagram without DF needs one (RFC 6864)
//	TTL                   Tunnel.TTL, or the inner one when that is 0
//	flow                  a hash of the inner ends is GUE's source port, 49152-65535, and the outer IPv6 flow label (RFC 6438), so that routers with
//	                      several ways, and cards with several queues, spread the flows of one tunnel
//
// Checksums. What goes in must be complete: no superpacket, no partial checksum. The kernel takes TSO inside IPIP and loses it without a word, and
// of a partial checksum inside a tunnel some cards that are behind the TAP, unseen, make a wrong one: they look for TCP behind the first IP
// header only. The checksum of GUE's UDP is optional over IPv4 (0 says none), and over IPv6 for tunnels (RFC 6935); that of GRE always.

// TunnelKind is what stands between the outer IP header and the inner packet.
type TunnelKind uint8

// The kinds of tunnels.
const (
	IPIP TunnelKind = iota // nothing
	GUE                    // generic UDP encapsulation
	GRE                    // generic routing encapsulation
)

// IANA protocol numbers of what tunnels carry and are carried by.
const (
	protoIPv4 = 4
	protoIPv6 = 41
	protoGRE  = 47
)

// Sizes in bytes, and bits.
const (
	gueLen     = 4
	greLen     = 4
	greCsumLen = 4      // checksum and a reserved word, when greCsumBit is set
	greCsumBit = 0x8000 // of the first word
	gueLowPort = 49152  // first of the 16384 ephemeral ports (RFC 6335)
)

// Tunnel says how packets to one server are wrapped, or what an ICMP error quotes of such a packet.
type Tunnel struct {
	Kind     TunnelKind
	Src, Dst Addr   // of the outer header, of one family: a DIP and the server
	Port     uint16 // GUE: UDP destination port
	Csum     bool   // GUE: UDP checksum; GRE: its own
	TTL      uint8  // of the outer header; 0: the inner one's
}

// ipLen is the bytes of the outer IP header.
func (t *Tunnel) ipLen() int {
	if t.Dst.Is4() {
		return ipv4MinLen
	}
	return ipv6Len
}

// Overhead is the bytes of L3 that a packet grows by: outer IP header and what stands behind it.
func (t *Tunnel) Overhead() int {
	switch {
	case t.Kind == GUE:
		return t.ipLen() + udpLen + gueLen
	case t.Kind == GRE && t.Csum:
		return t.ipLen() + greLen + greCsumLen
	case t.Kind == GRE:
		return t.ipLen() + greLen
	}
	return t.ipLen()
}

// Wrap puts f, whose packet is p, into the tunnel; afterwards f is the outer packet, p still tells of the inner one and no longer fits. f must be neither
// partial nor super, and may be a piece that was cut of p. The MACs stay to be set. id is the identification, used without df only. It
// reports false, f unchanged, when the headroom is used up or the packet would be longer than 16 bits count.
func (t *Tunnel) Wrap(f *tap.Frame, p *Packet, id uint16, df bool) bool {
	n, ipLen := t.Overhead(), t.ipLen()
	size := n + f.Len() - int(p.L3)
	if size > maxDatagram || !f.Prepend(n+tap.EthernetLen-int(p.L3)) {
		return false
	}
	f.Header = tap.Header{}
	b := f.Bytes()
	ip, inner := b[tap.EthernetLen:], b[tap.EthernetLen+n:]
	o := outer{tos: tosOf(inner, p.Kind), ttl: t.TTL, hash: p.flowHash(), id: id, df: df, proto: protoIPv4}
	if p.Kind == KindIPv6 {
		o.proto = protoIPv6
	}
	if t.TTL == 0 {
		o.ttl = p.TTL
	}
	switch t.Kind {
	case GUE:
		t.putGUE(ip[ipLen:], &o)
	case GRE:
		t.putGRE(ip[ipLen:], &o)
	}
	if t.Dst.Is4() {
		binary.BigEndian.PutUint16(b[12:], etherIPv4)
		t.putIPv4(ip, &o)
	} else {
		binary.BigEndian.PutUint16(b[12:], etherIPv6)
		t.putIPv6(ip, &o)
	}
	return true
}

// outer is what of one packet's outer headers is not the tunnel's.
type outer struct {
	hash     uint32
	id       uint16
	tos, ttl uint8
	proto    uint8 // what the next header outwards says is inside
	df       bool
}

// tosOf returns TOS or traffic class of the packet that starts at ip.
func tosOf(ip []byte, k Kind) uint8 {
	if k == KindIPv4 {
		return ip[1]
	}
	return uint8(binary.BigEndian.Uint16(ip) >> 4)
}

// flowHash is the same for all packets of a flow, and for all fragments of a datagram. Not keyed: who chooses his ports may choose his way through
// the network, which he may anyway.
func (p *Packet) flowHash() uint32 {
	h := mix(p.Src.hi^p.Dst.hi*3^0x9e3779b97f4a7c15, p.Src.lo^p.Dst.lo*5^0xbf58476d1ce4e5b9)
	if !p.Fragment {
		h ^= uint64(p.SrcPort)<<32 | uint64(p.DstPort)<<16 | uint64(p.Proto)
	}
	return uint32(mix(h, 0x94d049bb133111eb))
}

// mix multiplies and folds the halves of the product.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// putGUE writes UDP and GUE headers at the start of l4, which ends with the inner packet.
func (t *Tunnel) putGUE(l4 []byte, o *outer) {
	binary.BigEndian.PutUint16(l4, gueLowPort|uint16(o.hash)&0x3fff)
	binary.BigEndian.PutUint16(l4[2:], t.Port)
	binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	binary.BigEndian.PutUint16(l4[udpCsumOff:], 0)
	l4[8], l4[9], l4[10], l4[11] = 0, o.proto, 0, 0
	o.proto = ProtoUDP
	if t.Csum {
		q := Packet{Kind: KindIPv6, Tuple: Tuple{Src: t.Src, Dst: t.Dst, Proto: ProtoUDP}} // the kind matters for ICMP only
		q.setL4Checksum(l4, udpCsumOff)
	}
}

// putGRE writes the GRE header at the start of l4, which ends with the inner packet.
func (t *Tunnel) putGRE(l4 []byte, o *outer) {
	etherType := uint16(etherIPv4)
	if o.proto == protoIPv6 {
		etherType = etherIPv6
	}
	o.proto = protoGRE
	binary.BigEndian.PutUint16(l4, 0)
	binary.BigEndian.PutUint16(l4[2:], etherType)
	if t.Csum {
		binary.BigEndian.PutUint16(l4, greCsumBit)
		binary.BigEndian.PutUint32(l4[4:], 0)
		binary.BigEndian.PutUint16(l4[4:], ^checksum.Checksum(l4, 0))
	}
}

// putIPv4 writes the outer IPv4 header of the packet that is ip.
func (t *Tunnel) putIPv4(ip []byte, o *outer) {
	ip[0], ip[1], ip[8], ip[9] = 4<<4|ipv4MinLen/4, o.tos, o.ttl, o.proto
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], o.id)
	binary.BigEndian.PutUint16(ip[6:], 0)
	if o.df {
		binary.BigEndian.PutUint32(ip[4:], ipv4DF)
	}
	t.Src.Put(ip[12:16])
	t.Dst.Put(ip[16:20])
	setIPv4Checksum(ip[:ipv4MinLen])
}

// putIPv6 writes the outer IPv6 header of the packet that is ip.
func (t *Tunnel) putIPv6(ip []byte, o *outer) {
	binary.BigEndian.PutUint32(ip, 6<<28|uint32(o.tos)<<20|o.hash&0xfffff)
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Len))
	ip[6], ip[7] = o.proto, o.ttl
	t.Src.Put(ip[8:24])
	t.Dst.Put(ip[24:40])
}

// FragmentOwnIPv6 cuts f, an IPv6 packet without extension headers that the director is the source of, into fragments (RFC 8200 section
// 4.5) of at most mtu bytes of L3, and hands them to emit in order, borrowed as with Segment. Only a packet's source may do that. It reports false
// when mtu has no room for 8 bytes of payload, and when a is full.
func FragmentOwnIPv6(f *tap.Frame, mtu int, id uint32, a *tap.Arena, emit func(*tap.Frame)) bool {
	const hdrLen = tap.EthernetLen + ipv6Len
	b := f.Bytes()
	w := whole6{hdr: b[:hdrLen], data: b[hdrLen:], next: b[20], id: id}
	return w.cut(mtu, a, emit)
}

// whole6 is an IPv6 packet, or a fragment of one, to be cut. It borrows the packet's bytes.
type whole6 struct {
	hdr, data []byte // Ethernet and IPv6 headers; what is behind the fragment header, or goes there
	id        uint32
	word      uint16 // of the fragment header: offset and "more" of data as a whole
	next      uint8
}

func (w *whole6) cut(mtu int, a *tap.Arena, emit func(*tap.Frame)) bool {
	room := (mtu - ipv6Len - extMinLen) &^ 7
	if room < 8 {
		return false
	}
	s := pieces.Get().(*tap.Frame)
	defer pieces.Put(s)
	for off := 0; off < len(w.data); off += room {
		var ok bool
		if *s, ok = w.piece(a, off, min(off+room, len(w.data))); !ok {
			return false
		}
		emit(s)
	}
	return true
}

// piece builds the fragment that holds bytes off to end of the data.
func (w *whole6) piece(a *tap.Arena, off, end int) (tap.Frame, bool) {
	n, part := len(w.hdr), w.data[off:end]
	s, ok := a.Frame(n + extMinLen + len(part))
	if !ok {
		return s, false
	}
	word := w.word + uint16(off)
	if end < len(w.data) {
		word |= ipv6More
	}
	g := s.Bytes()
	copy(g, w.hdr)
	copy(g[n+extMinLen:], part)
	binary.BigEndian.PutUint16(g[tap.EthernetLen+4:], uint16(extMinLen+len(part)))
	g[tap.EthernetLen+6], g[n], g[n+1] = extFragment, w.next, 0
	binary.BigEndian.PutUint16(g[n+2:], word)
	binary.BigEndian.PutUint32(g[n+4:], w.id)
	return s, true
}
