package memlan_test

import (
	"net/netip"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// A probe is a host whose frames are made and read by hand. It answers ARP and neighbour solicitations for its address, and nothing else.

var probeMAC = stack.MAC{0x02, 0, 0, 0, 0xcc, 1}

// arrival is a frame that came to the probe.
type arrival struct {
	tap.Frame
	stack.Packet
}

type probe struct {
	t    *testing.T
	w    *memlan.World
	lan  string
	addr netip.AddrPort
	port *memlan.Port
	got  chan arrival
}

// newWorld builds a world that is closed, and its faults looked at, when the test ends.
func newWorld(t *testing.T, s integration.Spec) *memlan.World {
	t.Helper()
	w, err := memlan.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		for name, n := range w.Faults() {
			t.Errorf("%s = %d", name, n)
		}
	})
	return w
}

// families runs a test in a world of each family with a probe on ext.
func families(t *testing.T, s integration.Spec, test func(t *testing.T, w *memlan.World, p *probe)) {
	for name, family := range map[string]int{"IPv4": 4, "IPv6": 6} {
		s := s
		s.Family = family
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, s)
			test(t, w, plugProbe(t, w, integration.Ext))
		})
	}
}

// methods is families for each method.
func methods(t *testing.T, s integration.Spec, test func(t *testing.T, w *memlan.World, p *probe)) {
	for _, method := range integration.Methods {
		s := s
		s.Method = method
		t.Run(method, func(t *testing.T) { families(t, s, test) })
	}
}

// plugProbe adds a probe, which is host 3 of its LAN's subnet.
func plugProbe(t *testing.T, w *memlan.World, lan string) *probe {
	a := w.Plan.Interfaces[0].Addresses[0].Addr()
	if lan == integration.Int {
		a = w.Plan.Interfaces[1].Addresses[0].Addr()
	}
	p := &probe{t: t, w: w, lan: lan, addr: netip.AddrPortFrom(a.Next().Next(), 40000), got: make(chan arrival, 256)}
	p.port = w.Plug(lan, "probe/"+lan, p.deliver)
	return p
}

// deliver runs in the port's goroutine. What the test does not take in time is lost.
func (p *probe) deliver(f *tap.Frame) {
	dst := stack.DstMAC(f.Bytes())
	if dst != probeMAC && dst[0]&1 == 0 {
		return
	}
	a := arrival{Frame: f.Clone()}
	if stack.Parse(&a.Frame, &a.Packet) != stack.ReasonNone || p.answerNeighbour(&a) {
		return
	}
	select {
	case p.got <- a:
	default:
	}
}

// answerNeighbour answers a question for the probe's address.
func (p *probe) answerNeighbour(a *arrival) bool {
	b, ours := a.Bytes(), p.addr.Addr()
	switch {
	case a.Kind == stack.KindARP && b[21] == 1 && netip.AddrFrom4([4]byte(b[38:42])) == ours:
		sender := netip.AddrFrom4([4]byte(b[28:32]))
		f := packettest.ARP(2, probeMAC, stack.SrcMAC(b), ours, sender)
		p.port.Send(&f)
		return true
	case a.Proto == stack.ProtoICMPv6 && a.ICMPType == 135 && netip.AddrFrom16([16]byte(b[62:78])) == ours:
		f := advertisement(a).Frame()
		p.port.Send(&f)
		return true
	}
	return false
}

// advertisement answers a solicitation (RFC 4861 section 4.4).
func advertisement(a *arrival) packettest.Spec {
	target := a.Bytes()[62:78]
	return packettest.Spec{SrcMAC: probeMAC, DstMAC: stack.SrcMAC(a.Bytes()), TTL: 255, Proto: packettest.ICMPv6,
		Src: netip.AddrPortFrom(netip.AddrFrom16([16]byte(target)), 0), Dst: netip.AddrPortFrom(a.Src.Netip(), 0),
		ICMPType: 136, ICMPID: 0x6000, // solicited, override
		Payload: append(append(append([]byte{}, target...), 2, 1), probeMAC[:]...)}
}

