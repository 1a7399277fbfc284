package host

import (
	"context"
	"net/netip"
	"sync/atomic"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"tapdirector/stack"
)

// VIPs and routes may change while the host runs; DIPs and links do not. Workers ask whether an address is ours for frames that come to us and for each ARP
// frame of the LAN, so the sets are maps that never change, each behind an atomic pointer.

// addresses is such a set.
type addresses struct {
	p atomic.Pointer[map[stack.Addr]struct{}]
}

// has reports whether a is in the set.
func (s *addresses) has(a stack.Addr) bool {
	_, ok := (*s.p.Load())[a]
	return ok
}

// current returns l with its VIPs as they are now.
func (l *link) current() Link {
	c := l.Link
	c.VIPs = *l.vips.Load()
	return c
}

// enter makes VIPs those of l and returns the addresses of all kinds that are now its own.
func (l *link) enter(vips []netip.Addr) []netip.Addr {
	l.vips.Store(&vips)
	c := l.current()
	owned, own := c.owned(), map[stack.Addr]struct{}{}
	for _, a := range owned {
		own[stack.AddrFrom(a)] = struct{}{}
		if !a.Is4() {
			own[stack.AddrFrom(linkLocal(c.MAC))] = struct{}{}
		}
	}
	l.own.p.Store(&own)
	return owned
}

// SetRate changes Options.Rate; 0 is its default.
func (h *Host) SetRate(perSecond int) {
	if perSecond <= 0 {
		perSecond = defaultRate
	}
	h.control.setRate(perSecond)
	h.other.setRate(perSecond)
}

// SetRoutes changes Options.Routes. The error says which is none; then nothing has changed.
func (h *Host) SetRoutes(routes []Route) error {
	table, err := h.routeTable(routes)
	if err != nil {
		return err
	}
	h.routes.Store(&routes)
	h.netstack.SetRouteTable(table)
	return nil
}

// SetVIPs changes the VIPs of each link, in the order of Options.Links. Those that are new are announced, by and by as at the start, while Run runs; those that are
// no more are not answered for from then on. One call at a time.
func (h *Host) SetVIPs(vips [][]netip.Addr) error {
	was, all, fresh := *h.own.p.Load(), map[stack.Addr]struct{}{}, make([][]netip.Addr, len(h.links))
	for i, l := range h.links {
		before := *l.own.p.Load()
		for _, a := range l.enter(vips[i]) {
			all[stack.AddrFrom(a)] = struct{}{}
			if _, known := before[stack.AddrFrom(a)]; !known {
				fresh[i] = append(fresh[i], a)
			}
		}
	}
	h.own.p.Store(&all)
	for _, l := range h.links {
		if err := h.renew(l, was, all); err != nil {
			return err
		}
	}
	h.announceFresh(fresh)
	return nil
}

// renew gives and takes the addresses of a NIC, of which those of all links were was and are now all.
func (h *Host) renew(l *link, was, all map[stack.Addr]struct{}) error {
	base := map[stack.Addr]bool{}
	for _, p := range l.Addresses {
		base[stack.AddrFrom(p.Addr().Unmap())] = true
	}
	for a := range all {
		if _, known := was[a]; known || base[a] {
			continue
		}
		if err := h.addAddress(l.id, netip.PrefixFrom(a.Netip(), a.Netip().BitLen()), gstack.NeverPrimaryEndpoint); err != nil {
			return err
		}
	}
	for a := range was {
		if _, stays := all[a]; !stays && !base[a] {
			h.netstack.RemoveAddress(l.id, address(a.Netip()))
		}
	}
	return h.renewLinkLocal(l)
}

// renewLinkLocal sees to it that a NIC has its link-local address exactly when it has another one of IPv6.
func (h *Host) renewLinkLocal(l *link) error {
	ll := linkLocal(l.MAC)
	wanted, has := l.own.has(stack.AddrFrom(ll)), h.netstack.CheckLocalAddress(l.id, protocolOf(ll), address(ll)) == l.id
	switch {
	case wanted && !has:
		return h.addAddress(l.id, netip.PrefixFrom(ll, 64), gstack.CanBePrimaryEndpoint)
	case has && !wanted:
		h.netstack.RemoveAddress(l.id, address(ll))
	}
	return nil
}

// announceFresh announces new addresses of each link, if Run runs.
func (h *Host) announceFresh(fresh [][]netip.Addr) {
	links := make([]*link, 0, len(h.links))
	for i, l := range h.links {
		if len(fresh[i]) > 0 {
			n := &link{Link: Link{MAC: l.MAC, Send: l.Send, VIPs: fresh[i]}}
			n.own.p.Store(l.own.p.Load())
			links = append(links, n)
		}
	}
	if len(links) == 0 || !h.started.Load() || !h.enter() {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		select {
		case <-h.closing:
		case <-ctx.Done():
		}
		stop()
	}()
	go func() {
		defer h.running.Done()
		defer stop()
		announceAll(ctx, links, h.announce)
	}()
}
