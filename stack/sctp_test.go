package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// TestSCTPEvent: which chunk a packet is known by, whatever lengths say.
func TestSCTPEvent(t *testing.T) {
	chunk := packettest.Chunk
	join := func(chunks ...[]byte) []byte { return bytes.Join(chunks, nil) }
	lying := func(kind uint8, length uint16, rest ...[]byte) []byte {
		b := append([]byte{kind, 0, byte(length >> 8), byte(length)}, join(rest...)...)
		return b
	}
	abort := chunk(ChunkAbort, nil)
	for _, tt := range []struct {
		name   string
		chunks []byte
		want   uint8
	}{
		{"data", chunk(ChunkData, nil), ChunkData},
		{"init", chunk(ChunkInit, nil), ChunkInit},
		{"data, abort", join(chunk(ChunkData, nil), abort), ChunkData},
		{"cookie echo", chunk(ChunkCookieEcho, nil), ChunkCookieEcho},
		{"cookie echo, data", join(chunk(ChunkCookieEcho, nil), chunk(ChunkData, nil)), ChunkCookieEcho},
		{"cookie echo, abort", join(chunk(ChunkCookieEcho, nil), abort), ChunkAbort},
		{"cookie echo of odd length, abort", join(chunk(ChunkCookieEcho, make([]byte, 5)), abort), ChunkAbort},
		{"cookie ack, abort", join(chunk(ChunkCookieAck, nil), abort), ChunkAbort},
		{"cookie ack, data, abort", join(chunk(ChunkCookieAck, nil), chunk(ChunkData, nil), abort), ChunkCookieAck},
		{"cookie echo of length 0, abort", lying(ChunkCookieEcho, 0, abort), ChunkCookieEcho},
		{"cookie echo of length 3, abort", lying(ChunkCookieEcho, 3, abort), ChunkAbort}, // rounds up to 4
		{"cookie echo beyond the end", lying(ChunkCookieEcho, 0xffff, abort), ChunkCookieEcho},
		{"cookie echo to just before the end", lying(ChunkCookieEcho, 5, abort), ChunkCookieEcho},
		{"cookie ack to the end", lying(ChunkCookieAck, 4), ChunkCookieAck},
		{"a type nobody knows", chunk(0xc1, nil), 0xc1},
	} {
		for _, fam := range families {
			f := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoSCTP, Payload: tt.chunks}.Frame()
			p := mustParse(t, &f)
			if p.Event != tt.want || !p.HasPorts || p.SrcPort != fam.client.Port() || p.DstPort != fam.vip.Port() || p.L4Len != sctpLen || p.TCPFlags != 0 {
				t.Errorf("%s %s: %+v, want event %d", fam.name, tt.name, p, tt.want)
			}
		}
	}
}

func TestSCTPTooShort(t *testing.T) {
	for _, fam := range families {
		for n := range sctpLen + chunkLen {
			f := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoSCTP}.Frame()
			f.Trim(14 + fam.hdrLen + n)
			setL3Len(f.Bytes(), fam)
			var p Packet
			if r := Parse(&f, &p); r != ReasonSCTPHeader {
				t.Errorf("%s, %d bytes: %v", fam.name, n, r)
			}
		}
	}
	f := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoSCTP, MF: true, Payload: make([]byte, 4)}.Frame()
	f.Trim(14 + 20 + 8)
	setL3Len(f.Bytes(), families[0])
	var p Packet
	if r := Parse(&f, &p); r != ReasonTinyFragment {
		t.Errorf("first fragment: %v", r)
	}
}

// setL3Len makes the IP header of frame b say its length.
func setL3Len(b []byte, fam family) {
	if fam.hdrLen == ipv6Len {
		binary.BigEndian.PutUint16(b[14+4:], uint16(len(b)-14-ipv6Len))
		return
	}
	binary.BigEndian.PutUint16(b[14+2:], uint16(len(b)-14))
	fixIPv4(b)
}

