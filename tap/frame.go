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
func (h *Header) Partial() bool { return h.Flags&FlagNeedsCsum != 0 }

// Super reports whether the frame is a superpacket: several segments in one.
func (h *Header) Super() bool { return h.GSOType != GSONone }

// Plain reports whether there is nothing to complete in the frame and nothing to cut.
func (h *Header) Plain() bool { return h.Flags&^FlagDataValid|h.GSOType == 0 }

// unfinished reports whether the frame needs its header to be understood: a device without headers must not send it.
func (h Header) unfinished() bool { return h.Partial() || h.Super() }

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

// refusal names what the kernel's virtio_net_hdr_to_skb has against a frame of n bytes with this header; "" means it takes it.
// It is what a TAP answers with EINVAL.
func (h Header) refusal(n int) string {
	switch {
	case n < EthernetLen:
		return "shorter than an Ethernet header"
	case h.Partial() && int(h.CsumStart)+int(h.CsumOffset)+2 > n:
		return "checksum field lies beyond the frame"
	case int(h.HdrLen) > n:
		return "headers longer than the frame"
	case h.Super() && h.GSOSize == 0:
		return "superpacket without a segment size"
	}
	switch h.GSOType &^ GSOECN {
	case GSONone, GSOTCPv4, GSOTCPv6, GSOUDP, GSOUDPL4:
		return ""
	}
	return "unknown GSO type"
}

// Frame is one Ethernet frame, or superpacket, with its virtio-net header.
// Its buffer has at least HeaderLen free bytes before the frame: Queue.Write uses them.
type Frame struct {
	Header Header
	buf    []byte // the whole buffer, headroom included
	b      []byte // the end of it: the frame
}

// NewFrame returns a frame of its own memory that holds a copy of b behind Headroom bytes.
func NewFrame(h Header, b []byte) Frame {
	buf := make([]byte, Headroom+len(b))
	copy(buf[Headroom:], b)
	return Frame{Header: h, buf: buf, b: buf[Headroom:]}
}

// Bytes returns the frame from its Ethernet header to its last byte: the frame's own bytes, not a copy.
func (f *Frame) Bytes() []byte { return f.b }

// Plain reports whether the frame is an ordinary one: there is nothing to complete in it and nothing to cut.
func (f *Frame) Plain() bool { return f.Header.Plain() }

// Len is the number of bytes in the frame.
func (f *Frame) Len() int { return len(f.b) }

// off is where the frame starts in buf.
func (f *Frame) off() int { return len(f.buf) - len(f.b) }

// Trim cuts the frame to its first n bytes; n is at most Len.
func (f *Frame) Trim(n int) { f.buf, f.b = f.buf[:f.off()+n], f.b[:n] }

// Prepend moves the start of the frame n bytes into the headroom (n < 0: out of it, into the frame).
// It reports false, and changes nothing, when fewer than HeaderLen bytes of headroom would remain.
func (f *Frame) Prepend(n int) bool {
	off := f.off() - n
	if off < HeaderLen || off > len(f.buf) {
		return false
	}
	f.b = f.buf[off:]
	return true
}

// Clone returns a copy with memory of its own: for a frame that must outlive the batch.
func (f *Frame) Clone() Frame { return NewFrame(f.Header, f.Bytes()) }

// wire encodes the virtio header in front of the frame and returns both: what a TAP with IFF_VNET_HDR reads and writes.
func (f *Frame) wire() []byte {
	b := f.buf[f.off()-HeaderLen:]
	f.Header.encode(b)
	return b
}
