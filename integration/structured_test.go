package integration_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"

	"tapdirector/integration/worldtest"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// packetMaker makes packets that are right in themselves and have everything else at random: what a fuzzer that flips bytes hardly finds, since ends, sizes,
// offloads and fragments must fit together.
type packetMaker struct {
	*rand.Rand
	waiting *[]waitingFrame
}

// waitingFrame is a fragment that comes some packets later, and the interface it is for.
type waitingFrame struct {
	iface int
	frame tap.Frame
}

// pick returns one of its arguments.
func pick[T any](r packetMaker, of ...T) T { return of[r.IntN(len(of))] }

// packet returns a frame and the interface it is for.
func (r packetMaker) packet() (iface int, f tap.Frame) {
	if n := len(*r.waiting); n > 0 && r.IntN(4) > 0 {
		i := r.IntN(n)
		next := (*r.waiting)[i]
		*r.waiting = slices.Delete(*r.waiting, i, i+1)
		return next.iface, next.frame
	}
	s := r.spec(pick(r, 4, 4, 6))
	own := r.IntN(fuzzTrunk + len(fuzzVLANs))
	s.SrcMAC, s.DstMAC = stack.MAC{2, 0, 0, 0, 0xcc, byte(own)}, stack.MAC{2, 0, 0, 0, 0xaa, byte(own)}
	if !s.Partial && s.FragOffset == 0 && !s.MF && r.IntN(8) == 0 {
		r.cut(own, s)
	}
	return onDevice(own, s.Frame())
}

// onDevice returns a frame for one of our interfaces as it comes in, and the device that it comes in by.
func onDevice(own int, f tap.Frame) (int, tap.Frame) {
	if own < fuzzTrunk {
		return own, f
	}
	return fuzzTrunk, *tagged(&f, fuzzVLANs[own-fuzzTrunk])
}

// cut lets the fragments of a packet wait: all, or all but one, or one of them of another size.
func (r packetMaker) cut(own int, s packettest.Spec) {
	s.DF, s.Payload = false, append(s.Payload, make([]byte, 200)...)
	s.Payload = s.Payload[:min(len(s.Payload), 8000)]
	size, id := pick(r, 64, 552, 1232, 1400), r.Uint32()
	frames := packettest.Fragments(s.Frame(), size, id)
	switch r.IntN(8) {
	case 0:
		frames = frames[:len(frames)-1]
	case 1:
		frames = append(frames, packettest.Fragments(s.Frame(), size+8, id)[1:]...)
	}
	for _, f := range frames {
		iface, f := onDevice(own, f)
		*r.waiting = append(*r.waiting, waitingFrame{iface, f})
	}
}

// answer returns the answer of whoever got a frame that left: of a server, of a client, of the world. False for what has no ports.
func (r packetMaker) answer(o fuzzOutput) (iface int, f tap.Frame, ok bool) {
	var p stack.Packet
	g := o.frame.Clone()
	vlan, _ := stack.PopTag(&g)
	if outer, _, err := packettest.Unwrap(g.Bytes()[tap.EthernetLen:]); err == nil {
		f = r.fromInside(outer, &g)
		return o.iface, *tagged(&f, vlan), true
	}
	if stack.Parse(&g, &p) != stack.ReasonNone || !p.HasPorts {
		return 0, f, false
	}
	family := 4
	if p.Kind == stack.KindIPv6 {
		family = 6
	}
	s := r.spec(family)
	s.SrcMAC, s.DstMAC = stack.MAC{2, 0, 0, 0, 0xcc, byte(o.iface)}, stack.SrcMAC(g.Bytes())
	s.Src, s.Dst = netip.AddrPortFrom(p.Dst.Netip(), p.DstPort), netip.AddrPortFrom(p.Src.Netip(), p.SrcPort)
	if s.Proto == packettest.SCTP && p.Proto == packettest.SCTP || s.Proto == packettest.TCP && p.Proto != packettest.SCTP || s.Proto == packettest.UDP && p.Proto != packettest.SCTP {
		s.Proto = p.Proto
	}
	f = s.Frame()
	return o.iface, *tagged(&f, vlan), true
}

