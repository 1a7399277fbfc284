package stack

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"unsafe"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

func TestPacketIsOneCacheLine(t *testing.T) {
	if n := unsafe.Sizeof(Packet{}); n > 64 {
		t.Errorf("a Packet has %d bytes, want at most 64", n)
	}
}

func TestParseAccepts(t *testing.T) {
	for _, fam := range families {
		n := uint16(fam.hdrLen)
		base := Packet{Tuple: Tuple{Src: AddrFrom(fam.client.Addr()), Dst: AddrFrom(fam.vip.Addr())}, Kind: KindIPv4, TTL: 64, L3: 14, L4: 14 + n}
		if fam.name == "IPv6" {
			base.Kind, base.DF = KindIPv6, true
		}
		ports := base
		ports.SrcPort, ports.DstPort, ports.HasPorts = 40123, 80, true
		for _, tt := range []struct {
			name string
			in   packettest.Spec
			base Packet
			want func(p *Packet)
		}{
			{"TCP SYN with options", packettest.Spec{Flags: SYN, TCPOptions: pattern(20)}, ports, func(p *Packet) {
				p.Proto, p.TCPFlags, p.L4Len, p.L3Len, p.csum = ProtoTCP, SYN, 40, uint32(n)+40, p.L4+16
			}},
			{"TCP data, partial", packettest.Spec{Flags: ACK | PSH, Payload: pattern(100), Partial: true, TTL: 3}, ports, func(p *Packet) {
				p.Proto, p.TCPFlags, p.L4Len, p.L3Len, p.csum, p.TTL = ProtoTCP, ACK|PSH, 20, uint32(n)+120, p.L4+16, 3
			}},
			{"TCP superpacket", packettest.Spec{Flags: ACK, Payload: pattern(60000), Partial: true, GSOSize: 1448}, ports, func(p *Packet) {
				p.Proto, p.TCPFlags, p.L4Len, p.L3Len, p.csum = ProtoTCP, ACK, 20, uint32(n)+60020, p.L4+16
			}},
			{"UDP", packettest.Spec{Proto: ProtoUDP, Payload: pattern(9)}, ports, func(p *Packet) {
				p.Proto, p.L4Len, p.L3Len, p.csum = ProtoUDP, 8, uint32(n)+17, p.L4+6
			}},
			{"UDP without checksum", packettest.Spec{Proto: ProtoUDP, NoCsum: true}, ports, func(p *Packet) {
				p.Proto, p.L4Len, p.L3Len, p.csum, p.NoCsum = ProtoUDP, 8, uint32(n)+8, p.L4+6, true
			}},
			{"UDP superpacket", packettest.Spec{Proto: ProtoUDP, Payload: pattern(5000), Partial: true, GSOSize: 1000}, ports, func(p *Packet) {
				p.Proto, p.L4Len, p.L3Len, p.csum = ProtoUDP, 8, uint32(n)+5008, p.L4+6
			}},
			{"echo: identifier in both ports", packettest.Spec{Proto: fam.icmp, ICMPType: fam.echo, ICMPID: 77, ICMPSeq: 1}, base, func(p *Packet) {
				p.Proto, p.ICMPType, p.L4Len, p.L3Len, p.csum, p.SrcPort, p.DstPort, p.echo = fam.icmp, fam.echo, 8, uint32(n)+8, p.L4+2, 77, 77, true
			}},
			{"ICMP error: no identifier", packettest.Spec{Proto: fam.icmp, ICMPType: 3, ICMPCode: 1, ICMPID: 77}, base, func(p *Packet) {
				p.Proto, p.ICMPType, p.ICMPCode, p.L4Len, p.L3Len, p.csum = fam.icmp, 3, 1, 8, uint32(n)+8, p.L4+2
			}},
			{"SCTP", packettest.Spec{Proto: ProtoSCTP, Payload: packettest.Chunk(ChunkInit, nil)}, ports, func(p *Packet) {
				p.Proto, p.Event, p.L4Len, p.L3Len, p.NoCsum = ProtoSCTP, ChunkInit, 12, uint32(n)+32, true
			}},
			{"a protocol we know nothing of", packettest.Spec{Proto: 47, Payload: pattern(3)}, base, func(p *Packet) {
				p.Proto, p.L3Len = 47, uint32(n)+3
			}},
		} {
			t.Run(fam.name+" "+tt.name, func(t *testing.T) {
				tt.in.Src, tt.in.Dst = fam.client, fam.vip
				want := tt.base
				tt.want(&want)
				want.Event |= want.TCPFlags
				f := tt.in.Frame()
				if got := mustParse(t, &f); got != want {
					t.Errorf("\n got %+v\nwant %+v", got, want)
				}
				if !ChecksumOK(&f, &want) && !tt.in.NoCsum {
					t.Error("packettest or ChecksumOK is wrong")
				}
			})
		}
	}
}

