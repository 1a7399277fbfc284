package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// conns writes the connection table down.
func (p *player) conns() error {
	conns, err := p.side.Conns()
	for _, c := range conns {
		p.lines = append(p.lines, fmt.Sprintf("%s %s %s %s %s %s", c.proto, c.state, p.startOf(c.expires), named(c.client), named(c.virtual), named(c.real)))
	}
	slices.Sort(p.lines)
	return err
}

func named(a netip.AddrPort) string { return fmt.Sprintf("%s:%d", nameOf(a.Addr()), a.Port()) }

// late is how much later than its last packet a connection may be looked at; early is what a table may round up.
const (
	late  = 5 * time.Second
	early = time.Second
)

// startOf finds the timeout that a remaining time was counted down from, in seconds.
func (p *player) startOf(left time.Duration) string {
	if p.c.unaged {
		return "-"
	}
	known := []int{2, 3, 10, 30, 60, 120, 300, 900}
	if p.c.services[0].proto == "sctp" {
		known = []int{2, 4, 61, 300, 900}
	}
	known = append(known, p.c.timeouts[:]...)
	for _, v := range p.c.services {
		known = append(known, v.persistent)
	}
	slices.Sort(known)
	for _, k := range known {
		if d := time.Duration(k)*time.Second - left; d > -early && d < late {
			return strconv.Itoa(k)
		}
	}
	return "older"
}
