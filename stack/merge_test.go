package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

var carriesAll = tap.Offload{Csum: true, TSO4: true, TSO6: true, USO: true}

// mergeCase is a batch of three packets of one flow, but for what the case makes of them, and how many packets each frame that leaves stands for.
type mergeCase struct {
	name string
	only string // a family
	spec func(i int, s *packettest.Spec)
	edit func(i int, f *tap.Frame) // of bytes that a Spec has no name for; checksums are made right behind it
	harm func(i int, f *tap.Frame) // the same, but checksums stay
	want []int
}

var (
	allOfThem = []int{3}
	none      = []int{1, 1, 1}
)

func second(do func(s *packettest.Spec)) func(int, *packettest.Spec) {
	return func(i int, s *packettest.Spec) {
		if i == 1 {
			do(s)
		}
	}
}

// between makes something else of the second packet and has the third continue the first.
func between(do func(s *packettest.Spec)) func(int, *packettest.Spec) {
	return func(i int, s *packettest.Spec) {
		switch i {
		case 1:
			do(s)
		case 2:
			s.ID, s.Seq = s.ID-1, s.Seq-uint32(len(s.Payload))
		}
	}
}

func secondByte(at int, v byte) func(int, *tap.Frame) {
	return func(i int, f *tap.Frame) {
		if i == 1 {
			f.Bytes()[at] ^= v
		}
	}
}

