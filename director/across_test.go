package director

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// FullNAT between families: each test runs for an IPv6 VIP with IPv4 servers and the other way round; family is the client's.

// acrossSpec is the world of a client of that family and servers of the other.
func acrossSpec(family int) worldSpec {
	return worldSpec{family: family, outer: 10 - family, method: "fullnat"}
}

// headerOf is the bytes of an IP header.
func headerOf(family int) int { return map[int]int{4: 20, 6: 40}[family] }

func TestAcrossBothWays(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		bothFamilies(t, func(t *testing.T, family int) {
			spec := acrossSpec(family)
			spec.proto = proto
			checkBothWays(t, spec, flow.Across)
		})
	}
}

// A service has servers of both families, and each connection the way of its server.
func TestServersOfBothFamilies(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := acrossSpec(family)
		spec.servers = 1
		own := worldSpec{family: family}
		spec.tail = fmt.Sprintf("[[service.server]]\naddress = \"%v\"\nmac = %q\n", netip.AddrPortFrom(own.addr(2, 50), 8000), mac(serverMAC(7)))
		w := newWorld(t, spec)
		for i := range uint16(4) {
			v, left := w.step(ext, w.fromPort(1000+i, stack.SYN).Frame())
			p, f := w.one(v, left, ForwardedFullNAT, in)
			want := []netip.AddrPort{w.spec.server(0), netip.AddrPortFrom(own.addr(2, 50), 8000)}[i%2]
			if endpoint(p.Dst, p.DstPort) != want {
				t.Errorf("connection %d goes to %v, want %v", i, endpoint(p.Dst, p.DstPort), want)
			}
			v, left = w.step(in, w.answerTo(&f, stack.SYN|stack.ACK).Frame())
			w.one(v, left, RepliedFullNAT, ext)
		}
	})
}

// acrossWay is one direction of a connection.
type acrossWay struct {
	iface, out int
	from, to   int // families
	spec       packettest.Spec
	want       Verdict
}

// open makes a connection and returns both directions of it.
func (w *world) openAcross() [2]acrossWay {
	f := w.openFullNAT()
	return [2]acrossWay{
		{ext, in, w.spec.family, w.spec.outer, w.toVIPSpec(stack.ACK), ForwardedFullNAT},
		{in, ext, w.spec.outer, w.spec.family, w.answerTo(&f, stack.ACK), RepliedFullNAT},
	}
}

// eachAcrossWay runs a test for both directions of a connection between the families, in worlds of spec.
func eachAcrossWay(t *testing.T, spec worldSpec, test func(t *testing.T, w *world, way acrossWay)) {
	bothFamilies(t, func(t *testing.T, family int) {
		for i, name := range []string{"forward", "reply"} {
			t.Run(name, func(t *testing.T) {
				s := spec
				s.family, s.outer, s.method = family, 10-family, "fullnat"
				w := newWorld(t, s)
				test(t, w, w.openAcross()[i])
			})
		}
	})
}

// What counts is the size on the way out; a packet one byte too large is answered with the size that would have fit.
func TestAcrossSizes(t *testing.T) {
	eachAcrossWay(t, worldSpec{}, func(t *testing.T, w *world, way acrossWay) {
		fits := 1500 + headerOf(way.from) - headerOf(way.to)
		s := way.spec
		s.Payload = make([]byte, fits-headerOf(way.from)-20)
		v, left := w.step(way.iface, s.Frame())
		if p, _ := w.one(v, left, way.want, way.out); p.L3Len != 1500 {
			t.Errorf("left with %d bytes", p.L3Len)
		}
		s.Payload = make([]byte, len(s.Payload)+1)
		v, left = w.step(way.iface, s.Frame())
		_, f := w.one(v, left, SentTooBig, way.iface)
		if got := mtuTold(f.Bytes(), way.from); got != fits {
			t.Errorf("told an MTU of %d, want %d", got, fits)
		}
		s.GSOSize, s.Partial, s.Payload = fits-headerOf(way.from)-20, true, make([]byte, 9000)
		v, left = w.step(way.iface, s.Frame())
		w.one(v, left, way.want, way.out)
		s.GSOSize++
		v, left = w.step(way.iface, s.Frame())
		w.one(v, left, SentTooBig, way.iface)
	})
}

