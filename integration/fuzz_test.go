package integration_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// FuzzForward sends any bytes as a frame, with any virtio header, into one of the interfaces of a running director. The director must not panic, must count one verdict a
// frame, must leave the frame behind it alone; and if the frame was right in itself, what leaves is right: lengths, checksums, virtio header, size.
//
// Pad is how many zero bytes follow b: so large packets are short inputs, which the fuzzer minimizes in no time. Mend says whether checksums are mended before the
// frame is sent: else the fuzzer's frames would rarely be right.
//
// How to run it: go test -fuzz FuzzForward ./integration
func FuzzForward(f *testing.F) {
	for _, s := range fuzzSeeds() {
		b, pad := s.split()
		f.Add(s.iface, s.mend, pad, s.header(), b)
	}
	w := newFuzzWorld(f, fuzzDevices)
	f.Cleanup(func() { w.close(f) })
	f.Fuzz(func(t *testing.T, iface uint8, mend bool, pad uint16, hdr, b []byte) {
		if len(b)+int(pad) > tap.MaxFrameLen {
			return
		}
		in := tap.NewFrame(readHeader(hdr), append(slices.Clone(b), make([]byte, pad)...))
		if mend {
			mendChecksums(&in)
		}
		dev := int(iface) % len(fuzzDevices)
		right := judge(dev, &in, 0) == nil
		parked := w.kept()
		out := w.exec(t, dev, &in)
		if right {
			w.check(t, out, dev, &in)
			w.echo(t, out, dev, &in)
		}
		if !right && w.kept() != parked { // it would leave, wrong, while another frame is looked at
			w.close(t)
			w = newFuzzWorld(t, fuzzDevices)
		}
	})
}

// exec sends a frame, and its neighbour behind it, and returns what left. Others left before are not judged: what they came of is not known any more.
func (w *fuzzWorld) exec(t *testing.T, iface int, in *tap.Frame) []fuzzOutput {
	w.take()
	w.send(iface, in)
	neighbour := neighbourFrame().Frame()
	if iface == 0 {
		w.send(0, &neighbour)
	}
	out := w.settle(t)
	if n := w.d.Verdicts()["drop-panic"]; n != 0 {
		t.Fatalf("the director panicked: %+v %x", in.Header, clip(in.Bytes()))
	}
	if n := w.refused(); n != 0 {
		t.Fatalf("a device refused what came of %+v %s\n%x", in.Header, stack.Describe(in.Bytes()), clip(in.Bytes()))
	}
	for _, o := range out {
		if isNeighbour(o) {
			return out
		}
	}
	if iface == 0 {
		t.Fatalf("the frame behind it was lost or changed; verdicts: %v", w.d.Verdicts())
	}
	return out
}

// kept is how many frames were put aside, to leave later.
func (w *fuzzWorld) kept() uint64 {
	v := w.d.Verdicts()
	return v["parked"] + v["held-fragment"]
}

// readHeader reads a virtio header as the kernel writes it; missing bytes are zero.
func readHeader(hdr []byte) tap.Header {
	b := make([]byte, tap.HeaderLen)
	copy(b, hdr)
	le := binary.LittleEndian.Uint16
	return tap.Header{Flags: b[0], GSOType: b[1], HdrLen: le(b[2:]), GSOSize: le(b[4:]), CsumStart: le(b[6:]), CsumOffset: le(b[8:])}
}