// Rules of Ethernet and IP, and of checksums: they are the same over TCP and UDP.
func commonMergeCases() []mergeCase {
	sizes := func(n ...int) func(int, *packettest.Spec) {
		return func(i int, s *packettest.Spec) { s.Payload = pattern(n[i]) }
	}
	return []mergeCase{
		{name: "alike", want: allOfThem},
		{name: "the last is shorter", spec: sizes(100, 100, 1), want: allOfThem},
		{name: "one within is shorter", spec: sizes(100, 99, 100), want: []int{2, 1}},
		{name: "longer ones follow", spec: sizes(99, 100, 100), want: []int{1, 2}},
		{name: "without payload", spec: sizes(100, 0, 100), want: none},
		{name: "all partial", spec: func(_ int, s *packettest.Spec) { s.Partial = true }, want: allOfThem},
		{name: "one partial", spec: second(func(s *packettest.Spec) { s.Partial = true }), want: allOfThem},
		{name: "one partial with a wrong seed", spec: second(func(s *packettest.Spec) { s.Partial = true }), harm: func(i int, f *tap.Frame) {
			if i == 1 {
				f.Bytes()[f.Header.CsumStart+f.Header.CsumOffset] ^= 1
			}
		}, want: none},
		{name: "payload damaged", harm: func(i int, f *tap.Frame) {
			if i == 1 {
				f.Bytes()[f.Len()-1] ^= 1
			}
		}, want: none},
		{name: "first one's payload damaged", harm: func(i int, f *tap.Frame) {
			if i == 0 {
				f.Bytes()[f.Len()-1] ^= 1
			}
		}, want: []int{1, 2}},
		{name: "damaged, but the kernel vouches for it", harm: func(i int, f *tap.Frame) {
			f.Header.Flags = tap.FlagDataValid
			f.Bytes()[f.Len()-1] ^= byte(i)
		}, want: allOfThem},
		{name: "from another MAC", spec: second(func(s *packettest.Spec) { s.SrcMAC = MAC{2, 9, 9, 9, 9, 9} }), want: none},
		{name: "to another MAC", spec: second(func(s *packettest.Spec) { s.DstMAC = MAC{2, 9, 9, 9, 9, 9} }), want: none},
		{name: "TTL", spec: second(func(s *packettest.Spec) { s.TTL = 63 }), want: none},
		{name: "ECN", only: "IPv4", edit: secondByte(15, 3), want: none},
		{name: "ECN", only: "IPv6", edit: secondByte(15, 0x30), want: none},
		{name: "DSCP", only: "IPv6", edit: secondByte(14, 0x08), want: none},
		{name: "flow label", only: "IPv6", edit: secondByte(17, 1), want: none},
		{name: "identification jumps", only: "IPv4", spec: func(i int, s *packettest.Spec) { s.ID = uint16(7 + 2*i) }, want: none},
		{name: "identification wraps", only: "IPv4", spec: func(i int, s *packettest.Spec) { s.ID = uint16(0xffff + i) }, want: allOfThem},
		{name: "identification stays", only: "IPv4", spec: func(_ int, s *packettest.Spec) { s.ID = 7 }, want: none},
		{name: "identification without meaning", only: "IPv4", spec: func(i int, s *packettest.Spec) { s.ID, s.DF = uint16(i*i*7), true }, want: allOfThem},
		{name: "one with DF", only: "IPv4", spec: second(func(s *packettest.Spec) { s.DF = true }), want: none},
		{name: "the reserved flag", only: "IPv4", edit: secondByte(20, 0x80), want: none},
		{name: "options", only: "IPv4", spec: func(_ int, s *packettest.Spec) { s.IPOptions = []byte{1, 1, 1, 0} }, want: none},
		{name: "one with options", only: "IPv4", spec: second(func(s *packettest.Spec) { s.IPOptions = []byte{1, 1, 1, 0} }), want: none},
		{name: "first fragment", only: "IPv4", spec: second(func(s *packettest.Spec) { s.MF, s.Payload = true, pattern(100) }), want: none},
		{name: "later fragment", only: "IPv4", spec: second(func(s *packettest.Spec) { s.FragOffset, s.Payload = 800, pattern(100) }), want: none},
		{name: "extension header", only: "IPv6", spec: second(func(s *packettest.Spec) {
			s.ExtFirst, s.Ext = extDest, []byte{s.Proto, 0, 1, 4, 0, 0, 0, 0}
		}), want: none},
		{name: "another flow between", spec: between(func(s *packettest.Spec) { s.Src = withPort(s.Src, 9) }), want: []int{2, 1}},
		{name: "another host between", spec: between(func(s *packettest.Spec) { s.Src, s.Dst = s.Dst, s.Src }), want: []int{2, 1}},
		{name: "ICMP between", spec: between(func(s *packettest.Spec) {
			s.Proto, s.ICMPType = ProtoICMP, 8
			if s.Src.Addr().Is6() {
				s.Proto, s.ICMPType = ProtoICMPv6, 128
			}
		}), want: []int{2, 1}},
		{name: "superpacket between", spec: second(func(s *packettest.Spec) { s.Payload, s.Partial, s.GSOSize = pattern(300), true, 100 }), want: none},
	}
}

var udpMergeCases = []mergeCase{
	{name: "without checksum", only: "IPv4", spec: func(_ int, s *packettest.Spec) { s.NoCsum = true }, want: none},
	{name: "one without checksum", only: "IPv4", spec: second(func(s *packettest.Spec) { s.NoCsum = true }), want: none},
	{name: "ends before its packet", edit: func(i int, f *tap.Frame) {
		var p Packet
		Parse(f, &p)
		if i == 1 {
			f.Bytes()[p.L4+5]--
		}
	}, want: none},
	{name: "TCP between", spec: between(func(s *packettest.Spec) { s.Proto, s.Flags = ProtoTCP, SYN }), want: []int{2, 1}},
}

// tcpBits flips bits in a byte of the second packet's TCP header.
func tcpBits(at int, v byte) func(int, *tap.Frame) {
	return func(i int, f *tap.Frame) {
		var p Packet
		Parse(f, &p)
		if i == 1 {
			f.Bytes()[int(p.L4)+at] ^= v
		}
	}
}

func secondFlags(flags uint8) func(int, *packettest.Spec) {
	return second(func(s *packettest.Spec) { s.Flags = flags })
}