// No virtio header can speak of an SCTP packet; least of all one whose offsets overflow to "no checksum".
func TestSCTPHasNoOffload(t *testing.T) {
	for _, fam := range families {
		l4 := uint16(14 + fam.hdrLen)
		for _, tt := range []struct {
			h    tap.Header
			want Reason
		}{
			{tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: l4, CsumOffset: sctpCsumOff}, ReasonPartial},
			{tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: l4, CsumOffset: -l4}, ReasonPartial},
			{tap.Header{GSOType: tap.GSOTCPv4, GSOSize: 500}, ReasonGSO},
			{tap.Header{GSOType: tap.GSOTCPv6, GSOSize: 500}, ReasonGSO},
			{tap.Header{GSOType: tap.GSOUDPL4, GSOSize: 500}, ReasonGSO},
		} {
			f := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoSCTP, Payload: packettest.Chunk(ChunkData, pattern(1000))}.Frame()
			f.Header = tt.h
			var p Packet
			if r := Parse(&f, &p); r != tt.want {
				t.Errorf("%s %+v: %v, want %v", fam.name, tt.h, r, tt.want)
			}
		}
	}
}

func TestOpensAndAborts(t *testing.T) {
	for _, tt := range []struct {
		p             Packet
		opens, aborts bool
	}{
		{Packet{Tuple: Tuple{Proto: ProtoTCP}, Own: Own{Event: SYN}}, true, false},
		{Packet{Tuple: Tuple{Proto: ProtoTCP}, Own: Own{Event: SYN | RST}}, true, true},
		{Packet{Tuple: Tuple{Proto: ProtoTCP}, Own: Own{Event: ACK}}, false, false},
		{Packet{Tuple: Tuple{Proto: ProtoSCTP}, Own: Own{Event: ChunkInit}}, true, false},
		{Packet{Tuple: Tuple{Proto: ProtoSCTP}, Own: Own{Event: ChunkInitAck}}, false, false},
		{Packet{Tuple: Tuple{Proto: ProtoSCTP}, Own: Own{Event: ChunkAbort}}, false, true},
		{Packet{Tuple: Tuple{Proto: ProtoUDP}}, true, false},
	} {
		if tt.p.Opens() != tt.opens || tt.p.Aborts() != tt.aborts {
			t.Errorf("%+v opens: %v, aborts: %v", tt.p, tt.p.Opens(), tt.p.Aborts())
		}
	}
}

// The slow twin of crcMultiply: bit by bit.
func slowMultiply(a, b uint32) (p uint32) {
	for ; b != 0; b <<= 1 {
		if b>>31 != 0 {
			p ^= a
		}
		a = a>>1 ^ -(a&1)&crc32.Castagnoli
	}
	return p
}

func TestCRCMultiply(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for range 100_000 {
		a, b := r.Uint32()>>r.UintN(32)<<r.UintN(32), r.Uint32()>>r.UintN(32)<<r.UintN(32)
		if r.IntN(10) == 0 {
			a = ^uint32(0)
		}
		if got, want := crcMultiply(a, b), slowMultiply(a, b); got != want {
			t.Fatalf("%#x * %#x = %#x, want %#x", a, b, got, want)
		}
	}
}

// The slow twin of crcShift: byte by byte, for every length there is.
func TestCRCShift(t *testing.T) {
	v, slow := uint32(0xdeadbeef), uint32(0xdeadbeef)
	for n := range maxDatagram + 1 {
		if got := crcShift(v, n); got != slow {
			t.Fatalf("%d bytes: %#x, want %#x", n, got, slow)
		}
		slow = slow>>8 ^ castagnoli[slow&0xff]
	}
}

