package memlan_test

import (
	"strings"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/stack"
)

// across runs a test in a world of each family whose servers are of the other one, with a client's probe on ext.
func across(t *testing.T, s integration.Spec, test func(t *testing.T, w *memlan.World, p *probe)) {
	for _, family := range []int{4, 6} {
		s := s
		s.Method, s.Family, s.ServerFamily = "fullnat", family, 10-family
		t.Run(s.String(), func(t *testing.T) {
			w := newWorld(t, s)
			test(t, w, plugProbe(t, w, integration.Ext))
		})
	}
}

// TestAcrossFragmentsBackwards: 60 KB whose fragments come from the last to the first are answered by 60 KB, whole.
func TestAcrossFragmentsBackwards(t *testing.T) {
	across(t, integration.Spec{Offload: true}, func(t *testing.T, w *memlan.World, p *probe) {
		p.send(p.udp("REQ 0 0\n")) // 60 KB are more fragments of IPv6 than may wait for a server's MAC
		p.expectAnswer()
		for id := range uint32(3) {
			p.sendFragments(p.udp("REQ 1 60000\n"+strings.Repeat("x", 60000)), 1400, id+1)
			whole := p.expectFragments()
			var q stack.Packet
			if r := stack.Parse(&whole, &q); r != stack.ReasonNone || !stack.ChecksumOK(&whole, &q) || q.Src.Netip() != w.VIP().Addr() || q.L3Len < 60000 {
				t.Fatalf("%v: %s", r, stack.Describe(whole.Bytes()))
			}
		}
	})
}

// TestAcrossWithoutChecksum: IPv6 servers get a checksum that an IPv4 client left out, unless the datagram is in fragments.
func TestAcrossWithoutChecksum(t *testing.T) {
	across(t, integration.Spec{}, func(t *testing.T, w *memlan.World, p *probe) {
		if w.Plan.Spec.Family == 6 {
			return // which has always one
		}
		s := p.udp("REQ 1 0\n" + strings.Repeat("x", 2000))
		s.NoCsum = true
		p.sendFragments(s, 1400, 1)
		waitVerdict(t, w, "drop-no-checksum", 1)
		s = p.udp("REQ 2 0\n")
		s.NoCsum = true
		p.send(s)
		p.expectAnswer()
	})
}

// TestAcrossTooBig: the client is told what fits the servers' link in its own family.
func TestAcrossTooBig(t *testing.T) {
	across(t, integration.Spec{IntMTU: 1400}, func(t *testing.T, w *memlan.World, p *probe) {
		s := p.udp("REQ 1 0\n" + strings.Repeat("x", 1420))
		s.DF = true
		p.send(s)
		p.expectError(tooBig, w.VIP().Addr(), w.VIP())
	})
}
