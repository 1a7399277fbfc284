// Package guard judges the sources of new connections: whether a service is for them at all (Prefixes), and whether they come too fast (Rate).
// Both are asked only for first packets, allocate nothing, and take no lock.
package guard

import (
	"net/netip"
	"slices"
	"sort"

	"tapdirector/stack"
)

// Prefixes says who may connect. The longest prefix that holds an address decides; where none does, everybody may, unless there is an
// allowed prefix: then only those. The zero value, and nil, allow all.
//
// The prefixes, which nest, are flattened to sorted ranges that do not: an address is found by halving, about 100 ns among hundreds as among
// 100 000 (BenchmarkAllows). IPv4 has ranges of its own, because ::/0 is not about it.
type Prefixes struct {
	v4, v6 ranges
}

// ranges is a piecewise constant function of addresses: from starts[i] on up to before starts[i+1] it is allowed[i]. Before the first: all, as
// set in the first range, which starts at the lowest address.
type ranges struct {
	starts  []stack.Addr
	allowed []bool
}

// NewPrefixes makes the rules of two lists. What is in both is denied.
func NewPrefixes(allow, deny []netip.Prefix) *Prefixes {
	otherwise := len(allow) == 0
	return &Prefixes{
		v4: flatten(spans(allow, deny, true), otherwise),
		v6: flatten(spans(allow, deny, false), otherwise),
	}
}

// Allows reports whether a may connect.
func (p *Prefixes) Allows(a stack.Addr) bool {
	if p == nil {
		return true
	}
	r := &p.v6
	if a.Is4() {
		r = &p.v4
	}
	lo, hi := 0, len(r.starts) // starts[lo] <= a < starts[hi], as far as they are there
	for hi-lo > 1 {
		if mid := int(uint(lo+hi) >> 1); less(a, r.starts[mid]) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return len(r.allowed) == 0 || r.allowed[lo]
}

func less(a, b stack.Addr) bool {
	ah, al := a.Words()
	bh, bl := b.Words()
	return ah < bh || ah == bh && al < bl
}

// span is a prefix as its first and last address.
type span struct {
	first, last stack.Addr
	bits        int
	allow       bool
}

// spans returns the prefixes of a family, each before those within it.
func spans(allow, deny []netip.Prefix, v4 bool) (all []span) {
	add := func(list []netip.Prefix, allow bool) {
		for _, p := range list {
			if p.Addr().Is4() == v4 {
				all = append(all, span{stack.AddrFrom(p.Masked().Addr()), last(p), p.Bits(), allow})
			}
		}
	}
	add(allow, true)
	add(deny, false)
	sort.SliceStable(all, func(i, j int) bool {
		return less(all[i].first, all[j].first) || all[i].first == all[j].first && all[i].bits < all[j].bits
	})
	return all
}

// last returns the last address of a prefix.
func last(p netip.Prefix) stack.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return stack.AddrFrom(a)
}

// flatten goes through the spans from left to right. Those that hold the present address are on a stack, the longest prefix on top.
func flatten(all []span, otherwise bool) (r ranges) {
	r.from(stack.Addr{}, otherwise)
	var open []span
	close := func() {
		top := open[len(open)-1]
		open = open[:len(open)-1]
		if next := top.last.Netip().Next(); next.IsValid() {
			allowed := otherwise
			if len(open) > 0 {
				allowed = open[len(open)-1].allow
			}
			r.from(stack.AddrFrom(next), allowed)
		}
	}
	for _, s := range all {
		for len(open) > 0 && less(open[len(open)-1].last, s.first) {
			close()
		}
		open = append(open, s)
		r.from(s.first, s.allow)
	}
	for len(open) > 0 {
		close()
	}
	r.starts, r.allowed = slices.Clip(r.starts), slices.Clip(r.allowed)
	return r
}

// from says what holds from a on; a is not below what was said before.
func (r *ranges) from(a stack.Addr, allowed bool) {
	n := len(r.starts)
	if n > 0 && r.starts[n-1] == a {
		r.starts, r.allowed = r.starts[:n-1], r.allowed[:n-1]
		n--
	}
	if n > 0 && r.allowed[n-1] == allowed {
		return
	}
	r.starts, r.allowed = append(r.starts, a), append(r.allowed, allowed)
}
