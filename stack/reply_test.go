package stack

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// checkReply checks what holds of every reply: back to the sender, right checksums, TTL 64, no virtio header to finish.
func checkReply(t *testing.T, reply, f *tap.Frame, p *Packet) Packet {
	t.Helper()
	q := mustParse(t, reply)
	if DstMAC(reply.Bytes()) != SrcMAC(f.Bytes()) || SrcMAC(reply.Bytes()) != DstMAC(f.Bytes()) {
		t.Fatalf("MACs of the reply %x to %x", reply.Bytes()[:12], f.Bytes()[:12])
	}
	if !ChecksumOK(reply, &q) || q.TTL != 64 || q.Dst != p.Src || q.Fragment || !q.DF || reply.Header != (tap.Header{}) || reply.Len() != 14+int(q.L3Len) {
		t.Fatalf("reply %+v\n%x", q, reply.Bytes())
	}
	return q
}

// An acknowledgement looks like one of the receiver: numbers, window, and timestamps exchanged.
func TestACK(t *testing.T) {
	stamps := []byte{1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9}
	for _, fam := range families {
		for _, tt := range []struct {
			options, want []byte
		}{
			{nil, nil},
			{stamps, []byte{1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7}},
			{[]byte{8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 1}, []byte{1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7}},
			{[]byte{8, 4, 1, 2}, nil},
		} {
			s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK | PSH, Seq: 1000, Ack: 78, TCPOptions: tt.options, Payload: pattern(10)}
			f := s.Frame()
			p := mustParse(t, &f)
			r, ok := ACKFrame(&f, &p, 1007, 321, tap.NewArena(4096))
			if !ok {
				t.Fatal("no acknowledgement")
			}
			q := checkReply(t, &r, &f, &p)
			seq, ack := q.Numbers(r.Bytes())
			tcp := header.TCP(r.Bytes()[q.L4:])
			if q.Tuple != p.Tuple.Reverse() || q.TCPFlags != ACK || seq != 78 || ack != 1007 || q.Window(r.Bytes()) != 321 || !bytes.Equal(tcp.Options(), tt.want) {
				t.Errorf("%s %v: %s, options %v", fam.name, tt.options, Describe(r.Bytes()), tcp.Options())
			}
			if _, ok := ACKFrame(&f, &p, 1007, 321, tap.NewArena(1)); ok {
				t.Error("a frame without room")
			}
		}
		for _, flags := range []uint8{RST | ACK, PSH, SYN} {
			s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: flags}
			f := s.Frame()
			p := mustParse(t, &f)
			if _, ok := ACKFrame(&f, &p, 1, 1, tap.NewArena(4096)); ok {
				t.Errorf("%s: flags %x are acknowledged", fam.name, flags)
			}
		}
	}
}

// RFC 9293 section 3.10.7.1.
func TestRST(t *testing.T) {
	for _, fam := range families {
		for _, tt := range []struct {
			name             string
			in               packettest.Spec
			flags            uint8
			wantSeq, wantAck uint32
		}{
			{"SYN", packettest.Spec{Flags: SYN, Seq: 1000}, RST | ACK, 0, 1001},
			{"SYN with data, about to wrap", packettest.Spec{Flags: SYN, Seq: 1<<32 - 3, Payload: pattern(10)}, RST | ACK, 0, 8},
			{"SYN, ACK", packettest.Spec{Flags: SYN | ACK, Seq: 1000, Ack: 77}, RST, 77, 0},
			{"data with ACK", packettest.Spec{Flags: ACK | PSH, Seq: 1000, Ack: 78, Payload: pattern(10)}, RST, 78, 0},
			{"data without ACK", packettest.Spec{Flags: PSH, Seq: 1000, Ack: 78, Payload: pattern(10), TCPOptions: make([]byte, 12)}, RST | ACK, 0, 1010},
			{"FIN without ACK", packettest.Spec{Flags: FIN, Seq: 1000}, RST | ACK, 0, 1001},
			{"superpacket", packettest.Spec{Flags: FIN, Seq: 1000, Payload: pattern(5000), Partial: true, GSOSize: 1000}, RST | ACK, 0, 6001},
		} {
			t.Run(fam.name+" "+tt.name, func(t *testing.T) {
				tt.in.Src, tt.in.Dst = fam.client, fam.vip
				f := tt.in.Frame()
				p := mustParse(t, &f)
				r, ok := RSTFrame(&f, &p, tap.NewArena(4096))
				if !ok {
					t.Fatal("no reset")
				}
				q := checkReply(t, &r, &f, &p)
				tcp := header.TCP(r.Bytes()[q.L4:])
				if q.Tuple != p.Tuple.Reverse() || q.TCPFlags != tt.flags || tcp.SequenceNumber() != tt.wantSeq || tcp.AckNumber() != tt.wantAck || len(tcp) != 20 {
					t.Errorf("reset %s\nto    %s", Describe(r.Bytes()), Describe(f.Bytes()))
				}
			})
		}
	}
}