// The edit of a packet of any length is the packet that is built anew; when it was damaged, it differs from that in the same bits as before.
func TestSCTPEditOfEveryLength(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	for _, fam := range families {
		for n := 0; n < 9000; n += 1 + r.IntN(7) {
			s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoSCTP, Tag: r.Uint32(), Payload: packettest.Chunk(ChunkData, randomBytes(r, n))}
			f := s.Frame()
			damage := uint32(0)
			if r.IntN(2) == 0 {
				damage = r.Uint32()
			}
			p := mustParse(t, &f)
			field := f.Bytes()[p.L4+sctpCsumOff:]
			binary.LittleEndian.PutUint32(field, binary.LittleEndian.Uint32(field)^damage)
			src, dst := randomEnd(r, fam.hdrLen == 40), randomEnd(r, fam.hdrLen == 40)
			if r.IntN(2) == 0 {
				p.SetEnds(f.Bytes(), false, &Tuple{Src: AddrFrom(src.Addr()), Dst: AddrFrom(dst.Addr()), SrcPort: src.Port(), DstPort: dst.Port()})
			} else {
				p.SetSrc(f.Bytes(), false, AddrFrom(src.Addr()), src.Port())
				p.SetDst(f.Bytes(), false, AddrFrom(dst.Addr()), dst.Port())
			}
			if ChecksumOK(&f, &p) != (damage == 0) {
				t.Fatalf("%s, %d bytes, damage %#x", fam.name, n, damage)
			}
			binary.LittleEndian.PutUint32(field, binary.LittleEndian.Uint32(field)^damage)
			s.Src, s.Dst = src, dst
			if w := s.Bytes(); !bytes.Equal(f.Bytes(), w) {
				t.Fatalf("%s, %d bytes\n got %x\nwant %x", fam.name, n, f.Bytes(), w)
			}
		}
	}
}

// A quote is edited as a whole packet where it holds the checksum, and otherwise as far as it goes.
func TestSCTPQuote(t *testing.T) {
	for _, fam := range families {
		s := packettest.Spec{Src: fam.server, Dst: fam.client, Proto: ProtoSCTP, Payload: packettest.Chunk(ChunkData, pattern(3000))}
		want := s
		want.Src = fam.vip
		for _, n := range []int{8, 11, 12, 16, 500} {
			quote, edited := s.Bytes()[14:][:fam.hdrLen+n], want.Bytes()[14:][:fam.hdrLen+n]
			e := packettest.Spec{Src: fam.client, Dst: fam.server, Proto: fam.icmp, ICMPType: 3, Payload: append([]byte(nil), quote...)}
			f := e.Frame()
			p := mustParse(t, &f)
			var q Packet
			if !p.Inner(f.Bytes(), &q) || q.SrcPort != fam.server.Port() || q.DstPort != fam.client.Port() {
				t.Fatalf("%s: %+v", fam.name, q)
			}
			q.SetSrc(f.Bytes(), false, AddrFrom(fam.vip.Addr()), fam.vip.Port())
			got := f.Bytes()[q.L3:]
			if n < 12 {
				got, edited = got[:fam.hdrLen+8], edited[:fam.hdrLen+8]
			}
			if !bytes.Equal(got, edited) {
				t.Errorf("%s, %d bytes of L4\n got %x\nwant %x", fam.name, n, got, edited)
			}
		}
	}
}

// The checksum of a quoted first fragment is of more than is known.
func TestSCTPQuoteOfFirstFragment(t *testing.T) {
	s := packettest.Spec{Src: server4, Dst: client4, Proto: ProtoSCTP, MF: true, Payload: packettest.Chunk(ChunkData, pattern(96))}
	e := packettest.Spec{Src: client4, Dst: server4, Proto: ProtoICMP, ICMPType: 3, Payload: s.Bytes()[14:]}
	f := e.Frame()
	p := mustParse(t, &f)
	var q Packet
	if !p.Inner(f.Bytes(), &q) {
		t.Fatal("not understood")
	}
	sum := append([]byte(nil), f.Bytes()[q.L4+sctpCsumOff:][:4]...)
	q.SetSrc(f.Bytes(), false, q.Src, 1)
	if !bytes.Equal(sum, f.Bytes()[q.L4+sctpCsumOff:][:4]) {
		t.Error("edited")
	}
}

