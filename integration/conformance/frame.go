package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
)

// From the words of a ">" or "<" line to the bytes of a frame. Right packets are packettest's; what is to be wrong is made wrong afterwards.

// Offsets in a frame that scripts spoil.
const (
	ethLen  = 14
	ip4ID   = ethLen + 4
	tcpDoff = 12
	udpLen  = 4

	usualID = 0x1111 // of packets whose line says nothing else
)

// memory is what a player remembers of a case, for words that a line leaves out. Each side has its own: what it picked may differ.
type memory struct {
	client, server netip.AddrPort   // the ends of the last packet that was sent on
	last           [numLinks][]byte // the last frame that left by each link
	sent           [numLinks][]byte // the last frame that came in by each link
}

// draft is a frame in the making.
type draft struct {
	c     *testCase
	m     *memory
	link  link
	src   string
	dst   string
	spec  packettest.Spec
	icmp  string // the name of an error, "" for other frames
	arg   uint64 // its MTU, or pointer
	cite  string // what it quotes: "out" or "in"
	trim  int    // bytes of the quote
	spoil []func([]byte) []byte
	eth   *stack.MAC
}

// buildFrame makes the frame of a line. Its default is a packet of the first service: from client:40000 to it, or from the server that the
// last packet was sent to, back to the client.
func buildFrame(c *testCase, m *memory, s *step) (link, []byte, error) {
	d := &draft{c: c, m: m, link: ext, cite: "out", trim: 1 << 16}
	if s.verb == "<" {
		d.link = in
	}
	words := s.args
	if i := slices.Index(words, "->"); i >= 0 {
		if i > 1 || i+1 == len(words) {
			return 0, nil, fmt.Errorf("expected [SOURCE] -> DESTINATION WORDS")
		}
		d.src, d.dst = strings.Join(words[:i], ""), words[i+1]
		words = words[i+2:]
	}
	words, said := cutText(words)
	words = strings.Fields(strings.ReplaceAll(strings.Join(words, " "), "=", " ")) // "ttl=1" is "ttl 1", one word for a loop
	d.spec = packettest.Spec{DF: c.family == 4, ID: usualID, Seq: 1000, Ack: 2000, Payload: []byte("hello")}
	switch c.services[0].proto {
	case "tcp":
		d.spec.Proto = packettest.TCP
	case "udp":
		d.spec.Proto = packettest.UDP
	default:
		d.setMessage(uint64(len("hello")))
	}
	if err := d.read(words); err != nil {
		return 0, nil, err
	}
	if said != nil {
		d.spec.Payload = said
	}
	b, err := d.build()
	return d.link, b, err
}

// cutText takes the text off the end of a frame's words: "says TEXT" is lines, "begins TEXT" the beginning of one. \n is an end of line in the middle.
func cutText(words []string) (rest []string, payload []byte) {
	i := slices.IndexFunc(words, func(w string) bool { return w == "says" || w == "begins" })
	if i < 0 {
		return words, nil
	}
	text := strings.ReplaceAll(strings.Join(words[i+1:], " "), `\n`, "\r\n")
	if words[i] == "says" {
		text += "\r\n"
	}
	return words[:i], []byte(text)
}

var tcpFlags = map[string]uint8{
	"FIN": stack.FIN, "SYN": stack.SYN, "RST": stack.RST, "PSH": stack.PSH, "ACK": stack.ACK, "URG": 0x20, "ECE": 0x40, "CWR": 0x80, "none": 0,
}

// flagsOf reads "SYN,ACK"; no data goes with a SYN, a RST or nothing.
func flagsOf(word string) (flags uint8, ok bool) {
	for _, n := range strings.Split(word, ",") {
		f, known := tcpFlags[n]
		if !known {
			return 0, false
		}
		flags |= f
	}
	return flags, true
}