func tcpMergeCases() []mergeCase {
	stamp := func(n byte) []byte { return []byte{1, 1, 8, 10, 0, 0, 0, n, 0, 0, 0, 9} }
	cases := []mergeCase{
		{name: "options alike", spec: func(_ int, s *packettest.Spec) { s.TCPOptions = stamp(1) }, want: allOfThem},
		{name: "another time stamp", spec: func(i int, s *packettest.Spec) { s.TCPOptions = stamp(byte(i)) }, want: none},
		{name: "one with options", spec: second(func(s *packettest.Spec) { s.TCPOptions = stamp(1) }), want: none},
		{name: "sequence number jumps", spec: second(func(s *packettest.Spec) { s.Seq += 1 }), want: none},
		{name: "a repetition", spec: second(func(s *packettest.Spec) { s.Seq -= 100 }), want: []int{1, 1, 1}},
		{name: "sequence number wraps", spec: func(i int, s *packettest.Spec) { s.Seq = uint32(i*100 - 150) }, want: allOfThem},
		{name: "acknowledgement", spec: second(func(s *packettest.Spec) { s.Ack++ }), want: none},
		{name: "window", edit: tcpBits(15, 1), want: none},
		{name: "reserved bits", edit: tcpBits(12, 2), want: none},
		{name: "urgent pointer", edit: tcpBits(19, 1), want: none},
		{name: "PSH on the last", spec: func(i int, s *packettest.Spec) { s.Flags |= PSH * uint8(i/2) }, want: allOfThem},
		{name: "PSH within", spec: secondFlags(ACK | PSH), want: []int{2, 1}},
		{name: "PSH on all", spec: func(_ int, s *packettest.Spec) { s.Flags |= PSH }, want: none},
		{name: "ECE on all", spec: func(_ int, s *packettest.Spec) { s.Flags |= ECE }, want: allOfThem},
		{name: "no ACK", spec: func(_ int, s *packettest.Spec) { s.Flags = 0 }, want: none},
	}
	for _, flag := range []uint8{FIN, SYN, RST, URG, CWR, ECE} {
		cases = append(cases, mergeCase{name: fmt.Sprintf("flag %#x", flag), spec: secondFlags(ACK | flag), want: none})
	}
	for _, flag := range []uint8{FIN, SYN, RST, URG, CWR} {
		cases = append(cases, mergeCase{name: fmt.Sprintf("flag %#x on all", flag), spec: func(_ int, s *packettest.Spec) { s.Flags |= flag }, want: none})
	}
	return cases
}

// frames builds the case's batch.
func (c *mergeCase) frames(fam family, proto uint8) (frames []tap.Frame) {
	for i := range 3 {
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: proto, ID: uint16(40 + i), Flags: ACK, Seq: uint32(1000 + 100*i), Ack: 5, Payload: pattern(100)}
		if c.spec != nil {
			c.spec(i, &s)
		}
		f := s.Frame()
		if c.edit != nil {
			c.edit(i, &f)
			mend(&f)
		}
		if c.harm != nil {
			c.harm(i, &f)
		}
		frames = append(frames, f)
	}
	return frames
}

// mend makes the checksums of a whole packet right, and full.
func mend(f *tap.Frame) {
	b := f.Bytes()
	if b[12] == 0x08 {
		fixIPv4(b)
	}
	var p Packet
	if Parse(f, &p) != ReasonNone || p.csum == 0 {
		return
	}
	f.Header = tap.Header{}
	p.setL4Checksum(p.l4Packet(b), int(p.csum-p.L4))
}

func TestMergeRules(t *testing.T) {
	for _, fam := range families {
		for proto, cases := range map[uint8][]mergeCase{ProtoUDP: udpMergeCases, ProtoTCP: tcpMergeCases()} {
			for _, c := range append(commonMergeCases(), cases...) {
				if c.only != "" && c.only != fam.name {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d/%s", fam.name, proto, c.name), func(t *testing.T) {
					got := checkMerge(t, NewMerger(64), c.frames(fam, proto), carriesAll)
					if !slices.Equal(got, c.want) {
						t.Errorf("left as frames of %v packets, want %v", got, c.want)
					}
				})
			}
		}
	}
}

