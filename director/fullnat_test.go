package director

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// openFullNAT makes a connection and returns what the server got.
func (w *world) openFullNAT() tap.Frame {
	w.tb.Helper()
	v, left := w.step(ext, w.toVIP(stack.SYN))
	_, f := w.one(v, left, ForwardedFullNAT, in)
	return f
}

// The server sees a DIP of its own network and answers that; the client sees the VIP.
func TestFullNATBothWays(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			checkBothWays(t, worldSpec{family: family, proto: proto, method: "fullnat"}, flow.FullNAT)
		})
	}
}

// checkBothWays carries a first packet, its answer and another one, by fullnat in the world of spec, and fails unless the connection is of the method.
func checkBothWays(t *testing.T, spec worldSpec, method flow.Method) {
	w := newWorld(t, spec)
	dip := (&worldSpec{family: w.spec.outer}).addr(2, 1)
	v, left := w.step(ext, w.toVIP(stack.SYN))
	p, f := w.one(v, left, ForwardedFullNAT, in)
	if p.Src.Netip() != dip || p.SrcPort < localLow || p.SrcPort > localHigh || endpoint(p.Dst, p.DstPort) != w.spec.server(0) || p.TTL != 63 {
		t.Errorf("server gets %s, want from a port of %v, TTL 63", stack.Describe(f.Bytes()), dip)
	}
	if !bytes.HasSuffix(f.Bytes(), []byte("hello")) {
		t.Errorf("server gets %x", f.Bytes())
	}
	v, left = w.step(in, w.answerTo(&f, stack.SYN|stack.ACK).Frame())
	q, f := w.one(v, left, RepliedFullNAT, ext)
	if endpoint(q.Src, q.SrcPort) != w.spec.vip() || endpoint(q.Dst, q.DstPort) != w.spec.client() || stack.DstMAC(f.Bytes()) != clientMAC || q.TTL != 63 {
		t.Errorf("client gets %s", stack.Describe(f.Bytes()))
	}
	v, left = w.step(ext, w.toVIP(stack.ACK))
	if again, _ := w.one(v, left, ForwardedFullNAT, in); again.Tuple != p.Tuple {
		t.Errorf("the next packet is %+v, the first was %+v", again.Tuple, p.Tuple)
	}
	if srv := w.view.Load().servers[0]; srv.inPkts.Load() != 2 || srv.outPkts.Load() != 1 {
		t.Errorf("%d packets in, %d out", srv.inPkts.Load(), srv.outPkts.Load())
	}
	if c := w.worker(ext).conn; c.Method != method || w.table.Len() != 1 {
		t.Errorf("%d connections, method %d", w.table.Len(), c.Method)
	}
}

// A client that is the very server it is given gets its answer, though both have one address and the one wire leads to both.
func TestFullNATHairpin(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat", servers: 1})
		s := w.base(in, netip.AddrPortFrom(w.spec.server(0).Addr(), 45000), w.spec.vip())
		s.Flags = stack.SYN
		v, left := w.step(in, s.Frame())
		p, f := w.one(v, left, ForwardedFullNAT, in)
		if p.Src.Netip() != w.spec.addr(2, 1) || endpoint(p.Dst, p.DstPort) != w.spec.server(0) || stack.DstMAC(f.Bytes()) != serverMAC(0) {
			t.Fatalf("the server gets %s", stack.Describe(f.Bytes()))
		}
		v, left = w.step(in, w.answerTo(&f, stack.SYN|stack.ACK).Frame())
		p, f = w.one(v, left, RepliedFullNAT, in)
		if endpoint(p.Src, p.SrcPort) != w.spec.vip() || endpoint(p.Dst, p.DstPort) != s.Src || stack.DstMAC(f.Bytes()) != serverMAC(0) {
			t.Errorf("and as a client %s", stack.Describe(f.Bytes()))
		}
	})
}

// A hundred thousand connections to one server from two DIPs: each has an answer tuple of its own, and answers find back.
func TestFullNATManyConnections(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		n := 100_000
		if testing.Short() {
			n = 5_000
		}
		w := newWorld(t, worldSpec{family: family, method: "fullnat", servers: 1, dips: 2})
		tuples := map[stack.Tuple]bool{}
		s := w.toVIPSpec(stack.SYN)
		k := w.worker(ext)
		f := s.Frame()
		fresh := append([]byte(nil), f.Bytes()...)
		var p stack.Packet
		for i := range n {
			copy(f.Bytes(), fresh)
			stack.Parse(&f, &p)
			p.SetSrc(f.Bytes(), false, p.Src, uint16(1024+i%50_000))
			p.SetDst(f.Bytes(), false, p.Dst, p.DstPort)
			if i >= 50_000 {
				p.SetSrc(f.Bytes(), false, stack.AddrFrom(w.spec.addr(1, 3)), p.SrcPort)
			}
			if v := k.one(&f); v != ForwardedFullNAT {
				t.Fatalf("connection %d: %v", i, v)
			}
			tuples[k.conn.Tuple(flow.Reply)] = true
			k.outs[in].batch = k.outs[in].batch[:0]
			if i%5000 == 0 {
				w.checkAnswer(t, &k.conn, &f)
				k = w.worker(ext)
			}
		}
		if len(tuples) != n || w.table.Len() != n {
			t.Errorf("%d connections have %d answer tuples, the table %d entries", n, len(tuples), w.table.Len())
		}
	})
}