// The other family's ICMP is just another protocol.
func TestParseForeignICMP(t *testing.T) {
	for _, s := range []packettest.Spec{{Src: client4, Dst: vip4, Proto: ProtoICMPv6}, {Src: client6, Dst: vip6, Proto: ProtoICMP}} {
		f := s.Frame()
		if p := mustParse(t, &f); p.csum != 0 || p.L4Len != 0 {
			t.Errorf("ICMP of the other family was parsed: %+v", p)
		}
	}
}

func TestParseNoIP(t *testing.T) {
	arp := packettest.ARP(1, packettest.DefaultSrcMAC, MAC{255, 255, 255, 255, 255, 255}, client4.Addr(), vip4.Addr())
	lldp := tap.NewFrame(tap.Header{}, append(append(make([]byte, 12), 0x88, 0xcc), pattern(40)...))
	for _, tt := range []struct {
		name string
		f    tap.Frame
		kind Kind
	}{{"ARP", arp, KindARP}, {"LLDP", lldp, KindOther}} {
		n := tt.f.Len()
		if p := mustParse(t, &tt.f); p.Kind != tt.kind || tt.f.Len() != n {
			t.Errorf("%s: kind %d, %d bytes; want %d, %d", tt.name, p.Kind, tt.f.Len(), tt.kind, n)
		}
	}
}

func TestParseTrimsPadding(t *testing.T) {
	for _, fam := range families {
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK}
		f := tap.NewFrame(tap.Header{}, append(s.Bytes(), "padding that is no zeros"...))
		p := mustParse(t, &f)
		if want := 14 + int(p.L3Len); f.Len() != want || !ChecksumOK(&f, &p) {
			t.Errorf("%s: %d bytes, checksum %v; want %d, true", fam.name, f.Len(), ChecksumOK(&f, &p), want)
		}
	}
}

func TestParseFragments(t *testing.T) {
	for _, tt := range []struct {
		name       string
		in         packettest.Spec
		first, has bool
	}{
		{"IPv4 first", packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, MF: true, Payload: pattern(64)}, true, true},
		{"IPv4 later", packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, FragOffset: 72, Payload: pattern(9)}, false, false},
		{"IPv6 first", fragment6(ProtoUDP, 0, true, pattern(64)), true, true},
		{"IPv6 later", fragment6(ProtoUDP, 72, false, pattern(9)), false, false},
	} {
		f := tt.in.Frame()
		p := mustParse(t, &f)
		if !p.Fragment || p.First != tt.first || p.HasPorts != tt.has || p.Proto != ProtoUDP {
			t.Errorf("%s: %+v", tt.name, p)
		}
	}
	atomic := fragment6(ProtoUDP, 0, false, pattern(9))
	f := atomic.Frame()
	if p := mustParse(t, &f); p.Fragment || !p.HasPorts || p.L4 != 14+40+8 {
		t.Errorf("atomic fragment: %+v, want a whole packet (RFC 6946)", p)
	}
}

