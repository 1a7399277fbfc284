package stack

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// SCTP (RFC 9260): a common header of 12 bytes, ports first as in TCP, then chunks.
//
//	source port, destination port      4
//	verification tag                   4
//	CRC32c of the whole packet         4    little-endian, computed with 0 in its place
//	chunks: type, flags, length, value      length counts all four, and the next chunk begins at a multiple of 4
//
// A packet is known by one chunk, as to LVS: the first one, or an ABORT that comes second, behind a COOKIE ECHO or COOKIE ACK. Lengths of other chunks
// are not looked at, so they may lie as they like.
//
// The checksum has no pseudo-header: an edit of addresses does not touch it, an edit of a port does. Unlike the Internet checksum it depends on where in
// the packet a byte stands, but it is linear: with ^ for the bits that change,
//
//	CRC(m ^ d) = CRC(m) ^ L(d)
//
// where L(d), the CRC of d without the constants before and after it, only asks how many bytes follow d. Ports stand at the very beginning, so d is
// their 32 bits, followed by the rest of the packet. A byte that follows multiplies by x^8 modulo the polynomial, and n of them by x^8n, which a table
// knows. So an edit costs two multiplications of polynomials at most, however long the packet is, and a wrong checksum stays wrong, by the same amount.
// Measured (go test -bench SCTP ./stack, best of 33): 14 ns, above 2 KB 25, where computing it anew takes 27 ns for a packet of 48 bytes, 129 for 1500 and
// 435 for 9000, and twice that if damage is to stay visible.
//
// Of a first fragment the bytes that follow are not all there: its checksum cannot be edited. The director sees to it that none needs to be
// (director/fragment.go).

// Chunk types that count (RFC 9260 section 3.2).
const (
	ChunkData             = 0
	ChunkInit             = 1
	ChunkInitAck          = 2
	ChunkAbort            = 6
	ChunkShutdown         = 7
	ChunkShutdownAck      = 8
	ChunkError            = 9
	ChunkCookieEcho       = 10
	ChunkCookieAck        = 11
	ChunkShutdownComplete = 14
)

// Sizes and offsets in bytes.
const (
	sctpLen     = 12
	sctpTagOff  = 4
	sctpCsumOff = 8
	chunkLen    = 4 // of a chunk without a value
	initMinLen  = 20
)

func (p *Packet) parseSCTP(l4 []byte) Reason {
	if len(l4) < sctpLen+chunkLen {
		return p.cutShort(ReasonSCTPHeader)
	}
	p.SrcPort, p.DstPort = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	p.Event = sctpEvent(l4[sctpLen:])
	p.HasPorts, p.NoCsum, p.L4Len = true, true, sctpLen
	return ReasonNone
}

// sctpEvent returns the type of the chunk that chunks, at least four bytes, are known by.
func sctpEvent(chunks []byte) uint8 {
	first := chunks[0]
	if first != ChunkCookieEcho && first != ChunkCookieAck {
		return first
	}
	second := (int(binary.BigEndian.Uint16(chunks[2:])) + 3) &^ 3
	if second >= chunkLen && second+chunkLen <= len(chunks) && chunks[second] == ChunkAbort {
		return ChunkAbort
	}
	return first
}

// Opens reports whether p may begin a connection: a TCP SYN, an SCTP INIT, and anything of other protocols.
func (p *Packet) Opens() bool {
	switch p.Proto {
	case ProtoTCP:
		return p.Event&SYN != 0
	case ProtoSCTP:
		return p.Event == ChunkInit
	}
	return true
}

// Aborts reports whether p ends a connection at once: a TCP reset, an SCTP ABORT. Neither is ever answered.
func (p *Packet) Aborts() bool {
	return p.Proto == ProtoTCP && p.Event&RST != 0 || p.Proto == ProtoSCTP && p.Event == ChunkAbort
}

// ports are both, as they stand in the header.
func (p *Packet) ports() uint32 { return uint32(p.SrcPort)<<16 | uint32(p.DstPort) }

