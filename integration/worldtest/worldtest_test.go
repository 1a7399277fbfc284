package worldtest

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/stack/packettest"
)

// TestSpecsCoverEveryCombination: a combination that is forgotten is a combination that nobody tries.
func TestSpecsCoverEveryCombination(t *testing.T) {
	type combination struct {
		method       string
		family, arms int
		offload      bool
	}
	seen, names := map[combination]bool{}, map[string]bool{}
	for _, s := range Specs() {
		p, err := integration.NewPlan(s)
		if err != nil {
			t.Errorf("%v: %v", s, err)
			continue
		}
		seen[combination{p.Spec.Method, p.Spec.Family, p.Spec.Arms, p.Spec.Offload}] = true
		if names[name(s)] {
			t.Errorf("two specs are named %s", name(s))
		}
		names[name(s)] = true
	}
	if want := len(integration.Methods) * 2 * 2 * 2; len(seen) != want {
		t.Errorf("%d combinations, want %d", len(seen), want)
	}
}

func TestShares(t *testing.T) {
	for _, c := range []struct {
		spec integration.Spec
		want []int
	}{
		{integration.Spec{Method: "nat"}, []int{1, 1, 1}},
		{integration.Spec{Method: "nat", Weights: []int{3, 0}}, []int{1, 0, 1}},
		{integration.Spec{Method: "nat", Scheduler: "lc", Weights: []int{3}}, []int{1, 1, 1}},
		{integration.Spec{Method: "nat", Scheduler: "wrr", Weights: []int{3, 0}}, []int{3, 0, 1}},
		{integration.Spec{Method: "nat", Scheduler: "wlc", Weights: []int{1, 2}, Servers: 2}, []int{1, 2}},
	} {
		p, err := integration.NewPlan(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		e := &env{plan: p}
		got, sum := e.shares()
		want := 0
		for _, w := range c.want {
			want += w
		}
		if !slices.Equal(got, c.want) || sum != want {
			t.Errorf("%+v: shares %v of %d, want %v", c.spec, got, sum, c.want)
		}
	}
}

func TestSource(t *testing.T) {
	for _, a := range []string{"10.0.0.1", "2001:db8::1"} {
		src := netip.AddrPortFrom(netip.MustParseAddr(a), 1)
		s := packettest.Spec{Src: src, Dst: src}
		if got := source(s.Bytes()); !slices.Equal(got, src.Addr().AsSlice()) {
			t.Errorf("source of a packet from %s: %v", a, got)
		}
		for n := range 34 {
			if got := source(s.Bytes()[:n]); got != nil {
				t.Errorf("source of %d bytes: %v", n, got)
			}
		}
	}
}

func TestIsBad(t *testing.T) {
	for verdict, want := range map[string]bool{
		"forwarded-nat": false, "to-host": false, "drop-other-host": false,
		"drop-panic": true, "drop: bad TCP header": true, "sent-too-big": true,
	} {
		if got := isBad([]string{"x=y", "verdict=" + verdict}); got != want {
			t.Errorf("isBad(%s) = %v", verdict, got)
		}
	}
}

func TestHasAll(t *testing.T) {
	labels := []string{"a=1", "b=2"}
	if !hasAll(labels, nil) || !hasAll(labels, []string{"b=2"}) || hasAll(labels, []string{"b=2", "c=3"}) {
		t.Error("hasAll is wrong")
	}
}

func TestSeen(t *testing.T) {
	client, other, dip := netip.MustParseAddrPort("10.77.1.2:1"), netip.MustParseAddrPort("10.77.1.2:2"), netip.MustParseAddrPort("10.77.2.1:9")
	for method, want := range map[string][3]bool{"nat": {true, false, false}, "dr": {true, false, false}, "tun": {true, false, false}, "fullnat": {false, false, true}} {
		p, err := integration.NewPlan(integration.Spec{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		e := &env{plan: p}
		check := e.seen(client)
		for i, remote := range []netip.AddrPort{client, other, dip} {
			if got := check(app.Answer{Remote: remote}, nil) == nil; got != want[i] {
				t.Errorf("%s: %v is right for %v: %v", method, remote, client, got)
			}
		}
		if check(app.Answer{Remote: client}, errors.New("x")) == nil {
			t.Error("an error is right")
		}
	}
}

func TestWaitFor(t *testing.T) {
	calls := 0
	if !waitFor(time.Minute, func() bool { calls++; return calls == 3 }) {
		t.Error("a condition that came to hold was not seen")
	}
	if waitFor(0, func() bool { return false }) {
		t.Error("a condition that never held was seen")
	}
}

func TestInventory(t *testing.T) {
	before := takeInventory()
	stop := make(chan struct{})
	go func() { <-stop }()
	if !waitFor(time.Minute, func() bool { return takeInventory().more(before) }) {
		t.Error("a goroutine more, and nothing noticed")
	}
	close(stop)
	if !waitFor(time.Minute, func() bool { return !takeInventory().more(before) }) {
		t.Error("it ended, and nothing noticed")
	}
}