// mendChecksums computes the IPv4 header's checksum and that of TCP, UDP or ICMP without options in between, as far as lengths make sense.
func mendChecksums(f *tap.Frame) {
	b := f.Bytes()
	if len(b) >= 18 && b[12] == 0x81 && b[13] == 0 { // a tag
		b = b[4:]
	}
	if len(b) < 14+20 {
		return
	}
	l3 := b[14:]
	switch ip := header.IPv4(l3); {
	case header.IPVersion(l3) == 4 && ip.IsValid(len(l3)) && ip.HeaderLength() >= 20 && int(ip.HeaderLength()) <= int(ip.TotalLength()):
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		src, dst := ip.SourceAddress(), ip.DestinationAddress()
		mendTransport(f.Header, ip.Protocol(), l3[ip.HeaderLength():ip.TotalLength()], func(n uint16) uint16 {
			return header.PseudoHeaderChecksum(ip.TransportProtocol(), src, dst, n)
		})
	case header.IPVersion(l3) == 6 && len(l3) >= 40 && int(header.IPv6(l3).PayloadLength()) <= len(l3)-40:
		ip := header.IPv6(l3)
		mendTransport(f.Header, ip.NextHeader(), l3[40:][:ip.PayloadLength()], func(n uint16) uint16 {
			return header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(ip.NextHeader()), ip.SourceAddress(), ip.DestinationAddress(), n)
		})
	}
}

func mendTransport(h tap.Header, proto uint8, l4 []byte, pseudo func(uint16) uint16) {
	seed, at := pseudo(uint16(len(l4))), 0
	switch proto {
	case packettest.SCTP:
		mendSCTP(l4)
	case packettest.TCP:
		at = 16
	case packettest.UDP:
		at = 6
	case packettest.ICMP:
		at, seed = 2, 0
	case packettest.ICMPv6:
		at = 2
	}
	if at == 0 || len(l4) < at+2 {
		return
	}
	field := l4[at:][:2]
	binary.BigEndian.PutUint16(field, 0)
	if h.Partial() && at > 2 {
		binary.BigEndian.PutUint16(field, seed)
		return
	}
	sum := ^checksum.Checksum(l4, seed)
	if sum == 0 && proto == packettest.UDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
}

// mendSCTP computes the checksum of an SCTP packet.
func mendSCTP(l4 []byte) {
	if len(l4) < 12 {
		return
	}
	copy(l4[8:12], []byte{0, 0, 0, 0})
	binary.LittleEndian.PutUint32(l4[8:], crc32.Checksum(l4, crc32.MakeTable(crc32.Castagnoli)))
}

// fuzzSeed is a frame to begin with.
type fuzzSeed struct {
	name  string
	iface uint8
	mend  bool
	frame tap.Frame
}

func (s *fuzzSeed) header() []byte {
	h, b := s.frame.Header, make([]byte, tap.HeaderLen)
	b[0], b[1] = h.Flags, h.GSOType
	for i, v := range []uint16{h.HdrLen, h.GSOSize, h.CsumStart, h.CsumOffset} {
		binary.LittleEndian.PutUint16(b[2+2*i:], v)
	}
	return b
}

// split returns the frame without the zero bytes at its end, when they are many, and their number.
func (s *fuzzSeed) split() (b []byte, pad uint16) {
	b = s.frame.Bytes()
	short := bytes.TrimRight(b, "\x00")
	if n := len(b) - len(short); n > 64 {
		return short, uint16(n)
	}
	return b, 0
}