// editSCTP brings the checksum in step with ports that were others before; where it is not there, in the short quote of an ICMP error, or is not of the
// bytes at hand, there is nothing to do.
func (p *Packet) editSCTP(b []byte, was uint32) {
	n := int(uint32(p.L3)+p.L3Len) - int(p.L4)
	if p.Fragment || n < sctpLen || int(p.L4)+sctpLen > len(b) {
		return
	}
	field := b[p.L4+sctpCsumOff:][:4]
	d := crcShift(bits.ReverseBytes32(was^p.ports()), n)
	binary.LittleEndian.PutUint32(field, binary.LittleEndian.Uint32(field)^d)
}

// sctpSum computes the checksum of a whole packet.
func sctpSum(l4 []byte) uint32 {
	sum := crc32.Update(0, castagnoli, l4[:sctpCsumOff])
	sum = crc32.Update(sum, castagnoli, noSum[:])
	return crc32.Update(sum, castagnoli, l4[sctpLen:])
}

// noSum is what the checksum is computed with in its own place. On the stack it would not stay there: crc32 calls through a variable.
var noSum [4]byte

// setSCTPSum writes it.
func setSCTPSum(l4 []byte) { binary.LittleEndian.PutUint32(l4[sctpCsumOff:], sctpSum(l4)) }

// sctpSumOK verifies it.
func sctpSumOK(l4 []byte) bool {
	return binary.LittleEndian.Uint32(l4[sctpCsumOff:]) == sctpSum(l4)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Polynomials modulo that of CRC32c lie as in hash/crc32's tables: bit 31 is the coefficient of x^0, bit 0 that of x^31.

// crcPowers are x^8n: by n, and by n/crcLow.
const crcLow = 2048 // bytes: 8 KiB of table, so that packets of a usual MTU take one multiplication

var (
	crcPowersLow  [crcLow]uint32
	crcPowersHigh [maxDatagram/crcLow + 1]uint32
	crcReduce     [4][256]uint32 // what a byte at the lower end is after 4, 3, 2, 1 bytes more
)

func init() {
	step := func(v uint32) uint32 { return v>>8 ^ castagnoli[v&0xff] }
	for i := range 256 {
		v := uint32(i)
		for n := range crcReduce {
			v = step(v)
			crcReduce[3-n][i] = v
		}
	}
	v := uint32(1 << 31)
	for n := range crcPowersLow {
		crcPowersLow[n] = v
		v = step(v)
	}
	high := uint32(1 << 31)
	for n := range crcPowersHigh {
		crcPowersHigh[n] = high
		high = crcMultiply(high, v)
	}
}

// crcShift returns v after n bytes of zeros, at most maxDatagram.
func crcShift(v uint32, n int) uint32 {
	v = crcMultiply(v, crcPowersLow[n%crcLow])
	if n >= crcLow {
		v = crcMultiply(v, crcPowersHigh[n/crcLow])
	}
	return v
}

// crcMultiply returns the product of two polynomials. Of the 63 bits of their carry-less product the upper half is reduced already, the lower is
// what it will be after four bytes more.
func crcMultiply(a, b uint32) uint32 {
	p := carryless(a, b) << 1
	lo := uint32(p)
	return uint32(p>>32) ^ crcReduce[0][lo&0xff] ^ crcReduce[1][lo>>8&0xff] ^ crcReduce[2][lo>>16&0xff] ^ crcReduce[3][lo>>24]
}

// carryless multiplies without carries, by multiplications with: of every four bits one is taken, so that the eight ones which may meet in a place
// carry into the three above it, which are then cleared.
func carryless(a, b uint32) uint64 {
	const m = 0x1111111111111111
	a0, a1, a2, a3 := uint64(a&0x11111111), uint64(a&0x22222222), uint64(a&0x44444444), uint64(a&0x88888888)
	b0, b1, b2, b3 := uint64(b&0x11111111), uint64(b&0x22222222), uint64(b&0x44444444), uint64(b&0x88888888)
	p0 := a0*b0 ^ a1*b3 ^ a2*b2 ^ a3*b1
	p1 := a0*b1 ^ a1*b0 ^ a2*b3 ^ a3*b2
	p2 := a0*b2 ^ a1*b1 ^ a2*b0 ^ a3*b3
	p3 := a0*b3 ^ a1*b2 ^ a2*b1 ^ a3*b0
	return p0&m | p1&(m<<1) | p2&(m<<2) | p3&(m<<3)
}