// fragment6 is an IPv6 packet with a fragment header; a later fragment has no L4 header.
func fragment6(proto uint8, off int, more bool, payload []byte) packettest.Spec {
	h := []byte{proto, 0, 0, 0, 0, 0, 0, 9}
	binary.BigEndian.PutUint16(h[2:], uint16(off))
	if more {
		h[3] |= 1
	}
	return packettest.Spec{Src: client6, Dst: vip6, Proto: proto, ExtFirst: extFragment, Ext: h, FragOffset: off, Payload: payload}
}

func TestParseExtensions(t *testing.T) {
	hbh := func(next uint8) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	long := append([]byte{ProtoTCP, 255}, make([]byte, 2046)...) // gVisor's walker takes this length for 0
	for _, tt := range []struct {
		name  string
		first uint8
		ext   []byte
		want  Reason
	}{
		{"hop-by-hop", extHopByHop, hbh(ProtoTCP), ReasonNone},
		{"hop-by-hop, destination options", extHopByHop, append(hbh(extDest), hbh(ProtoTCP)...), ReasonNone},
		{"destination options of 2,048 bytes", extDest, long, ReasonNone},
		{"authentication", extAuth, []byte{ProtoTCP, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, ReasonNone},
		{"routing header that is used up", extRouting, []byte{ProtoTCP, 0, 4, 0, 0, 0, 0, 0}, ReasonNone},
		{"routing header with a segment left", extRouting, []byte{ProtoTCP, 0, 0, 1, 0, 0, 0, 0}, ReasonSourceRoute},
		{"hop-by-hop in the second place", extDest, append(hbh(extHopByHop), hbh(ProtoTCP)...), ReasonIPv6Extension},
		{"two fragment headers", extFragment, []byte{extFragment, 0, 0, 0, 0, 0, 0, 1, ProtoTCP, 0, 0, 0, 0, 0, 0, 1}, ReasonIPv6Extension},
		{"eight headers", extDest, chain(8, hbh), ReasonNone},
		{"nine headers", extDest, chain(9, hbh), ReasonIPv6Extension},
		{"a length beyond the packet", extDest, []byte{ProtoTCP, 4, 1, 4, 0, 0, 0, 0}, ReasonIPv6Extension},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := packettest.Spec{Src: client6, Dst: vip6, Flags: ACK, ExtFirst: tt.first, Ext: tt.ext}
			f := s.Frame()
			var p Packet
			if r := Parse(&f, &p); r != tt.want {
				t.Fatalf("reason %v, want %v", r, tt.want)
			}
			if tt.want == ReasonNone && (!p.HasPorts || int(p.L4) != 54+len(tt.ext) || p.DstPort != 80) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// chain returns n headers, the last before TCP.
func chain(n int, h func(next uint8) []byte) (b []byte) {
	for range n - 1 {
		b = append(b, h(extDest)...)
	}
	return append(b, h(ProtoTCP)...)
}

func TestParseMartians(t *testing.T) {
	for _, tt := range []struct {
		src, dst string
		want     Reason
	}{
		{"192.0.2.1", "10.0.0.1", ReasonNone},
		{"192.0.2.1", "224.0.0.1", ReasonNone},
		{"192.0.2.1", "255.255.255.255", ReasonNone},
		{"0.0.0.0", "255.255.255.255", ReasonMartianSource},
		{"0.1.2.3", "10.0.0.1", ReasonMartianSource},
		{"127.0.0.1", "10.0.0.1", ReasonMartianSource},
		{"224.0.0.1", "10.0.0.1", ReasonMartianSource},
		{"239.255.255.255", "10.0.0.1", ReasonMartianSource},
		{"255.255.255.255", "10.0.0.1", ReasonMartianSource},
		{"192.0.2.1", "127.0.0.1", ReasonMartianDest},
		{"192.0.2.1", "0.0.0.0", ReasonMartianDest},
		{"10.0.0.1", "10.0.0.1", ReasonLand},
		{"2001:db8::1", "ff02::1", ReasonNone},
		{"fe80::1", "2001:db8::1", ReasonNone},
		{"::", "2001:db8::1", ReasonMartianSource},
		{"::", "ff02::1", ReasonMartianSource}, // TCP
		{"::1", "2001:db8::1", ReasonMartianSource},
		{"ff02::1", "2001:db8::1", ReasonMartianSource},
		{"::ffff:192.0.2.1", "2001:db8::1", ReasonMartianSource},
		{"2001:db8::1", "::ffff:192.0.2.1", ReasonMartianDest},
		{"2001:db8::1", "::", ReasonMartianDest},
		{"2001:db8::1", "::1", ReasonMartianDest},
		{"2001:db8::1", "2001:db8::1", ReasonLand},
	} {
		s := packettest.Spec{Src: netip.AddrPortFrom(netip.MustParseAddr(tt.src), 1), Dst: netip.AddrPortFrom(netip.MustParseAddr(tt.dst), 2)}
		f := s.Frame()
		var p Packet
		if r := Parse(&f, &p); r != tt.want {
			t.Errorf("%s > %s: %v, want %v", tt.src, tt.dst, r, tt.want)
		}
	}
}

func TestParseUnspecifiedSource(t *testing.T) {
	none := netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	solicited := netip.MustParseAddrPort("[ff02::1:ff00:12]:0")
	alert := []byte{ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}
	for _, tt := range []struct {
		name string
		s    packettest.Spec
		want Reason
	}{
		{"duplicate address detection", packettest.Spec{Dst: solicited, Proto: ProtoICMPv6, ICMPType: 135, TTL: 255}, ReasonNone},
		{"listener report behind a router alert", packettest.Spec{Dst: solicited, Proto: ProtoICMPv6, ICMPType: 143, ExtFirst: extHopByHop, Ext: alert}, ReasonNone},
		{"echo to one host", packettest.Spec{Dst: vip6, Proto: ProtoICMPv6, ICMPType: 128}, ReasonMartianSource},
		{"UDP to a group", packettest.Spec{Dst: solicited, Proto: ProtoUDP}, ReasonMartianSource},
		{"UDP to a group behind options", packettest.Spec{Dst: solicited, Proto: ProtoUDP, ExtFirst: extDest, Ext: []byte{ProtoUDP, 0, 1, 4, 0, 0, 0, 0}}, ReasonMartianSource},
	} {
		tt.s.Src = none
		f := tt.s.Frame()
		var p Packet
		if r := Parse(&f, &p); r != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, r, tt.want)
		}
	}
}

// Malformed frames, named by their fault: a good packet and what was done to it.
func TestParseRefuses(t *testing.T) {
	tcp4, tcp6 := packettest.Spec{Src: client4, Dst: vip4, Flags: ACK, Payload: pattern(32)}, packettest.Spec{Src: client6, Dst: vip6, Flags: ACK, Payload: pattern(32)}
	udp4, udp6 := tcp4, tcp6
	udp4.Proto, udp6.Proto = ProtoUDP, ProtoUDP
	ping4, ping6 := tcp4, tcp6
	ping4.Proto, ping4.ICMPType, ping6.Proto, ping6.ICMPType = ProtoICMP, 8, ProtoICMPv6, 128
	opts := tcp4
	opts.IPOptions = []byte{7, 4, 4, 0}
	frag := tcp4
	frag.MF, frag.Payload = true, pattern(36)
	later := tcp4
	later.FragOffset = 800
	put := func(at int, v ...byte) func(b []byte) []byte {
		return func(b []byte) []byte {
			copy(b[at:], v)
			if b[12] == 0x08 && at != 24 {
				fixIPv4(b)
			}
			return b
		}
	}
	cut := func(n int) func(b []byte) []byte { return func(b []byte) []byte { return b[:n] } }
	cutTo := func(l3 int) func(b []byte) []byte { // cut the packet and make the IP length true
		return func(b []byte) []byte {
			if b[12] == 0x08 {
				binary.BigEndian.PutUint16(b[16:], uint16(l3))
				fixIPv4(b)
			} else {
				binary.BigEndian.PutUint16(b[18:], uint16(l3-40))
			}
			return b[:14+l3]
		}
	}
	for _, tt := range []struct {
		name   string
		in     packettest.Spec
		break_ func(b []byte) []byte
		want   Reason
	}{
		{"nothing at all", tcp4, cut(0), ReasonShort},
		{"half an Ethernet header", tcp4, cut(13), ReasonShort},
		{"a group as sender", tcp4, put(6, 3), ReasonSourceMAC},
		{"802.1Q", tcp4, func(b []byte) []byte { b[12], b[13] = 0x81, 0; return b }, ReasonVLAN},
		{"802.1ad", tcp6, func(b []byte) []byte { b[12], b[13] = 0x88, 0xa8; return b }, ReasonVLAN},
		{"IPv4 header cut", tcp4, cut(33), ReasonTruncated},
		{"IPv6 header cut", tcp6, cut(53), ReasonTruncated},
		{"IPv4 packet cut", tcp4, cut(60), ReasonTruncated},
		{"IPv6 packet cut", tcp6, cut(60), ReasonTruncated},
		{"IPv4 says version 6", tcp4, put(14, 0x65), ReasonIPv4Header},
		{"IPv6 says version 4", tcp6, put(14, 0x40), ReasonIPv6Header},
		{"IPv4 header of 16 bytes", tcp4, func(b []byte) []byte { b[14] = 0x44; return b }, ReasonIPv4Header},
		{"IPv4 header longer than the packet", opts, func(b []byte) []byte { b[14], b[17] = 0x4f, 40; return b }, ReasonIPv4Header},
		{"IPv4 total length 0, as a superpacket beyond 64 KiB has", tcp4, put(16, 0, 0), ReasonIPv4Header},
		{"IPv4 checksum off by one", tcp4, func(b []byte) []byte { b[25]++; return b }, ReasonIPv4Checksum},
		{"IPv4 option of length 1", opts, put(35, 1), ReasonIPv4Options},
		{"IPv4 option longer than the header", opts, put(35, 5), ReasonIPv4Options},
		{"IPv4 option without a length", opts, put(34, 1, 1, 1, 7), ReasonIPv4Options},
		{"IPv4 checksum off by one, with options", opts, func(b []byte) []byte { b[25]++; return b }, ReasonIPv4Checksum},
		{"loose source route", opts, put(34, 131, 3, 4, 0), ReasonSourceRoute},
		{"strict source route", opts, put(34, 137, 3, 4, 0), ReasonSourceRoute},
		{"jumbogram", tcp6, func(b []byte) []byte { b[18], b[19], b[20] = 0, 0, 0; return b }, ReasonJumbogram},
		{"fragment that is no multiple of 8", frag, cutTo(20 + 20 + 35), ReasonFragment},
		{"fragment beyond 65,535 bytes", later, put(20, 0x1f, 0xff), ReasonFragment},
		{"first fragment without the whole TCP header", frag, cutTo(20 + 16), ReasonTinyFragment},
		{"fragment over the TCP flags", later, put(20, 0, 1), ReasonTinyFragment},
		{"IPv4 TCP of 19 bytes", tcp4, cutTo(20 + 19), ReasonTCPHeader},
		{"IPv6 TCP of 19 bytes", tcp6, cutTo(40 + 19), ReasonTCPHeader},
		{"IPv6 payload length 0", tcp6, cutTo(40), ReasonTCPHeader},
		{"TCP data offset 4", tcp4, put(46, 0x40), ReasonTCPHeader},
		{"TCP data offset beyond the packet", tcp6, func(b []byte) []byte { b[66] = 0xf0; return cutTo(40 + 56)(append(b, 0)) }, ReasonTCPHeader},
		{"UDP of 7 bytes", udp4, cutTo(20 + 7), ReasonUDPLength},
		{"UDP length 7", udp6, put(58, 0, 7), ReasonUDPLength},
		{"UDP length beyond the packet", udp4, put(38, 0, 41), ReasonUDPLength},
		{"ICMP of 7 bytes", ping4, cutTo(20 + 7), ReasonICMPHeader},
		{"ICMPv6 of 7 bytes", ping6, cutTo(40 + 7), ReasonICMPHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tap.NewFrame(tap.Header{}, tt.break_(tt.in.Bytes()))
			var p Packet
			if r := Parse(&f, &p); r != tt.want {
				t.Errorf("reason %v, want %v", r, tt.want)
			}
		})
	}
}

