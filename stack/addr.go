package stack

import (
	"encoding/binary"
	"net/netip"
)

// MAC is a hardware address in wire order; the zero value means none.
type MAC = [6]byte

// MACWord is a MAC as a number: its first byte is the highest of the lower 48 bits. The path passes it on in a register, where an array of bytes would go
// through memory piece by piece.
type MACWord uint64

// WordOf returns m as a number.
func WordOf(m MAC) MACWord {
	return MACWord(binary.BigEndian.Uint32(m[:]))<<16 | MACWord(binary.BigEndian.Uint16(m[4:]))
}

// MAC returns the bytes.
func (w MACWord) MAC() (m MAC) {
	binary.BigEndian.PutUint32(m[:], uint32(w>>16))
	binary.BigEndian.PutUint16(m[4:], uint16(w))
	return m
}

// Addr is an IPv4 or IPv6 address in 16 bytes, IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2): comparable, pointer-free, and one
// kind for both families, so that no table has twins. The zero value is ::, which no packet we forward carries.
type Addr struct{ hi, lo uint64 }

const v4Prefix = 0xffff << 32

// AddrFrom4 returns the address of four bytes in wire order.
func AddrFrom4(b []byte) Addr { return Addr{lo: v4Prefix | uint64(binary.BigEndian.Uint32(b))} }

// AddrFrom16 returns the address of sixteen bytes in wire order.
func AddrFrom16(b []byte) Addr {
	return Addr{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:16])}
}

// AddrFrom returns a as an Addr; an invalid a gives the zero Addr.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	b := a.As16()
	return AddrFrom16(b[:])
}

// Netip returns the address as the standard library has it, IPv4 unmapped.
func (a Addr) Netip() netip.Addr { b := a.As16(); return netip.AddrFrom16(b).Unmap() }

// As16 returns the sixteen bytes in wire order.
func (a Addr) As16() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return b
}

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.hi == 0 && a.lo>>32 == 0xffff }

// IsZero reports whether a is the zero Addr.
func (a Addr) IsZero() bool { return a == Addr{} }

// Words returns the address as two words, high first, for hashing.
func (a Addr) Words() (hi, lo uint64) { return a.hi, a.lo }

// Mask returns the network of a with a prefix of so many bits of its family: up to 32 for IPv4, 128 for IPv6.
func (a Addr) Mask(bits int) Addr {
	if a.Is4() {
		bits += 96
	}
	if bits <= 64 {
		return Addr{hi: a.hi &^ (1<<(64-bits) - 1)}
	}
	return Addr{a.hi, a.lo &^ (1<<(128-bits) - 1)}
}

// Put writes the address in wire order: 4 bytes of an IPv4 address when b has 4, else 16.
func (a Addr) Put(b []byte) {
	if len(b) == 4 {
		binary.BigEndian.PutUint32(b, uint32(a.lo))
		return
	}
	binary.BigEndian.PutUint64(b, a.hi)
	binary.BigEndian.PutUint64(b[8:16], a.lo)
}

func (a Addr) String() string {
	if a.IsZero() {
		return "none"
	}
	return a.Netip().String()
}

// Tuple is what a packet says of its ends: the key of a connection. For ICMP echo both ports are the identifier; for other
// protocols without ports, and later fragments, they are 0.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            uint8 // IANA protocol number
}

// Is reports whether t is u: as ==, which calls a function, but in place.
func (t *Tuple) Is(u *Tuple) bool {
	return t.SrcPort == u.SrcPort && t.Src == u.Src && t.Dst == u.Dst && t.DstPort == u.DstPort && t.Proto == u.Proto
}

// Reverse returns the tuple of a packet in the other direction.
func (t Tuple) Reverse() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort, Proto: t.Proto}
}