// fuzzSeeds are frames of every kind that the path tells apart: to each service, from servers, into the world and back, errors, ARP and ND.
func fuzzSeeds() (seeds []fuzzSeed) {
	add := func(name string, iface uint8, s packettest.Spec) {
		s.SrcMAC, s.DstMAC = stack.MAC{2, 0, 0, 0, 0xcc, iface}, stack.MAC{2, 0, 0, 0, 0xaa, iface}
		seeds = append(seeds, fuzzSeed{name, iface, true, s.Frame()})
	}
	for _, v6 := range []bool{false, true} {
		family := "4"
		at := func(n, host int, port uint16) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, byte(n), byte(host)}), port)
		}
		icmp, unreachable := uint8(packettest.ICMP), uint8(3)
		if v6 {
			family = "6"
			at = func(n, host int, port uint16) netip.AddrPort {
				return netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:77:%d::%d]:%d", n, host, port))
			}
			icmp, unreachable = packettest.ICMPv6, 1
		}
		client, text := at(1, 2, 40000), []byte("hello")
		for _, port := range []uint16{70, 71, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89} {
			vip := at(1, 100, port)
			add(fmt.Sprintf("tcp%s-syn-%d", family, port), 0, packettest.Spec{Src: client, Dst: vip, Flags: stack.SYN, TCPOptions: []byte{2, 4, 5, 0xb4}})
			add(fmt.Sprintf("tcp%s-data-%d", family, port), 0, packettest.Spec{Src: client, Dst: vip, Flags: stack.ACK, Payload: text})
			add(fmt.Sprintf("udp%s-%d", family, port), 0, packettest.Spec{Src: client, Dst: vip, Proto: packettest.UDP, Payload: text})
			for name, chunks := range sctpSeeds {
				add(fmt.Sprintf("sctp%s-%s-%d", family, name, port), 0, packettest.Spec{Src: client, Dst: vip, Proto: packettest.SCTP, Payload: chunks})
			}
		}
		vip, server := at(1, 100, 80), at(2, 11, 80)
		add("super"+family, 0, packettest.Spec{Src: client, Dst: vip, Flags: stack.ACK, Payload: make([]byte, 4000), Partial: true, GSOSize: 1200})
		add("super-udp"+family, 0, packettest.Spec{Src: client, Dst: vip, Proto: packettest.UDP, Payload: make([]byte, 4000), Partial: true, GSOSize: 1200})
		add("partial"+family, 0, packettest.Spec{Src: client, Dst: vip, Proto: packettest.UDP, Payload: text, Partial: true})
		add("big"+family, 0, packettest.Spec{Src: client, Dst: vip, Proto: packettest.UDP, Payload: make([]byte, 1440), DF: true})
		add("big-fragmentable"+family, 0, packettest.Spec{Src: client, Dst: vip, Proto: packettest.UDP, Payload: make([]byte, 1440)})
		add("super-too-big"+family, 0, packettest.Spec{Src: client, Dst: vip, Flags: stack.ACK, Payload: make([]byte, 4000), Partial: true, GSOSize: 1450})
		add("ttl"+family, 0, packettest.Spec{Src: client, Dst: vip, Flags: stack.SYN, TTL: 1})
		add("reply-tcp"+family, 1, packettest.Spec{Src: server, Dst: client, Flags: stack.SYN | stack.ACK})
		add("reply-sctp"+family, 1, packettest.Spec{Src: server, Dst: client, Proto: packettest.SCTP, Payload: packettest.Chunk(packettest.InitAck, nil)})
		add("to-world-sctp"+family, 1, packettest.Spec{Src: server, Dst: at(9, 9, 53), Proto: packettest.SCTP, Payload: sctpSeeds["init"]})
		add("reply-udp"+family, 1, packettest.Spec{Src: server, Dst: client, Proto: packettest.UDP, Payload: text})
		add("to-world"+family, 1, packettest.Spec{Src: server, Dst: at(9, 9, 53), Proto: packettest.UDP, Payload: text})
		add("to-world-tcp"+family, 1, packettest.Spec{Src: server, Dst: at(9, 9, 443), Flags: stack.SYN})
		add("to-world-big"+family, 1, packettest.Spec{Src: server, Dst: at(9, 9, 53), Proto: packettest.UDP, Payload: make([]byte, 1350)})
		add("to-neighbour"+family, 1, packettest.Spec{Src: server, Dst: at(1, 7, 53), Proto: packettest.UDP, Payload: text})
		add("from-world"+family, 2, packettest.Spec{Src: at(9, 9, 53), Dst: at(3, 1, 1024), Proto: packettest.UDP, Payload: text})
		echo := packettest.Spec{Src: client, Dst: vip, Proto: icmp, ICMPType: 8, ICMPID: 7, Payload: text}
		if v6 {
			echo.ICMPType = 128
		}
		add("echo"+family, 0, echo)
		echo.Src, echo.Dst = server, at(9, 9, 0)
		add("echo-to-world"+family, 1, echo)
		options, extended := packettest.Spec{Src: client, Dst: at(1, 100, 70), Flags: stack.SYN}, []byte{packettest.TCP, 0, 1, 4, 0, 0, 0, 0}
		if options.IPOptions = []byte{7, 7, 4, 0, 0, 0, 0, 0}; v6 {
			options.IPOptions, options.ExtFirst, options.Ext = nil, 0, extended
		}
		add("options-across"+family, 0, options)
		add("bare-across"+family, 0, packettest.Spec{Src: client, Dst: at(1, 100, 70), Proto: packettest.UDP, Payload: text, NoCsum: !v6})
		quoteAcross := packettest.Spec{Src: at(1, 100, 70), Dst: client, Proto: packettest.UDP, Payload: text}
		add("error-across"+family, 0, packettest.Spec{Src: client, Dst: at(1, 100, 70), Proto: icmp, ICMPType: unreachable, ICMPCode: 4, Payload: quoteAcross.Bytes()[14:]})
		for way, f := range map[string]fragmentSeed{
			"across-":     {0, client, at(1, 100, 70)},
			"":            {0, client, vip},
			"reply-":      {1, server, client},
			"to-world-":   {1, server, at(9, 9, 53)},
			"from-world-": {2, at(9, 9, 53), at(3, 1, 1024)},
		} {
			all := packettest.Fragments(packettest.Spec{SrcMAC: stack.MAC{2, 0, 0, 0, 0xcc, f.iface}, DstMAC: stack.MAC{2, 0, 0, 0, 0xaa, f.iface},
				Src: f.src, Dst: f.dst, Proto: packettest.UDP, Payload: make([]byte, 120)}.Frame(), 64, 9)
			seeds = append(seeds, fuzzSeed{"fragment-first-" + way + family, f.iface, false, all[0]}, fuzzSeed{"fragment-last-" + way + family, f.iface, false, all[1]})
		}
		quote := packettest.Spec{Src: vip, Dst: client, Proto: packettest.UDP, Payload: text}
		add("error-from-client"+family, 0, packettest.Spec{Src: client, Dst: vip, Proto: icmp, ICMPType: unreachable, ICMPCode: 4, Payload: quote.Bytes()[14:]})
		quote.Src, quote.Dst = client, at(1, 100, 87)
		inside := packettest.Spec{Src: at(2, 1, 0), Dst: at(2, 11, 0), Proto: 4, Payload: quote.Bytes()[14:]}
		tooBig := packettest.Spec{Src: at(2, 77, 0), Dst: at(2, 1, 0), Proto: icmp, ICMPType: 3, ICMPCode: 4, ICMPSeq: 1290}
		if v6 {
			inside.Proto, tooBig.ICMPType, tooBig.ICMPCode = 41, 2, 0
		}
		tooBig.Payload = inside.Bytes()[14:]
		add("error-from-tunnel"+family, 1, tooBig)
		for _, port := range []uint16{70, 87, 88, 89} {
			super := packettest.Spec{Src: client, Dst: at(1, 100, port), Flags: stack.ACK, Payload: make([]byte, 4000), Partial: true, GSOSize: 1200}
			add(fmt.Sprintf("super-tunnel%s-%d", family, port), 0, super)
			add(fmt.Sprintf("big-tunnel%s-%d", family, port), 0, packettest.Spec{Src: client, Dst: at(1, 100, port), Proto: packettest.UDP, Payload: make([]byte, 1400)})
		}
		quote.Src, quote.Dst = client, server
		add("error-from-server"+family, 1, packettest.Spec{Src: server, Dst: client, Proto: icmp, ICMPType: unreachable, ICMPCode: 4, Payload: quote.Bytes()[14:]})
	}
	return slices.Concat(seeds, fuzzStateSeeds(), fuzzOddSeeds())
}

