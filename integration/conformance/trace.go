package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
)

// A frame as a line of text, from its bytes alone: a second opinion beside package stack. What is not written here is not compared.

// describe writes a frame that left by a link. ids are the IPv4 identifications that the script's frames had: others are the director's own.
func describe(l link, b []byte, ids map[uint16]bool) string {
	if len(b) < ethLen {
		return fmt.Sprintf("%v short frame %x", l, b)
	}
	dst, src := stack.MAC(b[0:6]), stack.MAC(b[6:12])
	text := fmt.Sprintf("%v to %s", l, nameOfMAC(dst))
	if src != ourMAC[l] {
		text += " from " + nameOfMAC(src)
	}
	w := writer{ids: ids}
	switch t := binary.BigEndian.Uint16(b[12:]); t {
	case 0x0800:
		w.ip4(b[ethLen:], false)
	case 0x86dd:
		w.ip6(b[ethLen:], false)
	default:
		w.add("ethertype %04x %x", t, b[ethLen:])
	}
	return text + ":" + w.String()
}

// writer writes words, each after a space.
type writer struct {
	strings.Builder
	ids map[uint16]bool
}

func (w *writer) add(format string, args ...any) {
	w.WriteByte(' ')
	fmt.Fprintf(&w.Builder, format, args...)
}

// ip4 writes an IPv4 packet; quoted ones may be cut short.
func (w *writer) ip4(p []byte, quoted bool) {
	if len(p) < 20 || len(p) < int(p[0]&15)*4 || p[0]&15 < 5 {
		w.add("IPv4 cut %x", p)
		return
	}
	hl, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	ends := [2]netip.Addr{netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))}
	frag := binary.BigEndian.Uint16(p[6:])
	first := frag&0x1fff == 0
	body := w.lengths(p, hl, total, quoted)
	w.l4(p[9], ends, body, first && !quoted && frag&0x2000 == 0, first)
	w.add("ttl %d", p[8])
	if p[1] != 0 {
		w.add("tos %#x", p[1])
	}
	if isTunnel(p[9], body) {
		w.ip4Flags(frag)
		w.add("id own")
	} else if id := binary.BigEndian.Uint16(p[4:]); w.ids[id] && !isOwnEcho(p, hl, ends[0]) {
		w.ip4Flags(frag)
		w.add("id %#x", id)
	} else {
		w.ip4Flags(frag &^ 0x4000)
		w.add("id own")
	}
	if hl > 20 {
		w.add("options %x", p[20:hl])
	}
	if checksum.Checksum(p[:hl], 0) != 0xffff {
		w.add("WRONG IP CHECKSUM")
	}
}

// isOwnEcho reports whether p is the director's answer to a ping, which may take its identification from the question.
func isOwnEcho(p []byte, hl int, src netip.Addr) bool {
	h, ok := hostOf(src)
	return ok && h.local() && p[9] == 1 && len(p) > hl && p[hl] == 0
}

func (w *writer) ip4Flags(frag uint16) {
	for i, n := range []string{"reserved", "df", "mf"} {
		if frag>>(15-i)&1 != 0 {
			w.add("%s", n)
		}
	}
	if frag&0x1fff != 0 {
		w.add("offset %d", int(frag&0x1fff)*8)
	}
}

// lengths returns what is behind the IP headers, and writes lengths that do not fit the frame.
func (w *writer) lengths(p []byte, from, total int, quoted bool) []byte {
	switch {
	case total > len(p):
		if !quoted {
			w.add("CUT %d OF %d", len(p), total)
		}
		return p[from:]
	case total < from:
		w.add("LENGTH %d", total)
		return nil
	case total < len(p) && !quoted:
		w.add("padded")
	}
	return p[from:total]
}

// ip6 writes an IPv6 packet with its extension headers.
func (w *writer) ip6(p []byte, quoted bool) {
	if len(p) < 40 {
		w.add("IPv6 cut %x", p)
		return
	}
	ends := [2]netip.Addr{netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))}
	body := w.lengths(p, 40, 40+int(binary.BigEndian.Uint16(p[4:])), quoted)
	next, first, ext := p[6], true, ""
	for len(body) >= 8 && (next == 0 || next == 60 || next == 43 || next == 44) {
		n := 8 + int(body[1])*8
		if next == 44 {
			n, first = 8, binary.BigEndian.Uint16(body[2:])&0xfff8 == 0
		}
		n = min(n, len(body))
		ext += fmt.Sprintf(" ext %d %x", next, body[1:n])
		next, body = body[0], body[n:]
	}
	w.l4(next, ends, body, first && !quoted, first)
	w.add("ttl %d", p[7])
	if tc := p[0]<<4 | p[1]>>4; tc != 0 {
		w.add("tos %#x", tc)
	}
	w.WriteString(ext)
}

