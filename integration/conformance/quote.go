package main

import (
	"fmt"
	"net/netip"
	"slices"

	"tapdirector/stack/packettest"
)

// ICMP errors: about which packet, from whom, to whom.

// icmpErrors are the type and code of each error, for IPv4 and IPv6; 255: there is none.
var icmpErrors = map[string][2][2]uint8{
	"unreachable":      {{3, 1}, {1, 3}},
	"net-unreachable":  {{3, 0}, {1, 0}},
	"port-unreachable": {{3, 3}, {1, 4}},
	"prohibited":       {{3, 13}, {1, 1}},
	"too-big":          {{3, 4}, {2, 0}},
	"expired":          {{11, 0}, {3, 0}},
	"reassembly":       {{11, 1}, {3, 1}},
	"parameter":        {{12, 0}, {4, 0}},
	"quench":           {{4, 0}, {255, 0}},
	"redirect":         {{5, 1}, {255, 0}},
}

// quoted is the packet that an error is about: the last one that left by the link the error comes from; "about in", the last one that came in
// there; "about answer", what the VIP would answer to that.
func (d *draft) quoted() []byte {
	switch b := d.m.sent[d.link]; d.cite {
	case "in":
		return b
	case "answer":
		return answerTo(slices.Clone(b), d.c.family)
	}
	return d.m.last[d.link]
}

// answerTo swaps the ends of a packet: what a server sent to a client past the director. No checksum changes by it.
func answerTo(b []byte, family int) []byte {
	at, n, l4 := ethLen+12, 4, ethLen+20
	if family == 6 {
		at, n, l4 = ethLen+8, 16, ethLen+40
	}
	swap := func(a, b []byte) {
		for i := range a {
			a[i], b[i] = b[i], a[i]
		}
	}
	if len(b) >= l4+4 {
		swap(b[at:at+n], b[at+n:at+2*n])
		swap(b[l4:l4+2], b[l4+2:l4+4])
	}
	return b
}

// quotedFamily is 6 where the quoted packet is of IPv6, which in a tunnel the connection need not be.
func (d *draft) quotedFamily() int {
	if b := d.quoted(); len(b) > 12 && b[12] == 0x86 {
		return 6
	}
	return 4
}

// quotedSource is who sent the quoted packet.
func (d *draft) quotedSource() (netip.AddrPort, error) {
	b := d.quoted()
	if len(b) < ethLen+40 && d.quotedFamily() == 6 || len(b) < ethLen+20 {
		return netip.AddrPort{}, fmt.Errorf("nothing has left by %v that an error could be about", d.link)
	}
	var a netip.Addr
	if d.quotedFamily() == 6 {
		a, _ = netip.AddrFromSlice(b[ethLen+8 : ethLen+24])
	} else {
		a, _ = netip.AddrFromSlice(b[ethLen+12 : ethLen+16])
	}
	return netip.AddrPortFrom(a, 0), nil
}

// quoteError makes the packet an ICMP error.
func (d *draft) quoteError() error {
	e, ok := icmpErrors[d.icmp]
	if !ok {
		return fmt.Errorf("no ICMP error of that name")
	}
	b := d.quoted()
	if len(b) <= ethLen {
		return fmt.Errorf("nothing has left by %v that an error could be about", d.link)
	}
	s := &d.spec
	s.Proto, s.ICMPType, s.ICMPCode = packettest.ICMP, e[0][0], e[0][1]
	s.DF = false
	if d.quotedFamily() == 6 {
		s.Proto, s.ICMPType, s.ICMPCode = packettest.ICMPv6, e[1][0], e[1][1]
	}
	s.ICMPID, s.ICMPSeq = uint16(d.arg>>16), uint16(d.arg)
	s.Payload = slices.Clone(b[ethLen:min(len(b), ethLen+d.trim)])
	return nil
}