// checkAnswer sends the server's answer to f and wants it at the client's.
func (w *world) checkAnswer(t *testing.T, c *flow.Conn, f *tap.Frame) {
	t.Helper()
	client := endpoint(c.Client, c.ClientPort)
	v, left := w.step(in, w.answerTo(f, stack.SYN|stack.ACK).Frame())
	if p, _ := w.one(v, left, RepliedFullNAT, ext); endpoint(p.Dst, p.DstPort) != client {
		t.Errorf("the answer for %v goes to %v", client, endpoint(p.Dst, p.DstPort))
	}
}

// When every port is in use new connections are dropped and counted, those that are there go on, and ended ones give their port.
func TestFullNATPortsRunOut(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat", proto: "udp", servers: 1})
		k := w.worker(ext)
		srv := w.view.Load().servers[0]
		open := func(port int) (c flow.Conn, r flow.Result) {
			s := w.toVIPSpec(0)
			s.Src = netip.AddrPortFrom(s.Src.Addr(), uint16(port))
			f := s.Frame()
			stack.Parse(&f, k.p)
			c = newConn(k.p, srv.service, srv, flow.HopTo(0, stack.WordOf(clientMAC)))
			return c, k.insertFullNAT(&c, srv)
		}
		full := 0
		for port := 1; port < 65536; port++ {
			if _, r := open(port); r == flow.NoPort {
				full = port
				break
			}
		}
		if full < 30_000 {
			t.Fatalf("no port for connection %d", full)
		}
		s := w.toVIPSpec(0)
		s.Src = netip.AddrPortFrom(s.Src.Addr(), uint16(full))
		v, left := w.step(ext, s.Frame())
		w.none(v, left, DropNoPort)
		s.Src = netip.AddrPortFrom(s.Src.Addr(), 1)
		v, left = w.step(ext, s.Frame())
		w.one(v, left, ForwardedFullNAT, in)
		w.table.Expire(w.clock() + time.Hour)
		if _, r := open(full); r != flow.Inserted {
			t.Errorf("%v when all have expired", r)
		}
	})
}

// A service on the very address and port that a connection leaves from does not take its answers.
func TestFullNATFromAVIP(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := worldSpec{family: family, method: "fullnat", servers: 1}
		spec.setDefaults()
		w := newWorld(t, spec)
		f := w.openFullNAT()
		var p stack.Packet
		stack.Parse(&f, &p)
		// The same world, and the port that was chosen has a service; the connection is put into its table.
		spec.tail = fmt.Sprintf("[[service]]\nname = \"clash\"\nlisten = %q\nmethod = \"fullnat\"\n[[service.server]]\naddress = %q\n", endpoint(p.Src, p.SrcPort), spec.server(1))
		twin := newWorld(t, spec)
		w.view.Store(twin.view.Load())
		v, left := w.step(in, w.answerTo(&f, stack.SYN|stack.ACK).Frame())
		if q, _ := w.one(v, left, RepliedFullNAT, ext); endpoint(q.Dst, q.DstPort) != w.spec.client() {
			t.Errorf("the answer goes to %v", endpoint(q.Dst, q.DstPort))
		}
		s := w.base(ext, w.spec.client(), endpoint(p.Src, p.SrcPort))
		s.Flags = stack.SYN
		if w.step(ext, s.Frame()); w.table.Len() != 2 { // its server is no neighbour of this world, so what became of the packet does not matter
			t.Error("a client of that service has no connection")
		}
	})
}

func TestFullNATEdges(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat"})
		f := w.openFullNAT()
		s := w.answerTo(&f, stack.ACK)
		s.TTL = 1
		v, left := w.step(in, s.Frame())
		w.one(v, left, SentTimeExceeded, in)
		s.TTL, s.Payload = 64, make([]byte, 1600)
		v, left = w.step(in, s.Frame())
		w.one(v, left, SentTooBig, in)
		s.Payload, s.Dst = nil, netip.AddrPortFrom(s.Dst.Addr(), s.Dst.Port()+1)
		if v, left = w.step(in, s.Frame()); v != ToHost || len(left) != 0 {
			t.Errorf("an answer in no connection: %v", v)
		}
		if family == 4 {
			cut := w.answerTo(&f, stack.ACK)
			cut.Payload, cut.MF = make([]byte, 64-20), true
			if v, left = w.step(in, cut.Frame()); v != RepliedFullNAT || len(left) != 1 {
				t.Errorf("an answer in fragments: %v", v)
			}
		}
		big := w.toVIPSpec(stack.ACK)
		big.Payload = make([]byte, 1600)
		v, left = w.step(ext, big.Frame())
		w.one(v, left, SentTooBig, ext)
	})
}

