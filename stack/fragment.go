package stack

import (
	"encoding/binary"

	"tapdirector/tap"
)

// IPv4 fragmentation (RFC 791 section 3.2)
//
// Every fragment but the last holds a multiple of 8 bytes of payload. The first carries all options, the others those whose "copied" bit is
// set. A fragment may be fragmented again: offsets start at its own, and its "more fragments" goes to the last piece. A packet that
// must not be fragmented, and IPv6, get an ICMP error instead (ICMPTooBig); superpackets are segmented, never fragmented.

// FragmentIPv4 cuts f into fragments of at most mtu bytes of L3 and hands them to emit in order, borrowed as with Segment. A partial checksum is
// completed first, in f. A packet that fits is emitted as it is: f itself. It reports false for IPv6, DF, superpackets, an mtu with no
// room for 8 bytes of payload, and when a is full: then the pieces emitted so far are all.
func FragmentIPv4(f *tap.Frame, p *Packet, mtu int, a *tap.Arena, emit func(*tap.Frame)) bool {
	if p.Kind != KindIPv4 || f.Header.Super() {
		return false
	}
	if int(p.L3Len) <= mtu {
		CompleteChecksum(f, p)
		emit(f)
		return true
	}
	ipLen := ipv4HeaderLen(f.Bytes()[p.L3:])
	room := (mtu - ipLen) &^ 7
	if p.DF || room < 8 {
		return false
	}
	CompleteChecksum(f, p)
	b := f.Bytes()
	w := whole{eth: b[:p.L3], ip: b[p.L3:][:ipLen], data: b[int(p.L3)+ipLen:]}
	s := pieces.Get().(*tap.Frame)
	defer pieces.Put(s)
	for off := 0; off < len(w.data); off += room {
		var ok bool
		if *s, ok = w.piece(a, off, room); !ok {
			return false
		}
		emit(s)
	}
	return true
}

// ipv4HeaderLen returns the bytes of the header at the start of ip.
func ipv4HeaderLen(ip []byte) int { return int(ip[0]&15) * 4 }

// whole is a packet to be cut: its Ethernet and IP headers, and the rest. It borrows the packet's bytes.
type whole struct{ eth, ip, data []byte }

// piece builds the fragment that starts off bytes into the data and holds at most room bytes of it.
func (w *whole) piece(a *tap.Arena, off, room int) (tap.Frame, bool) {
	data := w.data[off:min(off+room, len(w.data))]
	s, ok := a.Frame(len(w.eth) + len(w.ip) + len(data))
	if !ok {
		return s, false
	}
	b := s.Bytes()
	copy(b, w.eth)
	h := b[len(w.eth):]
	hdrLen := copy(h, w.ip)
	if off > 0 {
		hdrLen = copiedOptions(h[:hdrLen])
	}
	n := hdrLen + copy(h[hdrLen:], data)
	s.Trim(len(w.eth) + n)
	h[0] = 4<<4 | uint8(hdrLen/4)
	binary.BigEndian.PutUint16(h[2:], uint16(n))
	word := binary.BigEndian.Uint16(w.ip[6:]) + uint16(off/8)
	if off+len(data) < len(w.data) {
		word |= ipv4MF
	}
	binary.BigEndian.PutUint16(h[6:], word)
	setIPv4Checksum(h[:hdrLen])
	return s, true
}

// copiedOptions moves the options of header h that every fragment carries to its front, pads with end-of-options to a multiple of
// 4 bytes and returns the new header length. Parse has checked that the options' lengths are true.
func copiedOptions(h []byte) int {
	to := ipv4MinLen
	for o := h[ipv4MinLen:]; len(o) > 0 && o[0] != ipv4OptEnd; {
		n := 1
		if o[0] != ipv4OptNop {
			n = int(o[1])
		}
		if o[0]&ipv4OptCopied != 0 {
			to += copy(h[to:], o[:n])
		}
		o = o[n:]
	}
	for ; to%4 != 0; to++ {
		h[to] = ipv4OptEnd
	}
	return to
}
