package host

import (
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// wire is a host under test, with nothing but memory on its links. Run does not run unless a test starts it: deliver takes
// the steps itself, so what netstack says at once is there when deliver returns.
type wire struct {
	*Host
	t    *testing.T
	mu   sync.Mutex
	out  []sent
	more chan struct{} // holds a token after something was sent
}

// sent is one frame that left, parsed.
type sent struct {
	link  int
	frame tap.Frame
	pkt   stack.Packet
}

var (
	ownMAC    = stack.MAC{2, 0, 0, 0, 0xaa, 1}
	ownMAC2   = stack.MAC{2, 0, 0, 0, 0xaa, 2}
	clientMAC = stack.MAC{2, 0, 0, 0, 0, 0x0c}
	routerMAC = stack.MAC{2, 0, 0, 0, 0, 0x0d}
	everyone  = stack.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// family is the address plan that every table runs over in both families: two links, as in a two-armed director.
type family struct {
	name               string
	dip, vip, client   netip.Addr // link 0
	dip2, vip2, server netip.Addr // link 1
	foreign            netip.Addr // on link 0, of another host
	off                netip.Addr // behind a router nobody told us of
	routed, gateway    netip.Addr // behind a configured route of link 0
	group              netip.Addr // a multicast address we are in
}

var families = []family{
	{
		name: "IPv4",
		dip:  ip("10.77.1.1"), vip: ip("10.77.1.100"), client: ip("10.77.1.50"),
		dip2: ip("10.77.2.1"), vip2: ip("10.77.2.100"), server: ip("10.77.2.12"),
		foreign: ip("10.77.1.60"), off: ip("198.51.100.7"), routed: ip("203.0.113.9"), gateway: ip("10.77.1.254"),
		group: ip("224.0.0.1"),
	},
	{
		name: "IPv6",
		dip:  ip("2001:db8:1::1"), vip: ip("2001:db8:1::100"), client: ip("2001:db8:1::50"),
		dip2: ip("2001:db8:2::1"), vip2: ip("2001:db8:2::100"), server: ip("2001:db8:2::12"),
		foreign: ip("2001:db8:1::60"), off: ip("2001:db8:aaaa::7"), routed: ip("2001:db8:bbbb::9"), gateway: ip("2001:db8:1::fe"),
		group: ip("ff02::1"),
	},
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// plan is the Options of the address plan above.
func plan() Options {
	o := Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Links: []Link{{Name: "ext", MAC: ownMAC}, {Name: "int", MAC: ownMAC2}}}
	for _, f := range families {
		bits := map[bool]int{true: 24, false: 64}[f.dip.Is4()]
		o.Links[0].Addresses = append(o.Links[0].Addresses, netip.PrefixFrom(f.dip, bits))
		o.Links[0].VIPs = append(o.Links[0].VIPs, f.vip)
		o.Links[1].Addresses = append(o.Links[1].Addresses, netip.PrefixFrom(f.dip2, bits))
		o.Links[1].VIPs = append(o.Links[1].VIPs, f.vip2)
		routed, _ := f.routed.Prefix(bits)
		o.Routes = append(o.Routes, Route{To: routed, Via: f.gateway, Link: 0})
	}
	return o
}

// newWire builds a host of the plan; change may alter it.
func newWire(t *testing.T, change func(*Options)) *wire {
	t.Helper()
	w := &wire{t: t, more: make(chan struct{}, 1)}
	o := plan()
	if change != nil {
		change(&o)
	}
	for i := range o.Links {
		o.Links[i].Send = w.sender(i)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Host = h
	t.Cleanup(h.Close)
	return w
}

func (w *wire) sender(link int) func(*tap.Frame) {
	return func(f *tap.Frame) {
		s := sent{link: link, frame: f.Clone()}
		if r := stack.Parse(&s.frame, &s.pkt); r != stack.ReasonNone {
			w.t.Errorf("the host sent a frame that is refused: %v: %s", r, stack.Describe(f.Bytes()))
		}
		w.mu.Lock()
		w.out = append(w.out, s)
		w.mu.Unlock()
		select {
		case w.more <- struct{}{}:
		default:
		}
	}
}

// take returns what left since it was last called.
func (w *wire) take() []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.out
	w.out = nil
	return out
}

// wait returns the first frame to leave that is wanted, within a deadline, and drops those before it.
func (w *wire) wait(what string, want func(*sent) bool) sent {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		for out := w.take(); len(out) > 0; out = out[1:] {
			if want(&out[0]) {
				w.mu.Lock()
				w.out = append(out[1:], w.out...)
				w.mu.Unlock()
				return out[0]
			}
		}
		select {
		case <-w.more:
		case <-deadline:
			w.t.Fatalf("no %s within 10 s; counted %+v", what, w.Stats())
		}
	}
}

// offer hands a frame to the host as a worker would.
func (w *wire) offer(link int, f tap.Frame) Verdict {
	w.t.Helper()
	var p stack.Packet
	if r := stack.Parse(&f, &p); r != stack.ReasonNone {
		w.t.Fatalf("the test's own frame is refused: %v", r)
	}
	v := w.Deliver(link, &f, &p)
	clear(f.Bytes()) // the worker's memory is the worker's again
	return v
}

// deliver offers a frame, lets netstack see all that waits, and returns what it said at once.
func (w *wire) deliver(link int, f tap.Frame) (Verdict, []sent) {
	w.t.Helper()
	v := w.offer(link, f)
	for w.step() {
	}
	return v, w.take()
}

// only delivers a frame that must be answered with one frame, out of the same link.
func (w *wire) only(link int, f tap.Frame) sent {
	w.t.Helper()
	v, out := w.deliver(link, f)
	if v != Queued || len(out) != 1 || out[0].link != link {
		w.t.Fatalf("%v, %d answers, want one on link %d", v, len(out), link)
	}
	if !stack.ChecksumOK(&out[0].frame, &out[0].pkt) {
		w.t.Fatalf("wrong checksum: %s", stack.Describe(out[0].frame.Bytes()))
	}
	return out[0]
}

// introduce makes netstack know a neighbour, by a question of his for our address.
func (w *wire) introduce(link int, who netip.Addr, mac stack.MAC, about netip.Addr) {
	w.t.Helper()
	if who.Is4() {
		w.only(link, packettest.ARP(1, mac, everyone, who, about))
		return
	}
	w.only(link, solicit(who, mac, about))
}

// solicit is the question for target, multicast, with the asker's MAC.
func solicit(who netip.Addr, mac stack.MAC, target netip.Addr) tap.Frame {
	b := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
	return nd(135, mac, who, group, 0, append(b[:], append([]byte{1, 1}, mac[:]...)...)).Frame()
}

// nd builds an ND message: kind, four bytes behind the checksum, body.
func nd(kind uint8, mac stack.MAC, src, dst netip.Addr, word uint32, body []byte) packettest.Spec {
	s := packettest.Spec{
		SrcMAC: mac, DstMAC: ownMAC, Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0), Proto: packettest.ICMPv6, TTL: 255,
		ICMPType: kind, ICMPID: uint16(word >> 16), ICMPSeq: uint16(word), Payload: body,
	}
	if dst.IsMulticast() {
		b := dst.As16()
		s.DstMAC = stack.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
	}
	return s
}

