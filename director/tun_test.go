package director

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// tunKind is a tunnel as lb.toml has it, and the bytes behind the outer IP header.
type tunKind struct {
	name, toml string
	shim       int
}

var tunKinds = []tunKind{
	{"ipip", "tunnel = \"ipip\"\n", 0},
	{"gue", "tunnel = \"gue\"\n", 12},
	{"gue-csum", "tunnel = \"gue\"\ntunnel_csum = true\n", 12},
	{"gre", "tunnel = \"gre\"\n", 4},
	{"gre-csum", "tunnel = \"gre\"\ntunnel_csum = true\n", 8},
}

// overhead is the bytes in front of the inner packet.
func (k tunKind) overhead(outer int) int { return map[int]int{4: 20, 6: 40}[outer] + k.shim }

// everyTunnel runs a test for each kind of tunnel, client's and servers' family.
func everyTunnel(t *testing.T, s worldSpec, run func(t *testing.T, w *world, overhead int)) {
	for _, family := range []int{4, 6} {
		for _, outer := range []int{4, 6} {
			for _, kind := range tunKinds {
				t.Run(fmt.Sprintf("IPv%d in %s in IPv%d", family, kind.name, outer), func(t *testing.T) {
					s := s
					s.method, s.family, s.outer = "tun", family, outer
					s.service += kind.toml
					run(t, newWorld(t, s), kind.overhead(outer))
				})
			}
		}
	}
}

// unwrap takes a frame that left for a server out of its tunnel.
func (w *world) unwrap(f *tap.Frame) (packettest.Outer, tap.Frame, stack.Packet) {
	w.tb.Helper()
	o, inner, err := packettest.Unwrap(f.Bytes()[14:])
	if err != nil {
		w.tb.Fatalf("%v: %s\n%x", err, stack.Describe(f.Bytes()), f.Bytes())
	}
	if f.Header != (tap.Header{}) {
		w.tb.Errorf("virtio header %+v around a tunnel", f.Header)
	}
	return o, *framed(inner), w.parsed(framed(inner))
}

// framed puts an Ethernet header in front of an IP packet.
func framed(ip []byte) *tap.Frame {
	etherType := []byte{8, 0}
	if ip[0]>>4 == 6 {
		etherType = []byte{0x86, 0xdd}
	}
	f := tap.NewFrame(tap.Header{}, bytes.Join([][]byte{extMAC[:], clientMAC[:], etherType, ip}, nil))
	return &f
}

// parsed parses a frame and wants it to be right.
func (w *world) parsed(f *tap.Frame) (p stack.Packet) {
	w.tb.Helper()
	if r := stack.Parse(f, &p); r != stack.ReasonNone {
		w.tb.Fatalf("%v: %x", r, f.Bytes())
	}
	if !stack.ChecksumOK(f, &p) {
		w.tb.Fatalf("wrong checksum: %s", stack.Describe(f.Bytes()))
	}
	return p
}

// outerMTU is what IP packets of the inner interface have.
const outerMTU = 1500

func TestTUN(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		everyTunnel(t, worldSpec{proto: proto}, func(t *testing.T, w *world, overhead int) {
			sent := w.toVIP(stack.SYN)
			want := bytes.Clone(sent.Bytes()[14:])
			v, left := w.step(ext, sent)
			_, f := w.one(v, left, ForwardedTUN, in)
			if stack.DstMAC(f.Bytes()) != serverMAC(0) || stack.SrcMAC(f.Bytes()) != inMAC {
				t.Errorf("wrong MACs: %s", stack.Describe(f.Bytes()))
			}
			o, inner, p := w.unwrap(&f)
			outer := worldSpec{family: w.spec.outer}
			if o.Len != overhead || o.Src != outer.addr(2, 1) || o.Dst != w.spec.server(0).Addr() || o.TTL != 64 || o.DF != (w.spec.outer == 4) {
				t.Errorf("outer header: %+v", o)
			}
			if p.TTL != 63 {
				t.Errorf("inner TTL %d, want 63", p.TTL)
			}
			got := inner.Bytes()[14:]
			if w.spec.family == 4 {
				want[8]--
				copy(want[10:12], got[10:12])
			} else {
				want[7]--
			}
			if !bytes.Equal(got, want) {
				t.Errorf("inside is\n%x, want\n%x", got, want)
			}
			if w.conn(t).Marks&flow.NoOutput == 0 {
				t.Error("the connection waits for packets of its server")
			}
		})
	}
}

// conn is the connection of the client.
func (w *world) conn(t *testing.T) (c flow.Conn) {
	t.Helper()
	f := w.toVIP(stack.ACK)
	p := w.parsed(&f)
	if !w.table.Find(&p.Tuple, flow.Forward, &c) {
		t.Fatal("no connection")
	}
	return c
}

