package main

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Tunnels in traces: the outer packet, and in brackets the one inside.

// guePorts are those that scripts use.
var guePorts = map[uint16]bool{6080: true, 6081: true}

// isTunnel reports whether an IP packet with this protocol and content is the outer one of a tunnel.
func isTunnel(proto uint8, b []byte) bool {
	return proto == 4 || proto == 41 || proto == 47 || isGUE(proto, b)
}

func isGUE(proto uint8, b []byte) bool {
	return proto == 17 && len(b) >= 4 && guePorts[binary.BigEndian.Uint16(b[2:])]
}

// tunnel writes what is in one. Of the outer packet's own fields two are not written: the identification, and GUE's source port, a hash.
func (w *writer) tunnel(proto uint8, b []byte, whole bool) {
	switch {
	case isGUE(proto, b) && len(b) >= 12:
		w.add("GUE to port %d flags %x", binary.BigEndian.Uint16(b[2:]), b[10:12])
		w.inside(b[9], b[min(len(b), 12+int(b[8]&31)*4):], whole)
	case proto == 47 && len(b) >= 8:
		w.add("GRE flags %x", b[0:2])
		n := 4
		if b[0]&0x80 != 0 {
			n = 8
			if whole && checksum.Checksum(b, 0) != 0xffff {
				w.add("WRONG GRE CHECKSUM")
			}
		}
		w.inside(map[uint16]uint8{0x0800: 4, 0x86dd: 41}[binary.BigEndian.Uint16(b[2:])], b[n:], whole)
	case proto == 4 || proto == 41:
		w.add("IPIP")
		w.inside(proto, b, whole)
	default:
		w.payload(b)
	}
}

// inside writes the inner packet.
func (w *writer) inside(proto uint8, b []byte, whole bool) {
	w.WriteString(" [")
	switch proto {
	case 4:
		w.ip4(b, !whole)
	case 41:
		w.ip6(b, !whole)
	default:
		w.add("protocol %d", proto)
		w.payload(b)
	}
	w.WriteString(" ]")
}