// echo is a ping.
func echo(mac stack.MAC, src, dst netip.Addr, id uint16) tap.Frame {
	s := packettest.Spec{
		SrcMAC: mac, DstMAC: ownMAC, Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0),
		Proto: packettest.ICMP, ICMPType: 8, ICMPID: id, ICMPSeq: 1, Payload: []byte("what a ping carries"),
	}
	if !src.Is4() {
		s.Proto, s.ICMPType = packettest.ICMPv6, 128
	}
	return s.Frame()
}

// to2 readdresses a frame to our MAC on link 1.
func to2(f tap.Frame) tap.Frame {
	copy(f.Bytes(), ownMAC2[:])
	return f
}

// wantEchoReply checks that s answers an echo from client to us, sent to that MAC.
func (w *wire) wantEchoReply(s sent, us, client netip.Addr, to stack.MAC) {
	w.t.Helper()
	b := s.frame.Bytes()
	wantType := uint8(0)
	if !us.Is4() {
		wantType = 129
	}
	if s.pkt.Src.Netip() != us || s.pkt.Dst.Netip() != client || s.pkt.ICMPType != wantType || stack.DstMAC(b) != to {
		w.t.Errorf("not the answer to the echo: %s", stack.Describe(b))
	}
	if !stack.ChecksumOK(&s.frame, &s.pkt) || string(b[len(b)-6:]) != "arries" {
		w.t.Errorf("the answer is damaged: %s", stack.Describe(b))
	}
}

// isARPOrNS reports whether s asks for target.
func isARPOrNS(target netip.Addr) func(*sent) bool {
	return func(s *sent) bool {
		b := s.frame.Bytes()
		if target.Is4() {
			a := header.ARP(b[14:])
			return s.pkt.Kind == stack.KindARP && a.Op() == header.ARPRequest && netip.AddrFrom4([4]byte(a.ProtocolAddressTarget())) == target
		}
		return s.pkt.ICMPType == 135 && s.pkt.Proto == stack.ProtoICMPv6 && netip.AddrFrom16([16]byte(b[62:])) == target
	}
}

func prefixOf(a string, bits int) netip.Prefix { return netip.PrefixFrom(ip(a), bits) }

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func echoBytes(f family) []byte { e := echo(routerMAC, f.off, f.vip, 1); return e.Bytes() }