// Where the way out is small, IPv6 is never told less than 1280: such packets are cut. IPv4 is told what fits.
func TestAcrossSmallMTU(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		if family == 4 {
			return // no link of IPv6 is that small
		}
		spec := acrossSpec(6)
		spec.proto = "udp"
		w := newWorld(t, spec)
		w.openFullNAT()
		w.view.Load().ifaces[in].mtu = 1000
		s := w.toVIPSpec(0)
		s.Payload = make([]byte, 1280-48)
		v, left := w.step(ext, s.Frame())
		if v != ForwardedFullNAT || len(left) != 2 {
			t.Fatalf("1280 bytes: %v with %d frames, want two fragments", v, len(left))
		}
		s.Payload = make([]byte, 1281-48)
		v, left = w.step(ext, s.Frame())
		_, f := w.one(v, left, SentTooBig, ext)
		if got := mtuTold(f.Bytes(), 6); got != 1280 {
			t.Errorf("told %d, want 1280", got)
		}
	})
}

// IPv4 that may be cut leaves in packets of up to 1280 bytes: by itself, as a superpacket, and when the next hop has to be asked for first.
func TestAcrossCuts(t *testing.T) {
	for _, plain := range []bool{false, true} {
		eachAcrossWay(t, worldSpec{proto: "udp", plain: plain}, func(t *testing.T, w *world, way acrossWay) {
			if way.from == 6 {
				return
			}
			for name, s := range map[string]packettest.Spec{
				"one": {Payload: bytes.Repeat([]byte("ab"), 700)}, "without checksum": {Payload: bytes.Repeat([]byte("ab"), 700), NoCsum: true},
				"fits": {Payload: make([]byte, 1260-28)}, "partial": {Payload: make([]byte, 1400), Partial: true},
				"super": {Payload: bytes.Repeat([]byte("cde"), 3000), GSOSize: 1400, Partial: true}, "small super": {Payload: make([]byte, 9000), GSOSize: 1200, Partial: true},
			} {
				s.Src, s.Dst, s.SrcMAC, s.DstMAC, s.Proto, s.ID = way.spec.Src, way.spec.Dst, way.spec.SrcMAC, way.spec.DstMAC, stack.ProtoUDP, 500
				v, left := w.step(way.iface, s.Frame())
				if v != way.want {
					t.Fatalf("%s: %v", name, v)
				}
				checkCuts(t, name, &s, left)
			}
		})
	}
}

// checkCuts puts together what left of s, which is UDP, and compares its payload.
func checkCuts(t *testing.T, name string, s *packettest.Spec, left []sent) {
	t.Helper()
	var payload []byte
	var fragments []tap.Frame
	for i := range left {
		var p stack.Packet
		f := left[i].frame
		stack.Parse(&f, &p)
		if n := stack.MaxSegment(f.Header, &p); n > 1280 || p.Kind != stack.KindIPv6 {
			t.Errorf("%s: a packet of %d bytes", name, n)
		}
		if p.Fragment {
			fragments = append(fragments, f)
			whole, err := packettest.Reassemble(fragments)
			if err != nil {
				continue
			}
			f, fragments = whole, nil
			if stack.Parse(&f, &p); !stack.ChecksumOK(&f, &p) {
				t.Errorf("%s: put together it has a wrong checksum", name)
			}
		}
		payload = append(payload, f.Bytes()[p.L4+8:]...)
	}
	if !bytes.Equal(payload, s.Payload) || len(fragments) > 0 {
		t.Errorf("%s: %d bytes arrive in %d frames, want %d", name, len(payload), len(left), len(s.Payload))
	}
}

