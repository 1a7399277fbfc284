package packettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/tap"
)

const (
	ethernetLen = header.EthernetMinimumSize
	ip6Len      = header.IPv6MinimumSize
	fragmentLen = header.IPv6FragmentHeaderSize
)

// Fragments cuts the frame of a whole packet to fragments with size bytes of payload, a multiple of 8, in order. IPv4 options go to every
// fragment; IPv6 extension headers, as payload, behind the fragment header.
func Fragments(f tap.Frame, size int, id uint32) (frames []tap.Frame) {
	head, data := headers(f.Bytes())
	for off := 0; off < len(data); off += size {
		part := data[off:min(off+size, len(data))]
		b := slices.Clone(head)
		more := off+len(part) < len(data)
		if header.IPVersion(b[ethernetLen:]) == 4 {
			fragment4(b[ethernetLen:], len(part), off, more, id)
		} else {
			b = fragment6(b, len(part), off, more, id)
		}
		frames = append(frames, tap.NewFrame(tap.Header{}, append(b, part...)))
	}
	return frames
}

// headers splits a packet's frame at the end of its IP header.
func headers(b []byte) (head, data []byte) {
	n := ethernetLen + ip6Len
	if header.IPVersion(b[ethernetLen:]) == 4 {
		n = ethernetLen + int(header.IPv4(b[ethernetLen:]).HeaderLength())
	}
	return b[:n:n], b[n:]
}

func fragment4(b []byte, n, off int, more bool, id uint32) {
	ip := header.IPv4(b)
	ip.SetTotalLength(uint16(len(b) + n))
	ip.SetID(uint16(id))
	flags := ip.Flags() &^ header.IPv4FlagMoreFragments
	if more {
		flags |= header.IPv4FlagMoreFragments
	}
	ip.SetFlagsFragmentOffset(flags, uint16(off))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
}

func fragment6(b []byte, n, off int, more bool, id uint32) []byte {
	ip := header.IPv6(b[ethernetLen:])
	h := make([]byte, fragmentLen)
	h[0] = ip.NextHeader()
	word := uint16(off)
	if more {
		word |= 1
	}
	binary.BigEndian.PutUint16(h[2:], word)
	binary.BigEndian.PutUint32(h[4:], id)
	ip.SetNextHeader(header.IPv6FragmentHeader)
	ip.SetPayloadLength(uint16(fragmentLen + n))
	return append(b, h...)
}

// Reassemble makes the packet again of which frames, in any order, are all fragments: with the headers of the first. It errs when bytes are missing or
// there twice, or when headers that must be the same differ.
func Reassemble(frames []tap.Frame) (whole tap.Frame, err error) {
	var pieces []piece
	for i := range frames {
		pieces = append(pieces, pieceOf(frames[i].Bytes()))
	}
	slices.SortFunc(pieces, func(a, b piece) int { return a.off - b.off })
	var data []byte
	for i, p := range pieces {
		if p.off != len(data) || p.more != (i < len(pieces)-1) || p.id != pieces[0].id || p.ends != pieces[0].ends {
			return whole, fmt.Errorf("piece %d: %d bytes at %d, more %v, id %d, %s; before it are %d, id %d, %s",
				i, len(p.data), p.off, p.more, p.id, p.ends, len(data), pieces[0].id, pieces[0].ends)
		}
		data = append(data, p.data...)
	}
	if len(pieces) == 0 {
		return whole, errors.New("nothing to reassemble")
	}
	b := append(slices.Clone(pieces[0].head), data...)
	if header.IPVersion(b[ethernetLen:]) == 6 {
		header.IPv6(b[ethernetLen:]).SetPayloadLength(uint16(len(data)))
		return tap.NewFrame(tap.Header{}, b), nil
	}
	ip := header.IPv4(b[ethernetLen:])
	ip.SetTotalLength(uint16(len(b) - ethernetLen))
	ip.SetFlagsFragmentOffset(ip.Flags()&^header.IPv4FlagMoreFragments, 0)
	ip.SetID(0)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	return tap.NewFrame(tap.Header{}, b), nil
}

// piece is a fragment taken apart; head has no fragment header.
type piece struct {
	head, data []byte
	off        int
	more       bool
	id         uint32
	ends       string // hardware and IP addresses
}

func pieceOf(b []byte) (p piece) {
	head, data := headers(b)
	p.head, p.data = slices.Clone(head), data
	if header.IPVersion(head[ethernetLen:]) == 4 {
		ip := header.IPv4(head[ethernetLen:])
		p.off, p.more, p.id = int(ip.FragmentOffset()), ip.More(), uint32(ip.ID())
		p.ends = fmt.Sprintf("%x %v %v", head[:12], ip.SourceAddress(), ip.DestinationAddress())
		return p
	}
	ip := header.IPv6(p.head[ethernetLen:])
	p.ends = fmt.Sprintf("%x %v %v", head[:12], ip.SourceAddress(), ip.DestinationAddress())
	if ip.NextHeader() != header.IPv6FragmentHeader {
		return p
	}
	word := binary.BigEndian.Uint16(data[2:])
	p.off, p.more, p.id = int(word&^7), word&1 != 0, binary.BigEndian.Uint32(data[4:])
	ip.SetNextHeader(data[0])
	p.data = data[fragmentLen:]
	return p
}
