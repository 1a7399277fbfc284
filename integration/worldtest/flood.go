package worldtest

import (
	"net/netip"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
)

// flooded has a small table, and hardly any answers of its own. (A newcomer takes the place of one in its own shard, so that each should have some.)
func flooded(s *integration.Spec, _ *integration.Plan) {
	s.Extra = "[limits]\nconnections = 3000\nicmp_rate = 1\n"
}

// checkFlood: while a flood of SYNs from forged sources keeps the table full, a connection that was there lives on, and new ones are made.
func checkFlood(t *testing.T, e *labEnv) {
	old := e.client(t, e.from(), e.VIP())
	before := who(t, old)
	for n := range 4 { // The old one talks meanwhile: an idle one its server would close.
		e.flood(t, 1000*n, 1000*(n+1))
		if now := who(t, old); now != before {
			t.Fatalf("the old connection moved from %s to %s", before, now)
		}
	}
	if sum(e, "connections_evicted") == 0 {
		t.Error("nothing was evicted")
	}
	e.ask(t, e.from(), e.VIP())
}

// flood sends the SYNs of these numbers, each from another source, in bursts that no queue of the LAN is too short for. Some may get lost all the same.
func (e *labEnv) flood(t *testing.T, from, to int) {
	t.Helper()
	const burst = 50
	for i := from; i < to; i += burst {
		before := sum(e, "connections_inserted")
		for j := i; j < i+burst; j++ {
			e.inject(t, netip.AddrPortFrom(e.stranger(byte(j>>8), byte(j)), uint16(1024+j%60000)), e.VIP())
		}
		if !waitFor(e.Timeout, func() bool { return sum(e, "connections_inserted") >= before+burst/2 }) {
			t.Fatal("the director does not take most of a burst")
		}
	}
}

// stranger is an address that is not on a link: nobody asks for it by ARP or ND.
func (e *labEnv) stranger(a, b byte) netip.Addr {
	if e.plan.Spec.Family == 6 {
		return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 0, 0xff, 13: 1, 14: a, 15: b})
	}
	return netip.AddrFrom4([4]byte{198, 18, a, b})
}

// inject sends a SYN by hand.
func (e *labEnv) inject(t *testing.T, from, to netip.AddrPort) {
	t.Helper()
	f := packettest.Spec{SrcMAC: stack.MAC{2, 0, 0, 0, 0xcc, 2}, DstMAC: e.plan.Interfaces[0].MAC, Src: from, Dst: to, Flags: stack.SYN}.Frame()
	if err := e.Inject(&f); err != nil {
		t.Fatal(err)
	}
}

// checkAnswerRate: of many datagrams to a port without a service few are answered, the rest is counted. The burst and what comes with time are one a second.
func checkAnswerRate(t *testing.T, e *labEnv) {
	const datagrams = 200
	answered := func() uint64 { return sum(e, "verdict", "verdict=sent-unreachable") }
	begin, before, limited := time.Now(), answered(), sum(e, "verdict", "verdict=drop-rate-limit")
	c := e.dial(t, "udp", e.from(), e.vip(99))
	refused := false
	for range datagrams {
		_, err := c.Write([]byte("anybody?")) // it also tells of the last one's answer
		refused = refused || app.IsRefused(err)
	}
	seen := func() uint64 { return answered() - before + sum(e, "verdict", "verdict=drop-rate-limit") - limited }
	if !waitFor(e.Timeout, func() bool {
		c.SetDeadline(time.Now().Add(time.Second / 10))
		_, err := c.Read(make([]byte, 1))
		refused = refused || app.IsRefused(err)
		return refused && seen() >= datagrams/2
	}) {
		t.Errorf("refused: %v; %d of %d datagrams answered or not for the rate", refused, seen(), datagrams)
	}
	if n, most := answered()-before, uint64(time.Since(begin)/time.Second)+2; n > most {
		t.Errorf("%d answers, want at most %d", n, most)
	}
}