// What is parked for its next hop is translated already, and cut.
func TestAcrossParks(t *testing.T) {
	spec := acrossSpec(4)
	spec.proto, spec.unknown, spec.servers = "udp", true, 1
	w := newWorld(t, spec)
	var got []tap.Frame
	w.memory[in].OnWrite(func(_ int, f *tap.Frame) {
		if f.Bytes()[12] == 0x86 && f.Bytes()[20] != stack.ProtoICMPv6 {
			got = append(got, f.Clone())
		}
	})
	s := w.toVIPSpec(0)
	v, _ := w.step(ext, s.Frame())
	if v != Parked {
		t.Fatal(v)
	}
	s.DF, s.Payload = false, make([]byte, 2000)
	for _, f := range packettest.Fragments(s.Frame(), 1448, 3) {
		if v, _ := w.step(ext, f); v != Parked {
			t.Fatal(v)
		}
	}
	server, m := w.spec.server(0).Addr(), serverMAC(0)
	advert := packettest.Spec{SrcMAC: m, DstMAC: inMAC, Src: netip.AddrPortFrom(server, 0), Dst: netip.AddrPortFrom((&worldSpec{family: 6}).addr(2, 1), 0),
		Proto: stack.ProtoICMPv6, ICMPType: 136, ICMPID: 0x6000, TTL: 255}
	advert.Payload = append(append(server.AsSlice(), 2, 1), m[:]...)
	w.step(in, advert.Frame())
	if len(got) != 4 {
		t.Fatalf("%d frames left, want the first and three fragments", len(got))
	}
	for i := range got {
		if stack.DstMAC(got[i].Bytes()) != serverMAC(0) {
			t.Errorf("to %x", got[i].Bytes()[:6])
		}
		w.checkFrame(&got[i])
	}
}

// mssIn returns the MSS option of a SYN.
func mssIn(f *tap.Frame) int {
	var p stack.Packet
	g := f.Clone()
	stack.Parse(&g, &p)
	return int(binary.BigEndian.Uint16(g.Bytes()[p.L4+22:]))
}

// The MSS in both SYNs is lowered to what fits both links with IPv6's header, and with the option that tells of the client.
func TestAcrossClampsMSS(t *testing.T) {
	for _, c := range []struct {
		family, offered, syn, answer, toa int
	}{
		{6, 1440, 1440, 1440, 1440}, {6, 8940, 1440, 1440, 1440}, {6, 1220, 1220, 1220, 1200},
		{4, 1460, 1440, 1440, 1432}, {4, 8960, 1440, 1440, 1432}, {4, 536, 536, 536, 528},
	} {
		for _, toa := range []bool{false, true} {
			spec := acrossSpec(c.family)
			want := c.answer
			if toa {
				spec.service, want = "toa = true", c.toa
			}
			w := newWorld(t, spec)
			s := w.toVIPSpec(stack.SYN)
			s.Payload, s.TCPOptions = nil, []byte{2, 4, byte(c.offered >> 8), byte(c.offered)}
			v, left := w.step(ext, s.Frame())
			_, f := w.one(v, left, ForwardedFullNAT, in)
			if got := mssIn(&f); got != c.syn {
				t.Errorf("IPv%d client's SYN of %d: %d, want %d", c.family, c.offered, got, c.syn)
			}
			a := w.answerTo(&f, stack.SYN|stack.ACK)
			offered := c.offered
			if c.family == 6 && offered == 1440 {
				offered = 1460 // an IPv4 server's
			}
			a.Payload, a.TCPOptions = nil, []byte{2, 4, byte(offered >> 8), byte(offered)}
			v, left = w.step(in, a.Frame())
			_, f = w.one(v, left, RepliedFullNAT, ext)
			if got := mssIn(&f); got != want {
				t.Errorf("IPv%d client, answer of %d, toa %v: %d, want %d", c.family, offered, toa, got, want)
			}
			// A full segment of what was offered fits, with the option.
			full := w.toVIPSpec(stack.ACK)
			full.Payload = make([]byte, want)
			v, left = w.step(ext, full.Frame())
			if _, f := w.one(v, left, ForwardedFullNAT, in); toa && !w.hasTOA(&f) {
				t.Errorf("IPv%d client: a full segment has no room for the option", c.family)
			}
		}
	}
}

