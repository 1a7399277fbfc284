package memlan_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// sendFragments sends a datagram in fragments of size bytes, from the last to the first.
func (p *probe) sendFragments(s packettest.Spec, size int, id uint32) {
	frames := packettest.Fragments(s.Frame(), size, id)
	for i := range frames {
		p.port.Send(&frames[len(frames)-1-i])
	}
}

// expectFragments waits for a datagram in fragments and returns it whole.
func (p *probe) expectFragments() tap.Frame {
	p.t.Helper()
	var frames []tap.Frame
	var whole tap.Frame
	p.expect("last fragment", func(a *arrival) bool {
		if !a.Fragment {
			return false
		}
		frames = append(frames, a.Frame)
		var err error
		whole, err = packettest.Reassemble(frames)
		return err == nil
	})
	return whole
}

// TestFragmentsBackwards: a datagram of 60 KB whose fragments come from the last to the first is answered by one of 60 KB.
func TestFragmentsBackwards(t *testing.T) {
	for _, spec := range []integration.Spec{{}, {Arms: 1}, {Offload: true}} {
		methods(t, spec, func(t *testing.T, w *memlan.World, p *probe) {
			for id := range uint32(5) {
				p.sendFragments(p.udp(fmt.Sprintf("REQ %d 60000\n%s", id, strings.Repeat("x", 60000))), 1400, id+1)
				whole := p.expectFragments()
				var q stack.Packet
				if r := stack.Parse(&whole, &q); r != stack.ReasonNone || !stack.ChecksumOK(&whole, &q) || q.SrcPort != w.VIP().Port() || q.Src.Netip() != w.VIP().Addr() {
					t.Fatalf("%v: %s", r, stack.Describe(whole.Bytes()))
				}
				if want := fmt.Sprintf("ANS %d ", id); !bytes.HasPrefix(whole.Bytes()[q.L4+8:], []byte(want)) || q.L3Len < 60000 {
					t.Errorf("answer %d: %d bytes: %s", id, q.L3Len, stack.Describe(whole.Bytes()))
				}
			}
			if n := verdict(w, "held-fragment"); n < 5*41 {
				t.Errorf("%d fragments were held, want %d", n, 5*41)
			}
		})
	}
}

// TestFragmentsTooBig: those that do not fit the way to the server are cut again (IPv4), or answered, once (IPv6).
func TestFragmentsTooBig(t *testing.T) {
	methods(t, integration.Spec{IntMTU: 1300}, func(t *testing.T, w *memlan.World, p *probe) {
		s := p.udp("REQ 1 0\n" + strings.Repeat("x", 4000))
		p.sendFragments(s, 1448, 1)
		if w.Plan.Spec.Family == 4 {
			p.expectAnswer()
			return
		}
		p.expectError(tooBig, w.VIP().Addr(), w.VIP())
		waitVerdict(t, w, "held-fragment", 2)
		if n := verdict(w, "sent-too-big"); n != 1 {
			t.Errorf("answered %d times, want once", n)
		}
	})
}

// TestFragmentAttacks: overlapping and tiny fragments reach nobody, and what is right passes beside them.
func TestFragmentAttacks(t *testing.T) {
	methods(t, integration.Spec{}, func(t *testing.T, w *memlan.World, p *probe) {
		s := p.udp("REQ 1 0\n" + strings.Repeat("x", 4000))
		overlap := packettest.Fragments(s.Frame(), 1448, 1)
		overlap = slices.Insert(overlap, 1, packettest.Fragments(s.Frame(), 1440, 1)[1])
		for _, f := range append(overlap, packettest.Fragments(s.Frame(), 40, 2)...) {
			p.port.Send(&f)
		}
		s = p.udp("REQ 2 0\n" + strings.Repeat("x", 4000))
		p.sendFragments(s, 1448, 3)
		a := p.expectAnswer()
		if !bytes.HasPrefix(a.Bytes()[a.L4+8:], []byte("ANS 2 ")) {
			t.Errorf("the attack was answered: %s", a.Bytes()[a.L4+8:])
		}
		if n := verdict(w, "drop-fragment"); n < 100 {
			t.Errorf("%d fragments dropped: %v", n, verdicts(w))
		}
	})
}
