package director

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// chunk is a client's packet to the service that has one.
func (w *world) chunk(kind uint8) packettest.Spec {
	s := w.toVIPSpec(0)
	s.Tag, s.Payload = 77, packettest.Chunk(kind, nil)
	if kind == packettest.Init {
		s.Tag = 0
	}
	return s
}

// reply is server's answer with one chunk to what the director made of a client's packet.
func (w *world) reply(f *tap.Frame, kind uint8) packettest.Spec {
	s := w.answerTo(f, 0)
	s.Tag, s.Payload = 78, packettest.Chunk(kind, nil)
	return s
}

// TestSCTPAssociation takes an association through each method: where its packets go, what they look like, and the connection's state.
func TestSCTPAssociation(t *testing.T) {
	for _, tt := range []struct {
		method     string
		to, from   Verdict
		ports      bool // the server sees its own
		last, data flow.State
	}{
		{"nat", ForwardedNAT, RepliedNAT, true, flow.SCTPClosed, flow.SCTPEstablished},
		{"fullnat", ForwardedFullNAT, RepliedFullNAT, true, flow.SCTPClosed, flow.SCTPEstablished},
		{"across", ForwardedFullNAT, RepliedFullNAT, true, flow.SCTPClosed, flow.SCTPEstablished},
		{"dr", ForwardedDR, 0, false, flow.SCTPShutdownReceived, flow.SCTPEstablished},
		{"tun", ForwardedTUN, 0, false, flow.SCTPShutdownReceived, flow.SCTPEstablished},
	} {
		bothFamilies(t, func(t *testing.T, family int) {
			spec := worldSpec{family: family, method: tt.method, proto: "sctp"}
			if tt.method == "across" {
				spec.method, spec.outer = "fullnat", 10-family
			}
			w := newWorld(t, spec)
			var toServer tap.Frame
			to := func(kind uint8) {
				t.Helper()
				s := w.chunk(kind)
				v, left := w.step(ext, s.Frame())
				if v != tt.to || len(left) != 1 || left[0].iface != in {
					t.Fatalf("%s chunk %d: %v, %d frames", tt.method, kind, v, len(left))
				}
				toServer = left[0].frame
				var p stack.Packet
				f := toServer.Clone()
				if stack.Parse(&f, &p); tt.ports && (p.DstPort != 8000 || p.Event != kind || p.Dst.Netip() != w.spec.server(0).Addr()) {
					t.Errorf("%s: the server sees %s", tt.method, stack.Describe(f.Bytes()))
				}
			}
			back := func(kind uint8) {
				t.Helper()
				if tt.from == 0 {
					return
				}
				v, left := w.step(in, w.reply(&toServer, kind).Frame())
				if v != tt.from || len(left) != 1 || left[0].iface != ext {
					t.Fatalf("%s chunk %d: %v, %d frames", tt.method, kind, v, len(left))
				}
				want := w.chunk(kind)
				want.Src, want.Dst, want.SrcMAC, want.DstMAC, want.Tag, want.TTL = want.Dst, want.Src, extMAC, clientMAC, 78, 63
				if tt.method == "across" && family == 4 { // small IPv4 packets of a translator have no DF, but an identification
					want.DF, want.ID = false, binary.BigEndian.Uint16(left[0].frame.Bytes()[18:])
				}
				if w := want.Frame(); !bytes.Equal(left[0].frame.Bytes(), w.Bytes()) {
					t.Errorf("%s: the client sees\n%x, want\n%x", tt.method, left[0].frame.Bytes(), w.Bytes())
				}
			}
			state := func(want flow.State) {
				t.Helper()
				w.table.Each(w.clock(), func(c *flow.Conn, _ time.Duration) bool {
					if c.State != want {
						t.Errorf("%s: %v, want %v", tt.method, c.State, want)
					}
					return true
				})
			}
			to(packettest.Init)
			state(flow.SCTPInit1)
			back(packettest.InitAck)
			to(packettest.CookieEcho)
			back(packettest.CookieAck)
			to(packettest.Data)
			back(packettest.Sack)
			state(tt.data)
			to(packettest.Shutdown)
			back(packettest.ShutdownAck)
			if tt.from != 0 {
				to(packettest.ShutdownComplete)
			}
			state(tt.last)
			if n := w.table.Len(); n != 1 {
				t.Errorf("%s: %d connections", tt.method, n)
			}
		})
	}
}

