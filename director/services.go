package director

import (
	"cmp"
	"slices"

	"tapdirector/conf"
	"tapdirector/stack"
)

// Which service a first packet is for: the one that listens on exactly its port, else the one with a range that holds it, else the one that listens
// on every port of the address. One question to a map where the port is listened on; two and a binary search elsewhere.

// virtual is what one service listens on.
type virtual struct {
	addr  stack.Addr
	port  uint16
	proto uint8
}

// services finds them.
type services struct {
	exact map[virtual]*service
	wide  map[virtual]*ports // with port 0; only of addresses that have any
}

// ports are the listens of an address and protocol that have more than one port.
type ports struct {
	ranges []portRange // by low; none overlaps another
	every  *service    // nil: none
}

type portRange struct {
	low, high uint16
	service   *service
}

func newServices() services {
	return services{exact: map[virtual]*service{}, wide: map[virtual]*ports{}}
}

// add enters one listen of s.
func (s *services) add(l conf.Listen, proto uint8, srv *service) {
	v := virtual{stack.AddrFrom(l.Addr), l.Low, proto}
	if l.Single() {
		s.exact[v] = srv
		return
	}
	v.port = 0
	if s.wide[v] == nil {
		s.wide[v] = &ports{}
	}
	p := s.wide[v]
	if l.Every() {
		p.every = srv
		return
	}
	at, _ := slices.BinarySearchFunc(p.ranges, l.Low, byLow)
	p.ranges = slices.Insert(p.ranges, at, portRange{l.Low, l.High, srv})
}

func byLow(r portRange, port uint16) int { return cmp.Compare(r.low, port) }

// find returns the service of a packet to v, nil when there is none.
func (s *services) find(v virtual) *service {
	if srv := s.exact[v]; srv != nil || len(s.wide) == 0 {
		return srv
	}
	p := s.wide[virtual{v.addr, 0, v.proto}]
	if p == nil {
		return nil
	}
	return p.find(v.port)
}

// find returns the service of a port that nobody listens on alone.
func (p *ports) find(port uint16) *service {
	at, exact := slices.BinarySearchFunc(p.ranges, port, byLow)
	if !exact {
		at-- // the last that begins before port
	}
	if at >= 0 && port <= p.ranges[at].high {
		return p.ranges[at].service
	}
	return p.every
}