// fromInside is a router's error about a packet in a tunnel.
func (r packetMaker) fromInside(o packettest.Outer, g *tap.Frame) tap.Frame {
	quote := g.Bytes()[tap.EthernetLen:]
	quote = slices.Clone(quote[:min(len(quote), pick(r, o.Len, o.Len+8, o.Len+100, 512))])
	s := packettest.Spec{SrcMAC: stack.MAC{2, 0, 0, 0, 0xcc, 7}, DstMAC: stack.SrcMAC(g.Bytes()), Src: netip.MustParseAddrPort("10.77.2.77:0"),
		Dst: netip.AddrPortFrom(o.Src, 0), Proto: packettest.ICMP, ICMPType: pick[uint8](r, 3, 3, 11, 12), ICMPCode: pick[uint8](r, 0, 1, 3, 4, 4, 4),
		ICMPSeq: pick[uint16](r, 0, 100, 1000, 1290, 1400, 2000), Payload: quote}
	if o.Src.Is6() {
		s.Src, s.Proto, s.ICMPType = netip.MustParseAddrPort("[2001:db8:77:2::77]:0"), packettest.ICMPv6, pick[uint8](r, 1, 2, 2, 3, 4)
	}
	return s.Frame()
}

// end returns an address and port that mean something to the director, most of the time.
func (r packetMaker) end(family int) netip.AddrPort {
	subnet := pick(r, 1, 1, 1, 1, 2, 2, 3, 4, 5, 9)
	host := pick(r, 100, 100, 100, 1, 2, 11, 11, 11, 77)
	port := pick[uint16](r, 70, 70, 71, 71, 80, 80, 80, 81, 81, 82, 83, 84, 85, 85, 86, 86, 87, 87, 88, 88, 89, 89, 40000, 40001, 1024, uint16(r.Uint32()))
	if r.IntN(3) == 0 {
		port = pick[uint16](r, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 6000, 6009, 6100)
	}
	if family == 6 {
		return netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:77:%d::%d]:%d", subnet, host, port))
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, byte(subnet), byte(host)}), port)
}

// spec returns a packet of that family.
func (r packetMaker) spec(family int) packettest.Spec {
	s := packettest.Spec{Src: r.end(family), Dst: r.end(family), TTL: pick[uint8](r, 1, 2, 64, 64, 64, 255), DF: r.IntN(2) == 0,
		Proto: pick[uint8](r, packettest.TCP, packettest.TCP, packettest.UDP, packettest.UDP, packettest.ICMP, packettest.SCTP, 200), ID: uint16(r.Uint32()),
		Flags: pick[uint8](r, stack.SYN, stack.ACK, stack.ACK, stack.SYN|stack.ACK, stack.FIN|stack.ACK, stack.RST, uint8(r.Uint32())),
		Seq:   r.Uint32(), Ack: r.Uint32()}
	s.Payload = make([]byte, pick(r, 0, 1, 7, 64, 500, 1200, r.IntN(1500), 1231, 1260, 1331, 1360, 1431, 1460, r.IntN(20000), 60000))
	for i := range s.Payload {
		s.Payload[i] = byte(r.Uint32())
	}
	if s.Proto == packettest.ICMP {
		r.icmp(&s, family)
		return s
	}
	if s.Proto == packettest.SCTP {
		r.chunks(&s)
	} else if s.Proto != 200 && len(s.Payload) > 0 {
		r.offload(&s)
	}
	r.extras(&s, family)
	return s
}

// chunks makes s a packet of SCTP of one or two chunks, the last of which may be anything.
func (r packetMaker) chunks(s *packettest.Spec) {
	kind := func() uint8 {
		return pick[uint8](r, packettest.Init, packettest.Init, packettest.InitAck, packettest.CookieEcho, packettest.CookieAck, packettest.Data,
			packettest.Sack, packettest.Shutdown, packettest.ShutdownAck, packettest.ShutdownComplete, packettest.Error, packettest.Abort, uint8(r.Uint32()))
	}
	rest := s.Payload[:len(s.Payload)&^7]
	s.Tag, s.Payload = r.Uint32(), packettest.Chunk(kind(), nil)
	if r.IntN(2) == 0 {
		s.Payload = append(s.Payload, packettest.Chunk(kind(), rest)...)
	}
}