func TestRSTRefuses(t *testing.T) {
	group := MAC{0x33, 0x33, 0, 0, 0, 1}
	for _, fam := range families {
		multicast := netipGroup4
		if fam.name == "IPv6" {
			multicast = netipGroup6
		}
		for name, s := range map[string]packettest.Spec{
			"a reset":     {Src: fam.client, Dst: fam.vip, Flags: RST},
			"UDP":         {Src: fam.client, Dst: fam.vip, Proto: ProtoUDP},
			"group MAC":   {Src: fam.client, Dst: fam.vip, Flags: SYN, DstMAC: group},
			"group IP":    {Src: fam.client, Dst: multicast, Flags: SYN},
			"an echo":     {Src: fam.client, Dst: fam.vip, Proto: fam.icmp, ICMPType: fam.echo},
			"other proto": {Src: fam.client, Dst: fam.vip, Proto: 99},
		} {
			f := s.Frame()
			p := mustParse(t, &f)
			if _, ok := RSTFrame(&f, &p, tap.NewArena(4096)); ok {
				t.Errorf("%s: %s was reset", fam.name, name)
			}
		}
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: SYN}
		f := s.Frame()
		p := mustParse(t, &f)
		if _, ok := RSTFrame(&f, &p, tap.NewArena(100)); ok {
			t.Errorf("%s: a reset in a full arena", fam.name)
		}
	}
	for _, s := range []packettest.Spec{
		{Src: client4, Dst: vip4, Flags: ACK, MF: true, Payload: pattern(36)}, {Src: client4, Dst: vip4, Flags: ACK, FragOffset: 80, Payload: pattern(36)},
	} {
		f := s.Frame()
		p := mustParse(t, &f)
		if _, ok := RSTFrame(&f, &p, tap.NewArena(4096)); ok {
			t.Error("a fragment was reset")
		}
	}
}

func TestICMPErrorFrame(t *testing.T) {
	for _, tt := range []struct {
		e      ICMPError
		v4, v6 [2]uint8
		mtu4   []byte // bytes 4 to 7 of the header
		mtu6   []byte
	}{
		{ICMPTimeExceeded, [2]uint8{11, 0}, [2]uint8{3, 0}, nil, nil},
		{ICMPPortUnreachable, [2]uint8{3, 3}, [2]uint8{1, 4}, nil, nil},
		{ICMPHostUnreachable, [2]uint8{3, 1}, [2]uint8{1, 3}, nil, nil},
		{ICMPNetUnreachable, [2]uint8{3, 0}, [2]uint8{1, 0}, nil, nil},
		{ICMPTooBig, [2]uint8{3, 4}, [2]uint8{2, 0}, []byte{0, 0, 0x05, 0x78}, []byte{0, 0, 0x05, 0x78}},
		{ICMPAdminProhibited, [2]uint8{3, 13}, [2]uint8{1, 1}, nil, nil},
	} {
		for _, fam := range families {
			src, codes, second := AddrFrom(fam.server.Addr()), tt.v4, tt.mtu4
			if fam.name == "IPv6" {
				codes, second = tt.v6, tt.mtu6
			}
			if second == nil {
				second = make([]byte, 4)
			}
			s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK, TTL: 1, Payload: pattern(200)}
			f := s.Frame()
			p := mustParse(t, &f)
			r, ok := ICMPErrorFrame(tt.e, src, 1400, &f, &p, tap.NewArena(4096))
			if !ok {
				t.Fatalf("%s: no error %d", fam.name, tt.e)
			}
			q := checkReply(t, &r, &f, &p)
			l4 := r.Bytes()[q.L4:]
			if q.Src != src || q.Proto != fam.icmp || [2]uint8(l4[:2]) != codes || !bytes.Equal(l4[4:8], second) {
				t.Errorf("%s error %d: %x", fam.name, tt.e, l4[:8])
			}
			if !bytes.Equal(l4[8:], f.Bytes()[14:]) {
				t.Errorf("%s error %d does not quote the whole packet", fam.name, tt.e)
			}
		}
	}
}