// With reply = "route" answers go by the routing table.
func TestFullNATReplyByRoute(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat", ext: "reply = \"route\""})
		f := w.openFullNAT()
		w.neigh.Pin(ext, w.spec.client().Addr(), stack.MAC{2, 0, 0, 0, 0xcc, 7})
		v, left := w.step(in, w.answerTo(&f, stack.SYN|stack.ACK).Frame())
		p, g := w.one(v, left, RepliedFullNAT, ext)
		if stack.DstMAC(g.Bytes()) != (stack.MAC{2, 0, 0, 0, 0xcc, 7}) || endpoint(p.Src, p.SrcPort) != w.spec.vip() || p.TTL != 63 {
			t.Errorf("client gets %s", stack.Describe(g.Bytes()))
		}
	})
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat", ext: "reply = \"route\""})
		far := "192.0.2.9:4000"
		if family == 6 {
			far = "[2001:db8:ffff::9]:4000"
		}
		s := w.toVIPSpec(stack.SYN)
		s.Src = netip.MustParseAddrPort(far)
		v, left := w.step(ext, s.Frame())
		_, f := w.one(v, left, ForwardedFullNAT, in)
		v, left = w.step(in, w.answerTo(&f, stack.SYN|stack.ACK).Frame())
		w.one(v, left, SentUnreachable, in)
	})
}

// An error about what one end got reaches the other as one about what that sent, from an address that it knows.
func TestFullNATICMPErrors(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			w := newWorld(t, worldSpec{family: family, proto: proto, method: "fullnat"})
			toServer := w.openFullNAT()
			_, left := w.step(in, w.answerTo(&toServer, stack.SYN|stack.ACK).Frame())
			toClient := left[0].frame
			var sent stack.Packet
			stack.Parse(&toServer, &sent)

			v, left := w.step(ext, tooBigAbout(w, ext, w.spec.addr(1, 77), &toClient).Frame())
			w.one(v, left, RelayedICMP, in)
			outer, inner := quoted(t, &left[0].frame)
			if outer.Dst.Netip() != w.spec.server(0).Addr() || outer.Src != sent.Src || inner.Tuple != sent.Tuple.Reverse() {
				t.Errorf("server gets %v -> %v about %+v, want from our DIP about what it sent", outer.Src, outer.Dst, inner.Tuple)
			}
			v, left = w.step(in, tooBigAbout(w, in, w.spec.addr(2, 77), &toServer).Frame())
			w.one(v, left, RelayedICMP, ext)
			outer, inner = quoted(t, &left[0].frame)
			if outer.Src.Netip() != w.spec.vip().Addr() || outer.Dst.Netip() != w.spec.client().Addr() ||
				endpoint(inner.Src, inner.SrcPort) != w.spec.client() || endpoint(inner.Dst, inner.DstPort) != w.spec.vip() {
				t.Errorf("client gets %v -> %v about %v -> %v", outer.Src, outer.Dst, inner.Src, inner.Dst)
			}
		})
	}
}

// hasTOA reports whether a frame tells of the client, and not wrong.
func (w *world) hasTOA(f *tap.Frame) bool {
	w.tb.Helper()
	var p stack.Packet
	g := f.Clone()
	stack.Parse(&g, &p)
	if p.L4Len == 20 || g.Bytes()[p.L4+20] != 254 {
		return false
	}
	o := g.Bytes()[p.L4+20 : p.L4+p.L4Len]
	a := w.spec.client().Addr().AsSlice()
	port := w.spec.client().Port()
	want := append([]byte{254, byte(4 + len(a)), byte(port >> 8), byte(port)}, a...)
	if !bytes.Equal(o[:len(want)], want) {
		w.tb.Errorf("option %x, want %x", o, want)
	}
	return true
}