// What belongs to no association is answered as RFC 9260 section 8.4 says, and makes none; only an INIT does.
func TestSCTPOutOfTheBlue(t *testing.T) {
	for _, tt := range []struct {
		kind, answer uint8
		want         Verdict
	}{
		{packettest.Data, packettest.Abort, SentAbort},
		{packettest.InitAck, packettest.Abort, SentAbort},
		{packettest.Sack, packettest.Abort, SentAbort},
		{packettest.Heartbeat, packettest.Abort, SentAbort},
		{packettest.CookieEcho, packettest.Abort, SentAbort},
		{packettest.Shutdown, packettest.Abort, SentAbort},
		{packettest.ShutdownAck, packettest.ShutdownComplete, SentAbort},
		{packettest.Abort, 0, DropStray},
		{packettest.ShutdownComplete, 0, DropStray},
		{packettest.CookieAck, 0, DropStray},
		{packettest.Error, 0, DropStray},
	} {
		bothFamilies(t, func(t *testing.T, family int) {
			for _, method := range []string{"nat", "dr", "tun", "fullnat"} {
				w := newWorld(t, worldSpec{family: family, method: method, proto: "sctp"})
				v, left := w.step(ext, w.chunk(tt.kind).Frame())
				if v != tt.want || w.table.Len() != 0 || (tt.answer == 0) != (len(left) == 0) {
					t.Fatalf("%s chunk %d: %v, %d frames, %d connections", method, tt.kind, v, len(left), w.table.Len())
				}
				if tt.answer != 0 {
					wantAnswer(t, w, &left[0].frame, tt.answer)
				}
			}
		})
	}
}

// wantAnswer fails the test unless f is an answer from the VIP to the client with this chunk.
func wantAnswer(t *testing.T, w *world, f *tap.Frame, kind uint8) {
	t.Helper()
	var p stack.Packet
	g := f.Clone()
	stack.Parse(&g, &p)
	if p.Event != kind || endpoint(p.Src, p.SrcPort) != w.spec.vip() || endpoint(p.Dst, p.DstPort) != w.spec.client() {
		t.Errorf("answered %s, want chunk %d", stack.Describe(f.Bytes()), kind)
	}
}

// An INIT that no server can take, or to a port without a service, gets an ABORT with the tag that it asks for.
func TestSCTPInitWithoutServer(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "sctp"})
		elsewhere := w.chunk(packettest.Init)
		elsewhere.Dst = netip.AddrPortFrom(elsewhere.Dst.Addr(), 81)
		none := newWorld(t, worldSpec{family: family, proto: "sctp"})
		for _, s := range none.view.Load().servers {
			s.Weight.Store(0)
		}
		silent := newWorld(t, worldSpec{family: family, proto: "sctp", service: `on_no_server = "drop"`})
		for _, s := range silent.view.Load().servers {
			s.Weight.Store(0)
		}
		tcp := newWorld(t, worldSpec{family: family})
		for _, tt := range []struct {
			name string
			w    *world
			s    packettest.Spec
			want Verdict
		}{
			{"another port", w, elsewhere, SentAbort},
			{"no server", none, none.chunk(packettest.Init), SentAbort},
			{"no server, silent", silent, silent.chunk(packettest.Init), DropNoServer},
			{"the port is a TCP service's", tcp, func() packettest.Spec { s := tcp.chunk(packettest.Init); s.Proto = packettest.SCTP; return s }(), SentAbort},
		} {
			v, left := tt.w.step(ext, tt.s.Frame())
			if v != tt.want {
				t.Errorf("%s: %v, want %v", tt.name, v, tt.want)
			}
			if tt.want != SentAbort {
				continue
			}
			f := left[0].frame
			if tag := binary.BigEndian.Uint32(f.Bytes()[f.Len()-12:]); tag != 0x01010101 {
				t.Errorf("%s: tag %#x", tt.name, tag)
			}
		}
	})
}

