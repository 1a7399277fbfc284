package director

import (
	"bytes"
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// sized is a packet of n bytes of L3.
func (w *world) sized(n int, df bool) packettest.Spec {
	s := w.base(ext, w.spec.client(), w.spec.vip())
	headers := 28
	if w.spec.family == 6 {
		headers = 48
	}
	if s.Proto == stack.ProtoTCP {
		headers += 12
	}
	s.Payload, s.DF, s.ID = bytes.Repeat([]byte{0xa5, 0x17, 3}, n)[:n-headers], df, 99
	return s
}

// A packet as large as the tunnel's MTU passes; one byte more is answered with that MTU.
func TestTUNTooBig(t *testing.T) {
	everyTunnel(t, worldSpec{proto: "udp"}, func(t *testing.T, w *world, overhead int) {
		mtu := outerMTU - overhead
		v, left := w.step(ext, w.sized(mtu, true).Frame())
		_, f := w.one(v, left, ForwardedTUN, in)
		if f.Len() != 14+outerMTU {
			t.Errorf("%d bytes left, want %d", f.Len(), 14+outerMTU)
		}
		w.unwrap(&f)
		v, left = w.step(ext, w.sized(mtu+1, true).Frame())
		p, g := w.one(v, left, SentTooBig, ext)
		if got := p.ICMPSaysMTU(g.Bytes()); got != mtu {
			t.Errorf("told MTU %d, want %d", got, mtu)
		}
	})
}

// Without DF IPv4 is fragmented first, and each piece wrapped: the tunnel's end need not put anything together.
func TestTUNFragmentsInside(t *testing.T) {
	for _, outer := range []int{4, 6} {
		for _, kind := range tunKinds {
			w := newWorld(t, worldSpec{method: "tun", proto: "udp", outer: outer, service: kind.toml})
			s := w.sized(2000, false)
			s.Partial = true
			want := w.sized(2000, false).Bytes()[34:]
			v, left := w.step(ext, s.Frame())
			if v != ForwardedTUN || len(left) != 2 {
				t.Fatalf("%v with %d frames", v, len(left))
			}
			var data []byte
			ids := map[uint16]bool{}
			for i := range left {
				o, inner, p := w.unwrap(&left[i].frame)
				ip := header.IPv4(inner.Bytes()[14:])
				if left[i].frame.Len() > 14+outerMTU || o.DF || int(ip.FragmentOffset()) != len(data) || !p.Fragment || p.TTL != 63 || ip.ID() != 99 {
					t.Errorf("%s: piece %d: %+v %x", kind.name, i, o, []byte(ip))
				}
				ids[o.ID] = true
				data = append(data, ip.Payload()...)
			}
			if !bytes.Equal(data, want) || outer == 4 && len(ids) != 2 {
				t.Errorf("%s: %d bytes by identifications %v", kind.name, len(data), ids)
			}
		}
	}
}

// moreFragments reports whether an outer packet is a fragment that is not the last.
func moreFragments(f *tap.Frame) bool {
	b := f.Bytes()[14:]
	if b[0]>>4 == 4 {
		return header.IPv4(b).More()
	}
	return b[6] == 44 && header.IPv6Fragment(b[40:48]).More()
}

// assemble puts the fragments of one outer packet together.
func (w *world) assemble(left []sent) *tap.Frame {
	w.tb.Helper()
	first := left[0].frame.Bytes()
	whole := bytes.Clone(first[:14])
	if first[14]>>4 == 4 {
		ip := header.IPv4(bytes.Clone(first[14:34]))
		var data []byte
		for i := range left {
			h := header.IPv4(left[i].frame.Bytes()[14:])
			if int(h.FragmentOffset()) != len(data) || h.ID() != ip.ID() || h.More() != (i < len(left)-1) || left[i].frame.Len() > 14+outerMTU {
				w.tb.Fatalf("fragment %d: %x", i, []byte(h[:20]))
			}
			data = append(data, h.Payload()...)
		}
		ip.SetFlagsFragmentOffset(0, 0)
		ip.SetTotalLength(uint16(20 + len(data)))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		f := tap.NewFrame(tap.Header{}, append(append(whole, ip...), data...))
		return &f
	}
	ip := header.IPv6(bytes.Clone(first[14:54]))
	if len(left) == 1 && ip.NextHeader() != 44 {
		return &left[0].frame
	}
	var data []byte
	for i := range left {
		b := left[i].frame.Bytes()
		h := header.IPv6Fragment(b[54:62])
		if ip.NextHeader() != 44 || int(h.FragmentOffset())*8 != len(data) || h.More() != (i < len(left)-1) || len(b) > 14+outerMTU {
			w.tb.Fatalf("fragment %d: %x", i, b[14:62])
		}
		data = append(data, b[62:]...)
	}
	ip.SetNextHeader(first[54])
	ip.SetPayloadLength(uint16(len(data)))
	f := tap.NewFrame(tap.Header{}, append(append(whole, ip...), data...))
	return &f
}

// With pmtu_disc = false nothing is too big: the outer packet is fragmented.
func TestTUNFragmentsOutside(t *testing.T) {
	everyTunnel(t, worldSpec{proto: "udp", service: "pmtu_disc = false\n"}, func(t *testing.T, w *world, overhead int) {
		for _, partial := range []bool{false, true} {
			s := w.sized(outerMTU-overhead+1, true)
			s.Partial = partial
			v, left := w.step(ext, s.Frame())
			if v != ForwardedTUN || len(left) != 2 {
				t.Fatalf("%v with %d frames, want two fragments", v, len(left))
			}
			f := w.assemble(left)
			if _, _, p := w.unwrap(f); int(p.L3Len) != outerMTU-overhead+1 || w.spec.family == 4 && !p.DF {
				t.Errorf("inside are %d bytes, DF %v", p.L3Len, p.DF)
			}
		}
	})
}

// Nobody may call 1280 bytes of IPv6 too big, so they are fragmented outside where the tunnel is narrower.
func TestTUNLeastIPv6(t *testing.T) {
	for _, outer := range []int{4, 6} {
		for _, kind := range tunKinds {
			w := newWorld(t, worldSpec{method: "tun", proto: "udp", family: 6, outer: outer, service: kind.toml, mtu: 1280})
			v, left := w.step(ext, w.sized(1280, true).Frame())
			if v != ForwardedTUN || len(left) != 2 {
				t.Fatalf("%s in IPv%d: %v with %d frames, want two fragments", kind.name, outer, v, len(left))
			}
			w.unwrap(w.assemble(left))
			v, left = w.step(ext, w.sized(1281, true).Frame())
			p, g := w.one(v, left, SentTooBig, ext)
			if got := p.ICMPSaysMTU(g.Bytes()); got != 1280 {
				t.Errorf("told MTU %d, want 1280", got)
			}
			v, left = w.step(ext, w.sized(1280-kind.overhead(outer), true).Frame())
			w.one(v, left, ForwardedTUN, in)
		}
	}
}

// A superpacket is cut before it is wrapped, into full segments in order.
func TestTUNSuperpackets(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		everyTunnel(t, worldSpec{proto: proto}, func(t *testing.T, w *world, overhead int) {
			w.step(ext, w.toVIP(stack.SYN))
			s := w.toVIPSpec(stack.ACK | stack.PSH)
			s.Payload, s.GSOSize, s.Partial, s.Seq = bytes.Repeat([]byte("0123456789abc"), 2000), 1300, true, 1000
			v, left := w.step(ext, s.Frame())
			if v != ForwardedTUN || len(left) != 20 {
				t.Fatalf("%v with %d frames, want 20", v, len(left))
			}
			var data []byte
			for i := range left {
				o, inner, p := w.unwrap(&left[i].frame)
				if o.Len != overhead || stack.DstMAC(left[i].frame.Bytes()) != serverMAC(0) || p.TTL != 63 {
					t.Fatalf("segment %d: %+v %+v", i, o, p)
				}
				if proto == "tcp" && binary.BigEndian.Uint32(inner.Bytes()[p.L4+4:]) != uint32(1000+len(data)) {
					t.Errorf("segment %d out of sequence", i)
				}
				data = append(data, inner.Bytes()[p.L4+p.L4Len:]...)
			}
			if !bytes.Equal(data, s.Payload) {
				t.Errorf("%d bytes arrived of %d", len(data), len(s.Payload))
			}

			// Segments that do not fit are answered, as a single packet would be; or fragmented, as they allow.
			s.GSOSize = outerMTU - overhead
			v, left = w.step(ext, s.Frame())
			w.one(v, left, SentTooBig, ext)
			if s.DF = false; w.spec.family == 4 {
				if v, left = w.step(ext, s.Frame()); v != ForwardedTUN || len(left) < 35 {
					t.Errorf("%v with %d frames, want fragments", v, len(left))
				}
				for i := range left {
					w.unwrap(&left[i].frame)
				}
			}
		})
	}
}

