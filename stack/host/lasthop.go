package host

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"

	"tapdirector/stack"
)

// Last hops
//
// A client that is neither on a link nor behind a configured route is answered at the MAC its packet came from. The routes at the
// end of the table make every address on-link, so netstack looks for a neighbour with the client's address; lastHops
// keeps that neighbour as a static entry, re-read on every packet, and takes the oldest one out when there are too many. Netstack
// bounds only what it learns itself.
//
// Addresses that the configuration does place are never entered: whoever forges a server's address must not redirect what
// our own sockets send to that server.

const maxLastHops = 1024

// hopKey is a client on a link.
type hopKey struct {
	addr stack.Addr
	link int
}

// lastHops is for one goroutine: Run's.
type lastHops struct {
	hops   map[hopKey]stack.MAC
	ring   []hopKey // in the order they came; full from the start of eviction on
	next   int      // the oldest of a full ring
	max    int
	set    func(hopKey, stack.MAC)
	forget func(hopKey)
}

func newLastHops(max int, set func(hopKey, stack.MAC), forget func(hopKey)) lastHops {
	return lastHops{hops: make(map[hopKey]stack.MAC), max: max, set: set, forget: forget}
}

// learn notes that k was last heard from m.
func (t *lastHops) learn(k hopKey, m stack.MAC) {
	old, known := t.hops[k]
	if known && old == m {
		return
	}
	t.hops[k] = m
	t.set(k, m)
	if known {
		return
	}
	if len(t.ring) < t.max {
		t.ring = append(t.ring, k)
		return
	}
	oldest := t.ring[t.next]
	delete(t.hops, oldest)
	t.forget(oldest)
	t.ring[t.next] = k
	t.next = (t.next + 1) % t.max
}

// learnHop enters the source of a packet, unless we know by ourselves how to reach it.
func (h *Host) learnHop(l *link, i *item) {
	src := i.pkt.Src.Netip()
	if src.IsUnspecified() || src.IsLinkLocalUnicast() || h.placed(i.link, src) {
		return
	}
	h.hops.learn(hopKey{i.pkt.Src, i.link}, stack.SrcMAC(i.frame.Bytes()))
	h.counters.lastHops.Store(uint64(len(h.hops.hops)))
}

// placed reports whether a prefix or a route of the link holds a.
func (h *Host) placed(link int, a netip.Addr) bool {
	for _, p := range h.links[link].Addresses {
		if netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Contains(a) {
			return true
		}
	}
	for _, r := range *h.routes.Load() {
		if r.Link == link && r.To.Contains(a) {
			return true
		}
	}
	return false
}

func (h *Host) setHop(k hopKey, m stack.MAC) {
	a := k.addr.Netip()
	h.netstack.AddStaticNeighbor(h.links[k.link].id, protocolOf(a), address(a), tcpip.LinkAddress(m[:]))
}

func (h *Host) forgetHop(k hopKey) {
	a := k.addr.Netip()
	h.netstack.RemoveNeighbor(h.links[k.link].id, protocolOf(a), address(a))
}