// An ABORT ends an association, and the next INIT begins another one, on the next server.
func TestSCTPReopen(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "sctp"})
		for i, s := range []struct {
			kind   uint8
			server int
		}{{packettest.Init, 0}, {packettest.Init, 0}, {packettest.Abort, 0}, {packettest.Init, 1}} {
			if got := w.reaches(w.chunk(s.kind)); got != s.server {
				t.Errorf("packet %d to server %d, want %d", i, got, s.server)
			}
		}
	})
}

// A restarted director picks associations up, whoever speaks first, but not by an ABORT, nor by what begins one.
func TestSCTPPickup(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := worldSpec{family: family, proto: "sctp", service: "scheduler = \"sh\"\npickup = true", ext: `reply = "route"`}
		for _, kind := range []uint8{packettest.Data, packettest.Sack, packettest.Heartbeat, packettest.CookieEcho, packettest.Shutdown} {
			w := newWorld(t, spec)
			first := w.reaches(w.chunk(kind))
			if again := newWorld(t, spec).reaches(w.chunk(packettest.Data)); again != first {
				t.Errorf("chunk %d: server %d, then %d", kind, first, again)
			}
		}
		w := newWorld(t, spec)
		if v, _ := w.step(ext, w.chunk(packettest.Abort).Frame()); v != DropStray || w.table.Len() != 0 {
			t.Errorf("ABORT: %v", v)
		}
		w.neigh.Pin(ext, w.spec.client().Addr(), clientMAC)
		for _, kind := range []uint8{packettest.InitAck, packettest.Abort, packettest.Init, packettest.Sack} {
			s := w.fromServerSpec(0, 0)
			s.Tag, s.Payload = 9, packettest.Chunk(kind, nil)
			if v, _ := w.step(in, s.Frame()); (v == RepliedNAT) != (kind == packettest.Sack) {
				t.Errorf("chunk %d of a server: %v", kind, v)
			}
		}
	})
}

// A wrong checksum leaves wrong, by the same bits.
func TestSCTPKeepsDamage(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, proto: "sctp"})
		f := w.chunk(packettest.Init).Frame()
		f.Bytes()[f.Len()-1] ^= 0x10
		k := w.worker(ext)
		if v := k.one(&f); v != ForwardedNAT {
			t.Fatal(v)
		}
		var p stack.Packet
		g := f.Clone()
		if stack.Parse(&g, &p); stack.ChecksumOK(&g, &p) {
			t.Error("mended")
		}
		g.Bytes()[g.Len()-1] ^= 0x10
		if !stack.ChecksumOK(&g, &p) {
			t.Error("wrong by other bits than before")
		}
	})
}

// TCP, UDP and SCTP on one port of one VIP are three services.
func TestThreeProtocolsOnOnePort(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := worldSpec{family: family, proto: "sctp"}
		spec.setDefaults()
		for i, proto := range []string{"tcp", "udp"} {
			spec.tail += "[[service]]\nname = \"" + proto + "\"\nlisten = \"" + spec.vip().String() + "\"\nprotocol = \"" + proto + "\"\n" +
				"[[service.server]]\naddress = \"" + spec.server(i+1).String() + "\"\nmac = \"" + mac(serverMAC(i+1)) + "\"\n"
		}
		w := newWorld(t, spec)
		tcp, udp := w.toVIPSpec(stack.SYN), w.toVIPSpec(0)
		tcp.Proto, udp.Proto = packettest.TCP, packettest.UDP
		for i, s := range []packettest.Spec{w.chunk(packettest.Init), tcp, udp} {
			if got := w.reaches(s); got != i {
				t.Errorf("packet %d to server %d", i, got)
			}
		}
		if n := w.table.Len(); n != 3 {
			t.Errorf("%d connections", n)
		}
	})
}

