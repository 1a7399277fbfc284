package tap

import "encoding/binary"

// Who owns a frame's bytes
//
// A frame read from a queue lives in that queue's arena: it is borrowed, valid until the next Read of the same queue.
// Everything on the path of a frame edits it where it lies and hands it to another queue's Write before that Read.
// Clone is the one way out. Frames that the path makes itself (segments, fragments, ICMP errors) live in an Arena of
// the worker under the same rule: valid until the Arena's next Reset.

// Sizes in bytes.
const (
	HeaderLen   = 10                           // struct virtio_net_hdr, the legacy form that Linux TAPs use by default
	EthernetLen = 14                           // an untagged Ethernet header
	Headroom    = 128                          // free bytes before every frame: the virtio header, and room to encapsulate
	MaxFrameLen = EthernetLen + 4 + 40 + 65535 // a superpacket: Ethernet, one 802.1Q tag, an IPv6 header, 65,535 bytes of payload
)

// Flags and GSO types of a Header (linux/virtio_net.h).
const (
	FlagNeedsCsum = 1 // the L4 checksum holds only the folded pseudo-header sum; the rest starts at CsumStart
	FlagDataValid = 2 // the sender vouches for a full checksum

	GSONone  = 0
	GSOTCPv4 = 1
	GSOUDP   = 3 // UFO: fragmentation offload, never offered by us
	GSOTCPv6 = 4
	GSOUDPL4 = 5    // UDP segmentation offload (USO)
	GSOECN   = 0x80 // OR-ed to a TCP type: only the first segment carries CWR
)

// Header is a virtio-net header in host form. The zero value describes an ordinary frame with full checksums.
// HdrLen is a hint from the kernel only and must be recomputed before it is relied on.
type Header struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // bytes of headers, Ethernet to L4
	GSOSize    uint16 // payload bytes of one segment
	CsumStart  uint16 // offset of the L4 header from the first byte of the frame
	CsumOffset uint16 // offset of the checksum field from CsumStart
}

// Partial reports whether the L4 checksum is still to be completed.
func (h Header) Partial() bool { return h.Flags&FlagNeedsCsum != 0 }

// Super reports whether the frame is a superpacket: several segments in one.
func (h Header) Super() bool { return h.GSOType != GSONone }

// decodeHeader reads a little-endian virtio-net header (TUNSETVNETLE, or a little-endian machine); b holds at least HeaderLen bytes.
func decodeHeader(b []byte) Header {
	_ = b[HeaderLen-1]
	return Header{
		Flags:      b[0],
		GSOType:    b[1],
		HdrLen:     binary.LittleEndian.Uint16(b[2:]),
		GSOSize:    binary.LittleEndian.Uint16(b[4:]),
		CsumStart:  binary.LittleEndian.Uint16(b[6:]),
		CsumOffset: binary.LittleEndian.Uint16(b[8:]),
	}
}

// encode writes the header to the first HeaderLen bytes of b.
func (h Header) encode(b []byte) {
	_ = b[HeaderLen-1]
	b[0], b[1] = h.Flags, h.GSOType
	binary.LittleEndian.PutUint16(b[2:], h.HdrLen)
	binary.LittleEndian.PutUint16(b[4:], h.GSOSize)
	binary.LittleEndian.PutUint16(b[6:], h.CsumStart)
	binary.LittleEndian.PutUint16(b[8:], h.CsumOffset)
}

// Frame is one Ethernet frame, or superpacket, with its virtio-net header.
// Its buffer has at least HeaderLen free bytes before the frame: Queue.Write uses them.
type Frame struct {
	Header Header
	buf    []byte // the whole buffer, headroom included
	off    int    // where the frame starts in buf
}

// NewFrame returns a frame of its own memory that holds a copy of b behind Headroom bytes.
func NewFrame(h Header, b []byte) Frame {
	buf := make([]byte, Headroom+len(b))
	copy(buf[Headroom:], b)
	return Frame{Header: h, buf: buf, off: Headroom}
}

// Bytes returns the frame from its Ethernet header to its last byte: the frame's own bytes, not a copy.
func (f *Frame) Bytes() []byte { return f.buf[f.off:] }

// Len is the number of bytes in the frame.
func (f *Frame) Len() int { return len(f.buf) - f.off }

// Trim cuts the frame to its first n bytes; n is at most Len.
func (f *Frame) Trim(n int) { f.buf = f.buf[:f.off+n] }

// Prepend moves the start of the frame n bytes into the headroom (n < 0: out of it, into the frame).
// It reports false, and changes nothing, when fewer than HeaderLen bytes of headroom would remain.
func (f *Frame) Prepend(n int) bool {
	if f.off-n < HeaderLen || f.off-n > len(f.buf) {
		return false
	}
	f.off -= n
	return true
}

// Clone returns a copy with memory of its own: for a frame that must outlive the batch.
func (f *Frame) Clone() Frame { return NewFrame(f.Header, f.Bytes()) }

// wire encodes the virtio header in front of the frame and returns both: what a TAP with IFF_VNET_HDR reads and writes.
func (f *Frame) wire() []byte {
	b := f.buf[f.off-HeaderLen:]
	f.Header.encode(b)
	return b
}

// arenaAlign keeps frames on cache lines of their own.
const arenaAlign = 64

// Arena hands out frames from one block of memory and takes them all back at once. Small frames lie close together, so a
// batch of them stays in the first-level cache; buffers of 64 KiB each would share a handful of its sets.
// The zero value is of no use: see NewArena.
type Arena struct {
	mem  []byte
	used int
}

// NewArena returns an arena of size bytes; one largest frame needs MaxFrameLen + Headroom + 64.
func NewArena(size int) *Arena { return &Arena{mem: make([]byte, size)} }

// Reset takes all frames back: those handed out before are no longer valid.
func (a *Arena) Reset() { a.used = 0 }

// Fits reports whether a frame of n bytes can be had before the next Reset.
func (a *Arena) Fits(n int) bool { return a.used+Headroom+n <= len(a.mem) }

// Frame hands out a frame of n bytes whose contents are undefined; it reports false when the arena is used up.
func (a *Arena) Frame(n int) (Frame, bool) {
	if !a.Fits(n) {
		return Frame{}, false
	}
	end := a.used + Headroom + n
	f := Frame{buf: a.mem[a.used:end:end], off: Headroom}
	a.used = min((end+arenaAlign-1)&^(arenaAlign-1), len(a.mem))
	return f, true
}

// GiveBack returns the unused end of f, the frame handed out last, cut to n bytes: a read that was offered MaxFrameLen bytes
// keeps only what came.
func (a *Arena) giveBack(f *Frame, n int) {
	a.used -= (cap(f.buf) + arenaAlign - 1) &^ (arenaAlign - 1)
	f.buf = f.buf[: f.off+n : f.off+n]
	a.used += (len(f.buf) + arenaAlign - 1) &^ (arenaAlign - 1)
}