// read goes through the words.
func (d *draft) read(words []string) error {
	for i := 0; i < len(words); {
		if flags, ok := flagsOf(words[i]); ok {
			d.spec.Flags, d.spec.Proto = flags, packettest.TCP
			if flags&(stack.SYN|stack.RST) != 0 {
				d.spec.Payload = nil
			}
			i++
			continue
		}
		if chunks, ok := chunksOf(words[i]); ok {
			d.setChunks(chunks)
			i++
			continue
		}
		if f, ok := plainWords[words[i]]; ok {
			f(d)
			i++
			continue
		}
		f, ok := valueWords[words[i]]
		if !ok || i+1 == len(words) {
			return fmt.Errorf("the word %q is not known or lacks its value", words[i])
		}
		if err := f(d, words[i+1]); err != nil {
			return fmt.Errorf("%s %s: %w", words[i], words[i+1], err)
		}
		i += 2
	}
	return nil
}

// plainWords stand alone.
var plainWords = map[string]func(*draft){
	"tcp":      func(d *draft) { d.spec.Proto = packettest.TCP },
	"udp":      func(d *draft) { d.spec.Proto = packettest.UDP },
	"open":     func(d *draft) { d.open() },
	"nodf":     func(d *draft) { d.spec.DF = false },
	"more":     func(d *draft) { d.spec.MF = true },
	"nosum":    func(d *draft) { d.spec.NoCsum = true },
	"echo":     func(d *draft) { d.echo() },
	"badsum":   func(d *draft) { d.onL4(func(l4 []byte, at int) { l4[at] ^= 0x55 }) },
	"badipsum": func(d *draft) { d.later(func(b []byte) []byte { b[ethLen+10] ^= 0x55; return b }) },
	"reserved": func(d *draft) { d.onIP4(func(ip []byte) { ip[6] |= 0x80 }) },
}

// valueWords have a value.
var valueWords = map[string]func(*draft, string) error{
	"data":   (*draft).setData,
	"ttl":    numeric(func(d *draft, n uint64) { d.spec.TTL = uint8(n); d.zeroTTL(n) }),
	"id":     numeric(func(d *draft, n uint64) { d.spec.ID = uint16(n) }),
	"seq":    numeric(func(d *draft, n uint64) { d.spec.Seq = uint32(n) }),
	"ack":    numeric(func(d *draft, n uint64) { d.spec.Ack = uint32(n) }),
	"offset": numeric(func(d *draft, n uint64) { d.spec.FragOffset = int(n) }),
	"proto":  numeric(func(d *draft, n uint64) { d.spec.Proto = uint8(n) }),
	"quote":  numeric(func(d *draft, n uint64) { d.trim = int(n) }),
	"arg":    numeric(func(d *draft, n uint64) { d.arg = n }),
	"tos":    numeric(func(d *draft, n uint64) { d.setTOS(uint8(n)) }),
	"doff":   numeric(func(d *draft, n uint64) { d.onTCP(func(t []byte) { t[tcpDoff] = byte(n) << 4 }) }),
	"udplen": numeric(func(d *draft, n uint64) {
		d.onTCP(func(t []byte) { binary.BigEndian.PutUint16(t[udpLen:], uint16(n)) })
	}),
	"message":  numeric((*draft).setMessage),
	"chunklen": numeric(func(d *draft, n uint64) { d.setChunkLen(uint16(n)) }),
	"bare":     numeric(func(d *draft, n uint64) { d.setBare(int(n)) }),
	"iplen":    numeric(func(d *draft, n uint64) { d.setIPLen(uint16(n)) }),
	"version": numeric(func(d *draft, n uint64) {
		d.later(func(b []byte) []byte { b[ethLen] = b[ethLen]&15 | byte(n)<<4; return b })
	}),
	"cut":        numeric(func(d *draft, n uint64) { d.later(func(b []byte) []byte { return b[:len(b)-int(n)] }) }),
	"pad":        numeric(func(d *draft, n uint64) { d.later(func(b []byte) []byte { return append(b, make([]byte, n)...) }) }),
	"options":    hexed(func(d *draft, b []byte) { d.spec.IPOptions = b }),
	"tcpoptions": hexed(func(d *draft, b []byte) { d.spec.TCPOptions = b }),
	"ext":        (*draft).setExt,
	"icmp":       func(d *draft, v string) error { d.icmp = v; return nil },
	"about":      func(d *draft, v string) error { d.cite = v; return nil },
	"to":         (*draft).setMAC,
}

