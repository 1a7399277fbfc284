package main

import (
	"encoding/binary"
	"net/netip"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
)

// The LAN's hosts answer ARP and neighbour solicitations. Scripts do not see them: whom a director asks, and when, is its own business.

const (
	nsType = 135
	naType = 136
)

// answer answers a question for the MAC of a host of the LAN, and reports whether d was one.
func (p *player) answer(d departure) (bool, error) {
	if target, ok := arpTarget(d.frame); ok {
		h, known := hostOf(target)
		if !known || h.local() || h.link != d.link {
			return false, nil
		}
		sender := netip.AddrFrom4([4]byte(d.frame[ethLen+14 : ethLen+18]))
		f := packettest.ARP(2, h.mac, stack.MAC(d.frame[6:12]), h.addr, sender)
		return true, p.side.Send(d.link, f.Bytes())
	}
	if target, ok := ndTarget(d.frame); ok {
		h, known := hostOf(target)
		if !known || h.local() || h.link != d.link {
			return false, nil
		}
		return true, p.side.Send(d.link, advertisement(h, d.frame))
	}
	return false, nil
}

// arpTarget is the address that an ARP request asks for.
func arpTarget(b []byte) (netip.Addr, bool) {
	if len(b) < ethLen+28 || b[12] != 8 || b[13] != 6 || binary.BigEndian.Uint16(b[ethLen+6:]) != 1 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(b[ethLen+24 : ethLen+28])), true
}

// ndTarget is the address that a neighbour solicitation asks for.
func ndTarget(b []byte) (netip.Addr, bool) {
	if len(b) < ethLen+40+24 || b[12] != 0x86 || b[13] != 0xdd || b[ethLen+6] != 58 || b[ethLen+40] != nsType {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b[ethLen+48 : ethLen+64])), true
}

// advertisement answers a solicitation: solicited, override, with the host's MAC as an option.
func advertisement(h host, question []byte) []byte {
	asker := netip.AddrFrom16([16]byte(question[ethLen+8 : ethLen+24]))
	payload := append(h.addr.AsSlice(), 2, 1)
	payload = append(payload, h.mac[:]...)
	s := packettest.Spec{
		SrcMAC: h.mac, DstMAC: stack.MAC(question[6:12]), Src: netip.AddrPortFrom(h.addr, 0), Dst: netip.AddrPortFrom(asker, 0),
		Proto: packettest.ICMPv6, TTL: 255, ICMPType: naType, ICMPID: 0x6000, Payload: payload,
	}
	return s.Bytes()
}

// isChatter reports whether b is what hosts say unasked: ARP, neighbour and router discovery, multicast listener reports.
func isChatter(b []byte) bool {
	switch {
	case len(b) < ethLen+20:
		return false
	case b[12] == 8 && b[13] == 6:
		return true
	case b[12] == 0x86 && b[13] == 0xdd && len(b) > ethLen+48:
		next, at := b[ethLen+6], ethLen+40
		if next == 0 { // a listener report has a hop-by-hop header
			next, at = b[at], at+8
		}
		return next == 58 && len(b) > at && (b[at] >= 130 && b[at] <= 137 || b[at] == 143)
	}
	return false
}
