package director

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"tapdirector/director/frag"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// fragmentWay is a way through a world that fragments take.
type fragmentWay struct {
	name    string
	world   *world
	iface   int // they come in by
	out     int // they leave by
	spec    packettest.Spec
	verdict Verdict
	edit    func(p *stack.Packet, b []byte) // what the way does to a whole packet, but for MACs and TTL
	dstMAC  stack.MAC
	ends    *[2]netip.AddrPort // of the other family: what the way makes of both
}

// fragmentWays returns each way of UDP datagrams, of one family, through worlds where connections are made.
func fragmentWays(t *testing.T, family int) (ways []fragmentWay) {
	nat, dr := newWorld(t, worldSpec{family: family, proto: "udp"}), newWorld(t, worldSpec{family: family, proto: "udp", method: "dr"})
	byRoute := newWorld(t, worldSpec{family: family, proto: "udp", ext: `reply = "route"`})
	byRoute.neigh.Pin(ext, byRoute.spec.client().Addr(), clientMAC)
	for _, w := range []*world{nat, dr, byRoute} {
		w.step(ext, w.toVIP(0))
	}
	toServer := func(p *stack.Packet, b []byte) {
		p.SetDst(b, false, stack.AddrFrom(nat.spec.server(0).Addr()), nat.spec.server(0).Port())
	}
	toClient := func(p *stack.Packet, b []byte) {
		p.SetSrc(b, false, stack.AddrFrom(nat.spec.vip().Addr()), nat.spec.vip().Port())
	}
	masq, far := masqueradeWorld(t, family, "udp")
	_, left := masq.step(in, masq.outbound(5353, far).Frame())
	var q stack.Packet
	stack.Parse(&left[0].frame, &q)
	back := masq.base(ext, far, endpoint(q.Src, q.SrcPort))
	inside := stack.AddrFrom(masq.spec.server(0).Addr())
	full := newWorld(t, worldSpec{family: family, proto: "udp", method: "fullnat"})
	_, left = full.step(ext, full.toVIP(0))
	var o stack.Packet
	stack.Parse(&left[0].frame, &o)
	answer := full.base(in, endpoint(o.Dst, o.DstPort), endpoint(o.Src, o.SrcPort))
	client, vip := full.spec.client(), full.spec.vip()
	nothing := func(*stack.Packet, []byte) {}
	for _, kind := range tunKinds {
		for _, outer := range []int{4, 6} {
			tun := newWorld(t, worldSpec{family: family, outer: outer, proto: "udp", method: "tun", service: kind.toml, mtu: 1600})
			tun.step(ext, tun.toVIP(0))
			ways = append(ways, fragmentWay{fmt.Sprintf("tun forward, %s, IPv%d", kind.name, outer), tun, ext, in, tun.toVIPSpec(0), ForwardedTUN, nothing, serverMAC(0), nil})
		}
	}
	across := newWorld(t, worldSpec{family: family, outer: 10 - family, proto: "udp", method: "fullnat"})
	_, left = across.step(ext, across.toVIP(0))
	var a stack.Packet
	stack.Parse(&left[0].frame, &a)
	ours, theirs := endpoint(a.Src, a.SrcPort), endpoint(a.Dst, a.DstPort)
	ways = append(ways,
		fragmentWay{"across forward", across, ext, in, across.toVIPSpec(0), ForwardedFullNAT, nil, serverMAC(0), &[2]netip.AddrPort{ours, theirs}},
		fragmentWay{"across reply", across, in, ext, across.base(in, theirs, ours), RepliedFullNAT, nil, clientMAC,
			&[2]netip.AddrPort{across.spec.vip(), across.spec.client()}})
	return append(ways, []fragmentWay{
		{"fullnat forward", full, ext, in, full.toVIPSpec(0), ForwardedFullNAT, func(p *stack.Packet, b []byte) {
			p.SetEnds(b, false, &stack.Tuple{Src: o.Src, Dst: o.Dst, SrcPort: o.SrcPort, DstPort: o.DstPort})
		}, serverMAC(0), nil},
		{"fullnat reply", full, in, ext, answer, RepliedFullNAT, func(p *stack.Packet, b []byte) {
			p.SetEnds(b, false, &stack.Tuple{Src: stack.AddrFrom(vip.Addr()), Dst: stack.AddrFrom(client.Addr()), SrcPort: vip.Port(), DstPort: client.Port()})
		}, clientMAC, nil},
		{"nat forward", nat, ext, in, nat.toVIPSpec(0), ForwardedNAT, toServer, serverMAC(0), nil},
		{"nat reply", nat, in, ext, nat.fromServerSpec(0, 0), RepliedNAT, toClient, clientMAC, nil},
		{"nat reply by route", byRoute, in, ext, byRoute.fromServerSpec(0, 0), RepliedNAT, toClient, clientMAC, nil},
		{"dr forward", dr, ext, in, dr.toVIPSpec(0), ForwardedDR, nothing, serverMAC(0), nil},
		{"masquerade", masq, in, ext, masq.outbound(5353, far), Masqueraded, func(p *stack.Packet, b []byte) { p.SetSrc(b, false, q.Src, q.SrcPort) },
			stack.MAC{2, 0, 0, 0, 0xfa, 1}, nil},
		{"demasquerade", masq, ext, in, back, Demasqueraded, func(p *stack.Packet, b []byte) { p.SetDst(b, false, inside, 5353) }, serverMAC(0), nil},
	}...)
}