// A device that carries no such superpacket is sent none.
func TestMergeNeedsOffload(t *testing.T) {
	c := mergeCase{}
	for _, fam := range families {
		for _, proto := range []uint8{ProtoUDP, ProtoTCP} {
			for _, o := range []tap.Offload{{}, {TSO4: true, TSO6: true, USO: true}, {Csum: true},
				{Csum: true, TSO4: proto == ProtoUDP || fam.name == "IPv6", TSO6: proto == ProtoUDP || fam.name == "IPv4", USO: proto == ProtoTCP}} {
				if got := checkMerge(t, NewMerger(64), c.frames(fam, proto), o); !slices.Equal(got, none) {
					t.Errorf("%s, protocol %d, offload %+v: left as %v", fam.name, proto, o, got)
				}
			}
		}
	}
}

// row is n packets of one flow that may all be merged, of size bytes each.
func row(fam family, proto uint8, n, size int) (frames []tap.Frame) {
	for i := range n {
		s := packettest.Spec{Src: fam.client, Dst: fam.vip, Proto: proto, ID: uint16(i), Flags: ACK, Seq: uint32(i * size), Payload: pattern(size + i)[i:]}
		frames = append(frames, s.Frame())
	}
	return frames
}

func TestMergeBounds(t *testing.T) {
	for _, fam := range families {
		for _, proto := range []uint8{ProtoUDP, ProtoTCP} {
			hdrs := map[uint8]int{ProtoUDP: 8, ProtoTCP: 20}[proto]
			for _, c := range []struct {
				n, size int
				want    []int
			}{{100, 18, []int{64, 36}}, {2, 32700, []int{2}}, {2, 32760, []int{1, 1}}, {63, 1448, []int{45, 18}}} {
				if got := checkMerge(t, NewMerger(100), row(fam, proto, c.n, c.size), carriesAll); !slices.Equal(got, c.want) {
					t.Errorf("%s: %d packets of %d bytes and %d left as %v, want %v", fam.name, c.n, c.size, hdrs, got, c.want)
				}
			}
		}
	}
	// Batches that are longer than the merger was made for, and those of one, stay as they are.
	for _, n := range []int{1, 65} {
		if got := checkMerge(t, NewMerger(64), row(families[0], ProtoUDP, n, 18), carriesAll); len(got) != n {
			t.Errorf("a batch of %d left as %v", n, got)
		}
	}
}

// Where the room for superpackets ends, runs stay packets.
func TestMergeRoomEnds(t *testing.T) {
	var frames []tap.Frame
	for i := range 32 {
		fam := families[0]
		fam.client = withPort(fam.client, uint16(1000+i))
		frames = append(frames, row(fam, ProtoUDP, 2, 30000)...)
	}
	got := checkMerge(t, NewMerger(64), frames, carriesAll)
	if n := len(got); n <= 32 || n >= 64 {
		t.Errorf("left as %v", got)
	}
}

// Flows that alternate are told apart, however many.
func TestMergeInterleaved(t *testing.T) {
	for _, flows := range []int{2, 8, 32, 64} {
		var frames []tap.Frame
		for i := range 64 {
			fam := families[i%flows%2]
			s := packettest.Spec{Src: withPort(fam.client, uint16(i%flows)), Dst: fam.vip, Proto: ProtoUDP, DF: true, Payload: pattern(18)}
			frames = append(frames, s.Frame())
		}
		got := checkMerge(t, NewMerger(64), frames, carriesAll)
		if len(got) != flows || got[0] != 64/flows {
			t.Errorf("%d flows left as %v", flows, got)
		}
	}
}

