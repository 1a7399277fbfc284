package neigh

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
)

// What is learned from whom
//
// Every host on a LAN can say what it likes, and ARP and ND believe it: we cannot be safer than the servers themselves are.
// What we can do is keep what a frame may change small. A frame changes the slot of the address that it speaks for, if
// there is one and it is not static, and nothing else. A MAC that is zero, a group's (RFC 1812 section 3.3.2) or our own is not
// believed.
//
//	ARP request, reply   sender's IP -> sender's MAC, at once; a gratuitous one is the same
//	NS, RS, RA           IP source -> source link-layer option, at once (RFC 4861 7.2.3, 6.2.6, 6.3.4)
//	NA                   target -> target link-layer option; with another MAC than ours and no override flag it makes us
//	                     ask the known MAC instead (7.2.5). Without the option, a solicited one proves the known MAC
//	redirect             says nothing about its sender: ignored
//
// The sender's MAC of an ARP frame is believed even where the Ethernet source differs. Load-sharing servers and VRRP routers
// that send with one MAC and receive with another look just so, the kernel believes them too, and who wants to lie fills in both.

// Snoop looks at an ARP frame, or an ND message (ICMPv6 type 133 to 137), that came in on an interface: b from the first byte of its
// Ethernet header, p what Parse said of it. It does not keep b, and never makes a slot.
func (r *Resolver) Snoop(iface int, b []byte, p *stack.Packet) {
	switch p.Kind {
	case stack.KindARP:
		r.snoopARP(iface, b)
	case stack.KindIPv6:
		r.snoopND(iface, b, p)
	}
}

// snoopARP checks an ARP frame as RFC 826 does, then learns its sender.
func (r *Resolver) snoopARP(iface int, b []byte) {
	if len(b) < header.EthernetMinimumSize+header.ARPSize {
		return
	}
	a := header.ARP(b[header.EthernetMinimumSize:][:header.ARPSize])
	if !a.IsValid() || (a.Op() != header.ARPRequest && a.Op() != header.ARPReply) {
		return
	}
	addr := stack.AddrFrom4(a.ProtocolAddressSender())
	r.learn(iface, addr, stack.MAC(a.HardwareAddressSender()), true)
}

// Offsets in an ND message from its ICMPv6 header (RFC 4861 section 4), and the length of each before its options.
const (
	ndTarget   = 8
	ndNAFlags  = 4
	naSolicit  = 0x40
	naOverride = 0x20
)

var ndFixedLen = [...]int{
	0: 8, // the solicitation itself
	header.ICMPv6RouterAdvert - header.ICMPv6RouterSolicit:    16,
	header.ICMPv6NeighborSolicit - header.ICMPv6RouterSolicit: 24,
	header.ICMPv6NeighborAdvert - header.ICMPv6RouterSolicit:  24,
}

// snoopND checks an ND message as RFC 4861 sections 6.1 and 7.1 do, then learns what the table above says.
func (r *Resolver) snoopND(iface int, b []byte, p *stack.Packet) {
	m := ndMessage(b, p)
	if m == nil || !ndChecksumOK(m, p) {
		return
	}
	slla, tlla, ok := linkLayerOptions(m[ndFixedLen[m[0]-byte(header.ICMPv6RouterSolicit)]:])
	if !ok {
		return
	}
	switch header.ICMPv6Type(m[0]) {
	case header.ICMPv6NeighborAdvert:
		r.snoopAdvert(iface, m, tlla, p)
	case header.ICMPv6RouterAdvert:
		// 6.1.2: a router speaks from its link-local address. A gateway that we know by another is learned by its NS and NA.
		if !p.Src.Netip().IsLinkLocalUnicast() {
			return
		}
		r.learn(iface, p.Src, slla, true)
	case header.ICMPv6NeighborSolicit:
		if isMulticast16(m[ndTarget:]) {
			return
		}
		r.learn(iface, p.Src, slla, true)
	case header.ICMPv6RouterSolicit:
		r.learn(iface, p.Src, slla, true)
	}
}

// snoopAdvert learns from a neighbour advertisement.
func (r *Resolver) snoopAdvert(iface int, m []byte, tlla stack.MAC, p *stack.Packet) {
	flags := m[ndNAFlags]
	if isMulticast16(m[ndTarget:]) || (p.Dst.Netip().IsMulticast() && flags&naSolicit != 0) {
		return
	}
	target := stack.AddrFrom16(m[ndTarget:])
	if tlla == (stack.MAC{}) {
		if flags&naSolicit != 0 {
			r.confirm(iface, target)
		}
		return
	}
	r.learn(iface, target, tlla, flags&naOverride != 0)
}