// ICMP errors find an association by 8 bytes of its packets, both ways.
func TestSCTPErrors(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		for _, method := range []string{"nat", "fullnat"} {
			w := newWorld(t, worldSpec{family: family, proto: "sctp", method: method})
			_, left := w.step(ext, w.chunk(packettest.Init).Frame())
			toServer := left[0].frame
			icmp, kind, header := uint8(packettest.ICMP), uint8(3), 20
			if family == 6 {
				icmp, kind, header = packettest.ICMPv6, 1, 40
			}
			e := w.answerTo(&toServer, 0)
			e.Proto, e.ICMPType, e.ICMPCode, e.Payload = icmp, kind, 1, toServer.Bytes()[14:][:header+8]
			v, left := w.step(in, e.Frame())
			if v != RelayedICMP || len(left) != 1 {
				t.Fatalf("%s: %v", method, v)
			}
			var p, q stack.Packet
			f := left[0].frame
			if stack.Parse(&f, &p); !p.Inner(f.Bytes(), &q) || endpoint(q.Src, q.SrcPort) != w.spec.client() || endpoint(q.Dst, q.DstPort) != w.spec.vip() {
				t.Errorf("%s: the client is told of %+v", method, q)
			}
			_, left = w.step(in, w.reply(&toServer, packettest.InitAck).Frame())
			toClient := left[0].frame
			e = w.toVIPSpec(0)
			e.Proto, e.ICMPType, e.ICMPCode, e.Payload = icmp, kind, 1, toClient.Bytes()[14:][:header+8]
			v, left = w.step(ext, e.Frame())
			if v != RelayedICMP || len(left) != 1 {
				t.Fatalf("%s forward: %v", method, v)
			}
			f = left[0].frame
			if stack.Parse(&f, &p); !p.Inner(f.Bytes(), &q) || endpoint(q.Src, q.SrcPort) != w.spec.server(0) {
				t.Errorf("%s: the server is told of %+v", method, q)
			}
		}
	})
}

// Fragments pass where the ports stay as they are.
func TestSCTPFragments(t *testing.T) {
	for _, tt := range []struct {
		method, listen string
		known          bool
		want           Verdict
	}{
		{"dr", "", true, ForwardedDR}, {"dr", "", false, ForwardedDR}, {"tun", "", true, ForwardedTUN},
		{"nat", "", true, DropSCTPFragment}, {"nat", "", false, DropSCTPFragment},
		{"nat", "8000", true, ForwardedNAT}, {"nat", "8000", false, ForwardedNAT},
		{"fullnat", "8000", true, DropSCTPFragment}, {"fullnat", "8000", false, DropSCTPFragment},
	} {
		spec := worldSpec{method: tt.method, proto: "sctp"}
		spec.setDefaults()
		vip := spec.vip()
		if tt.listen != "" {
			vip = netip.AddrPortFrom(vip.Addr(), 8000)
			spec.listen = `"` + vip.String() + `"`
		}
		w := newWorld(t, spec)
		first := w.chunk(packettest.Init)
		first.Dst = vip
		if tt.known {
			w.step(ext, first.Frame())
		}
		first.MF, first.DF, first.ID, first.Payload = true, false, 5, packettest.Chunk(packettest.Init, make([]byte, 80))
		later := first
		later.MF, later.FragOffset, later.Payload = false, 96, make([]byte, 40)
		k := w.worker(ext)
		f, g := first.Frame(), later.Frame()
		laterWant := tt.want
		if tt.want == DropSCTPFragment {
			laterWant = DropFragment
		}
		if v := k.one(&f); v != tt.want {
			t.Errorf("%+v: first fragment %v", tt, v)
		}
		if v := k.one(&g); v != laterWant {
			t.Errorf("%+v: later fragment %v, want %v", tt, v, laterWant)
		}
		if n, want := w.table.Len(), tt.known || tt.want != DropSCTPFragment; (n == 1) != want {
			t.Errorf("%+v: %d connections", tt, n)
		}
	}
}

