package stack

import (
	"net/netip"
	"testing"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

func TestResetFrame(t *testing.T) {
	for _, hosts := range [][2]string{{"10.77.1.2:40000", "10.77.1.100:80"}, {"[2001:db8::2]:40000", "[2001:db8::100]:80"}} {
		src, dst := netip.MustParseAddrPort(hosts[0]), netip.MustParseAddrPort(hosts[1])
		want := packettest.Spec{Src: src, Dst: dst, Flags: RST, Seq: 0xfffffff0}
		tuple := Tuple{Src: AddrFrom(src.Addr()), Dst: AddrFrom(dst.Addr()), SrcPort: src.Port(), DstPort: dst.Port(), Proto: ProtoTCP}
		f, ok := ResetFrame(&tuple, 0xfffffff0, tap.NewArena(4096))
		if !ok {
			t.Fatal("no room in an empty arena")
		}
		var p Packet
		if r := Parse(&f, &p); r != ReasonNone || p.Tuple != tuple || p.TCPFlags != RST || !ChecksumOK(&f, &p) {
			t.Errorf("%v: %v %s, want %s", hosts, r, Describe(f.Bytes()), Describe(want.Bytes()))
		}
		if end, ack := p.Sequence(f.Bytes()); end != 0xfffffff0 || ack != 0 {
			t.Errorf("%v: sequence %x, ack %x", hosts, end, ack)
		}
		if _, ok := ResetFrame(&tuple, 0, tap.NewArena(1)); ok {
			t.Errorf("%v: a frame without room", hosts)
		}
	}
}

// Sequence numbers wrap; SYN and FIN count; a superpacket counts as its whole payload.
func TestSequence(t *testing.T) {
	for _, hosts := range [][2]string{{"10.77.1.2:40000", "10.77.1.100:80"}, {"[2001:db8::2]:40000", "[2001:db8::100]:80"}} {
		for _, tc := range []struct {
			flags   uint8
			payload int
			gso     int
			want    uint32
		}{
			{SYN, 0, 0, 0}, {ACK, 0, 0, 0xffffffff}, {ACK, 5, 0, 4}, {FIN | ACK, 5, 0, 5}, {ACK, 60000, 1400, 59999},
		} {
			s := packettest.Spec{Src: netip.MustParseAddrPort(hosts[0]), Dst: netip.MustParseAddrPort(hosts[1]), Flags: tc.flags, Seq: 0xffffffff,
				Ack: 77, TCPOptions: []byte{1, 1, 1, 0}, Payload: make([]byte, tc.payload), GSOSize: tc.gso, Partial: tc.gso > 0}
			f, p := s.Frame(), Packet{}
			if r := Parse(&f, &p); r != ReasonNone {
				t.Fatal(r)
			}
			if end, ack := p.Sequence(f.Bytes()); end != tc.want || ack != 77 {
				t.Errorf("%+v: end %d, ack %d", tc, end, ack)
			}
		}
	}
}