// The quote is as long as the RFCs allow, and shows what a wire would have carried.
func TestICMPErrorQuote(t *testing.T) {
	for _, fam := range families {
		limit := 576
		if fam.name == "IPv6" {
			limit = 1280
		}
		for _, s := range []packettest.Spec{
			{Payload: pattern(3000)}, {Payload: pattern(3000), Partial: true}, {Proto: ProtoUDP, Payload: pattern(100), Partial: true},
			{Payload: pattern(60000), Partial: true, GSOSize: 1448, Flags: ACK | PSH}, {Payload: pattern(60000), Partial: true, GSOSize: 100},
		} {
			s.Src, s.Dst = fam.client, fam.vip
			f := s.Frame()
			p := mustParse(t, &f)
			r, ok := ICMPErrorFrame(ICMPTooBig, AddrFrom(fam.server.Addr()), 1400, &f, &p, tap.NewArena(1<<16))
			if !ok {
				t.Fatal("no error")
			}
			q := checkReply(t, &r, &f, &p)
			w := s
			w.Partial = false
			if s.GSOSize > 0 {
				w.GSOSize, w.Payload, w.Flags = 0, s.Payload[:s.GSOSize], s.Flags&^PSH
			}
			want := w.Bytes()[14:]
			if n := limit - fam.hdrLen - 8; len(want) > n {
				want = want[:n]
			}
			if got := r.Bytes()[q.L4+8:]; !bytes.Equal(got, want) || int(q.L3Len) > limit {
				t.Errorf("%s %d bytes:\n got %d %x\nwant %d %x", fam.name, len(s.Payload), len(got), got[:60], len(want), want[:60])
			}
		}
	}
}

func TestICMPErrorRefuses(t *testing.T) {
	group := MAC{1, 0, 0x5e, 0, 0, 1}
	for _, fam := range families {
		own := AddrFrom(fam.server.Addr())
		type refused struct {
			name string
			s    packettest.Spec
			src  Addr
		}
		cases := []refused{
			{"sent to all on the link", packettest.Spec{DstMAC: MAC{255, 255, 255, 255, 255, 255}}, own},
			{"sent to a group on the link", packettest.Spec{DstMAC: group}, own},
			{"an address of the other family as source", packettest.Spec{}, map[bool]Addr{true: AddrFrom(server6.Addr()), false: AddrFrom(server4.Addr())}[fam.name == "IPv4"]},
		}
		errors := []uint8{3, 4, 5, 11, 12, 200}
		if fam.name == "IPv6" {
			errors = []uint8{1, 2, 3, 4, 100, 127, 137}
		}
		for _, e := range errors {
			cases = append(cases, refused{"about an ICMP error", packettest.Spec{Proto: fam.icmp, ICMPType: e}, own})
		}
		for _, tt := range cases {
			tt.s.Src, tt.s.Dst = fam.client, fam.vip
			refuseICMP(t, fam.name+" "+tt.name, tt.s, tt.src)
		}
		s := packettest.Spec{Src: fam.client, Dst: fam.vip}
		f := s.Frame()
		p := mustParse(t, &f)
		if _, ok := ICMPErrorFrame(numICMPErrors, own, 0, &f, &p, tap.NewArena(4096)); ok {
			t.Error("an unknown error")
		}
	}
	own4, own6 := AddrFrom(server4.Addr()), AddrFrom(server6.Addr())
	refuseICMP(t, "later fragment", packettest.Spec{Src: client4, Dst: vip4, FragOffset: 80, Payload: pattern(8)}, own4)
	refuseICMP(t, "later IPv6 fragment", fragment6(ProtoUDP, 80, false, pattern(8)), own6)
	refuseICMP(t, "IPv4 group", packettest.Spec{Src: client4, Dst: netipGroup4, Proto: ProtoUDP}, own4)
	refuseICMP(t, "IPv4 broadcast", packettest.Spec{Src: client4, Dst: netipBroadcast, Proto: ProtoUDP}, own4)
	refuseICMP(t, "IPv6 group", packettest.Spec{Src: client6, Dst: netipGroup6, Proto: ProtoUDP}, own6)
	refuseICMP(t, "no source", packettest.Spec{Src: netipNone6, Dst: netipGroup6, Proto: ProtoICMPv6, ICMPType: 135}, own6)
	arp := packettest.ARP(1, MAC{2}, MAC{4}, client4.Addr(), vip4.Addr())
	p := mustParse(t, &arp)
	if _, ok := ICMPErrorFrame(ICMPTooBig, own6, 0, &arp, &p, tap.NewArena(4096)); ok {
		t.Error("an error about ARP")
	}
}

