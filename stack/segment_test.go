package stack

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// collect returns an emit that keeps copies.
func collect(out *[]tap.Frame) func(*tap.Frame) {
	return func(f *tap.Frame) { *out = append(*out, f.Clone()) }
}

func TestMaxSegment(t *testing.T) {
	for _, fam := range families {
		for _, tt := range []struct {
			name string
			s    packettest.Spec
			want int // without the IP header
		}{
			{"plain", packettest.Spec{Payload: pattern(1000)}, 1020},
			{"superpacket", packettest.Spec{Payload: pattern(5000), GSOSize: 1448, TCPOptions: pattern(12)}, 20 + 12 + 1448},
			{"superpacket of one segment", packettest.Spec{Payload: pattern(100), GSOSize: 1448}, 120},
			{"UDP superpacket", packettest.Spec{Proto: ProtoUDP, Payload: pattern(5000), GSOSize: 1200}, 1208},
		} {
			tt.s.Src, tt.s.Dst = fam.client, fam.vip
			f := tt.s.Frame()
			p := mustParse(t, &f)
			if got := MaxSegment(f.Header, &p); got != fam.hdrLen+tt.want {
				t.Errorf("%s %s: %d, want %d", fam.name, tt.name, got, fam.hdrLen+tt.want)
			}
		}
	}
}

// Three segments, each the packet that would have been built by itself.
func TestSegmentTCP(t *testing.T) {
	opts := []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2} // timestamps
	for _, fam := range families {
		for _, partial := range []bool{true, false} {
			data := pattern(2500)
			s := packettest.Spec{Src: fam.client, Dst: fam.vip, Flags: ACK | PSH | FIN | CWR, Seq: 1<<32 - 1000, Ack: 5, ID: 65535, DF: true,
				TCPOptions: opts, Payload: data, Partial: partial, GSOSize: 1000}
			f := s.Frame()
			f.Header.HdrLen = 1514 // a lie, as on forwarded frames
			p := mustParse(t, &f)
			var got []tap.Frame
			if !Segment(&f, &p, tap.NewArena(1<<16), collect(&got)) || len(got) != 3 {
				t.Fatalf("%s: %d segments, want 3", fam.name, len(got))
			}
			for i, flags := range []uint8{ACK | CWR, ACK, ACK | PSH | FIN} {
				w := s
				w.Payload, w.Flags, w.Seq, w.ID = data[i*1000:min(i*1000+1000, 2500)], flags, s.Seq+uint32(i*1000), s.ID+uint16(i)
				w.Partial, w.GSOSize = false, 0
				want := w.Frame()
				if !bytes.Equal(got[i].Bytes(), want.Bytes()) || got[i].Header != (tap.Header{}) {
					t.Errorf("%s segment %d\n got %x\nwant %x", fam.name, i, got[i].Bytes()[:100], want.Bytes()[:100])
				}
			}
		}
	}
}

func TestSegmentUDP(t *testing.T) {
	for _, fam := range families {
		data := pattern(2001)
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: ProtoUDP, ID: 9, Payload: data, Partial: true, GSOSize: 1000}
		if fam.name == "IPv6" {
			s.ExtFirst, s.Ext = extDest, []byte{ProtoUDP, 0, 1, 4, 0, 0, 0, 0}
		}
		f := s.Frame()
		p := mustParse(t, &f)
		var got []tap.Frame
		if !Segment(&f, &p, tap.NewArena(1<<16), collect(&got)) || len(got) != 3 {
			t.Fatalf("%s: %d segments, want 3", fam.name, len(got))
		}
		for i := range got {
			w := s
			w.Payload, w.ID, w.Partial, w.GSOSize = data[i*1000:min(i*1000+1000, 2001)], s.ID+uint16(i), false, 0
			want := w.Frame()
			if !bytes.Equal(got[i].Bytes(), want.Bytes()) {
				t.Errorf("%s segment %d\n got %x\nwant %x", fam.name, i, got[i].Bytes()[:80], want.Bytes()[:80])
			}
		}
	}
}

