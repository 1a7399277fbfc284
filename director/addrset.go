package director

import (
	"math/bits"

	"tapdirector/stack"
)

// role says what an address is to the director; roles add up, for a host may be both a client's peer and a server.
type role uint8

const (
	roleVIP    role = 1 << iota // a virtual service's address
	roleDIP                     // an address of our own
	roleServer                  // a real server reached by NAT
	roleNever                   // a broadcast or network address of a link of ours: never routed to
)

// addrSet maps the addresses of a config to their roles. It is asked twice for a packet whose connection is not remembered: open addressing at a quarter full,
// 24 bytes a slot, no pointers; 2 ns a question where a Go map takes 15 (BenchmarkAddrSet).
type addrSet struct {
	shift uint
	slots []addrRole
}

type addrRole struct {
	addr stack.Addr
	role role
}

// newAddrSet builds the set; the zero Addr is never in it.
func newAddrSet(roles map[stack.Addr]role) addrSet {
	size := 8
	for size < 4*len(roles) {
		size *= 2
	}
	s := addrSet{shift: uint(64 - bits.Len(uint(size-1))), slots: make([]addrRole, size)}
	for a, r := range roles {
		i := s.slot(a)
		for !s.slots[i].addr.IsZero() {
			i = (i + 1) & (size - 1)
		}
		s.slots[i] = addrRole{a, r}
	}
	return s
}

func (s *addrSet) slot(a stack.Addr) int {
	hi, lo := a.Words()
	return int((lo ^ bits.RotateLeft64(hi, 29)) * 0x9e3779b97f4a7c15 >> s.shift)
}

// role returns what a is to us; 0 when nothing.
func (s *addrSet) role(a stack.Addr) role {
	for i := s.slot(a); ; i = (i + 1) & (len(s.slots) - 1) {
		if e := &s.slots[i]; e.addr == a {
			return e.role
		} else if e.addr.IsZero() {
			return 0
		}
	}
}
