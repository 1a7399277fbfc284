package neigh

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

var (
	target4 = families[0].target
	target6 = families[1].target
	allNode = netip.MustParseAddr("ff02::1")
	router6 = netip.MustParseAddr("fe80::1")
	zeroMAC stack.MAC
)

func packettestARP(sender netip.Addr) tap.Frame {
	return packettest.ARP(1, server2, everyone, sender, target4)
}

// arp builds an ARP frame and lets change spoil it.
func arp(op uint16, sha stack.MAC, spa netip.Addr, change func(a header.ARP, b []byte)) tap.Frame {
	f := packettest.ARP(op, sha, everyone, spa, families[0].dip)
	if change != nil {
		change(f.Bytes()[14:], f.Bytes())
	}
	return f
}

// spoil returns the frame of s after change, whose checksum is then wrong or right as change likes it.
func spoil(s packettest.Spec, change func(s *packettest.Spec)) tap.Frame {
	change(&s)
	return s.Frame()
}

// TestSnoop says what each kind of frame does to a slot that is unresolved, and to one that is at server1.
func TestSnoop(t *testing.T) {
	solicit := nd(135, target6, families[1].dip, 0, body(families[1].dip, option(1, server2)...))
	advertised := nd(136, target6, allNode, naOverride<<24, body(target6, option(2, server2)...))
	both := server2
	tests := []struct {
		name    string
		frame   tap.Frame
		slot    netip.Addr
		fresh   stack.MAC // what an unresolved slot has after it
		known   stack.MAC // what a slot at server1 has after it
		probing bool      // a slot at server1 is asked
	}{
		{"reply", arp(2, server2, target4, nil), target4, both, both, false},
		{"request", arp(1, server2, target4, nil), target4, both, both, false},
		{"gratuitous request", packettest.ARP(1, server2, everyone, target4, target4), target4, both, both, false},
		{"gratuitous reply", packettest.ARP(2, server2, everyone, target4, target4), target4, both, both, false},
		{"another Ethernet source", arp(2, server2, target4, func(_ header.ARP, b []byte) { b[6], b[11] = 2, 0x77 }), target4, both, both, false},
		{"padded", padded(arp(2, server2, target4, nil), 60), target4, both, both, false},
		{"of somebody else", arp(2, server2, families[0].other, nil), target4, zeroMAC, server1, false},
		{"probe of RFC 5227", arp(1, server2, netip.IPv4Unspecified(), nil), target4, zeroMAC, server1, false},
		{"zero MAC", arp(2, server2, target4, func(a header.ARP, _ []byte) { clear(a.HardwareAddressSender()) }), target4, zeroMAC, server1, false},
		{"broadcast MAC", arp(2, server2, target4, func(a header.ARP, _ []byte) { copy(a.HardwareAddressSender(), everyone[:]) }), target4, zeroMAC, server1, false},
		{"group MAC", arp(2, server2, target4, func(a header.ARP, _ []byte) { a.HardwareAddressSender()[0] = 3 }), target4, zeroMAC, server1, false},
		{"own MAC", arp(2, ownMAC, target4, nil), target4, zeroMAC, server1, false},
		{"own MAC of another link", arp(2, ownMAC2, target4, nil), target4, zeroMAC, server1, false},
		{"RARP", arp(3, server2, target4, nil), target4, zeroMAC, server1, false},
		{"other hardware", arp(2, server2, target4, func(a header.ARP, _ []byte) { a[1] = 6 }), target4, zeroMAC, server1, false},
		{"other protocol", arp(2, server2, target4, func(a header.ARP, _ []byte) { a[2] = 9 }), target4, zeroMAC, server1, false},
		{"other length", arp(2, server2, target4, func(a header.ARP, _ []byte) { a[5] = 16 }), target4, zeroMAC, server1, false},
		{"too short", tap.NewFrame(tap.Header{}, arpBytes()[:41]), target4, zeroMAC, server1, false},

		{"solicited NA", advert(target6, families[1].dip, server2, naSolicit|naOverride), target6, both, both, false},
		{"unsolicited NA, override", advertised.Frame(), target6, both, both, false},
		{"unsolicited NA, no override", advert(target6, allNode, server2, 0), target6, both, server1, true},
		{"solicited NA, no override", advert(target6, families[1].dip, server2, naSolicit), target6, both, server1, true},
		{"same MAC, no override", advert(target6, allNode, server1, 0), target6, server1, server1, false},
		{"NA without option", nd(136, target6, families[1].dip, naSolicit<<24, body(target6)).Frame(), target6, zeroMAC, server1, false},
		{"solicited NA to all", advert(target6, allNode, server2, naSolicit|naOverride), target6, zeroMAC, server1, false},
		{"NA for a group", nd(136, target6, allNode, naOverride<<24, body(allNode, option(2, server2)...)).Frame(), target6, zeroMAC, server1, false},
		{"NS with our slot as source", solicit.Frame(), target6, both, both, false},
		{"NS without option", nd(135, target6, families[1].dip, 0, body(families[1].dip)).Frame(), target6, zeroMAC, server1, false},
		{"NS for a group", nd(135, target6, families[1].dip, 0, body(allNode, option(1, server2)...)).Frame(), target6, zeroMAC, server1, false},
		{"RS", nd(133, target6, netip.MustParseAddr("ff02::2"), 0, option(1, server2)).Frame(), target6, both, both, false},
		{"RA of a gateway", nd(134, router6, allNode, 0, append(make([]byte, 8), option(1, server2)...)).Frame(), router6, both, both, false},
		{"RA from a global address", nd(134, target6, allNode, 0, append(make([]byte, 8), option(1, server2)...)).Frame(), target6, zeroMAC, server1, false},
		{"redirect", nd(137, router6, families[1].dip, 0, append(body(target6, target6.AsSlice()...), option(2, server2)...)).Frame(), target6, zeroMAC, server1, false},
		{"redirect's sender", nd(137, router6, families[1].dip, 0, append(body(target6, target6.AsSlice()...), option(2, server2)...)).Frame(), router6, zeroMAC, server1, false},

		{"hop limit 254", spoil(advertised, func(s *packettest.Spec) { s.TTL = 254 }), target6, zeroMAC, server1, false},
		{"code 1", spoil(advertised, func(s *packettest.Spec) { s.ICMPCode = 1 }), target6, zeroMAC, server1, false},
		{"wrong checksum", flip(advertised.Frame(), 14+40+2), target6, zeroMAC, server1, false},
		{"option of length 0", spoil(advertised, func(s *packettest.Spec) { s.Payload[17] = 0 }), target6, zeroMAC, server1, false},
		{"option longer than the packet", spoil(advertised, func(s *packettest.Spec) { s.Payload = body(target6, 2, 2, 0, 0, 0, 0, 0, 0) }), target6, zeroMAC, server1, false},
		{"half an option", spoil(advertised, func(s *packettest.Spec) { s.Payload = body(target6, 2, 1, 0) }), target6, zeroMAC, server1, false},
		{"cut in the target", spoil(advertised, func(s *packettest.Spec) { s.Payload = target6.AsSlice()[:15] }), target6, zeroMAC, server1, false},
		{"group MAC", advert(target6, allNode, stack.MAC{3}, naOverride), target6, zeroMAC, server1, false},
		{"own MAC", advert(target6, allNode, ownMAC, naOverride), target6, zeroMAC, server1, false},
		{"echo request", packettest.Spec{Src: netip.AddrPortFrom(target6, 0), Dst: netip.AddrPortFrom(families[1].dip, 0),
			Proto: packettest.ICMPv6, TTL: 255, ICMPType: 128, Payload: make([]byte, 40)}.Frame(), target6, zeroMAC, server1, false},
	}
	for _, tt := range tests {
		family := "IPv6 "
		if tt.slot.Is4() {
			family = "IPv4 "
		}
		t.Run(family+tt.name, func(t *testing.T) {
			l := newLAN(t, nil)
			s := l.Pin(0, tt.slot, stack.MAC{})
			l.snoop(0, tt.frame.Clone())
			l.wantMAC(s, tt.fresh)

			l = newLAN(t, nil)
			s, elsewhere := l.Pin(0, tt.slot, stack.MAC{}), l.Pin(1, tt.slot, stack.MAC{})
			l.learn(0, stack.AddrFrom(tt.slot), server1, true)
			l.snoop(0, tt.frame.Clone())
			l.wantMAC(s, tt.known)
			l.wantMAC(elsewhere, stack.MAC{})
			if asked := len(l.take()) == 1; asked != tt.probing {
				t.Errorf("asked: %v, want %v", asked, tt.probing)
			}
			if st := l.Stats(); (st.Changed == 1) != (tt.known != server1) || st.Slots != 2 {
				t.Errorf("counted %+v", st)
			}
		})
	}
}

