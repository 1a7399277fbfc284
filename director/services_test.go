package director

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tapdirector/conf"
	"tapdirector/stack"
)

// The lookup against its slow twin, which looks at all listens and takes the narrowest that holds the port.
func TestServicesAgainstTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		s := newServices()
		var all []conf.Listen
		var of []*service
		for i := range 1 + rng.IntN(30) {
			l := conf.Listen{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(3))})}
			switch rng.IntN(5) {
			case 0:
				l.High = 65535
			case 1, 2:
				l.Low = uint16(1 + rng.IntN(200))
				l.High = l.Low + uint16(1+rng.IntN(20))
			default:
				l.Low = uint16(1 + rng.IntN(200))
				l.High = l.Low
			}
			overlaps := false
			for _, o := range all { // as conf refuses
				overlaps = overlaps || o.Addr == l.Addr && o.Single() == l.Single() && o.Every() == l.Every() && l.Low <= o.High && o.Low <= l.High
			}
			if !overlaps {
				all, of = append(all, l), append(of, &service{id: uint32(i)})
				s.add(l, stack.ProtoTCP, of[len(of)-1])
			}
		}
		for port := range 260 {
			for host := range byte(4) {
				a := netip.AddrFrom4([4]byte{10, 0, 0, host})
				var want *service
				width := 1 << 17
				for i, l := range all {
					if w := int(l.High) - int(l.Low); l.Addr == a && int(l.Low) <= port && port <= int(l.High) && w < width {
						want, width = of[i], w
					}
				}
				v := virtual{stack.AddrFrom(a), uint16(port), stack.ProtoTCP}
				if got := s.find(v); got != want {
					t.Fatalf("%v port %d: %v, want %v of %v", a, port, got, want, all)
				}
				if v.proto = stack.ProtoUDP; s.find(v) != nil {
					t.Fatal("found for another protocol")
				}
			}
		}
	}
}

// Ranges, groups and whole addresses: a server without a port of its own gets the client's, one that has one gets that; dr never changes ports.
func TestManyPorts(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		for _, tc := range []struct {
			listen string // %s: the VIP
			hits   []uint16
			misses []uint16
		}{
			{`"%s:6000-6999"`, []uint16{6000, 6500, 6999}, []uint16{5999, 7000}},
			{`["%s:80", "%s:443"]`, []uint16{80, 443}, []uint16{81, 442}},
			{`["%s:80", "%s:6000-6001"]`, []uint16{80, 6000, 6001}, []uint16{81, 5999, 6002}},
			{`"%s:0"`, []uint16{1, 80, 65535}, nil},
		} {
			for _, method := range []string{"nat", "dr"} {
				bothFamilies(t, func(t *testing.T, family int) {
					for _, noPort := range []bool{true, false} {
						if method == "dr" && !noPort {
							continue
						}
						w := manyPorts(t, worldSpec{family: family, proto: proto, method: method, listen: tc.listen, noPort: noPort})
						for _, port := range tc.hits {
							w.wantBothWays(port, noPort)
						}
						for _, port := range tc.misses {
							s := w.toVIPSpec(stack.SYN)
							s.Dst = netip.AddrPortFrom(s.Dst.Addr(), port)
							if v, _ := w.step(ext, s.Frame()); v != SentReset && v != SentUnreachable {
								t.Errorf("%s: port %d: %v", tc.listen, port, v)
							}
						}
					}
				})
			}
		}
	}
}

// manyPorts builds a world whose service listens as s.listen says of its VIP.
func manyPorts(t *testing.T, s worldSpec) *world {
	s.setDefaults()
	vip := s.vip().Addr().String()
	if s.family == 6 {
		vip = "[" + vip + "]"
	}
	args := []any{vip, vip}
	if len(s.listen) < len(`["%s:80"]`)+6 || s.listen[0] != '[' {
		args = args[:1]
	}
	s.listen = fmt.Sprintf(s.listen, args...)
	return newWorld(t, s)
}

// wantBothWays sends a first packet to a port of the VIP, and with nat the server's answer.
func (w *world) wantBothWays(port uint16, samePort bool) {
	w.tb.Helper()
	s := w.toVIPSpec(stack.SYN)
	s.Src = netip.AddrPortFrom(s.Src.Addr(), 20000+port%1000)
	s.Dst = netip.AddrPortFrom(s.Dst.Addr(), port)
	v, left := w.step(ext, s.Frame())
	if w.spec.method == "dr" {
		p, _ := w.one(v, left, ForwardedDR, in)
		if p.DstPort != port {
			w.tb.Fatalf("port %d became %d", port, p.DstPort)
		}
		return
	}
	p, _ := w.one(v, left, ForwardedNAT, in)
	want := uint16(8000)
	if samePort {
		want = port
	}
	if p.DstPort != want {
		w.tb.Fatalf("port %d became %d, want %d", port, p.DstPort, want)
	}
	r := w.base(in, netip.AddrPortFrom(p.Dst.Netip(), p.DstPort), s.Src)
	r.Flags = stack.SYN | stack.ACK
	v, left = w.step(in, r.Frame())
	if p, _ := w.one(v, left, RepliedNAT, ext); endpoint(p.Src, p.SrcPort) != s.Dst {
		w.tb.Fatalf("answered from %v, want %v", endpoint(p.Src, p.SrcPort), s.Dst)
	}
}

// A service on every port leaves ping to the host, and a narrower service its ports.
func TestEveryPortIsNotEverything(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		s := worldSpec{family: family}
		s.setDefaults()
		w := newWorld(t, worldSpec{family: family, noPort: true, listen: fmt.Sprintf("%q", netip.AddrPortFrom(s.vip().Addr(), 0)),
			tail: fmt.Sprintf("[[service]]\nname = \"ssh\"\nlisten = %q\n[[service.server]]\naddress = %q\n", netip.AddrPortFrom(s.vip().Addr(), 22),
				netip.AddrPortFrom(s.server(7).Addr(), 2222))})
		ping := w.toVIPSpec(0)
		ping.Proto, ping.ICMPType = stack.ProtoICMP, 8
		if family == 6 {
			ping.Proto, ping.ICMPType = stack.ProtoICMPv6, 128
		}
		if v, _ := w.step(ext, ping.Frame()); v != ToHost {
			t.Errorf("ping: %v", v)
		}
		ssh := w.toVIPSpec(stack.SYN)
		ssh.Dst = netip.AddrPortFrom(ssh.Dst.Addr(), 22)
		v, left := w.step(ext, ssh.Frame())
		if v != Parked || len(left) != 0 {
			t.Fatalf("port 22: %v", v)
		}
		if n := w.view.Load().ordered[1].all().conns; n != 1 {
			t.Errorf("the narrower service has %d connections, want 1", n)
		}
	})
}

func BenchmarkServices(b *testing.B) {
	s := newServices()
	a := netip.MustParseAddr("10.0.0.1")
	for i := range uint16(1000) {
		s.add(conf.Listen{Addr: a, Low: i + 1, High: i + 1}, stack.ProtoTCP, &service{})
		s.add(conf.Listen{Addr: a, Low: 2000 + i*10, High: 2009 + i*10}, stack.ProtoTCP, &service{})
	}
	for _, port := range []uint16{80, 7005, 1500} {
		b.Run(fmt.Sprint(port), func(b *testing.B) {
			v := virtual{stack.AddrFrom(a), port, stack.ProtoTCP}
			for b.Loop() {
				s.find(v)
			}
		})
	}
}