// The option is on what the client sends, but not on SYN and RST, until the server says something that is no SYN.
func TestTOAUntilTheServerSpeaks(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat", service: "toa = true"})
		want := func(what string, flags uint8, has bool) {
			t.Helper()
			v, left := w.step(ext, w.toVIP(flags))
			if _, f := w.one(v, left, ForwardedFullNAT, in); w.hasTOA(&f) != has {
				t.Errorf("%s: option %v, want %v: %s", what, !has, has, stack.Describe(f.Bytes()))
			}
		}
		syn := w.openFullNAT()
		if w.hasTOA(&syn) {
			t.Error("option on the SYN")
		}
		answer := func(flags uint8) *tap.Frame {
			s := w.answerTo(&syn, flags)
			if flags&stack.SYN != 0 {
				s.TCPOptions = []byte{2, 4, 5, 0xb4}
			}
			v, left := w.step(in, s.Frame())
			_, f := w.one(v, left, RepliedFullNAT, ext)
			return &f
		}
		f := answer(stack.SYN | stack.ACK)
		mss := 1460 - map[int]int{4: 8, 6: 20}[family]
		if b := f.Bytes(); !bytes.Contains(b, []byte{2, 4, byte(mss >> 8), byte(mss)}) {
			t.Errorf("the client is not offered an MSS of %d: %x", mss, b)
		}
		want("the handshake's last", stack.ACK, true)
		want("data", stack.ACK|stack.PSH, true)
		want("the same again", stack.ACK|stack.PSH, true)
		answer(stack.SYN | stack.ACK) // the server did not get it
		want("the handshake's last again", stack.ACK, true)
		answer(stack.ACK)
		want("after the server's ACK", stack.ACK, false)
		want("a reset", stack.RST, false)
	})
}

// What has no room for the option goes without; nothing grows beyond the MTU, and segments no larger than they were.
func TestTOAAndSizes(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat", service: "toa = true"})
		w.openFullNAT()
		headers := map[int]int{4: 40, 6: 60}[family]
		n := map[int]int{4: 8, 6: 20}[family]
		send := func(s packettest.Spec) (stack.Packet, tap.Frame) {
			v, left := w.step(ext, s.Frame())
			return w.one(v, left, ForwardedFullNAT, in)
		}
		s := w.toVIPSpec(stack.ACK)
		s.Payload = make([]byte, 1500-headers-n)
		if p, f := send(s); !w.hasTOA(&f) || p.L3Len != 1500 {
			t.Errorf("segment as large as may be: %d bytes, option %v", p.L3Len, w.hasTOA(&f))
		}
		s.Payload = make([]byte, 1500-headers)
		if p, f := send(s); w.hasTOA(&f) || p.L3Len != 1500 {
			t.Errorf("segment without room: %d bytes, option %v", p.L3Len, w.hasTOA(&f))
		}
		s.Payload, s.Partial, s.GSOSize = make([]byte, 30000), true, 1500-headers
		if p, f := send(s); !w.hasTOA(&f) || stack.MaxSegment(f.Header, &p) != 1500 {
			t.Errorf("superpacket: segments of %d bytes, option %v", stack.MaxSegment(f.Header, &p), w.hasTOA(&f))
		}
		s.Payload, s.Partial, s.GSOSize = make([]byte, 1501), false, 0
		v, left := w.step(ext, s.Frame())
		_, f := w.one(v, left, SentTooBig, ext)
		if b := f.Bytes(); mtuTold(b, family) != 1500-n {
			t.Errorf("too big: told an MTU of %d, want %d", mtuTold(b, family), 1500-n)
		}
	})
}

// mtuTold is what an ICMP error says.
func mtuTold(b []byte, family int) int {
	if family == 4 {
		return int(b[14+20+6])<<8 | int(b[14+20+7])
	}
	return int(b[14+40+6])<<8 | int(b[14+40+7])
}

// A router behind us tells of a small MTU: the client is told of one with room for the option.
func TestTOAAndPathMTU(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat", service: "toa = true"})
		w.openFullNAT()
		_, left := w.step(ext, w.toVIP(stack.ACK))
		s := tooBigAbout(w, in, w.spec.addr(2, 77), &left[0].frame)
		s.ICMPSeq = 1400
		v, left := w.step(in, s.Frame())
		_, f := w.one(v, left, RelayedICMP, ext)
		if got, want := mtuTold(f.Bytes(), family), 1400-map[int]int{4: 8, 6: 20}[family]; got != want {
			t.Errorf("the client is told %d, want %d", got, want)
		}
	})
}

// Where the way out has no offload a superpacket is cut, and each piece has the option.
func TestTOAOnCutSegments(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, method: "fullnat", service: "toa = true", plain: true})
		w.openFullNAT()
		s := w.toVIPSpec(stack.ACK)
		s.Payload, s.Partial, s.GSOSize = []byte(strings.Repeat("0123456789", 1000)), true, 1400
		v, left := w.step(ext, s.Frame())
		if v != ForwardedFullNAT || len(left) < 8 {
			t.Fatalf("%v, %d frames", v, len(left))
		}
		for _, l := range left {
			if !w.hasTOA(&l.frame) || l.frame.Len() > 14+1500 {
				t.Errorf("%d bytes: %s", l.frame.Len(), stack.Describe(l.frame.Bytes()))
			}
		}
	})
}
