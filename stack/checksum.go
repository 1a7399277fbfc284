package stack

import (
	"encoding/binary"
	"math/bits"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/tap"
)

// Checksums
//
// The Internet checksum (RFC 1071) is the complement of a one's complement sum of 16-bit words. A frame's L4 checksum field is in one
// of three states, and each edit must know which:
//
//	full      the field is the complement of the sum over pseudo-header, L4 header and payload. What comes off a wire.
//	partial   (virtio NEEDS_CSUM) the field is the sum of the pseudo-header only, folded and NOT complemented; whoever sends the
//	          frame on a wire adds the rest, from csum_start to the end. What a kernel of this host hands us.
//	none      UDP over IPv4 with field 0: there is no checksum, and an edit must not make one.
//
// ICMP and the IPv4 header are always full. SCTP's checksum is another one: sctp.go. A superpacket is in one of the states too, its pseudo-header counting the whole length.
//
// An edit does not sum anew. RFC 1624, equation 3: with m the old word, m' the new one and ~ the complement,
//
//	HC' = ~(~HC + ~m + m')
//
// so an edit is a "delta", ~m + m' over all words that change, and the same delta serves every field that covers them: the
// IPv4 header by the addresses; a full L4 checksum by addresses and ports; a partial one by the addresses alone, added to the field
// as it is, because the ports will be summed later. ICMPv4 has no pseudo-header, so addresses do not touch it; ICMPv6 has one.
// Equation 3 cannot produce the wrong one of the two zeros; UDP alone gives zero a meaning, so there a computed 0 becomes 0xffff.
//
// An edit keeps a wrong checksum wrong by the same amount: damage on the way stays visible to the receiver. For the same reason
// a first fragment, which carries the checksum of the whole datagram, is edited like any other packet.
//
// Long sums are gVisor's checksum.Checksum: 64 bytes per turn, about 14 bytes per nanosecond.

// delta is a sum of words and complements of words that is not yet folded. Sixteen bits of it are the sum, the rest carries.
type delta uint64

// delta16 is what an edit of one 16-bit word does to a sum.
func delta16(old, new uint16) delta { return delta(^old) + delta(new) }

// deltaAddr is what an edit of an address does to a sum. One's complement addition does not care how words are grouped, so it adds
// 64 bits at a time; for IPv4 the upper 96 bits are alike, and alike words add a zero.
func deltaAddr(old, new Addr) delta {
	s, c := bits.Add64(^old.hi, new.hi, 0)
	s, c = bits.Add64(s, ^old.lo, c)
	s, c = bits.Add64(s, new.lo, c)
	// c is 0 or 1; folding to 32 bits makes room for it, and for every delta16 to come.
	return delta(s>>32 + s&0xffffffff + c)
}

// fold reduces a sum below 2^48 to 16 bits.
func fold(s uint64) uint16 {
	s = s>>32 + s>>16&0xffff + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}

// fold64 folds a sum of 64-bit words and what was left over, at most 33 bits.
func fold64(s, rest uint64) uint16 { return fold(s>>32 + s&0xffffffff + rest) }

// patch returns a full checksum after an edit (RFC 1624, equation 3).
func patch(csum uint16, d delta) uint16 { return ^fold(uint64(^csum) + uint64(d)) }

// patchPartial returns a partial checksum after an edit of the pseudo-header.
func patchPartial(seed uint16, d delta) uint16 { return fold(uint64(seed) + uint64(d)) }

// ipv4ChecksumOK reports whether the IPv4 header that is h, whole, sums up to zero.
func ipv4ChecksumOK(h []byte) bool { return checksum.Checksum(h, 0) == 0xffff }

// setIPv4Checksum computes the checksum of the IPv4 header that is h, whole.
func setIPv4Checksum(h []byte) {
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], ^checksum.Checksum(h, 0))
}

// pseudoHeader returns the folded sum of the pseudo-header of an L4 packet of l4Len bytes; for ICMPv4, which has none, 0.
func (p *Packet) pseudoHeader(l4Len int) uint16 {
	if p.Kind == KindIPv4 && p.Proto == ProtoICMP {
		return 0
	}
	// An IPv4 address must not bring the 0xffff of its 16-byte form, though as one's complement zero it would do no harm.
	s, c := bits.Add64(p.Src.hi, p.Dst.hi, 0)
	s, c = bits.Add64(s, p.Src.lo, c)
	s, c = bits.Add64(s, p.Dst.lo, c)
	return fold64(s, c+uint64(p.Proto)+uint64(l4Len))
}

// l4Packet returns the bytes that the L4 checksum covers. For UDP the header says how many; trailing bytes are not its own.
func (p *Packet) l4Packet(b []byte) []byte {
	l4 := b[p.L4 : uint32(p.L3)+p.L3Len]
	if p.Proto == ProtoUDP {
		return l4[:binary.BigEndian.Uint16(l4[4:])]
	}
	return l4
}

// setL4Checksum computes the full checksum of l4, an L4 packet of p's protocol and addresses whose checksum field is at csum.
func (p *Packet) setL4Checksum(l4 []byte, csum int) {
	binary.BigEndian.PutUint16(l4[csum:], 0)
	sum := ^checksum.Checksum(l4, p.pseudoHeader(len(l4)))
	if sum == 0 && p.Proto == ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(l4[csum:], sum)
}

// CompleteChecksum makes a partial checksum full, in software, and clears FlagNeedsCsum; a frame that is not partial stays as it is.
// It trusts the seed, as hardware would.
func CompleteChecksum(f *tap.Frame, p *Packet) {
	if !f.Header.Partial() {
		return
	}
	b := f.Bytes()
	sum := ^checksum.Checksum(p.l4Packet(b), 0)
	if sum == 0 && p.Proto == ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[p.csum:], sum)
	f.Header.Flags &^= tap.FlagNeedsCsum
	f.Header.CsumStart, f.Header.CsumOffset = 0, 0
}

// ChecksumOK verifies every checksum of a frame that Parse took: the IPv4 header's, and that of TCP, UDP, SCTP, ICMP or ICMPv6; a partial
// one is right when it is the pseudo-header's sum. It is true for what cannot be checked: fragments, other protocols, IPv4 UDP
// without checksum. IPv6 UDP without checksum is wrong (RFC 8200 section 8.1). It reads the whole packet: not for the path.
func ChecksumOK(f *tap.Frame, p *Packet) bool {
	b := f.Bytes()
	if p.Kind == KindIPv4 && !ipv4ChecksumOK(b[p.L3:][:ipv4HeaderLen(b[p.L3:])]) {
		return false
	}
	if p.Proto == ProtoSCTP && p.HasPorts && !p.Fragment {
		return sctpSumOK(p.l4Packet(b))
	}
	if p.csum == 0 || p.Fragment {
		return true
	}
	if p.NoCsum {
		return p.Kind == KindIPv4
	}
	l4 := p.l4Packet(b)
	seed := p.pseudoHeader(len(l4))
	if f.Header.Partial() {
		return sameSum(binary.BigEndian.Uint16(b[p.csum:]), seed)
	}
	return checksum.Checksum(l4, seed) == 0xffff
}

// sameSum compares two folded sums; 0 and 0xffff are the same number in one's complement.
func sameSum(a, b uint16) bool { return a%0xffff == b%0xffff }
