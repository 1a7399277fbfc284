package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// IPv6 extension headers
//
// The walk is our own: it ends after maxExtensions headers whatever they say of themselves, computes lengths in int, and never leaves the
// packet. Known headers are hop-by-hop (first only), routing, destination options, authentication and fragment; anything else is the upper
// layer. A routing header with segments left is a source route: its packet is not yet on the way to its end, and its L4 checksum is of
// another destination than the one in the header, so it is refused (RFC 5095 for type 0). An "atomic" fragment, offset 0 and
// nothing to follow, is no fragment (RFC 6946). Of a later fragment nothing behind the fragment header is looked at.

// IPv6 next header values of extension headers.
const (
	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extAuth     = 51
	extDest     = 60
)

const (
	maxExtensions = 8 // real packets have three at most
	extMinLen     = 8 // bytes of the shortest extension header
	ipv6More      = 1 // the M bit of the fragment header's offset word
	ipv6OffMask   = 0xfff8
)

func parseIPv6(f *tap.Frame, b []byte, p *Packet) Reason {
	p.Kind = KindIPv6
	ip := b[tap.EthernetLen:]
	if len(ip) < ipv6Len {
		return ReasonTruncated
	}
	if ip[0]>>4 != 6 {
		return ReasonIPv6Header
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(ip[4:]))
	if total > len(ip) {
		return ReasonTruncated
	}
	p.Proto, p.TTL, p.DF = ip[6], ip[7], true
	p.Src, p.Dst = AddrFrom16(ip[8:24]), AddrFrom16(ip[24:40])
	if r := checkIPv6Addrs(p); r != ReasonNone {
		return r
	}
	p.L3, p.L4, p.L3Len = tap.EthernetLen, tap.EthernetLen+ipv6Len, uint32(total)
	if len(ip) > total {
		trim(f, tap.EthernetLen+total)
		b = b[:tap.EthernetLen+total]
	}
	if IsExtension(p.Proto) {
		return p.parseExtensions(f, b)
	}
	if p.Src.IsZero() && !p.mayLackSource() {
		return ReasonMartianSource
	}
	if p.Proto == ProtoTCP && f.Plain() {
		return p.parseTCP(b[p.L4:])
	}
	return p.parseL4(b, &f.Header)
}

// checkIPv6Addrs refuses loopback, multicast sources, and IPv4 in disguise. The unspecified address passes as a source
// until the protocol is known.
func checkIPv6Addrs(p *Packet) Reason {
	if p.Src.hi == 0 && (p.Src.lo == 1 || p.Src.Is4()) || p.Src.hi>>56 == 0xff {
		return ReasonMartianSource
	}
	if p.Dst.hi == 0 && (p.Dst.lo <= 1 || p.Dst.Is4()) {
		return ReasonMartianDest
	}
	if p.Src == p.Dst {
		return ReasonLand
	}
	return ReasonNone
}

// mayLackSource reports whether :: is a legal source: duplicate address detection, router solicitation and multicast listener
// reports, all ICMPv6 to a group (RFC 4861 section 7.1, RFC 3590).
func (p *Packet) mayLackSource() bool { return p.Proto == ProtoICMPv6 && p.Dst.hi>>56 == 0xff }

// IsExtension reports whether an IPv6 next header value is an extension header that we know.
func IsExtension(next uint8) bool {
	switch next {
	case extHopByHop, extRouting, extFragment, extAuth, extDest:
		return true
	}
	return false
}

// parseExtensions walks the chain from p.L4 on, b ending with the packet, and parses what stands behind it.
func (p *Packet) parseExtensions(f *tap.Frame, b []byte) Reason {
	if p.L3Len == ipv6Len && p.Proto == extHopByHop {
		return ReasonJumbogram
	}
	frag, r := p.walkExtensions(b)
	if r != ReasonNone {
		return r
	}
	if p.Src.IsZero() && !p.mayLackSource() {
		return ReasonMartianSource
	}
	if frag&(ipv6OffMask|ipv6More) != 0 {
		return p.parseFragment(f, b, int(frag&ipv6OffMask), frag&ipv6More != 0)
	}
	return p.parseL4(b, &f.Header)
}

// walkExtensions moves p.L4 and p.Proto to the upper layer, or to what a later fragment holds, and returns the offset word of the
// fragment header, 0 without one.
func (p *Packet) walkExtensions(b []byte) (frag uint16, r Reason) {
	off, seen := int(p.L4), false
	for range maxExtensions {
		if len(b)-off < extMinLen {
			return 0, ReasonIPv6Extension
		}
		h := b[off:]
		size := extMinLen + int(h[1])*8
		switch p.Proto {
		case extHopByHop:
			if off != int(p.L3)+ipv6Len {
				return 0, ReasonIPv6Extension
			}
		case extRouting:
			if h[3] != 0 {
				return 0, ReasonSourceRoute
			}
		case extAuth:
			size = (int(h[1]) + 2) * 4
		case extFragment:
			if seen {
				return 0, ReasonIPv6Extension
			}
			frag, seen, size = binary.BigEndian.Uint16(h[2:]), true, extMinLen
		}
		if size > len(b)-off {
			return 0, ReasonIPv6Extension
		}
		off += size
		p.Proto, p.L4 = h[0], uint16(off)
		if frag&ipv6OffMask != 0 || !IsExtension(p.Proto) {
			return frag, ReasonNone
		}
	}
	return 0, ReasonIPv6Extension
}
