package host

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/tap"
)

// Verdict is what became of a frame that was handed to the host.
type Verdict uint8

const (
	Queued   Verdict = iota // copied; the netstack will see it
	Ignored                 // not for us, or nothing that we would answer: there is nothing to do
	Overflow                // for us, but the budget or the queue is used up
)

func (v Verdict) String() string { return [...]string{"queued", "ignored", "overflow"}[v] }

// class is the queue a frame goes to.
type class uint8

const (
	classNone    class = iota
	classControl       // ARP and neighbour discovery
	classOther
)

// Deliver offers a frame that came in on a link and that Parse described; it copies what it takes and never waits. It is for
// every worker, and changes neither f nor p.
func (h *Host) Deliver(link int, f *tap.Frame, p *stack.Packet) Verdict {
	q := &h.control
	switch h.classify(h.links[link], f.Bytes(), p) {
	case classNone:
		h.counters.ignored.Add(1)
		return Ignored
	case classOther:
		q = &h.other
	}
	if !q.put(time.Now(), link, f, p) {
		h.counters.overflow.Add(1)
		return Overflow
	}
	h.counters.queued.Add(1)
	h.rouse()
	return Queued
}

// rouse tells Run that something waits.
func (h *Host) rouse() {
	select {
	case h.wake <- struct{}{}:
	default:
		// Run is already told.
	}
}

// classify says which queue a frame is for. What it lets through in classControl makes netstack say "that address is here",
// so only questions for an address of this very link may pass.
func (h *Host) classify(l *link, b []byte, p *stack.Packet) class {
	if len(b) < header.EthernetMinimumSize || (b[0]&1 == 0 && stack.MAC(b) != l.MAC) {
		return classNone // flooded by the bridge
	}
	switch p.Kind {
	case stack.KindARP:
		return h.classifyARP(l, b)
	case stack.KindIPv6:
		if p.Proto == stack.ProtoICMPv6 && !p.Fragment && isND(p.ICMPType) {
			return h.classifyND(l, b, p)
		}
		return h.classifyIP(l, p)
	case stack.KindIPv4:
		return h.classifyIP(l, p)
	}
	return classNone
}

// classifyARP takes requests for addresses of this link, and replies to us. Requests by somebody with our address are kept out:
// netstack would take them for its own.
func (h *Host) classifyARP(l *link, b []byte) class {
	if len(b) < header.EthernetMinimumSize+header.ARPSize {
		return classNone
	}
	a := header.ARP(b[header.EthernetMinimumSize:])
	if !a.IsValid() {
		return classNone
	}
	sender := stack.AddrFrom4(a.ProtocolAddressSender())
	if l.own.has(sender) {
		h.conflict(l, sender, stack.MAC(a.HardwareAddressSender()))
		return classNone
	}
	ours := l.own.has(stack.AddrFrom4(a.ProtocolAddressTarget()))
	if !ours || (a.Op() == header.ARPReply && b[0]&1 != 0) {
		return classNone
	}
	return classControl
}

// isND reports whether an ICMPv6 type is one of neighbour discovery.
func isND(t uint8) bool {
	return t >= uint8(header.ICMPv6RouterSolicit) && t <= uint8(header.ICMPv6RedirectMsg)
}

// classifyND takes solicitations for addresses of this link, and advertisements: to all as well, because with the override flag
// they tell that a neighbour has moved. The checksum is netstack's to check.
func (h *Host) classifyND(l *link, b []byte, p *stack.Packet) class {
	m := b[p.L4:]
	if len(m) < header.ICMPv6HeaderSize+header.NDPNSMinimumSize || p.TTL != header.NDPHopLimit {
		return classNone
	}
	target := stack.AddrFrom16(m[8:])
	ours := l.own.has(target)
	switch header.ICMPv6Type(p.ICMPType) {
	case header.ICMPv6NeighborSolicit:
		if ours {
			return classControl
		}
	case header.ICMPv6NeighborAdvert:
		if ours {
			h.conflict(l, target, stack.SrcMAC(b))
			return classNone
		}
		return classControl
	}
	return classNone
}

// classifyIP takes what is addressed to one of us, on whatever link, but not to a group; and not what claims to come from us.
func (h *Host) classifyIP(l *link, p *stack.Packet) class {
	if h.own.has(p.Src) {
		return classNone
	}
	if h.own.has(p.Dst) {
		return classOther
	}
	if l.own.has(p.Dst) {
		return classOther // our link-local address
	}
	return classNone
}

// conflict counts and reports somebody else who says that he has our address.
func (h *Host) conflict(l *link, a stack.Addr, m stack.MAC) {
	for _, o := range h.links {
		if o.MAC == m {
			return // our own frame, come back by a loop or by another of our links on the same LAN
		}
	}
	h.counters.conflicts.Add(1)
	h.log.warn("another host claims our address", "address", a, "interface", l.Name, "mac", hardware(m))
}