// checkMerge merges frames and fails the test unless what leaves, segmented again, is what came, in every flow in the order in which it came. It returns how
// many packets each frame that leaves stands for.
func checkMerge(t testing.TB, m *Merger, frames []tap.Frame, o tap.Offload) (sizes []int) {
	t.Helper()
	var batch []*tap.Frame
	var before, after []string
	came := map[*tap.Frame]bool{}
	for i := range frames {
		f := frames[i].Clone()
		var p Packet
		Parse(&f, &p)
		before = append(before, canonical(&f))
		batch = append(batch, &f)
		came[&f] = true
	}
	m.Merged = Merged{}
	var packets, supers uint64
	for _, f := range m.Merge(batch, o) {
		if came[f] {
			after, sizes = append(after, canonical(f)), append(sizes, 1)
			continue
		}
		pieces := apart(t, f, o)
		after, sizes = append(after, pieces...), append(sizes, len(pieces))
		packets, supers = packets+uint64(len(pieces)), supers+1
	}
	if m.Merged != (Merged{packets, supers}) {
		t.Errorf("counted %+v, want %d packets in %d superpackets", m.Merged, packets, supers)
	}
	compareFlows(t, before, after)
	return sizes
}

// apart cuts a superpacket that was made.
func apart(t testing.TB, f *tap.Frame, o tap.Offload) (pieces []string) {
	t.Helper()
	p := mustParse(t, f)
	if !f.Header.Super() || !o.Carries(f.Header) || !ChecksumOK(f, &p) || int(f.Header.HdrLen) != int(p.L4+p.L4Len) || f.Len() != 14+int(p.L3Len) {
		t.Fatalf("made a frame that is not right: %+v %+v", f.Header, p)
	}
	if !Segment(f, &p, tap.NewArena(1<<20), func(s *tap.Frame) { pieces = append(pieces, canonical(s)) }) || len(pieces) < 2 || len(pieces) > maxRun {
		t.Fatalf("made a superpacket of %d segments", len(pieces))
	}
	return pieces
}

// canonical is a packet in the form in which two that mean the same are equal: behind its flow, which ends with a newline, the bytes, its right checksum
// full, its identification zero if it has no meaning. What is wrong, or a superpacket, is itself.
func canonical(f *tap.Frame) string {
	g := f.Clone()
	var p Packet
	if Parse(&g, &p) != ReasonNone || p.Kind != KindIPv4 && p.Kind != KindIPv6 {
		return fmt.Sprintf("other\n%+v%s", f.Header, f.Bytes())
	}
	b := g.Bytes()
	flow := fmt.Sprintf("%v %v %d", p.Src, p.Dst, p.Proto)
	if p.HasPorts && !p.Fragment && p.csum != 0 {
		flow += fmt.Sprintf(" %d %d", p.SrcPort, p.DstPort)
		right := ChecksumOK(&g, &p) && !p.NoCsum
		if right && !g.Header.Super() {
			g.Header = tap.Header{}
			p.setL4Checksum(p.l4Packet(b), int(p.csum-p.L4))
		}
	}
	if p.DF && p.Kind == KindIPv4 && !p.Fragment {
		binary.BigEndian.PutUint16(b[18:], 0)
		fixIPv4(b)
	}
	h := g.Header
	h.HdrLen, h.Flags = 0, h.Flags&tap.FlagNeedsCsum
	if !h.Partial() {
		h.CsumStart, h.CsumOffset = 0, 0
	}
	if f.Header.Flags&tap.FlagDataValid != 0 && p.HasPorts && !p.Fragment && !p.NoCsum { // right by decree
		p.setL4Checksum(p.l4Packet(b), int(p.csum-p.L4))
	}
	return fmt.Sprintf("%s\n%+v%s", flow, h, b)
}