// sctpSeeds are chunks to begin with.
var sctpSeeds = map[string][]byte{
	"init":   packettest.Chunk(packettest.Init, nil),
	"data":   packettest.Chunk(packettest.Data, nil),
	"cookie": slices.Concat(packettest.Chunk(packettest.CookieEcho, nil), packettest.Chunk(packettest.Abort, nil)),
	"liar":   {packettest.CookieAck, 0, 0xff, 0xff, packettest.Abort, 0, 0, 0},
}

// fragmentSeed is a datagram in fragments to begin with.
type fragmentSeed struct {
	iface    uint8
	src, dst netip.AddrPort
}

// fuzzOddSeeds are what is no ordinary packet.
func fuzzOddSeeds() []fuzzSeed {
	client, vip := netip.MustParseAddrPort("10.77.1.2:40000"), netip.MustParseAddrPort("10.77.1.100:80")
	s := packettest.Spec{SrcMAC: stack.MAC{2, 0, 0, 0, 0xcc, 0}, DstMAC: stack.MAC{2, 0, 0, 0, 0xaa, 0}, Src: client, Dst: vip}
	first, later, options := s, s, s
	first.Proto, first.MF, first.Payload = packettest.UDP, true, make([]byte, 64)
	later.Proto, later.FragOffset, later.Payload = packettest.UDP, 72, make([]byte, 64)
	options.IPOptions = []byte{7, 7, 4, 0, 0, 0, 0, 0}
	extended := s
	extended.Src, extended.Dst = netip.MustParseAddrPort("[2001:db8:77:1::2]:40000"), netip.MustParseAddrPort("[2001:db8:77:1::100]:80")
	extended.Ext, extended.ExtFirst = []byte{packettest.TCP, 0, 1, 4, 0, 0, 0, 0}, 0
	fragment6 := extended
	fragment6.Proto, fragment6.ExtFirst, fragment6.Ext = packettest.UDP, 44, []byte{packettest.UDP, 0, 0, 1, 0, 0, 0, 9}
	b := s.Bytes()
	tagged := append(append(append([]byte{}, b[:12]...), 0x81, 0, 0, 5), b[12:]...)
	everyone := stack.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return []fuzzSeed{
		{"fragment-first", 0, false, first.Frame()},
		{"fragment-later", 0, false, later.Frame()},
		{"options", 0, false, options.Frame()},
		{"extension", 0, false, extended.Frame()},
		{"fragment6", 0, false, fragment6.Frame()},
		{"tagged", 0, false, tap.NewFrame(tap.Header{}, tagged)},
		{"short", 0, false, tap.NewFrame(tap.Header{}, b[:20])},
		{"empty", 0, false, tap.NewFrame(tap.Header{}, nil)},
		{"arp-request", 0, false, packettest.ARP(1, s.SrcMAC, everyone, client.Addr(), vip.Addr())},
		{"arp-reply", 2, false, packettest.ARP(2, strangerMAC, stack.MAC{2, 0, 0, 0, 0xaa, 2}, netip.MustParseAddr("10.77.3.254"), netip.MustParseAddr("10.77.3.1"))},
	}
}

var writeCorpus = flag.Bool("write-corpus", false, "write the seeds of FuzzForward to testdata")

// The corpus that is checked in is what fuzzSeeds makes, and what was found since. After a change: go test ./integration -run TestCorpus -write-corpus
func TestCorpus(t *testing.T) {
	dir := filepath.Join("testdata", "fuzz", "FuzzForward")
	for _, s := range fuzzSeeds() {
		file := filepath.Join(dir, s.name)
		b, pad := s.split()
		text := fmt.Sprintf("go test fuzz v1\nbyte(%q)\nbool(%v)\nuint16(%d)\n[]byte(%q)\n[]byte(%q)\n", rune(s.iface), s.mend, pad, s.header(), b)
		if *writeCorpus {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("%s is not what fuzzSeeds makes (%v)", file, err)
		}
	}
}
