package integration_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// echo plays the servers of the other family (ports 70 and 71): what came to one of them of a client's packet goes back as it is, both ends changed about. What then reaches
// the client must be from the VIP, in the client's family, and carry what the client sent. So the way back is tried as well, and both translations are held
// against the identity.
func (w *fuzzWorld) echo(t *testing.T, out []fuzzOutput, iface int, in *tap.Frame) {
	t.Helper()
	f, p := in.Clone(), stack.Packet{}
	if stack.Parse(&f, &p) != stack.ReasonNone || !p.HasPorts || p.Fragment || !isAcross(p.DstPort) {
		return
	}
	sent := 0
	for _, o := range out {
		if o.iface == 1 && !isNeighbour(o) && w.sendBack(o.frame, p.Kind) {
			sent++
		}
	}
	if sent == 0 {
		return
	}
	back := w.settle(t)
	w.check(t, back, 1, in)
	var text []byte
	for _, o := range back {
		var q stack.Packet
		if r := stack.Parse(&o.frame, &q); r != stack.ReasonNone || o.iface != iface || q.Kind != p.Kind || q.Fragment || !q.HasPorts {
			return // cut, or answered: too big, no TTL left
		}
		if q.Tuple != p.Reverse() {
			t.Fatalf("a packet of %+v is echoed as one of %+v", p.Tuple, q.Tuple)
		}
		text = append(text, o.frame.Bytes()[q.L4+q.L4Len:]...)
	}
	if want := f.Bytes()[p.L4+p.L4Len:]; len(back) > 0 && !bytes.Equal(text, want) {
		t.Fatalf("%d bytes of payload are echoed as %d: %s\n%x", len(want), len(text), stack.Describe(f.Bytes()), clip(f.Bytes()))
	}
	w.echoed++
}

// isAcross reports whether fuzzServices has servers of the other family on that port.
func isAcross(port uint16) bool { return port == 70 || port == 71 }

// sendBack sends a packet to a server of the other family than from back; it reports false for what is none. Changing ends about leaves every checksum right
// but that of SCTP, to which places matter.
func (w *fuzzWorld) sendBack(f tap.Frame, from stack.Kind) bool {
	b, p := f.Bytes(), stack.Packet{}
	if stack.Parse(&f, &p) != stack.ReasonNone || !p.HasPorts || p.Kind == from || !isAcross(p.DstPort) {
		return false
	}
	n, at := 4, int(p.L3)+12
	if p.Kind == stack.KindIPv6 {
		n, at = 16, int(p.L3)+8
	}
	for _, end := range [][2]int{{0, 6}, {at, n}, {int(p.L4), 2}} {
		first, second := b[end[0]:][:end[1]], b[end[0]+end[1]:][:end[1]]
		was := slices.Clone(first)
		copy(first, second)
		copy(second, was)
	}
	if p.Proto == packettest.SCTP {
		mendSCTP(b[p.L4 : uint32(p.L3)+p.L3Len])
	}
	return w.send(1, &f)
}

// TestForwardAcross sends packets of every make to servers of the other family, from each interface and with each device, and has them echoed.
func TestForwardAcross(t *testing.T) {
	const n = 3000
	for shift := range fuzzTrunk {
		t.Run(fmt.Sprintf("devices shifted by %d", shift), func(t *testing.T) {
			devices := append(slices.Clone(fuzzDevices[shift:]), fuzzDevices[:shift]...)
			w := newFuzzWorld(t, devices)
			defer w.close(t)
			seed := rand.Uint64()
			r := packetMaker{rand.New(rand.NewPCG(seed, 1)), new([]waitingFrame)}
			for range n {
				iface, in := r.toAcross()
				if judge(iface, &in, 0) != nil || !devices[iface].Offload.Carries(in.Header) {
					continue
				}
				out := w.exec(t, iface, &in)
				w.check(t, out, iface, &in)
				w.echo(t, out, iface, &in)
			}
			if t.Logf("seed %d: %d echoed", seed, w.echoed); w.echoed < n/10 {
				t.Errorf("only %d of %d packets were echoed: %v", w.echoed, n, w.d.Verdicts())
			}
		})
	}
}

// toAcross returns a packet of one of a few clients to a service with servers of the other family, and the interface it comes in by.
func (r packetMaker) toAcross() (iface int, f tap.Frame) {
	family := pick(r, 4, 6)
	s := r.spec(family)
	for s.Proto != packettest.TCP && s.Proto != packettest.UDP && s.Proto != packettest.SCTP {
		s = r.spec(family)
	}
	src, dst := "10.77.1.2:%d", "10.77.1.100:%d"
	if family == 6 {
		src, dst = "[2001:db8:77:1::2]:%d", "[2001:db8:77:1::100]:%d"
	}
	s.Src = netip.MustParseAddrPort(fmt.Sprintf(src, 50000+r.IntN(8)))
	s.Dst = netip.MustParseAddrPort(fmt.Sprintf(dst, pick(r, 70, 71)))
	iface = pick(r, 0, 0, 0, 2)
	s.SrcMAC, s.DstMAC = stack.MAC{2, 0, 0, 0, 0xcc, byte(iface)}, stack.MAC{2, 0, 0, 0, 0xaa, byte(iface)}
	return iface, s.Frame()
}