// compareFlows wants the packets of each flow the same before and after. A flow without ports, of fragments perhaps, is part of each between its hosts.
func compareFlows(t testing.TB, before, after []string) {
	t.Helper()
	flows := map[string]bool{}
	for _, s := range before {
		flow, _, _ := bytes.Cut([]byte(s), []byte("\n"))
		flows[string(flow)] = true
	}
	of := func(packets []string, flow string) (some []string) {
		for _, s := range packets {
			its, _, _ := bytes.Cut([]byte(s), []byte("\n"))
			if bytes.HasPrefix([]byte(flow+" "), append(its, ' ')) {
				some = append(some, s)
			}
		}
		return some
	}
	for flow := range flows {
		if a, b := of(before, flow), of(after, flow); !slices.Equal(a, b) {
			t.Fatalf("flow %s: %d packets came, %d left, not the same:\n%q\n%q", flow, len(a), len(b), a, b)
		}
	}
	if len(before) != len(after) {
		t.Fatalf("%d packets came, %d left", len(before), len(after))
	}
}

// randomBatch is a batch of a few flows whose packets mostly continue each other.
func randomBatch(r *rand.Rand) (frames []tap.Frame) {
	const flows = 4
	var seq [flows]uint32
	for i := range 2 + r.IntN(70) {
		n := r.IntN(flows)
		fam := families[n%2]
		s := packettest.Spec{Src: withPort(fam.client, uint16(n/2%2)), Dst: fam.vip, Proto: []uint8{ProtoUDP, ProtoTCP}[n/2], ID: uint16(i), Flags: ACK,
			DF: r.IntN(4) > 0, Seq: seq[n], Payload: randomBytes(r, 20), Partial: r.IntN(2) == 0}
		if r.IntN(4) == 0 {
			s.Proto = ProtoTCP
		}
		disturb(r, &s)
		seq[n] = s.Seq + uint32(len(s.Payload))
		f := s.Frame()
		if r.IntN(20) == 0 {
			f.Bytes()[14+r.IntN(f.Len()-14)] ^= 1 << r.IntN(8)
		}
		frames = append(frames, f)
	}
	return frames
}

// parsable are the frames that come so far.
func parsable(frames []tap.Frame) []tap.Frame {
	return slices.DeleteFunc(frames, func(f tap.Frame) bool {
		var p Packet
		return Parse(&f, &p) != ReasonNone
	})
}

// disturb changes something now and then.
func disturb(r *rand.Rand, s *packettest.Spec) {
	switch r.IntN(40) {
	case 0:
		s.Seq += uint32(r.IntN(3))
	case 1, 2:
		s.Payload = randomBytes(r, r.IntN(40))
	case 3:
		s.Flags = uint8(r.Uint32())
	case 4, 5:
		s.Flags |= PSH
	case 6:
		s.TTL = 63
	case 7:
		s.TCPOptions = []byte{1, 1, 1, byte(r.IntN(2))}
	case 8:
		s.NoCsum, s.Partial = true, false
	case 9:
		s.Payload, s.Partial, s.GSOSize, s.Flags = randomBytes(r, 100), true, 30, ACK
	case 10:
		s.SrcMAC = MAC{2, 2, 2, 2, 2, 2}
	case 11:
		s.MF, s.DF, s.Partial, s.Payload = true, false, false, randomBytes(r, 16)
	case 12:
		s.Ack++
	}
}

func TestMergeRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	m := NewMerger(80)
	merged := 0
	for range 800 {
		frames := parsable(randomBatch(r))
		merged += len(frames) - len(checkMerge(t, m, frames, carriesAll))
	}
	if merged < 800 {
		t.Errorf("only %d packets were merged: the test shows little", merged)
	}
}