// ndMessage returns the ICMPv6 message of an ND packet, or nil when p is none or the message is shorter than its kind.
func ndMessage(b []byte, p *stack.Packet) []byte {
	end := int(p.L3) + int(p.L3Len)
	if p.Proto != stack.ProtoICMPv6 || p.TTL != header.NDPHopLimit || p.Fragment || end > len(b) || int(p.L4)+8 > end {
		return nil
	}
	m := b[p.L4:end]
	kind := int(m[0]) - int(header.ICMPv6RouterSolicit)
	if kind < 0 || kind >= len(ndFixedLen) || m[1] != 0 || len(m) < ndFixedLen[kind] {
		return nil
	}
	return m
}

// ndChecksumOK verifies the message's checksum over the pseudo-header.
func ndChecksumOK(m []byte, p *stack.Packet) bool {
	return header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: m, Src: tcpip.AddrFrom16(p.Src.As16()), Dst: tcpip.AddrFrom16(p.Dst.As16()),
	}) == binary.BigEndian.Uint16(m[2:])
}

// linkLayerOptions returns the source and target link-layer address options, zero where there is none; false for options
// that do not fill their room (a length of 0 is never valid, RFC 4861 section 4.6).
func linkLayerOptions(o []byte) (slla, tlla stack.MAC, ok bool) {
	for len(o) > 0 {
		if len(o) < 8 || o[1] == 0 || int(o[1])*8 > len(o) {
			return stack.MAC{}, stack.MAC{}, false
		}
		switch {
		case o[0] == 1 && o[1] == 1:
			slla = stack.MAC(o[2:8])
		case o[0] == 2 && o[1] == 1:
			tlla = stack.MAC(o[2:8])
		}
		o = o[int(o[1])*8:]
	}
	return slla, tlla, true
}

func isMulticast16(b []byte) bool { return b[0] == 0xff }

// learn takes a proof that a is at m. Without override another MAC than the known one only makes us ask the known one.
func (r *Resolver) learn(iface int, a stack.Addr, m stack.MAC, override bool) {
	if !r.believable(m) {
		return
	}
	// Most of what a LAN says is about addresses that we do not care for: they cost a lookup that workers share.
	r.mu.RLock()
	_, ok := r.slots[key{a, int32(iface)}]
	r.mu.RUnlock()
	if !ok {
		return
	}

	r.mu.Lock()
	k := key{a, int32(iface)}
	s, ok := r.slots[k]
	if !ok || r.entries[s].state == fixed {
		r.mu.Unlock()
		return
	}
	old := r.words[s].Load()
	if old&wordValid != 0 && wordMAC(old) != m && !override {
		r.doubtLocked(s)
		return
	}
	if old&wordValid == 0 && !r.drainLocked(k, s, m) {
		r.mu.Unlock()
		return
	}
	found := r.reachLocked(s, m, r.now())
	frames := r.takeLocked(s)
	r.mu.Unlock()

	r.release(int32(iface), m, frames)
	switch {
	case old&wordValid == 0:
		r.counters.learned.Add(1)
	case wordMAC(old) != m:
		r.counters.changed.Add(1)
		r.log.Info("next hop changed its MAC", "address", a, "interface", r.o.Links[iface].Name, "from", hardware(wordMAC(old)), "to", hardware(m))
	}
	if found {
		r.log.Info("next hop answers again", "address", a, "interface", r.o.Links[iface].Name, "mac", hardware(m))
	}
}

// doubtLocked unlocks, and asks a reachable next hop whether it is still there. One that is being asked is not asked more
// often for it.
func (r *Resolver) doubtLocked(s Slot) {
	if r.entries[s].state != reachable {
		r.mu.Unlock()
		return
	}
	q := r.enterLocked(s, probing, r.now())
	r.mu.Unlock()
	r.ask(q)
}

// confirm takes a proof that a still is where we think.
func (r *Resolver) confirm(iface int, a stack.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.slots[key{a, int32(iface)}]
	if !ok || r.entries[s].state == fixed {
		return
	}
	if w := r.words[s].Load(); w&wordValid != 0 {
		r.reachLocked(s, wordMAC(w), r.now())
	}
}

// believable reports whether m can be the MAC of one other host.
func (r *Resolver) believable(m stack.MAC) bool {
	if m == (stack.MAC{}) || m[0]&1 != 0 {
		return false
	}
	for i := range r.o.Links {
		if r.o.Links[i].MAC == m {
			return false
		}
	}
	return true
}