// A superpacket without a UDP checksum makes segments without one.
func TestSegmentUDPNoChecksum(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4, Proto: ProtoUDP, Payload: pattern(300), NoCsum: true, GSOSize: 100}
	f := s.Frame()
	p := mustParse(t, &f)
	var got []tap.Frame
	Segment(&f, &p, tap.NewArena(1<<16), collect(&got))
	for i := range got {
		if p := mustParse(t, &got[i]); !p.NoCsum {
			t.Errorf("segment %d has a checksum", i)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d segments, want 3", len(got))
	}
}

func TestSegmentRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	a := tap.NewArena(1 << 20)
	for range 2000 {
		s := randomSpec(r)
		f := s.Frame()
		p := mustParse(t, &f)
		a.Reset()
		checkSegments(t, &f, &p, a, s.GSOSize > 0)
	}
}

// checkSegments cuts f and checks what may be checked of any superpacket: each segment is right, none is too large, and all
// payload is there in order.
func checkSegments(t *testing.T, f *tap.Frame, p *Packet, a *tap.Arena, want bool) {
	t.Helper()
	right := ChecksumOK(f, p)
	var data []byte
	got := Segment(f, p, a, func(s *tap.Frame) {
		q := mustParse(t, s)
		if q.Tuple != p.Tuple || q.headersLen() != p.headersLen() || int(q.L3Len) > MaxSegment(f.Header, p) || s.Len() != 14+int(q.L3Len) {
			t.Fatalf("a segment of %+v\nis %+v", *p, q)
		}
		if right && !ChecksumOK(s, &q) {
			t.Fatalf("a segment of %+v has a wrong checksum\n%x", *p, s.Bytes())
		}
		if q.Proto == ProtoTCP {
			seq := header.TCP(f.Bytes()[p.L4:]).SequenceNumber() + uint32(len(data))
			if header.TCP(s.Bytes()[q.L4:]).SequenceNumber() != seq {
				t.Fatalf("sequence number after %d bytes", len(data))
			}
		}
		data = append(data, s.Bytes()[q.L4+q.L4Len:]...)
	})
	if got != want {
		t.Fatalf("Segment = %v, want %v: %+v %+v", got, want, f.Header, *p)
	}
	if got && !bytes.Equal(data, f.Bytes()[p.L4+p.L4Len:]) {
		t.Fatalf("payload of %d bytes came out as %d", f.Len()-int(p.L4+p.L4Len), len(data))
	}
}

func TestSegmentArenaFull(t *testing.T) {
	s := packettest.Spec{Src: client6, Dst: vip6, Payload: pattern(60000), Partial: true, GSOSize: 1}
	f := s.Frame()
	p := mustParse(t, &f)
	n := 0
	if Segment(&f, &p, tap.NewArena(1<<20), func(*tap.Frame) { n++ }) || n == 0 {
		t.Errorf("60,000 segments of one byte fit in 1 MiB; %d emitted", n)
	}
}

// emit may reset the arena, which then needs room for one piece only.
func TestSegmentOneAtATime(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4, Payload: pattern(5000), Partial: true, GSOSize: 1000}
	f := s.Frame()
	p := mustParse(t, &f)
	a, n := tap.NewArena(2000), 0
	if !Segment(&f, &p, a, func(s *tap.Frame) { n++; a.Reset() }) || n != 5 {
		t.Errorf("%d segments, want 5", n)
	}
}

func TestSegmentNoPayload(t *testing.T) {
	s := packettest.Spec{Src: client4, Dst: vip4, Flags: ACK, Partial: true, GSOSize: 1000}
	f := s.Frame()
	p := mustParse(t, &f)
	checkSegments(t, &f, &p, tap.NewArena(1<<12), true)
}