// An IPv4 server is told of an IPv6 client by 20 bytes, an IPv6 server of an IPv4 client by 8, until it has spoken.
func TestAcrossTOA(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := acrossSpec(family)
		spec.service = "toa = true"
		w := newWorld(t, spec)
		syn := w.openFullNAT()
		send := func(flags uint8, payload, gso int) tap.Frame {
			s := w.toVIPSpec(flags)
			s.Payload, s.GSOSize, s.Partial = make([]byte, payload), gso, gso > 0
			v, left := w.step(ext, s.Frame())
			_, f := w.one(v, left, ForwardedFullNAT, in)
			return f
		}
		if w.hasTOA(&syn) {
			t.Error("option on the SYN")
		}
		if f := send(stack.ACK, 0, 0); !w.hasTOA(&f) {
			t.Error("no option on the handshake's last")
		}
		if f := send(stack.ACK, 30000, 1400); !w.hasTOA(&f) {
			t.Error("no option on a superpacket")
		}
		if f := send(stack.RST, 0, 0); w.hasTOA(&f) {
			t.Error("option on a reset")
		}
		w = newWorld(t, spec)
		syn = w.openFullNAT()
		v, left := w.step(in, w.answerTo(&syn, stack.ACK).Frame())
		w.one(v, left, RepliedFullNAT, ext)
		if f := send(stack.ACK, 5, 0); w.hasTOA(&f) || w.worker(ext).conn.Method != flow.Across {
			t.Error("option after the server spoke")
		}
		big := w.toVIPSpec(stack.ACK)
		big.Payload = make([]byte, 3000)
		w = newWorld(t, spec)
		w.openFullNAT()
		v, left = w.step(ext, big.Frame())
		_, f := w.one(v, left, SentTooBig, ext)
		want := 1500 + headerOf(family) - headerOf(10-family) - map[int]int{4: 8, 6: 20}[family]
		if got := mtuTold(f.Bytes(), family); got != want {
			t.Errorf("told %d, want %d", got, want)
		}
	})
}

// Superpackets stay whole where they can, as TSO of the other family; elsewhere they are cut.
func TestAcrossSuperpackets(t *testing.T) {
	for _, plain := range []bool{false, true} {
		bothFamilies(t, func(t *testing.T, family int) {
			spec := acrossSpec(family)
			spec.plain = plain
			w := newWorld(t, spec)
			w.openFullNAT()
			s := w.toVIPSpec(stack.ACK)
			s.Payload, s.Partial, s.GSOSize = bytes.Repeat([]byte("0123456789"), 6000), true, 1400
			v, left := w.step(ext, s.Frame())
			if plain {
				if v != ForwardedFullNAT || len(left) != 43 {
					t.Fatalf("%v with %d frames, want 43", v, len(left))
				}
				return
			}
			_, f := w.one(v, left, ForwardedFullNAT, in)
			want := map[int]uint8{4: tap.GSOTCPv6, 6: tap.GSOTCPv4}[family]
			if h := f.Header; h.GSOType != want || h.GSOSize != 1400 || !h.Partial() {
				t.Errorf("left as %+v", h)
			}
		})
	}
}

// Errors about what one end got are, for the other, about what that sent; MTUs are told with 20 bytes more or less.
func TestAcrossICMPErrors(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		eachAcrossWay(t, worldSpec{proto: proto}, func(t *testing.T, w *world, way acrossWay) {
			s := way.spec
			s.Payload = make([]byte, 1400)
			v, left := w.step(way.iface, s.Frame())
			_, f := w.one(v, left, way.want, way.out)
			from := (&worldSpec{family: way.to}).addr(map[int]int{ext: 1, in: 2}[way.out], 77)
			about := *w
			about.spec.family = way.to
			e := tooBigAbout(&about, way.out, from, &f)
			e.ICMPSeq = 1400
			v, left = w.step(way.out, e.Frame())
			w.one(v, left, RelayedICMP, way.iface)
			outer, inner := quoted(t, &left[0].frame)
			if endpoint(inner.Src, inner.SrcPort) != s.Src || endpoint(inner.Dst, inner.DstPort) != s.Dst || outer.Dst != inner.Src || outer.Src != inner.Dst {
				t.Errorf("%v hears from %v about %+v", outer.Dst, outer.Src, inner.Tuple)
			}
			if got, want := mtuTold(left[0].frame.Bytes(), way.from), 1400+headerOf(way.from)-headerOf(way.to); got != want {
				t.Errorf("told %d, want %d", got, want)
			}
			e.ICMPType, e.ICMPCode = map[int]uint8{4: 3, 6: 1}[way.to], map[int]uint8{4: 14, 6: 6}[way.to] // has no equal
			v, left = w.step(way.out, e.Frame())
			w.none(v, left, DropUntranslatable)
		})
	}
}