func TestAbortFrame(t *testing.T) {
	init := packettest.Chunk(ChunkInit, append([]byte{1, 2, 3, 4}, make([]byte, 12)...))
	for _, tt := range []struct {
		name        string
		tag         uint32
		chunks      []byte
		want        uint8
		wantTag     uint32
		wantFlags   uint8
		none, group bool
	}{
		{"init", 0, init, ChunkAbort, 0x01020304, 0, false, false},
		{"init with a tag", 7, init, 0, 0, 0, true, false},
		{"init that asks for tag 0", 0, packettest.Chunk(ChunkInit, make([]byte, 16)), 0, 0, 0, true, false},
		{"init cut short", 0, init[:16], 0, 0, 0, true, false},
		{"data", 7, packettest.Chunk(ChunkData, nil), ChunkAbort, 7, tagReflected, false, false},
		{"cookie echo", 7, packettest.Chunk(ChunkCookieEcho, nil), ChunkAbort, 7, tagReflected, false, false},
		{"shutdown ack", 7, packettest.Chunk(ChunkShutdownAck, nil), ChunkShutdownComplete, 7, tagReflected, false, false},
		{"abort", 7, packettest.Chunk(ChunkAbort, nil), 0, 0, 0, true, false},
		{"shutdown complete", 7, packettest.Chunk(ChunkShutdownComplete, nil), 0, 0, 0, true, false},
		{"cookie ack", 7, packettest.Chunk(ChunkCookieAck, nil), 0, 0, 0, true, false},
		{"error", 7, packettest.Chunk(ChunkError, nil), 0, 0, 0, true, false},
		{"data to a group", 7, packettest.Chunk(ChunkData, nil), 0, 0, 0, true, true},
	} {
		for _, fam := range families {
			s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoSCTP, Tag: tt.tag, Payload: tt.chunks}
			if tt.group {
				s.DstMAC = MAC{1}
			}
			f := s.Frame()
			p := mustParse(t, &f)
			r, ok := AbortFrame(&f, &p, tap.NewArena(1000))
			if ok == tt.none {
				t.Errorf("%s %s: answered: %v", fam.name, tt.name, ok)
			}
			if !ok {
				continue
			}
			w := packettest.Spec{SrcMAC: DstMAC(f.Bytes()), DstMAC: SrcMAC(f.Bytes()), Src: fam.vip, Dst: fam.client, Proto: ProtoSCTP, Tag: tt.wantTag,
				DF: true, Payload: []byte{tt.want, tt.wantFlags, 0, 4}}.Frame()
			if !bytes.Equal(r.Bytes(), w.Bytes()) {
				t.Errorf("%s %s\n got %x\nwant %x", fam.name, tt.name, r.Bytes(), w.Bytes())
			}
		}
	}
	f := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoSCTP}.Frame()
	p := mustParse(t, &f)
	if _, ok := AbortFrame(&f, &p, tap.NewArena(10)); ok {
		t.Error("answered without room")
	}
}

// BenchmarkSCTPEdit and BenchmarkSCTPSum are an edit of a port, and the whole checksum computed once, which keeping damage visible takes twice.
func BenchmarkSCTPEdit(b *testing.B) { benchSCTP(b, true) }
func BenchmarkSCTPSum(b *testing.B)  { benchSCTP(b, false) }

func benchSCTP(b *testing.B, edit bool) {
	for _, n := range []int{48, 256, 1500, 9000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoSCTP, Payload: packettest.Chunk(ChunkData, make([]byte, n-20-sctpLen-chunkLen))}.Frame()
			p := mustParse(b, &f)
			by, l4 := f.Bytes(), p.l4Packet(f.Bytes())
			b.ReportAllocs()
			for b.Loop() {
				if edit {
					p.editSCTP(by, 0x12345678)
				} else {
					setSCTPSum(l4)
				}
			}
		})
	}
}