// to is the start of a packet to dst by way of the director.
func (p *probe) to(dst netip.AddrPort, proto uint8) packettest.Spec {
	mac := p.w.Plan.Interfaces[0].MAC
	if p.lan == integration.Int {
		mac = p.w.Plan.Interfaces[1].MAC
	}
	return packettest.Spec{SrcMAC: probeMAC, DstMAC: mac, Src: p.addr, Dst: dst, Proto: proto}
}

// tcp is a segment to the VIP, udp a datagram.
func (p *probe) tcp(flags uint8) packettest.Spec {
	s := p.to(p.w.VIP(), packettest.TCP)
	s.Flags, s.Seq = flags, 1000
	return s
}

func (p *probe) udp(payload string) packettest.Spec {
	s := p.to(p.w.VIP(), packettest.UDP)
	s.Payload = []byte(payload)
	return s
}

func (p *probe) send(s packettest.Spec) {
	f := s.Frame()
	p.port.Send(&f)
}

// expect waits for a frame that matches and skips others.
func (p *probe) expect(what string, match func(a *arrival) bool) *arrival {
	p.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case a := <-p.got:
			if match(&a) {
				return &a
			}
		case <-timeout:
			p.t.Fatalf("no %s came; verdicts: %v", what, verdicts(p.w))
		}
	}
}

// expectTCP waits for a segment with these flags.
func (p *probe) expectTCP(what string, flags uint8) *arrival {
	p.t.Helper()
	return p.expect(what, func(a *arrival) bool { return a.Proto == stack.ProtoTCP && a.TCPFlags == flags })
}

// icmpKind is an ICMP message in both families.
type icmpKind struct{ type4, code4, type6, code6 uint8 }

var (
	echoReply       = icmpKind{0, 0, 129, 0}
	timeExceeded    = icmpKind{11, 0, 3, 0}
	tooBig          = icmpKind{3, 4, 2, 0}
	portUnreachable = icmpKind{3, 3, 1, 4}
)

// is reports whether a is a message of that kind.
func (k icmpKind) is(a *arrival) bool {
	if a.Proto == stack.ProtoICMP {
		return a.ICMPType == k.type4 && a.ICMPCode == k.code4
	}
	return a.Proto == stack.ProtoICMPv6 && a.ICMPType == k.type6 && a.ICMPCode == k.code6
}

// expectError waits for an ICMP error from an address that quotes a packet from the probe to quoted.
func (p *probe) expectError(k icmpKind, from netip.Addr, quoted netip.AddrPort) *arrival {
	p.t.Helper()
	a := p.expect("ICMP error", k.is)
	var q stack.Packet
	if !a.Inner(a.Bytes(), &q) {
		p.t.Fatal("it quotes nothing")
	}
	if got := netip.AddrPortFrom(q.Dst.Netip(), q.DstPort); got != quoted || q.Src.Netip() != p.addr.Addr() || q.SrcPort != p.addr.Port() {
		p.t.Errorf("it quotes a packet to %v, want one from the probe to %v", got, quoted)
	}
	if a.Src.Netip() != from {
		p.t.Errorf("it is from %v, want %v", a.Src, from)
	}
	return a
}

// echo is an echo request to an address.
func (p *probe) echo(dst netip.Addr) packettest.Spec {
	s := p.to(netip.AddrPortFrom(dst, 0), packettest.ICMP)
	s.ICMPType = 8
	if dst.Is6() {
		s.Proto, s.ICMPType = packettest.ICMPv6, 128
	}
	s.ICMPID, s.ICMPSeq, s.Payload = 77, 1, []byte("are you there?")
	return s
}

// dip is the director's address on the probe's LAN.
func (p *probe) dip() netip.Addr { return p.addr.Addr().Prev().Prev() }

// verdict returns the director's count of one verdict.
func verdict(w *memlan.World, name string) uint64 { return verdicts(w)[name] }

// verdicts returns those that are not 0.
func verdicts(w *memlan.World) map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range w.Counters() {
		if c.Name == "verdict" && c.Value > 0 {
			m[c.Labels[0][len("verdict="):]] = c.Value
		}
	}
	return m
}

// waitFor polls a condition.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timeout: %s", what)
		}
	}
}

// waitVerdict waits until a verdict was given n times.
func waitVerdict(t *testing.T, w *memlan.World, name string, n uint64) {
	t.Helper()
	waitFor(t, name, func() bool { return verdict(w, name) >= n })
}
