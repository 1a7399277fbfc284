package flow

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"

	"tapdirector/stack"
)

// Hashing.
//
// Three hashes, all keyed with random numbers of this table that no packet shows:
//
// The shard is chosen by the client's end alone (of a server's packet: the end it goes to), because NAT leaves that end as it is. So both
// directions of a connection, and both its keys, are in one shard behind one lock. It is address part XOR high[port>>8] XOR low[port&255],
// where low is a permutation: for each upper byte exactly one lower byte leads to a given shard. So when the director chooses the local
// port itself (masquerading), the ports that keep both tuples in one shard are enumerated rather than searched.
//
// The place within the shard comes from the client's end and the protocol too. So both tuples of a connection lead to the same place, and one reference there
// is found by either: half the index, and half the waits for memory when a connection comes or goes. Where the replies have another end than the
// client's (Local is not Client), they have a reference of their own, whose place comes from the whole tuple: a DIP's port belongs to many connections. And where a
// client's end has so many connections that its place is crowded (one port that talks to a whole range of ports, which nobody but an attacker or a server's own
// resolver does), whatever more it makes is placed by whole tuples, so that no place gets long.
//
// Addresses are folded by 64x64->128 bit multiplications with keys XORed into both factors (as in wyhash). Each result is multiplied once more and its upper bits taken, because the product of neighbouring addresses or
// ports alone walks over the places in equal steps, and with an unlucky key misses some. Whoever does not know the keys cannot do better
// than chance (2^-32 per pair) in finding tuples that collide, and sees no answer to learn from; a flood from one address still spreads by
// its ports. 5 ns for a key, IPv4 or IPv6 (BenchmarkKey).

const (
	shardBits = 8
	numShards = 1 << shardBits
)

// hasher is the keys of one table.
type hasher struct {
	k       [6]uint64
	high    [256]uint8
	low     [256]uint8
	lowBack [256]uint8 // lowBack[low[x]] == x
}

// newHasher draws keys.
func newHasher() *hasher {
	h := &hasher{}
	var b [len(h.k)*8 + 512]byte
	rand.Read(b[:]) // never fails
	for i := range h.k {
		h.k[i] = binary.LittleEndian.Uint64(b[i*8:]) | 1<<63 | 1 // never a small factor, never an even one
	}
	copy(h.high[:], b[len(h.k)*8:])
	shuffle(&h.low, b[len(h.k)*8+256:])
	for i, v := range h.low {
		h.lowBack[v] = uint8(i)
	}
	return h
}

// shuffle fills p with a permutation drawn from 256 random bytes (the bias of a byte modulo n is of no matter here).
func shuffle(p *[256]uint8, random []byte) {
	for i := range p {
		p[i] = uint8(i)
	}
	for i := 255; i > 0; i-- {
		j := int(random[i]) % (i + 1)
		p[i], p[j] = p[j], p[i]
	}
}

// fold multiplies and mixes the halves of the product.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// client hashes the address of a client's end.
func (h *hasher) client(a stack.Addr) uint64 {
	hi, lo := a.Words()
	return fold(hi^h.k[0], lo^h.k[1])
}

// part is what a client's address adds to the shard.
func (h *hasher) part(client uint64) uint8 { return uint8(client * h.k[5] >> 56) }

// shard returns the shard of a client's end whose address hashes to client.
func (h *hasher) shard(client uint64, port uint16) uint8 {
	return h.part(client) ^ h.high[port>>8] ^ h.low[port&255]
}

// port returns the one port of upper byte upper that leads to the shard.
func (h *hasher) port(client uint64, shard, upper uint8) uint16 {
	return uint16(upper)<<8 | uint16(h.lowBack[h.part(client)^shard^h.high[upper]])
}

// end hashes the client's end: its address, hashed, port and protocol.
func (h *hasher) end(client uint64, port uint16, proto uint8) uint32 {
	return uint32(fold(client^uint64(port)^uint64(proto)<<32^h.k[4], h.k[3]) * h.k[5] >> 32)
}

// tuple hashes a whole tuple: client's end (hashed), other end's address, ports and protocol in one word.
func (h *hasher) tuple(client uint64, other stack.Addr, rest uint64) uint32 {
	hi, lo := other.Words()
	return uint32(fold(client^rest^h.k[4], fold(hi^h.k[2], lo^h.k[3])) * h.k[5] >> 32)
}

// key is a tuple prepared for looking up: which end is the client's, the hashes, and what an entry is compared with.
type key struct {
	wideEnds
	addrs uint64 // both addresses when narrow
	of    uint64 // hash of the client's address
	ports uint32
	hash  uint32 // of the client's end
	whole uint32 // of all of it, 0: not needed so far
	dir   Direction
	proto uint8
	shard uint8

	narrow bool
	ready  bool
}

// key prepares the tuple t of a packet in direction d. Filled in place: copying it out cost Touch 7 of 34 ns.
func (h *hasher) key(k *key, t *stack.Tuple, d Direction) {
	client, other := t.Src, t.Dst
	clientPort, otherPort := t.SrcPort, t.DstPort
	if d == Reply {
		client, other = t.Dst, t.Src
		clientPort, otherPort = t.DstPort, t.SrcPort
	}
	ports := packPorts(clientPort, otherPort)
	c := h.client(client)
	k.client, k.other = client, other
	k.addrs = packAddrs(client, other)
	k.ports = ports
	k.of = c
	k.hash = h.end(c, clientPort, t.Proto)
	k.whole = 0
	k.dir = d
	k.proto = t.Proto
	k.shard = h.shard(c, clientPort)
	k.narrow = client.Is4() && other.Is4()
	k.ready = true
}

// wholeOf returns the hash of all of k, never 0.
func (h *hasher) wholeOf(k *key) uint32 {
	if k.whole == 0 {
		k.whole = max(h.tuple(k.of, k.other, uint64(k.ports)|uint64(k.proto)<<32), 1)
	}
	return k.whole
}