// A client that is told of the server's MTU is told of one with room for the option.
func TestAcrossTOAAndPathMTU(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := acrossSpec(family)
		spec.service = "toa = true"
		w := newWorld(t, spec)
		w.openFullNAT()
		s := w.toVIPSpec(stack.ACK)
		s.Payload = make([]byte, 1400)
		_, left := w.step(ext, s.Frame())
		about := *w
		about.spec.family = w.spec.outer
		e := tooBigAbout(&about, in, (&about.spec).addr(2, 77), &left[0].frame)
		e.ICMPSeq = 1400
		v, left := w.step(in, e.Frame())
		_, f := w.one(v, left, RelayedICMP, ext)
		want := 1400 + headerOf(family) - headerOf(10-family) - map[int]int{4: 8, 6: 20}[family]
		if got := mtuTold(f.Bytes(), family); got != want {
			t.Errorf("told %d, want %d", got, want)
		}
	})
}

// What RFC 7915 does not let pass is dropped and counted, and its later fragments with it.
func TestAcrossDrops(t *testing.T) {
	spec := acrossSpec(4)
	spec.proto = "udp"
	w := newWorld(t, spec)
	s := w.toVIPSpec(0)
	s.DF, s.NoCsum, s.Payload = false, true, make([]byte, 2000)
	for i, f := range packettest.Fragments(s.Frame(), 1448, 1) {
		v, left := w.step(ext, f)
		w.none(v, left, []Verdict{DropNoChecksum, DropFragment}[i])
	}
	spec = acrossSpec(6)
	w = newWorld(t, spec)
	w.openFullNAT()
	s = w.toVIPSpec(stack.ACK)
	s.ExtFirst, s.Ext = 51, []byte{stack.ProtoTCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	v, left := w.step(ext, s.Frame())
	w.none(v, left, DropUntranslatable)
	if srv := w.view.Load().servers[0]; srv.inPkts.Load() != 1 {
		t.Errorf("%d packets counted", srv.inPkts.Load())
	}
}

// Edges that FullNAT has too: a TTL that ends here, and answers by the routing table.
func TestAcrossEdges(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		spec := acrossSpec(family)
		spec.ext = "reply = \"route\""
		w := newWorld(t, spec)
		f := w.openFullNAT()
		w.neigh.Pin(ext, w.spec.client().Addr(), stack.MAC{2, 0, 0, 0, 0xcc, 7})
		s := w.answerTo(&f, stack.SYN|stack.ACK)
		v, left := w.step(in, s.Frame())
		p, g := w.one(v, left, RepliedFullNAT, ext)
		if stack.DstMAC(g.Bytes()) != (stack.MAC{2, 0, 0, 0, 0xcc, 7}) || endpoint(p.Src, p.SrcPort) != w.spec.vip() || p.TTL != 63 {
			t.Errorf("client gets %s", stack.Describe(g.Bytes()))
		}
		s.TTL = 1
		v, left = w.step(in, s.Frame())
		w.one(v, left, SentTimeExceeded, in)
		c := w.fromPort(50000, stack.SYN)
		c.Src = netip.AddrPortFrom(netip.MustParseAddr(map[int]string{4: "192.0.2.9", 6: "2001:db8:ffff::9"}[family]), 50000)
		v, left = w.step(ext, c.Frame())
		_, f = w.one(v, left, ForwardedFullNAT, in)
		v, left = w.step(in, w.answerTo(&f, stack.SYN|stack.ACK).Frame())
		w.one(v, left, SentUnreachable, in)
	})
}

// Identifications of small IPv4 packets differ from packet to packet and from worker to worker.
func TestAcrossIdentifications(t *testing.T) {
	w := newWorld(t, acrossSpec(6))
	seen := map[uint16]bool{}
	for _, k := range w.workers {
		for range 1000 {
			seen[k.ids.take()] = true
		}
	}
	if len(seen) != 1000*len(w.workers) {
		t.Errorf("%d different ones of %d", len(seen), 1000*len(w.workers))
	}
	w.openFullNAT()
	id := func() uint16 {
		v, left := w.step(ext, w.toVIP(stack.ACK))
		_, f := w.one(v, left, ForwardedFullNAT, in)
		return binary.BigEndian.Uint16(f.Bytes()[18:])
	}
	if a, b := id(), id(); a == b {
		t.Errorf("two packets have %d", a)
	}
}