// setECN writes DSCP and ECN of a frame.
func setTOS(f *tap.Frame, tos uint8) {
	if b := f.Bytes()[14:]; b[0]>>4 == 4 {
		ip := header.IPv4(b)
		ip.SetTOS(tos, 0)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	} else {
		header.IPv6(b).SetTOS(tos, 0)
	}
}

// ECN, DSCP, DF and TTL outside, as they are inside.
func TestTUNOuterHeader(t *testing.T) {
	for _, tc := range []struct {
		name, service string
		ttl, tos      uint8
		df            bool
		wantTTL       uint8
		wantDF        func(family int) bool
	}{
		{"marked CE", "", 64, 0xbb, true, 64, func(int) bool { return true }},
		{"ECT(0)", "", 64, 2, true, 64, func(int) bool { return true }},
		{"without DF", "", 5, 0, false, 64, func(family int) bool { return family == 6 }},
		{"another TTL", "tunnel_ttl = 9\n", 64, 0, true, 9, func(int) bool { return true }},
		{"the packet's TTL", "tunnel_ttl = 0\n", 33, 0, true, 32, func(int) bool { return true }},
		{"without path MTU discovery", "pmtu_disc = false\n", 64, 3, true, 64, func(int) bool { return false }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everyTunnel(t, worldSpec{service: tc.service}, func(t *testing.T, w *world, _ int) {
				s := w.toVIPSpec(stack.SYN)
				s.TTL, s.DF = tc.ttl, tc.df
				f := s.Frame()
				setTOS(&f, tc.tos)
				v, left := w.step(ext, f)
				_, g := w.one(v, left, ForwardedTUN, in)
				o, inner, p := w.unwrap(&g)
				wantDF := w.spec.outer == 4 && tc.wantDF(w.spec.family)
				if o.TTL != tc.wantTTL || o.TOS != tc.tos || o.DF != wantDF || p.TTL != tc.ttl-1 {
					t.Errorf("outer header %+v, inner TTL %d; want TTL %d, TOS %#x, DF %v", o, p.TTL, tc.wantTTL, tc.tos, wantDF)
				}
				if !o.DF && w.spec.outer == 4 && o.ID == 0 {
					t.Error("no identification, but it may be fragmented")
				}
				if w.spec.family == 4 && p.DF != tc.df {
					t.Errorf("inner DF %v: %x", p.DF, inner.Bytes())
				}
			})
		})
	}
}

// While the next hop's MAC is asked for, what is wrapped waits: a superpacket as its segments.
func TestTUNParks(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{method: "tun", family: family, unknown: true})
		v, left := w.step(ext, w.toVIP(stack.SYN))
		w.none(v, left, Parked)
		s := w.toVIPSpec(stack.ACK)
		s.Payload, s.GSOSize, s.Partial = make([]byte, 5200), 1300, true
		v, left = w.step(ext, s.Frame())
		w.none(v, left, Parked)
		if got := w.neigh.Stats().Parked; got != 5 {
			t.Errorf("%d frames wait, want 5", got)
		}
		var out []tap.Frame
		w.memory[in].OnWrite(func(_ int, f *tap.Frame) { out = append(out, f.Clone()) })
		w.step(in, w.neighbourAnswer(w.spec.server(0).Addr(), serverMAC(0)))
		if len(out) < 5 {
			t.Fatalf("%d frames left", len(out))
		}
		for i := range out[:5] {
			if stack.DstMAC(out[i].Bytes()) != serverMAC(0) {
				t.Errorf("to %x", stack.DstMAC(out[i].Bytes()))
			}
			w.unwrap(&out[i])
		}
		s.Payload = make([]byte, 60000)
		s.Src = netip.AddrPortFrom(s.Src.Addr(), 40001) // to the next server, whose MAC is not known either
		s.GSOSize, s.Flags = 0, stack.SYN
		s.Payload = nil
		w.step(ext, s.Frame())
		s.Payload, s.GSOSize, s.Flags = make([]byte, 60000), 100, stack.ACK
		v, left = w.step(ext, s.Frame())
		w.none(v, left, DropNoNeighbour)
	})
}

// neighbourAnswer is a host of the inner LAN telling its MAC.
func (w *world) neighbourAnswer(a netip.Addr, m stack.MAC) tap.Frame {
	dip := w.spec.addr(2, 1)
	if w.spec.family == 4 {
		return packettest.ARP(2, m, inMAC, a, dip)
	}
	s := packettest.Spec{SrcMAC: m, DstMAC: inMAC, Src: netip.AddrPortFrom(a, 0), Dst: netip.AddrPortFrom(dip, 0), TTL: 255,
		Proto: stack.ProtoICMPv6, ICMPType: 136, ICMPID: 0x6000, Payload: append(append(a.AsSlice(), 2, 1), m[:]...)}
	return s.Frame()
}