// A server's own association leaves by a DIP, and its answers come back; a fragment of it does not leave.
func TestSCTPMasquerade(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w, far := masqueradeWorld(t, family, "sctp")
		out := w.outbound(5000, far)
		out.Proto, out.Tag, out.Payload = packettest.SCTP, 0, packettest.Chunk(packettest.Init, nil)
		v, left := w.step(in, out.Frame())
		if v != Masqueraded {
			t.Fatal(v)
		}
		var p stack.Packet
		stack.Parse(&left[0].frame, &p)
		back := w.base(ext, far, endpoint(p.Src, p.SrcPort))
		back.Proto, back.Tag, back.Payload = packettest.SCTP, 1, packettest.Chunk(packettest.InitAck, nil)
		v, left = w.step(ext, back.Frame())
		if v != Demasqueraded {
			t.Fatal(v)
		}
		if stack.Parse(&left[0].frame, &p); endpoint(p.Dst, p.DstPort) != out.Src {
			t.Errorf("came back to %v:%d", p.Dst, p.DstPort)
		}
		if family == 6 {
			return
		}
		out.MF, out.DF, out.Payload = true, false, packettest.Chunk(packettest.Init, make([]byte, 80))
		for _, port := range []uint16{5000, 5001} { // known, and not
			out.Src = netip.AddrPortFrom(out.Src.Addr(), port)
			out.ID = port
			if v, _ := w.step(in, out.Frame()); v != DropSCTPFragment {
				t.Errorf("fragment from port %d: %v", port, v)
			}
		}
	})
}

// Between the families the checksum knows of no addresses; a quoted one is edited too. What checksums are, w.step looks at.
func TestSCTPAcross(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := acrossSpec(family)
		spec.proto = "sctp"
		w := newWorld(t, spec)
		v, left := w.step(ext, w.chunk(packettest.Init).Frame())
		p, f := w.one(v, left, ForwardedFullNAT, in)
		if endpoint(p.Dst, p.DstPort) != w.spec.server(0) || p.Event != stack.ChunkInit {
			t.Errorf("server gets %s", stack.Describe(f.Bytes()))
		}
		v, left = w.step(in, w.reply(&f, packettest.InitAck).Frame())
		q, g := w.one(v, left, RepliedFullNAT, ext)
		if endpoint(q.Src, q.SrcPort) != w.spec.vip() || endpoint(q.Dst, q.DstPort) != w.spec.client() || q.Event != stack.ChunkInitAck {
			t.Errorf("client gets %s", stack.Describe(g.Bytes()))
		}
		e := w.answerTo(&f, 0)
		e.Proto, e.ICMPType, e.ICMPCode, e.Payload = packettest.ICMP, 3, 1, f.Bytes()[14:]
		if e.Src.Addr().Is6() {
			e.Proto, e.ICMPType, e.ICMPCode = packettest.ICMPv6, 1, 3
		}
		v, left = w.step(in, e.Frame())
		p, g = w.one(v, left, RelayedICMP, ext)
		sent, parsed := w.chunk(packettest.Init).Frame(), stack.Packet{}
		if stack.Parse(&sent, &parsed); !p.Inner(g.Bytes(), &q) || !bytes.Equal(g.Bytes()[q.L4:], sent.Bytes()[parsed.L4:]) {
			t.Errorf("the client is told of\n%x, it sent\n%x", g.Bytes()[q.L4:], sent.Bytes()[parsed.L4:])
		}
		if family == 4 {
			first := w.chunk(packettest.Init)
			first.MF, first.DF, first.Payload = true, false, packettest.Chunk(packettest.Init, make([]byte, 80))
			if v, _ := w.step(ext, first.Frame()); v != DropSCTPFragment {
				t.Errorf("first fragment: %v", v)
			}
		}
	})
}