func numeric(set func(*draft, uint64)) func(*draft, string) error {
	return func(d *draft, v string) error {
		n, err := strconv.ParseUint(v, 0, 32)
		if err == nil {
			set(d, n)
		}
		return err
	}
}

func hexed(set func(*draft, []byte)) func(*draft, string) error {
	return func(d *draft, v string) error {
		b, err := hex.DecodeString(v)
		if err == nil {
			set(d, b)
		}
		return err
	}
}

func (d *draft) later(f func([]byte) []byte) { d.spoil = append(d.spoil, f) }

// setData makes a payload of so many bytes.
func (d *draft) setData(v string) error {
	n, err := strconv.ParseUint(v, 0, 16)
	d.spec.Payload = make([]byte, n)
	for i := range d.spec.Payload {
		d.spec.Payload[i] = byte('a' + i%26)
	}
	return err
}

func (d *draft) setMAC(v string) error {
	if v == "all" {
		d.eth = &stack.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		return nil
	}
	h, err := hostNamed(v, d.c.family)
	d.eth = &h.mac
	return err
}

// zeroTTL: packettest takes 0 for its default.
func (d *draft) zeroTTL(n uint64) {
	if n > 0 {
		return
	}
	d.later(func(b []byte) []byte {
		if d.c.family == 6 {
			b[ethLen+7] = 0
			return b
		}
		b[ethLen+8] = 0
		fixIP4(b)
		return b
	})
}

func (d *draft) setTOS(n uint8) {
	d.later(func(b []byte) []byte {
		if d.c.family == 6 {
			b[ethLen] = 6<<4 | n>>4
			b[ethLen+1] = b[ethLen+1]&15 | n<<4
			return b
		}
		b[ethLen+1] = n
		fixIP4(b)
		return b
	})
}

func (d *draft) setIPLen(n uint16) {
	d.later(func(b []byte) []byte {
		if d.c.family == 6 {
			binary.BigEndian.PutUint16(b[ethLen+4:], n)
			return b
		}
		binary.BigEndian.PutUint16(b[ethLen+2:], n)
		fixIP4(b)
		return b
	})
}

// onIP4 edits an IPv4 header, whose checksum is then made right.
func (d *draft) onIP4(f func([]byte)) {
	d.later(func(b []byte) []byte {
		f(b[ethLen:])
		fixIP4(b)
		return b
	})
}

func fixIP4(b []byte) {
	ip := b[ethLen : ethLen+int(b[ethLen]&15)*4]
	binary.BigEndian.PutUint16(ip[10:], 0)
	binary.BigEndian.PutUint16(ip[10:], ^checksum.Checksum(ip, 0))
}

// onL4 hands out the L4 header and where its checksum is.
func (d *draft) onL4(f func(l4 []byte, at int)) {
	d.later(func(b []byte) []byte {
		at := map[uint8]int{packettest.TCP: 16, packettest.UDP: 6, packettest.SCTP: sctpSum}[d.spec.Proto]
		if at == 0 {
			at = 2 // ICMP
		}
		f(b[d.l4():], at)
		return b
	})
}

// onTCP edits an L4 header whose checksum is then made right again.
func (d *draft) onTCP(f func(l4 []byte)) {
	d.onL4(func(l4 []byte, at int) {
		before := checksum.Checksum(l4, 0)
		f(l4)
		after := checksum.Checksum(l4, 0)
		sum := checksum.Combine(checksum.Combine(^binary.BigEndian.Uint16(l4[at:]), after), ^before)
		binary.BigEndian.PutUint16(l4[at:], ^sum)
	})
}

func (d *draft) l4() int {
	if d.c.family == 6 {
		return ethLen + 40 + len(d.spec.Ext)
	}
	return ethLen + 20 + len(d.spec.IPOptions)
}