// With pmtu_disc = false each segment of a superpacket is wrapped and fragmented.
func TestTUNSuperpacketsOutside(t *testing.T) {
	everyTunnel(t, worldSpec{service: "pmtu_disc = false\n"}, func(t *testing.T, w *world, overhead int) {
		w.step(ext, w.toVIP(stack.SYN))
		s := w.toVIPSpec(stack.ACK)
		s.Payload, s.GSOSize, s.Partial = bytes.Repeat([]byte("0123456789abc"), 1000), outerMTU-overhead, true
		v, left := w.step(ext, s.Frame())
		var data []byte
		n := (len(s.Payload) + s.GSOSize - 1) / s.GSOSize
		if v != ForwardedTUN || len(left) < 2*(n-1)+1 {
			t.Fatalf("%v with %d frames of %d segments", v, len(left), n)
		}
		for len(left) > 0 {
			size := 1
			for moreFragments(&left[size-1].frame) {
				size++
			}
			_, inner, p := w.unwrap(w.assemble(left[:size]))
			data = append(data, inner.Bytes()[p.L4+p.L4Len:]...)
			left = left[size:]
		}
		if !bytes.Equal(data, s.Payload) {
			t.Errorf("%d bytes arrived of %d", len(data), len(s.Payload))
		}
	})
}

// A superpacket of very many small segments is written in several parts: nothing is lost, nothing overwritten.
func TestTUNManySegments(t *testing.T) {
	for _, service := range []string{"", "pmtu_disc = false\n"} {
		w := newWorld(t, worldSpec{method: "tun", service: service})
		w.step(ext, w.toVIP(stack.SYN))
		s := w.toVIPSpec(stack.ACK)
		s.Payload, s.GSOSize, s.Partial = bytes.Repeat([]byte{1, 2, 3}, 20000), 16, true
		if service != "" {
			s.GSOSize = 1450
		}
		var data []byte
		var waiting []sent
		w.memory[in].OnWrite(func(_ int, f *tap.Frame) {
			waiting = append(waiting, sent{in, f.Clone()})
			if moreFragments(f) {
				return
			}
			_, inner, p := w.unwrap(w.assemble(waiting))
			data, waiting = append(data, inner.Bytes()[p.L4+p.L4Len:]...), nil
		})
		k, f := w.worker(ext), s.Frame()
		if v := k.one(&f); v != ForwardedTUN {
			t.Fatal(v)
		}
		k.flush()
		if !bytes.Equal(data, s.Payload) {
			t.Errorf("%d bytes arrived of %d", len(data), len(s.Payload))
		}
	}
}