// eachFragmentWay runs a test for each way and family.
func eachFragmentWay(t *testing.T, test func(t *testing.T, way *fragmentWay)) {
	bothFamilies(t, func(t *testing.T, family int) {
		for _, way := range fragmentWays(t, family) {
			t.Run(way.name, func(t *testing.T) { test(t, &way) })
		}
	})
}

// datagram returns a packet of the way with n bytes of payload, and what it is to be when it has left.
func (way *fragmentWay) datagram(n int) (whole, want tap.Frame) {
	s := way.spec
	s.DF, s.Payload = false, make([]byte, n)
	for i := range s.Payload {
		s.Payload[i] = byte(i * 7 >> 3)
	}
	whole = s.Frame()
	if way.ends != nil {
		s.Src, s.Dst, s.TTL = way.ends[0], way.ends[1], 63
		s.SrcMAC, s.DstMAC = way.world.view.Load().ifaces[way.out].mac.MAC(), way.dstMAC
		return whole, s.Frame()
	}
	want = whole.Clone()
	var p stack.Packet
	if r := stack.Parse(&want, &p); r != stack.ReasonNone {
		panic(r)
	}
	b := want.Bytes()
	way.edit(&p, b)
	p.DecTTL(b)
	stack.SetMACs(b, stack.WordOf(way.dstMAC), way.world.view.Load().ifaces[way.out].mac)
	return whole, want
}

// pass carries fragments in order and fails unless those that leave make the packet want.
func (way *fragmentWay) pass(t *testing.T, frames []tap.Frame, want *tap.Frame) {
	t.Helper()
	var out []tap.Frame
	for i := range frames {
		v, left := way.world.step(way.iface, frames[i].Clone())
		if v != way.verdict && v != HeldFragment || (v == HeldFragment) != (len(left) == 0) {
			t.Fatalf("fragment %d: %v, with %d frames", i, v, len(left))
		}
		for _, l := range left {
			if l.iface != way.out {
				t.Fatalf("fragment %d left by interface %d, want %d", i, l.iface, way.out)
			}
			out = append(out, way.unwrapped(t, l.frame))
		}
	}
	got, err := packettest.Reassemble(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Fatalf("left as\n%x, want\n%x", got.Bytes()[:100], want.Bytes()[:100])
	}
	var p stack.Packet
	if stack.Parse(&got, &p) != stack.ReasonNone || !stack.ChecksumOK(&got, &p) {
		t.Fatalf("reassembled it has a wrong checksum: %s", stack.Describe(got.Bytes()))
	}
}

// unwrapped is a frame that left, out of its tunnel if the way has one.
func (way *fragmentWay) unwrapped(t *testing.T, f tap.Frame) tap.Frame {
	t.Helper()
	if way.verdict != ForwardedTUN {
		return f
	}
	_, inner, _ := way.world.unwrap(&f)
	stack.SetMACs(inner.Bytes(), stack.DstWord(f.Bytes()), stack.SrcWord(f.Bytes()))
	return inner
}

// settled fails unless every datagram is complete and every held frame accounted for.
func settled(t *testing.T, d *Director) frag.Stats {
	t.Helper()
	s := d.frags.Stats()
	var released uint64
	for v := range d.released {
		released += d.released[v].Load()
	}
	if s.Tracked != 0 || s.HeldNow != 0 || s.HeldBytes != 0 || s.Held != s.Released+s.Dropped || released != s.Released {
		t.Errorf("%d released; %+v", released, s)
	}
	return s
}