func arpBytes() []byte { f := arp(2, server2, target4, nil); return f.Bytes() }

func padded(f tap.Frame, n int) tap.Frame {
	return tap.NewFrame(tap.Header{}, append(f.Bytes(), make([]byte, n-f.Len())...))
}

func flip(f tap.Frame, at int) tap.Frame {
	f.Bytes()[at] ^= 1
	return f
}

// TestDoubtIsNotAFlood checks that advertisements without override, however many, do not make us ask more than the table does.
func TestDoubtIsNotAFlood(t *testing.T) {
	l := newLAN(t, nil)
	s := l.Pin(0, target6, stack.MAC{})
	l.learn(0, stack.AddrFrom(target6), server1, true)
	for range 50 {
		l.snoop(0, advert(target6, allNode, server2, 0))
	}
	if out := l.take(); len(out) != 1 {
		t.Errorf("%d questions, want 1", len(out))
	}
	// A solicited answer without the option proves the MAC we have.
	l.snoop(0, nd(136, target6, families[1].dip, naSolicit<<24, body(target6)).Frame())
	l.wantState(s, "reachable")
	l.wantMAC(s, server1)
}

func TestLogIsLimited(t *testing.T) {
	var lines count
	l := newLAN(t, func(o *Options) { o.Log = lines.logger() })
	l.Pin(0, target4, stack.MAC{})
	for i := range 500 {
		l.answer(0, target4, stack.MAC{2, 1, 1, 1, byte(i >> 8), byte(i)})
	}
	if lines.n != logBurst {
		t.Errorf("%d lines for 500 changes at once, want %d", lines.n, logBurst)
	}
	l.pass(logEvery)
	l.answer(0, target4, server1)
	if lines.n != logBurst+1 || lines.leftOut != 499-logBurst {
		t.Errorf("%d lines, %d left out", lines.n, lines.leftOut)
	}
}