// extKinds are the IPv6 extension headers a script can name, each eight bytes.
var extKinds = map[string]struct {
	number uint8
	body   []byte // from the second byte on
}{
	"hop":      {0, []byte{0, 1, 4, 0, 0, 0, 0}},
	"dst":      {60, []byte{0, 1, 4, 0, 0, 0, 0}},
	"routing":  {43, []byte{0, 4, 0, 0, 0, 0, 0}}, // no segments left
	"segments": {43, []byte{0, 4, 1, 0, 0, 0, 0}}, // one segment left
	"fragment": {44, []byte{0, 0, 0, 0, 0, 0, 9}}, // an atomic fragment
	"unknown":  {253, []byte{0, 1, 4, 0, 0, 0, 0}},
}

// setExt chains extension headers: "hop,dst".
func (d *draft) setExt(v string) error {
	names := strings.Split(v, ",")
	for i, n := range names {
		k, ok := extKinds[n]
		if !ok {
			return fmt.Errorf("no such extension header")
		}
		if i == 0 {
			d.spec.ExtFirst = k.number
		}
		next := d.spec.Proto
		if i+1 < len(names) {
			next = extKinds[names[i+1]].number
		}
		d.spec.Ext = append(append(d.spec.Ext, next), k.body...)
	}
	return nil
}

// open makes it the first packet of a connection.
func (d *draft) open() {
	if d.spec.Proto == packettest.TCP {
		d.spec.Flags, d.spec.Payload = stack.SYN, nil
	}
	if d.spec.Proto == packettest.SCTP {
		d.setChunks(packettest.Chunk(packettest.Init, nil))
	}
}

func (d *draft) echo() {
	d.spec.Proto, d.spec.ICMPType = packettest.ICMP, 8
	if d.c.family == 6 {
		d.spec.Proto, d.spec.ICMPType = packettest.ICMPv6, 128
	}
	d.spec.ICMPID, d.spec.ICMPSeq = 0x1234, 1
}

// build puts the addresses in, and makes the frame.
func (d *draft) build() ([]byte, error) {
	if d.icmp != "" {
		if err := d.quoteError(); err != nil {
			return nil, err
		}
	}
	var err error
	if d.spec.Src, err = d.source(); err != nil {
		return nil, err
	}
	if d.spec.Dst, err = d.destination(); err != nil {
		return nil, err
	}
	d.spec.SrcMAC, d.spec.DstMAC = gateway.mac, ourMAC[d.link]
	if h, ok := hostOf(d.spec.Src.Addr()); ok && h.link == d.link {
		d.spec.SrcMAC = h.mac
	}
	if d.eth != nil {
		d.spec.DstMAC = *d.eth
	}
	if d.spec.Src.Addr().Is4() != d.spec.Dst.Addr().Is4() {
		return nil, fmt.Errorf("from %v to %v: not of one family", d.spec.Src, d.spec.Dst)
	}
	b := d.spec.Bytes()
	for _, f := range d.spoil {
		b = f(b)
	}
	return b, nil
}

func (d *draft) source() (netip.AddrPort, error) {
	switch {
	case d.src != "":
		return endpoint(d.src, d.c.family)
	case d.icmp != "" && d.link == ext:
		return endpoint("gw", d.quotedFamily())
	case d.icmp != "":
		return endpoint("router", d.quotedFamily())
	case d.link == ext:
		return endpoint("client:40000", d.c.family)
	case d.m.server.IsValid():
		return d.m.server, nil
	}
	return endpoint(d.c.services[0].servers[0].address, d.c.family)
}

func (d *draft) destination() (netip.AddrPort, error) {
	switch {
	case d.dst != "":
		return endpoint(d.dst, d.c.family)
	case d.icmp != "":
		return d.quotedSource()
	case d.link == ext:
		return endpoint(d.c.services[0].listen[0], d.c.family)
	case d.m.client.IsValid():
		return d.m.client, nil
	}
	return endpoint("client:40000", d.c.family)
}