// FuzzMerge takes any batch: the seed of a random one, and bytes that are written over it somewhere. How to run it: go test -fuzz FuzzMerge ./stack
func FuzzMerge(f *testing.F) {
	f.Add(uint64(1), []byte{}, []byte{})
	f.Add(uint64(2), []byte{0, 1, 14, 0x46, 1, 0, 23, 0}, []byte{})
	f.Add(uint64(3), []byte{2, 0, 47, 0x18}, []byte{1, 1, 0, 0, 0, 0, 34, 0, 6, 0})
	f.Fuzz(func(t *testing.T, seed uint64, changes, hdr []byte) {
		frames := randomBatch(rand.New(rand.NewPCG(seed, 1)))
		for ; len(changes) >= 4; changes = changes[4:] { // frame, offset in two bytes, value
			b := frames[int(changes[0])%len(frames)].Bytes()
			b[int(binary.BigEndian.Uint16(changes[1:]))%len(b)] = changes[3]
		}
		if len(hdr) > 0 {
			h := unwire(hdr[1:])
			if !h.Super() { // these have no meaning then, and are lost
				h.HdrLen, h.GSOSize = 0, 0
			}
			frames[int(hdr[0])%len(frames)].Header = h
		}
		checkMerge(t, NewMerger(80), parsable(frames), tap.Offload{Csum: true, TSO4: seed%2 == 0, TSO6: seed%3 > 0, USO: seed%5 > 0})
	})
}

func TestMergeAllocatesNothing(t *testing.T) {
	for _, proto := range []uint8{ProtoUDP, ProtoTCP} {
		m, frames, batch := NewMerger(64), row(families[1], proto, 64, 18), make([]*tap.Frame, 64)
		if n := testing.AllocsPerRun(100, func() { m.Merge(fill(batch, frames), carriesAll) }); n != 0 {
			t.Errorf("protocol %d: %v allocations for a batch, want 0", proto, n)
		}
	}
}

func fill(batch []*tap.Frame, frames []tap.Frame) []*tap.Frame {
	for i := range frames {
		batch[i] = &frames[i]
	}
	return batch[:len(frames)]
}

// What merging costs a batch of 64: where all is merged, with full and with partial checksums; and where nothing can be.
func BenchmarkMerge(b *testing.B) {
	partial := func(frames []tap.Frame) []tap.Frame {
		for i := range frames {
			p := mustParse(b, &frames[i])
			h := &frames[i].Header
			h.Flags, h.CsumStart, h.CsumOffset = tap.FlagNeedsCsum, p.L4, p.csum-p.L4
			binary.BigEndian.PutUint16(frames[i].Bytes()[p.csum:], checksum.Checksum(nil, p.pseudoHeader(frames[i].Len()-int(p.L4))))
		}
		return frames
	}
	apart := func(frames []tap.Frame) []tap.Frame {
		for i := range frames {
			p := mustParse(b, &frames[i])
			frames[i].Bytes()[p.L4+1] = byte(i)
		}
		return frames
	}
	v4, v6 := families[0], families[1]
	for name, frames := range map[string][]tap.Frame{
		"one flow, full, IPv4": row(v4, ProtoUDP, 64, 18), "one flow, full, IPv6": row(v6, ProtoUDP, 64, 18),
		"one flow, partial, IPv4": partial(row(v4, ProtoUDP, 64, 18)), "one flow, partial, IPv6": partial(row(v6, ProtoUDP, 64, 18)),
		"one flow, 1400 bytes, IPv4": row(v4, ProtoUDP, 64, 1400), "TCP, 100 bytes, IPv4": row(v4, ProtoTCP, 64, 100),
		"64 flows, IPv4": apart(row(v4, ProtoUDP, 64, 18)), "64 flows, IPv6": apart(row(v6, ProtoUDP, 64, 18)),
		"acknowledgements": row(v4, ProtoTCP, 64, 0), "superpackets": {},
	} {
		if name == "superpackets" {
			s := packettest.Spec{Src: v4.client, Dst: v4.vip, Flags: ACK, Payload: pattern(60000), Partial: true, GSOSize: 1448}
			frames = slices.Repeat([]tap.Frame{s.Frame()}, 15)
		}
		b.Run(name, func(b *testing.B) {
			m, batch := NewMerger(64), make([]*tap.Frame, 64)
			b.ReportAllocs()
			for b.Loop() {
				m.Merge(fill(batch, frames), carriesAll)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(frames)), "ns/packet")
		})
	}
}
