package stack

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// FuzzParse takes any virtio header and any bytes. Nothing may panic; and of a frame that Parse takes, every edit and everything made of it must be
// a frame that Parse takes as well, with checksums as right as they were. How to run it: go test -fuzz FuzzParse ./stack
func FuzzParse(f *testing.F) {
	for _, s := range seeds() {
		fr := s.frame
		f.Add(wire(fr.Header), fr.Bytes())
	}
	f.Fuzz(func(t *testing.T, hdr, b []byte) {
		Describe(b)
		fr := tap.NewFrame(unwire(hdr), b)
		var p Packet
		r := Parse(&fr, &p)
		if r == ReasonIPv4Checksum { // else the fuzzer hardly gets past it
			fixIPv4(fr.Bytes())
			r = Parse(&fr, &p)
		}
		if r != ReasonNone {
			return
		}
		checkOffsets(t, &fr, &p)
		if p.Kind != KindIPv4 && p.Kind != KindIPv6 {
			return
		}
		Describe(fr.Bytes())
		checkEdits(t, fr.Clone(), p)
		checkComplete(t, fr.Clone(), p)
		checkOptions(t, fr.Clone(), p)
		a := tap.NewArena(1 << 18)
		cut := fr.Clone()
		pieces := 1
		if n := int(fr.Header.GSOSize); n > 0 {
			pieces = fr.Len()/n + 1
		}
		if !fr.Header.Super() || pieces < 200 {
			checkSegments(t, &cut, &p, a, fr.Header.Super())
		}
		a.Reset()
		frag := fr.Clone()
		checkFragments(t, &frag, &p, 132+len(b)%1500, a)
		a.Reset()
		relayed := fr.Clone()
		checkInner(t, &relayed, &p)
		quote := fr.Clone()
		tryQuote(t, &quote)
		checkWrap(t, fr.Clone(), p, len(b))
		answered := fr.Clone()
		checkTranslate(t, fr.Clone(), p)
		checkErrorTranslate(t, fr.Clone(), p)
		checkReplies(t, &answered, &p, a, ICMPError(uint8(len(b)))%numICMPErrors)
	})
}

// wire writes a virtio header as the kernel does, unwire reads it; missing bytes are zero.
func wire(h tap.Header) []byte {
	b := make([]byte, tap.HeaderLen)
	b[0], b[1] = h.Flags, h.GSOType
	for i, v := range []uint16{h.HdrLen, h.GSOSize, h.CsumStart, h.CsumOffset} {
		binary.LittleEndian.PutUint16(b[2+2*i:], v)
	}
	return b
}

func unwire(hdr []byte) tap.Header {
	b := make([]byte, tap.HeaderLen)
	copy(b, hdr)
	le := binary.LittleEndian.Uint16
	return tap.Header{Flags: b[0], GSOType: b[1], HdrLen: le(b[2:]), GSOSize: le(b[4:]), CsumStart: le(b[6:]), CsumOffset: le(b[8:])}
}

// checkOffsets checks that what Parse says lies within the frame, and that saying it again changes nothing.
func checkOffsets(t *testing.T, f *tap.Frame, p *Packet) {
	t.Helper()
	n := f.Len()
	if p.Kind == KindIPv4 || p.Kind == KindIPv6 {
		if int(p.L3)+int(p.L3Len) != n || p.L4 < p.L3+20 || int(p.L4)+int(p.L4Len) > n || p.csum != 0 && int(p.csum)+2 > n {
			t.Fatalf("%d bytes: %+v", n, *p)
		}
	}
	if again := mustParse(t, f); again != *p || f.Len() != n {
		t.Fatalf("once  %+v\ntwice %+v", *p, again)
	}
}

// checkEdits checks that an edited frame still is what its Packet says, its checksums as right as before.
func checkEdits(t *testing.T, f tap.Frame, p Packet) {
	t.Helper()
	dst, src := AddrFrom(server4.Addr()), AddrFrom(vip4.Addr())
	if p.Kind == KindIPv6 {
		dst, src = AddrFrom(server6.Addr()), AddrFrom(vip6.Addr())
	}
	right, partial, multi := ChecksumOK(&f, &p), f.Header.Partial(), p.Src.IsZero()
	p.DecTTL(f.Bytes())
	p.SetSrc(f.Bytes(), partial, src, 1234)
	if !multi { // a packet from :: is legal only to a group
		p.SetDst(f.Bytes(), partial, dst, 0)
	}
	if again := mustParse(t, &f); again != p {
		t.Fatalf("edited %+v\n   got %+v", p, again)
	}
	if p.Proto == ProtoSCTP && p.First {
		return // cannot be edited, nor checked
	}
	// ICMP's two zeros are one number to an edit: an all-zero message with the wrong one is mended.
	if now := ChecksumOK(&f, &p); now != right && (right || p.Proto != ProtoICMP) {
		t.Fatalf("checksum right before: %v, after: %v\n%+v\n%x", right, now, p, f.Bytes())
	}
}

// checkOptions edits the options of a TCP packet; the packet stays one, and its checksum what it was.
func checkOptions(t *testing.T, f tap.Frame, p Packet) {
	t.Helper()
	right := ChecksumOK(&f, &p)
	p.LowerMSS(f.Bytes(), f.Header.Partial(), TOALen4)
	added := AddTOA(&f, &p, AddrFrom(client6.Addr()), 1234, 65535)
	if again := mustParse(t, &f); again != p || ChecksumOK(&f, &p) != right {
		t.Fatalf("option added: %v, edited %+v\n   got %+v\n%x", added, p, again, f.Bytes())
	}
}