func TestLostAndFound(t *testing.T) {
	for _, tt := range families {
		var lines count
		l := newLAN(t, func(o *Options) { o.Log = lines.logger() })
		l.Pin(0, tt.target, stack.MAC{})
		for range 100 {
			l.pass(10 * period)
		}
		if lines.n != 1 {
			t.Errorf("%s: %d lines for one server that is down, want 1", tt.name, lines.n)
		}
		l.answer(0, tt.target, server1)
		if lines.n != 2 {
			t.Errorf("%s: no line when it is back", tt.name)
		}
	}
}

// FuzzSnoop feeds any bytes as a frame, with what Parse says of it and with a Packet that lies: never a panic, never a new
// slot, never another MAC for a static one or one of the other link.
func FuzzSnoop(f *testing.F) {
	for _, b := range [][]byte{
		arpBytes(), arpBytes()[:41],
		nd(135, target6, families[1].dip, 0, body(families[1].dip, option(1, server2)...)).Bytes(),
		nd(136, target6, allNode, naOverride<<24, body(target6, option(2, server2)...)).Bytes(),
		nd(133, target6, allNode, 0, option(1, server2)).Bytes(),
		nd(134, router6, allNode, 0, append(make([]byte, 8), option(1, server2)...)).Bytes(),
		nd(137, router6, families[1].dip, 0, make([]byte, 32)).Bytes(),
	} {
		f.Add(b, uint16(54), uint32(len(b)-14))
	}
	f.Fuzz(func(t *testing.T, b []byte, l4 uint16, l3Len uint32) {
		l := newLAN(t, nil)
		learned := []Slot{l.Pin(0, target4, stack.MAC{}), l.Pin(0, target6, stack.MAC{}), l.Pin(0, router6, stack.MAC{})}
		static := []Slot{l.Pin(0, families[0].other, server1), l.Pin(0, families[1].other, server1)}
		elsewhere := []Slot{l.Pin(1, target4, stack.MAC{}), l.Pin(1, target6, stack.MAC{})}

		frame := tap.NewFrame(tap.Header{}, b)
		var p stack.Packet
		if stack.Parse(&frame, &p) == stack.ReasonNone {
			l.Snoop(0, frame.Bytes(), &p)
		}
		p = stack.Packet{Kind: stack.KindIPv6, TTL: 255, L3: 14, L4: l4, Own: stack.Own{L3Len: l3Len}}
		p.Proto = stack.ProtoICMPv6
		l.Snoop(0, b, &p)
		if len(b) > 14 {
			binary.BigEndian.PutUint16(b[12:], 0x0806)
			l.Snoop(0, b, &stack.Packet{Kind: stack.KindARP})
		}

		if st := l.Stats(); st.Slots != 7 {
			t.Fatalf("%d slots, were 7", st.Slots)
		}
		for _, s := range static {
			l.wantMAC(s, server1)
		}
		for _, s := range elsewhere {
			l.wantMAC(s, stack.MAC{})
		}
		for _, s := range learned {
			if m, ok := l.MAC(s); ok && !l.believable(m.MAC()) {
				t.Fatalf("learned %x", m)
			}
		}
	})
}
