package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// Fragments. A line with "pieces 0-48,48-" sends its packet in fragments, and what comes out is put together before it is written down: LVS's host
// reassembles and cuts anew, we do not, and what counts is what arrives. What is not complete has not arrived.

// cut takes "pieces SPEC" out of a line's words.
func cutWords(words []string) (rest []string, spec string) {
	i := slices.Index(words, "pieces")
	if i < 0 || i+1 == len(words) {
		return words, ""
	}
	return slices.Concat(words[:i], words[i+2:]), words[i+1]
}

// cutPieces cuts a frame's packet behind its IP header. spec lists the parts in the order in which they are sent, "0-48,48-" (to the end); or it is a
// number of bytes for each, in order, or with a minus before it from the last to the first.
func cutPieces(b []byte, spec string, id uint32) (frames [][]byte, err error) {
	n := ipLen(b)
	data := b[n:]
	var parts [][2]int
	if size, err := strconv.Atoi(spec); err == nil && size != 0 {
		for at := 0; at < len(data); at += max(size, -size) {
			parts = append(parts, [2]int{at, min(at+max(size, -size), len(data))})
		}
		if size < 0 {
			slices.Reverse(parts)
		}
	} else {
		for _, s := range strings.Split(spec, ",") {
			from, to, _ := strings.Cut(s, "-")
			a, err := strconv.Atoi(from)
			z, err2 := strconv.Atoi(cmp.Or(to, strconv.Itoa(len(data))))
			if err != nil || err2 != nil || a%8 != 0 || a >= z || z > len(data) {
				return nil, fmt.Errorf("pieces %s of %d bytes: expected FROM-TO, FROM a multiple of 8", s, len(data))
			}
			parts = append(parts, [2]int{a, z})
		}
	}
	for _, p := range parts {
		frames = append(frames, fragment(b[:n], data[p[0]:p[1]], p[0], p[1] < len(data), id))
	}
	return frames, nil
}

// ipLen is the length of a frame up to the end of its first IP header.
func ipLen(b []byte) int {
	if b[12] == 0x86 {
		return ethLen + 40
	}
	return ethLen + int(b[ethLen]&15)*4
}

// fragment makes one. That of IPv6 has a header of its own, right behind the first.
func fragment(head, part []byte, at int, more bool, id uint32) []byte {
	b := slices.Clone(head)
	word := uint16(at)
	if b[12] == 0x86 {
		if more {
			word |= 1
		}
		b = append(b, b[ethLen+6], 0, byte(word>>8), byte(word))
		b = binary.BigEndian.AppendUint32(b, id)
		b[ethLen+6] = 44
		b = append(b, part...)
		binary.BigEndian.PutUint16(b[ethLen+4:], uint16(len(b)-ethLen-40))
		return b
	}
	word /= 8
	if more {
		word |= 0x2000
	}
	b = append(b, part...)
	binary.BigEndian.PutUint16(b[ethLen+2:], uint16(len(b)-ethLen))
	binary.BigEndian.PutUint16(b[ip4ID:], uint16(id))
	binary.BigEndian.PutUint16(b[ethLen+6:], word)
	fixIP4(b)
	return b
}

// fragmentID is the identification of the n-th packet of a case that is sent in fragments. Cases have different ones: a guest serves many, and keeps what
// is incomplete.
func fragmentID(c *testCase, n int) uint32 {
	return crc32.ChecksumIEEE([]byte(c.name))&0xfff0 | uint32(n&15)
}

// piece is a fragment that left.
type piece struct {
	head, data []byte
	at         int
	more       bool
}

// assemble puts what left in fragments together; identifications are then all the same, and so is the flag against fragmentation.
func assemble(out []departure) (whole []departure) {
	type key struct {
		link link
		who  string // addresses, identification, protocol
	}
	var keys []key
	pieces := map[key][]piece{}
	for _, d := range out {
		p, who, ok := pieceOf(d.frame)
		k := key{d.link, who}
		if !ok {
			whole = append(whole, departure{d.link, sameID(slices.Clone(d.frame))})
			continue
		}
		if pieces[k] == nil {
			keys = append(keys, k)
		}
		pieces[k] = append(pieces[k], p)
	}
	for _, k := range keys {
		if b := join(pieces[k]); b != nil {
			whole = append(whole, departure{k.link, b})
		}
	}
	return whole
}

// pieceOf takes a fragment apart.
func pieceOf(b []byte) (p piece, who string, ok bool) {
	const n = ethLen + 40
	if len(b) < ethLen+20 || b[12] == 0x86 && (len(b) < n+8 || b[ethLen+6] != 44) || len(b) < ipLen(b) {
		return p, "", false
	}
	p.head = slices.Clone(b[:ipLen(b)])
	if b[12] == 0x86 {
		word := binary.BigEndian.Uint16(b[n+2:])
		p.at, p.more, p.data = int(word&^7), word&1 != 0, b[n+8:]
		p.head[ethLen+6] = b[n]
		return p, fmt.Sprintf("%x %x", b[ethLen+8:n], b[n+4:n+8]), true
	}
	word := binary.BigEndian.Uint16(b[ethLen+6:])
	p.at, p.more, p.data = int(word&0x1fff)*8, word&0x2000 != 0, b[len(p.head):]
	return p, fmt.Sprintf("%x %x %d", b[ethLen+12:ethLen+20], b[ip4ID:ip4ID+2], b[ethLen+9]), p.at > 0 || p.more
}

// join returns the packet that pieces are of; nil when something is missing, or when two say different things of one place: ends drop that (RFC 5722).
// The same piece twice is none of the latter.
func join(pieces []piece) []byte {
	slices.SortStableFunc(pieces, func(a, b piece) int { return a.at - b.at })
	pieces = slices.CompactFunc(pieces, func(a, b piece) bool { return a.at == b.at && a.more == b.more && len(a.data) == len(b.data) })
	var data []byte
	for i, p := range pieces {
		if p.at != len(data) || p.more != (i < len(pieces)-1) {
			return nil
		}
		data = append(data, p.data...)
	}
	b := append(slices.Clone(pieces[0].head), data...)
	if b[12] == 0x86 {
		binary.BigEndian.PutUint16(b[ethLen+4:], uint16(len(b)-ethLen-40))
		return b
	}
	binary.BigEndian.PutUint16(b[ethLen+2:], uint16(len(b)-ethLen))
	return sameID(b)
}

// sameID gives an IPv4 packet the identification of all scripts, and no flags.
func sameID(b []byte) []byte {
	if b[12] == 8 && b[13] == 0 {
		binary.BigEndian.PutUint16(b[ip4ID:], usualID)
		binary.BigEndian.PutUint16(b[ethLen+6:], 0)
		fixIP4(b)
	}
	return b
}