// checkComplete checks that a completed checksum is right if its seed was.
func checkComplete(t *testing.T, f tap.Frame, p Packet) {
	t.Helper()
	right := ChecksumOK(&f, &p)
	CompleteChecksum(&f, &p)
	again := mustParse(t, &f)
	if f.Header.Partial() || again != p && !again.NoCsum || ChecksumOK(&f, &p) != right {
		t.Fatalf("completed %+v\n%x", again, f.Bytes())
	}
}

// seed is a frame that the fuzzer starts from.
type seed struct {
	name  string
	frame tap.Frame
}

// seeds are packets of every kind in both families, whole and broken.
func seeds() (out []seed) {
	add := func(name string, f tap.Frame) { out = append(out, seed{name, f}) }
	for _, fam := range families {
		for _, s := range []struct {
			name string
			s    packettest.Spec
		}{
			{"tcp syn", packettest.Spec{Flags: SYN, TCPOptions: []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}}},
			{"tcp partial", packettest.Spec{Flags: ACK | PSH, Payload: pattern(20), Partial: true}},
			{"tcp super", packettest.Spec{Flags: ACK | PSH | FIN | CWR, Payload: pattern(200), Partial: true, GSOSize: 60}},
			{"tcp super full", packettest.Spec{Flags: ACK, Payload: pattern(200), GSOSize: 60}},
			{"udp", packettest.Spec{Proto: ProtoUDP, Payload: pattern(20)}},
			{"udp none", packettest.Spec{Proto: ProtoUDP, Payload: pattern(20), NoCsum: true}},
			{"udp super", packettest.Spec{Proto: ProtoUDP, Payload: pattern(200), Partial: true, GSOSize: 60}},
			{"echo", packettest.Spec{Proto: fam.icmp, ICMPType: fam.echo, ICMPID: 7, ICMPSeq: 1, Payload: pattern(8)}},
			{"icmp error", packettest.Spec{Proto: fam.icmp, ICMPType: 3, Payload: pattern(28)}},
			{"sctp", packettest.Spec{Proto: ProtoSCTP, Payload: pattern(20)}},
			{"sctp data", packettest.Spec{Proto: ProtoSCTP, Tag: 7}},
			{"sctp cookie echo and abort", packettest.Spec{Proto: ProtoSCTP, Tag: 7,
				Payload: append(packettest.Chunk(ChunkCookieEcho, nil), packettest.Chunk(ChunkAbort, nil)...)}},
			{"sctp endless cookie", packettest.Spec{Proto: ProtoSCTP, Payload: []byte{ChunkCookieAck, 0, 0, 0, ChunkAbort, 0, 255, 255}}},
		} {
			s.s.Src, s.s.Dst = fam.client, fam.vip
			f := s.s.Frame()
			add(fam.name+" "+s.name, f)
			if s.name == "tcp syn" {
				add(fam.name+" cut", tap.NewFrame(tap.Header{}, f.Bytes()[:60]))
			}
		}
	}
	options := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(300), IPOptions: []byte{1, 7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0}}
	first := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(64), MF: true}
	later := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(64), FragOffset: 800}
	for _, fam := range families {
		quoted := icmpErrorAbout(packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK}, fam, 100)
		add(fam.name+" time exceeded", quoted.Frame())
		quoted = icmpErrorAbout(packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoSCTP}, fam, 100)
		add(fam.name+" time exceeded for sctp", quoted.Frame())
	}
	for _, tc := range tunnelCases() {
		f := packettest.Spec{Src: tc.inner.client, Dst: tc.inner.vip, Proto: ProtoUDP, Payload: pattern(20)}.Frame()
		var p Packet
		Parse(&f, &p)
		tc.t.Wrap(&f, &p, 1, true)
		add("error about "+tc.name, errorAbout(&tc, f.Bytes()[14:]))
	}
	first6, later6 := fragment6(ProtoUDP, 0, true, pattern(64)), fragment6(ProtoUDP, 64, false, pattern(9))
	loop := packettest.Spec{Src: client6, Dst: vip6, ExtFirst: extDest, Ext: []byte{extDest, 255, 0, 0, 0, 0, 0, 0}}
	dad := packettest.Spec{Src: netipNone6, Dst: netipGroup6, Proto: ProtoICMPv6, ICMPType: 135, TTL: 255, Payload: pattern(16)}
	for name, s := range map[string]packettest.Spec{"IPv4 options": options, "IPv4 first fragment": first, "IPv4 later fragment": later,
		"IPv6 first fragment": first6, "IPv6 later fragment": later6, "IPv6 extension loop": loop, "IPv6 address detection": dad} {
		add(name, s.Frame())
	}
	add("arp", packettest.ARP(1, MAC{2}, MAC{255, 255, 255, 255, 255, 255}, client4.Addr(), vip4.Addr()))
	tagged := options.Bytes()
	tagged[12], tagged[13] = 0x81, 0
	add("vlan", tap.NewFrame(tap.Header{}, tagged))
	return out
}

var writeCorpus = flag.Bool("write-corpus", false, "write the seeds of FuzzParse to testdata")

// The corpus that is checked in is what seeds makes. After a change: go test -run TestCorpus -write-corpus ./stack
func TestCorpus(t *testing.T) {
	dir := filepath.Join("testdata", "fuzz", "FuzzParse")
	for _, s := range seeds() {
		file := filepath.Join(dir, regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(s.name), "-"))
		text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n[]byte(%q)\n", wire(s.frame.Header), s.frame.Bytes())
		if *writeCorpus {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("%s is not what seeds makes (%v)", file, err)
		}
	}
}