// icmp makes s an echo, or an error that quotes another packet.
func (r packetMaker) icmp(s *packettest.Spec, family int) {
	s.Payload = s.Payload[:min(len(s.Payload), 1200)]
	errors4, errors6 := []uint8{3, 11, 12}, []uint8{1, 2, 3, 4}
	s.ICMPType = pick(r, append(errors4, 8, 0)...)
	if family == 6 {
		s.Proto, s.ICMPType = packettest.ICMPv6, pick(r, append(errors6, 128, 129)...)
	}
	s.ICMPCode, s.ICMPID, s.ICMPSeq = uint8(r.IntN(5)), pick[uint16](r, 0, 7, 80), 1300
	if s.ICMPType != 8 && s.ICMPType != 0 && s.ICMPType < 128 {
		inner := packettest.Spec{Src: r.end(family), Dst: s.Src, Proto: pick[uint8](r, packettest.TCP, packettest.UDP), Payload: make([]byte, r.IntN(64))}
		quote := inner.Bytes()[tap.EthernetLen:]
		s.Payload = quote[:min(len(quote), 20+r.IntN(100))]
	}
}

// offload leaves the checksum, or the cutting, to whoever comes next.
func (r packetMaker) offload(s *packettest.Spec) {
	switch r.IntN(4) {
	case 0:
		s.Partial = true
	case 1:
		s.Partial, s.GSOSize = true, pick(r, 1, 100, 1000, 1200, 1240, 1260, 1300, 1340, 1360, 1400, 1440, 1460)
		s.GSOSize = max(s.GSOSize, len(s.Payload)/200+1) // no more than some hundred segments
		s.Flags &^= stack.SYN | stack.RST
	}
}

// extras adds options, extension headers and fragments; none of these goes with offload.
func (r packetMaker) extras(s *packettest.Spec, family int) {
	if s.Proto == packettest.TCP && r.IntN(4) == 0 {
		s.TCPOptions = []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	}
	if family == 6 {
		if r.IntN(8) == 0 {
			s.ExtFirst, s.Ext = pick[uint8](r, 0, 60), []byte{s.Proto, 0, 1, 4, 0, 0, 0, 0}
		}
		return
	}
	if s.Proto == packettest.UDP && r.IntN(8) == 0 && !s.Partial {
		s.NoCsum = true
	}
	if r.IntN(8) == 0 {
		s.IPOptions = pick(r, []byte{1, 1, 1, 0}, []byte{0x94, 4, 0, 0}, []byte{7, 7, 4, 0, 0, 0, 0, 0})
	}
	if r.IntN(16) == 0 && !s.Partial {
		s.FragOffset, s.MF = 8*r.IntN(100), r.IntN(2) == 0
		if s.MF {
			s.Payload = s.Payload[:len(s.Payload)&^7]
		}
	}
}

// TestForwardStructured is FuzzForward's question about packets that are right and made at random, and about answers to what leaves. TAPDIRECTOR_PACKETS
// says how many (default 20000).
func TestForwardStructured(t *testing.T) {
	n := 20000
	if worldtest.RaceEnabled {
		n = 2000
	}
	if s := os.Getenv("TAPDIRECTOR_PACKETS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	for shift := range fuzzDevices { // each interface has each device in turn
		t.Run(fmt.Sprintf("devices shifted by %d", shift), func(t *testing.T) {
			devices := append(slices.Clone(fuzzDevices[shift:]), fuzzDevices[:shift]...)
			structured(t, devices, n/len(fuzzDevices))
		})
	}
}

func structured(t *testing.T, devices []tap.MemoryOptions, n int) {
	w := newFuzzWorld(t, devices)
	defer w.close(t)
	seed := rand.Uint64()
	r := packetMaker{rand.New(rand.NewPCG(seed, 1)), new([]waitingFrame)}
	defer func() { t.Logf("seed %d, %d packets: %v", seed, n, w.d.Verdicts()) }()
	judged := 0
	var last []fuzzOutput
	for range n {
		iface, in := r.packet()
		if len(last) > 0 && r.IntN(2) == 0 {
			if i, f, ok := r.answer(last[r.IntN(len(last))]); ok {
				iface, in = i, f
			}
		}
		if judge(iface, &in, 0) != nil || !devices[iface].Offload.Carries(in.Header) {
			continue
		}
		judged++
		out := w.exec(t, iface, &in)
		w.check(t, out, iface, &in)
		w.echo(t, out, iface, &in)
		last = append(last, out...)
		last = last[max(0, len(last)-16):]
	}
	if n := w.d.Verdicts()["drop-no-room"]; n != 0 {
		t.Errorf("%d packets were lost on the way out", n)
	}
	if judged < n/4 {
		t.Errorf("only %d of %d packets were right", judged, n)
	}
}