func TestParseShortUDPLength(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(10)}
	b := s.Bytes()
	b[16+1] += 5 // five bytes behind the datagram, within the packet
	fixIPv4(b)
	f := tap.NewFrame(tap.Header{}, append(b, 1, 2, 3, 4, 5))
	p := mustParse(t, &f)
	if !ChecksumOK(&f, &p) || f.Len() != len(b)+5 {
		t.Error("bytes behind a datagram are neither part of its checksum nor to be cut off")
	}
	f.Header = tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: 34, CsumOffset: 6}
	if r := Parse(&f, &p); r != ReasonUDPLength {
		t.Errorf("the same, partial: %v, want %v", r, ReasonUDPLength)
	}
}

// Virtio headers that are not true of their packet.
func TestParseRefusesOffload(t *testing.T) {
	arp := packettest.ARP(1, MAC{2}, MAC{4}, client4.Addr(), vip4.Addr())
	part := func(start, off uint16) tap.Header {
		return tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: start, CsumOffset: off}
	}
	gso := func(t uint8, size uint16) tap.Header { return tap.Header{GSOType: t, GSOSize: size} }
	for _, fam := range families {
		l4 := uint16(14 + fam.hdrLen)
		tcpType, otherType := uint8(tap.GSOTCPv4), uint8(tap.GSOTCPv6)
		if fam.name == "IPv6" {
			tcpType, otherType = otherType, tcpType
		}
		tcp := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK, Payload: pattern(3000)}
		udp, ping, syn := tcp, tcp, tcp
		udp.Proto, ping.Proto, ping.ICMPType, syn.Flags = ProtoUDP, fam.icmp, fam.echo, SYN
		for _, tt := range []struct {
			name string
			f    tap.Frame
			h    tap.Header
			want Reason
		}{
			{"TCP partial", tcp.Frame(), part(l4, 16), ReasonNone},
			{"UDP partial", udp.Frame(), part(l4, 6), ReasonNone},
			{"TCP verified by the sender", tcp.Frame(), tap.Header{Flags: tap.FlagDataValid}, ReasonNone},
			{"wrong start", tcp.Frame(), part(l4+2, 14), ReasonPartial},
			{"wrong offset", tcp.Frame(), part(l4, 6), ReasonPartial},
			{"sums that wrap", tcp.Frame(), part(l4, 16+0x8000), ReasonPartial},
			{"start beyond the frame", udp.Frame(), part(60000, 6), ReasonPartial},
			{"ICMP partial", ping.Frame(), part(l4, 2), ReasonPartial},
			{"ARP partial", arp.Clone(), part(14, 2), ReasonPartial},
			{"TCP super", tcp.Frame(), gso(tcpType, 1000), ReasonNone},
			{"TCP super with ECN", tcp.Frame(), gso(tcpType|tap.GSOECN, 1000), ReasonNone},
			{"TCP super larger than its payload", tcp.Frame(), gso(tcpType, 9000), ReasonNone},
			{"UDP super", udp.Frame(), gso(tap.GSOUDPL4, 1000), ReasonNone},
			{"segments of no bytes", tcp.Frame(), gso(tcpType, 0), ReasonGSO},
			{"the other family", tcp.Frame(), gso(otherType, 1000), ReasonGSO},
			{"UDP said to be TCP", udp.Frame(), gso(tcpType, 1000), ReasonGSO},
			{"TCP said to be UDP", tcp.Frame(), gso(tap.GSOUDPL4, 1000), ReasonGSO},
			{"UDP with ECN", udp.Frame(), gso(tap.GSOUDPL4|tap.GSOECN, 1000), ReasonGSO},
			{"UFO", udp.Frame(), gso(tap.GSOUDP, 1000), ReasonGSO},
			{"unknown type", tcp.Frame(), gso(77, 1000), ReasonGSO},
			{"only the ECN bit", tcp.Frame(), gso(tap.GSOECN, 1000), ReasonGSO},
			{"a SYN in segments", syn.Frame(), gso(tcpType, 1000), ReasonGSO},
			{"a ping in segments", ping.Frame(), gso(tap.GSOUDPL4, 1000), ReasonGSO},
			{"ARP in segments", arp.Clone(), gso(tcpType, 10), ReasonGSO},
		} {
			tt.f.Header = tt.h
			var p Packet
			if r := Parse(&tt.f, &p); r != tt.want {
				t.Errorf("%s %s: %v, want %v", fam.name, tt.name, r, tt.want)
			}
		}
	}
}