// l4 writes what an IP packet carries. Its checksum can be judged only where all of it is there.
func (w *writer) l4(proto uint8, ends [2]netip.Addr, b []byte, whole, first bool) {
	ports := (proto == 6 || proto == 17 || proto == packettest.SCTP) && !isGUE(proto, b)
	if first && ports && len(b) >= 4 {
		w.add("%s:%d > %s:%d", nameOf(ends[0]), binary.BigEndian.Uint16(b), nameOf(ends[1]), binary.BigEndian.Uint16(b[2:]))
	} else {
		w.add("%s > %s", nameOf(ends[0]), nameOf(ends[1]))
	}
	switch {
	case first && isTunnel(proto, b):
		w.tunnel(proto, b, whole)
	case first && proto == 6 && len(b) >= 20:
		w.tcp(b)
	case first && proto == 17 && len(b) >= 8:
		w.udp(b)
	case first && proto == packettest.SCTP && len(b) >= sctpHeader:
		w.sctp(b)
		if !whole {
			w.add("sum %#08x", binary.LittleEndian.Uint32(b[sctpSum:]))
		}
	case first && (proto == 1 || proto == 58) && len(b) >= 8:
		w.icmp(b, proto == 58)
	default:
		w.add("protocol %d", proto)
		w.payload(b)
	}
	if whole {
		w.sum(proto, ends, b)
	}
}

func (w *writer) tcp(b []byte) {
	w.add("TCP %s seq %d ack %d win %d", flagNames(b[13]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint16(b[14:]))
	hl := int(b[12]>>4) * 4
	if hl < 20 || hl > len(b) {
		w.add("doff %d", hl)
		hl = 20
	}
	if hl > 20 {
		w.add("tcpoptions %x", b[20:hl])
	}
	w.payload(b[hl:])
}

func (w *writer) udp(b []byte) {
	w.add("UDP")
	if n := int(binary.BigEndian.Uint16(b[4:])); n != len(b) {
		w.add("udplen %d", n)
	}
	w.payload(b[8:])
}

func (w *writer) icmp(b []byte, six bool) {
	name := "ICMP"
	if six {
		name = "ICMPv6"
	}
	w.add("%s %d/%d arg %#x", name, b[0], b[1], binary.BigEndian.Uint32(b[4:]))
	isError := !six && (b[0] == 3 || b[0] == 4 || b[0] == 5 || b[0] == 11 || b[0] == 12) || six && b[0] < 128
	if !isError {
		w.payload(b[8:])
		return
	}
	w.add("about %d bytes [", len(b)-8)
	if six {
		w.ip6(b[8:], true)
	} else {
		w.ip4(b[8:], true)
	}
	w.WriteString(" ]")
}

// payload writes a sum, and what a script says as it is.
func (w *writer) payload(b []byte) {
	switch {
	case isText(b):
		w.add("data %d says %q", len(b), b)
	case len(b) > 0:
		w.add("data %d %08x", len(b), crc32.ChecksumIEEE(b))
	}
}

// isText reports whether b can be read, and is not the letters that payloads are filled with.
func isText(b []byte) (text bool) {
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z':
			// Either.
		case c >= ' ' && c <= '~' || c == '\r' || c == '\n':
			text = true
		default:
			return false
		}
	}
	return text
}

// sum says when the L4 checksum is missing or wrong, and by how much: an edit keeps the error as it was.
func (w *writer) sum(proto uint8, ends [2]netip.Addr, b []byte) {
	if proto == packettest.SCTP {
		w.sumOfSCTP(b)
		return
	}
	at := map[uint8]int{6: 16, 17: 6, 1: 2, 58: 2}[proto]
	if at == 0 || len(b) < at+2 {
		return
	}
	if proto == 17 && binary.BigEndian.Uint16(b[at:]) == 0 {
		w.add("nosum")
		return
	}
	sum := checksum.Checksum(b, 0)
	if proto != 1 {
		sum = checksum.Combine(sum, pseudo(proto, ends, len(b)))
	}
	if sum != 0xffff {
		w.add("WRONG CHECKSUM by %#04x", sum)
	}
}

func pseudo(proto uint8, ends [2]netip.Addr, n int) uint16 {
	p := append(ends[0].AsSlice(), ends[1].AsSlice()...)
	p = append(p, 0, proto, byte(n>>8), byte(n))
	return checksum.Checksum(p, 0)
}

func flagNames(flags uint8) string {
	var names []string
	for i, n := range [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if flags>>i&1 != 0 {
			names = append(names, n)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}