// A server behind a router is reached by the router's MAC.
func TestTUNBehindARouter(t *testing.T) {
	for _, family := range []int{4, 6} {
		to, via, far := "10.77.9.0/24", "10.77.2.254", "10.77.9.11"
		if family == 6 {
			to, via, far = "2001:db8:77:9::/64", "2001:db8:77:2::fe", "2001:db8:77:9::11"
		}
		tail := fmt.Sprintf("[[service.server]]\naddress = %q\n[[route]]\nto = %q\nvia = %q\n", far, to, via)
		w := newWorld(t, worldSpec{method: "tun", family: family, servers: -1, unknown: true, tail: tail})
		v, left := w.step(ext, w.toVIP(stack.SYN))
		w.none(v, left, Parked)
		w.step(in, w.neighbourAnswer(netip.MustParseAddr(via), serverMAC(7)))
		v, left = w.step(ext, w.toVIP(stack.ACK))
		_, f := w.one(v, left, ForwardedTUN, in)
		o, _, _ := w.unwrap(&f)
		if stack.DstMAC(f.Bytes()) != serverMAC(7) || o.Dst.String() != far || o.Src != w.spec.addr(2, 1) {
			t.Errorf("to %x: %+v", stack.DstMAC(f.Bytes()), o)
		}
	}
}

// The MSS of a client's SYN is lowered where the service says so, and nothing else.
func TestTUNClampsMSS(t *testing.T) {
	everyTunnel(t, worldSpec{service: "mss_clamp = 1300\n"}, func(t *testing.T, w *world, _ int) {
		for _, partial := range []bool{false, true} {
			s := w.toVIPSpec(stack.SYN)
			s.Payload, s.TCPOptions, s.Partial = nil, []byte{2, 4, 5, 0xb4, 1, 1, 4, 2}, partial
			v, left := w.step(ext, s.Frame())
			_, f := w.one(v, left, ForwardedTUN, in)
			_, inner, p := w.unwrap(&f)
			if got := binary.BigEndian.Uint16(inner.Bytes()[p.L4+22:]); got != 1300 {
				t.Errorf("MSS %d, want 1300", got)
			}
		}
	})
	w := newWorld(t, worldSpec{method: "tun"})
	s := w.toVIPSpec(stack.SYN)
	s.TCPOptions = []byte{2, 4, 5, 0xb4}
	v, left := w.step(ext, s.Frame())
	_, f := w.one(v, left, ForwardedTUN, in)
	if _, inner, p := w.unwrap(&f); binary.BigEndian.Uint16(inner.Bytes()[p.L4+22:]) != 1460 {
		t.Error("the MSS was changed without mss_clamp")
	}
}

// An error from the client's side about a server's packet reaches the server by its tunnel.
func TestTUNCarriesICMPErrors(t *testing.T) {
	everyTunnel(t, worldSpec{}, func(t *testing.T, w *world, _ int) {
		w.step(ext, w.toVIP(stack.SYN))
		reply := w.base(ext, w.spec.vip(), w.spec.client()).Frame()
		e := tooBigAbout(w, ext, w.spec.addr(1, 77), &reply)
		v, left := w.step(ext, e.Frame())
		_, f := w.one(v, left, RelayedICMP, in)
		_, inner, p := w.unwrap(&f)
		if p.Src.Netip() != w.spec.addr(1, 77) || p.Dst.Netip() != w.spec.vip().Addr() || p.TTL != 63 || !p.IsICMPError() {
			t.Errorf("the server gets %s", stack.Describe(inner.Bytes()))
		}
		if w.spec.family == 4 {
			e.Payload, e.DF = append(e.Payload, make([]byte, 1440)...), true
			v, left = w.step(ext, e.Frame())
			w.none(v, left, DropNoAnswer) // no error is sent about an error
		}
	})
}

// No allocation for a superpacket either.
func TestTUNAllocatesNothing(t *testing.T) {
	for _, service := range []string{"", "tunnel = \"gue\"\ntunnel_csum = true\n"} {
		w := newWorld(t, worldSpec{method: "tun", service: service})
		w.step(ext, w.toVIP(stack.SYN))
		s := w.toVIPSpec(stack.ACK)
		s.Payload, s.GSOSize, s.Partial = make([]byte, 20000), 1300, true
		k, f := w.worker(ext), s.Frame()
		first, h := bytes.Clone(f.Bytes()), f.Header
		w.memory[in].OnWrite(func(int, *tap.Frame) {})
		if n := testing.AllocsPerRun(100, func() {
			copy(f.Bytes(), first)
			f.Header = h
			if v := k.one(&f); v != ForwardedTUN {
				t.Fatal(v)
			}
			k.arena.Reset()
			k.made = k.made[:0]
			k.outs[in].batch = k.outs[in].batch[:0]
		}); n != 0 {
			t.Errorf("%v allocations for a superpacket", n)
		}
	}
}