func TestParseRefusesOffloadedFragments(t *testing.T) {
	first4 := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, MF: true, Payload: pattern(64)}
	later4 := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, FragOffset: 72, Payload: pattern(64)}
	for name, s := range map[string]packettest.Spec{"first IPv4": first4, "later IPv4": later4,
		"first IPv6": fragment6(ProtoUDP, 0, true, pattern(64)), "later IPv6": fragment6(ProtoUDP, 72, true, pattern(64))} {
		f := s.Frame()
		p := mustParse(t, &f)
		f.Header = tap.Header{Flags: tap.FlagNeedsCsum, CsumStart: p.L4, CsumOffset: 6}
		if r := Parse(&f, &p); r != ReasonPartial {
			t.Errorf("%s, partial: %v, want %v", name, r, ReasonPartial)
		}
		f.Header = tap.Header{GSOType: tap.GSOUDPL4, GSOSize: 16}
		if r := Parse(&f, &p); r != ReasonGSO {
			t.Errorf("%s, super: %v, want %v", name, r, ReasonGSO)
		}
	}
}

func TestReasonNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reason(NumReasons) {
		s := r.String()
		if s == "" || seen[s] {
			t.Errorf("reason %d is called %q", r, s)
		}
		seen[s] = true
	}
	if s := Reason(200).String(); s != "unknown reason" {
		t.Errorf("Reason(200) = %q", s)
	}
}

// A hint of headers longer than the frame, which no device would take, is forgotten; also when it is longer than what is left of the frame.
func TestHdrLenIsNoLongerThanTheFrame(t *testing.T) {
	for _, fam := range families {
		f := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoUDP}.Frame()
		for _, padding := range []int{0, 10} {
			for hdrLen, want := range map[int]int{0: 0, f.Len(): f.Len(), f.Len() + 1: 0, f.Len() + 11: 0} {
				g := tap.NewFrame(tap.Header{HdrLen: uint16(hdrLen)}, append(append([]byte{}, f.Bytes()...), make([]byte, padding)...))
				mustParse(t, &g)
				if int(g.Header.HdrLen) != want {
					t.Errorf("%s: hint %d, padding %d: %d, want %d", fam.name, hdrLen, padding, g.Header.HdrLen, want)
				}
			}
		}
	}
}
