package stack

import (
	"encoding/binary"
	"math/bits"

	"tapdirector/tap"
)

// Rewrite is what SetMACs, SetDst or SetSrc or both, and DecTTL do to a packet, worked out once for all packets of its tuple: how a checksum changes depends on what is edited and on
// nothing else of the packet (checksum.go). It is for packets that are Simple, with a TTL above 0.
type Rewrite struct {
	macs     uint64 // the first eight bytes of the frame, as they are stored
	mac      uint32 // and the next four
	src, dst Addr
	srcPort  uint16
	dstPort  uint16
	ends     bool // more than the TTL changes
	udp      bool
	six      bool
	csum     uint16 // offset of the checksum of L4
	ip, l4   uint32 // folded deltas
	partial  uint16 // the same of an L4 checksum that is to be completed
}

// ttlDelta is what one less in the upper half of a word does to a sum: ~m + m - 0x0100.
const ttlDelta = 0xffff - 0x0100

// Begin makes r the edit that takes one from the TTL of packets like p, and sends their frames from src to dst.
func (r *Rewrite) Begin(p *Packet, dst, src MACWord) {
	r.macs, r.mac = bits.ReverseBytes64(uint64(dst)<<16|uint64(src)>>32), bits.ReverseBytes32(uint32(src))
	r.ends, r.six, r.ip = false, p.Kind == KindIPv6, ttlDelta
}

// SetDst has r change the destination as well, SetSrc the source, SetEnds both; one of them, once, after Begin.
func (r *Rewrite) SetDst(p *Packet, a Addr, port uint16) {
	r.src, r.srcPort, r.dst, r.dstPort = p.Src, p.SrcPort, a, port
	r.setEnds(p, deltaAddr(p.Dst, a))
}

// SetSrc is described at SetDst.
func (r *Rewrite) SetSrc(p *Packet, a Addr, port uint16) {
	r.src, r.srcPort, r.dst, r.dstPort = a, port, p.Dst, p.DstPort
	r.setEnds(p, deltaAddr(p.Src, a))
}

// SetEnds is described at SetDst.
func (r *Rewrite) SetEnds(p *Packet, to *Tuple) {
	r.src, r.srcPort, r.dst, r.dstPort = to.Src, to.SrcPort, to.Dst, to.DstPort
	r.setEnds(p, deltaAddr(p.Src, to.Src)+deltaAddr(p.Dst, to.Dst))
}

// setEnds notes that the ends are edited, the addresses by d.
func (r *Rewrite) setEnds(p *Packet, d delta) {
	r.ends, r.udp, r.csum = true, p.Proto == ProtoUDP, p.csum
	r.ip, r.partial = uint32(fold(uint64(d)+ttlDelta)), fold(uint64(d))
	r.l4 = uint32(fold(uint64(d + delta(^p.ports()) + delta(r.ports()))))
}

func (r *Rewrite) ports() uint32 { return uint32(r.srcPort)<<16 | uint32(r.dstPort) }

// Apply edits f; noCsum is its packet's.
func (r *Rewrite) Apply(f *tap.Frame, noCsum bool) {
	b := f.Bytes()
	h := b[:plainL4+4]
	binary.LittleEndian.PutUint64(h, r.macs)
	binary.LittleEndian.PutUint32(h[8:], r.mac)
	if r.six {
		r.applyIPv6(b)
	} else {
		r.applyIPv4(h)
	}
	if !r.ends || noCsum {
		return
	}
	field := b[r.csum:][:2]
	if f.Header.Partial() {
		binary.BigEndian.PutUint16(field, patchPartial(binary.BigEndian.Uint16(field), delta(r.partial)))
		return
	}
	sum := patchFolded(uint32(binary.BigEndian.Uint16(field)), r.l4)
	if sum == 0 && r.udp {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, uint16(sum))
}

func (r *Rewrite) applyIPv4(h []byte) {
	h = h[:plainL4+4]
	word := binary.BigEndian.Uint32(h[22:]) // TTL, protocol, checksum
	binary.BigEndian.PutUint32(h[22:], (word-0x0100_0000)&0xffff_0000|patchFolded(word&0xffff, r.ip))
	if r.ends {
		binary.BigEndian.PutUint32(h[26:], uint32(r.src.lo))
		binary.BigEndian.PutUint32(h[30:], uint32(r.dst.lo))
		binary.BigEndian.PutUint32(h[34:], r.ports())
	}
}

func (r *Rewrite) applyIPv6(b []byte) {
	h := b[:plainL4of6+4]
	h[tap.EthernetLen+7]--
	if r.ends {
		r.src.Put(h[22:38])
		r.dst.Put(h[38:54])
		binary.BigEndian.PutUint32(h[54:], r.ports())
	}
}

// patchFolded is patch with a delta of 16 bits.
func patchFolded(csum, d uint32) uint32 {
	s := (csum ^ 0xffff) + d
	return (s&0xffff + s>>16) ^ 0xffff
}
