package sched

import "tapdirector/stack"

// The hashes of the schedulers that hash. None is keyed by chance: two directors, and one director before and after a restart, must agree. So
// a client that can choose its address can choose its server, as with every load balancer that keeps such a promise.

// golden is the multiplier of the kernel's hash_32: 2^32 over the golden ratio.
const golden = 0x61c88647

// lvsHash is the hash of sh, dh, lblc and lblcr in LVS: of the address, in IPv6 the exclusive or of its four words, and the port, bits bits.
func lvsHash(a stack.Addr, port uint16, bits int) uint32 {
	hi, lo := a.Words()
	word := uint32(lo)
	if !a.Is4() {
		word ^= uint32(lo>>32) ^ uint32(hi>>32) ^ uint32(hi)
	}
	return (word + uint32(port)) * golden >> (32 - bits)
}

// mix is the finalizer of splitmix64: every bit of x changes half of the bits of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// The seeds of the three uses of hash. To change them, or hash, moves every client of every mh and quic service to another server.
const (
	seedClient = 1
	seedOffset = 2
	seedSkip   = 3
)

// hash is the hash of mh and quic: unlike LVS's sum of address and port it tells 10.0.0.1:81 from 10.0.0.2:80.
func hash(seed uint64, a stack.Addr, port uint16) uint64 {
	hi, lo := a.Words()
	return mix(mix(mix(seed^hi)^lo) ^ uint64(port))
}

// rehashes is how often a hash is hashed again to find another server, before the rest is searched one by one: with half of the weight usable
// that happens once in 2^32.
const rehashes = 32