func refuseICMP(t *testing.T, name string, s packettest.Spec, src Addr) {
	t.Helper()
	f := s.Frame()
	p := mustParse(t, &f)
	if r, ok := ICMPErrorFrame(ICMPHostUnreachable, src, 0, &f, &p, tap.NewArena(4096)); ok {
		t.Errorf("%s: answered with %s", name, Describe(r.Bytes()))
	}
}

// Room for the first segment that is quoted is not room for the answer.
func TestICMPErrorArenaFull(t *testing.T) {
	for _, fam := range families {
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Payload: pattern(3000), Partial: true, GSOSize: 1000}
		f := s.Frame()
		p := mustParse(t, &f)
		for _, size := range []int{100, 1300} {
			if _, ok := ICMPErrorFrame(ICMPTooBig, AddrFrom(fam.server.Addr()), 1400, &f, &p, tap.NewArena(size)); ok {
				t.Errorf("%s: an answer in %d bytes", fam.name, size)
			}
		}
	}
}

// Queries may be complained about: ping, ND.
func TestICMPErrorAboutQuery(t *testing.T) {
	for _, fam := range families {
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: fam.icmp, ICMPType: fam.echo}
		f := s.Frame()
		p := mustParse(t, &f)
		if _, ok := ICMPErrorFrame(ICMPTimeExceeded, AddrFrom(fam.server.Addr()), 0, &f, &p, tap.NewArena(4096)); !ok {
			t.Errorf("%s: no error about an echo request", fam.name)
		}
	}
}

// With any right packet: a reply is right, whatever was answered, and the packet as good as before.
func TestRepliesRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	a := tap.NewArena(1 << 18)
	for range 20_000 {
		s := randomSpec(r)
		f := s.Frame()
		p := mustParse(t, &f)
		a.Reset()
		checkReplies(t, &f, &p, a, ICMPError(r.IntN(int(numICMPErrors))))
	}
}

// checkReplies makes both replies to f and checks them.
func checkReplies(t *testing.T, f *tap.Frame, p *Packet, a *tap.Arena, e ICMPError) {
	t.Helper()
	right := ChecksumOK(f, p)
	if r, ok := RSTFrame(f, p, a); ok {
		q := checkReply(t, &r, f, p)
		if q.Tuple != p.Tuple.Reverse() || q.TCPFlags&RST == 0 {
			t.Fatalf("reset %+v", q)
		}
	}
	own := AddrFrom(server4.Addr())
	if p.Kind == KindIPv6 {
		own = AddrFrom(server6.Addr())
	}
	if own == p.Src {
		return
	}
	if r, ok := ICMPErrorFrame(e, own, 1280, f, p, a); ok {
		q := checkReply(t, &r, f, p)
		quote := r.Bytes()[q.L4+8:]
		if q.Src != own || quote[0]>>4 != f.Bytes()[14]>>4 {
			t.Fatalf("ICMP error %+v", q)
		}
	}
	if right && !ChecksumOK(f, p) {
		t.Fatalf("answering spoiled %x", f.Bytes())
	}
}
