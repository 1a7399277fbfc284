package integration

import (
	"net/netip"
	"strings"
	"testing"
)

// everySpec is each combination of what a topology depends on.
func everySpec() (specs []Spec) {
	for _, method := range Methods {
		for _, family := range []int{4, 6} {
			for _, arms := range []int{1, 2} {
				specs = append(specs, Spec{Method: method, Family: family, Arms: arms})
			}
		}
	}
	return specs
}

func mustPlan(t *testing.T, s Spec) *Plan {
	t.Helper()
	p, err := NewPlan(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanAddresses(t *testing.T) {
	for _, spec := range everySpec() {
		t.Run(spec.String(), func(t *testing.T) {
			p := mustPlan(t, spec)
			seen := map[netip.Addr]string{p.VIP.Addr(): "vip"}
			note := func(who string, a netip.Addr) {
				if other, clash := seen[a]; clash {
					t.Errorf("%s and %s both have %v", who, other, a)
				}
				seen[a] = who
				if a.Is6() != (p.Spec.Family == 6) {
					t.Errorf("%s has %v in a world of family %d", who, a, p.Spec.Family)
				}
			}
			for _, i := range p.Interfaces {
				for _, a := range i.Addresses {
					note("director", a.Addr())
				}
			}
			for _, h := range append(p.Servers, p.Client) {
				for _, leg := range h.Legs {
					note(h.Name, leg.Address.Addr())
				}
			}
			if len(p.Interfaces) != spec.Arms || len(p.LANs) != spec.Arms {
				t.Errorf("%d interfaces, %d LANs; want %d of each", len(p.Interfaces), len(p.LANs), spec.Arms)
			}
		})
	}
}

// TestPlanAnswersTakeTheWayOfTheMethod checks from the addresses alone which way a server's answer to the client goes.
func TestPlanAnswersTakeTheWayOfTheMethod(t *testing.T) {
	for _, spec := range everySpec() {
		t.Run(spec.String(), func(t *testing.T) {
			p := mustPlan(t, spec)
			for _, s := range p.Servers {
				direct := false
				for _, leg := range s.Legs {
					direct = direct || leg.Address.Masked().Contains(p.Client.Addr())
				}
				if spec.Method == "fullnat" {
					direct = p.Interfaces[len(p.Interfaces)-1].Addresses[0].Masked().Contains(s.Addr())
					if !direct || s.Gateway.IsValid() || s.Hidden.IsValid() {
						t.Errorf("%s: director on-link %v, gateway %v, hidden address %v", s.Name, direct, s.Gateway, s.Hidden)
					}
					continue
				}
				if nat := spec.Method == "nat"; nat == direct || nat != s.Gateway.IsValid() || nat == s.Hidden.IsValid() {
					t.Errorf("%s: client on-link %v, gateway %v, hidden address %v", s.Name, direct, s.Gateway, s.Hidden)
				}
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	for want, spec := range map[string]Spec{
		"method":        {Method: "masq"},
		"server family": {Method: "dr", ServerFamily: 6},
		"two arms":      {Method: "tun", ServerFamily: 6, Arms: 1},
		"family":        {Method: "nat", Family: 5},
		"arms":          {Method: "nat", Arms: 3},
		"servers":       {Method: "nat", Servers: MaxServers + 1},
		"weights":       {Method: "nat", Servers: 1, Weights: []int{1, 2}},
		"mixed":         {Method: "nat", Mixed: true},
	} {
		if _, err := NewPlan(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error about %s", spec, err, want)
		}
	}
	if _, err := NewPlan(Spec{Method: "nat", Weights: []int{-1}}); err == nil {
		t.Error("a negative weight is accepted")
	}
}

func TestOffloadByLAN(t *testing.T) {
	p := mustPlan(t, Spec{Method: "nat", Offload: true, Mixed: true, MTU: 9000, IntMTU: 1400})
	if !p.Offload(Ext) || p.Offload(Int) {
		t.Errorf("mixed: ext %v, int %v", p.Offload(Ext), p.Offload(Int))
	}
	if p.MTU(Ext) != 9000 || p.MTU(Int) != 1400 {
		t.Errorf("MTU: ext %d, int %d", p.MTU(Ext), p.MTU(Int))
	}
}

func TestConfigText(t *testing.T) {
	p := mustPlan(t, Spec{Method: "nat", Family: 6, Arms: 1, Servers: 2, Weights: []int{5}, Masquerade: true,
		InterfaceKeys: map[string]string{Ext: "forward = true"}, ServiceKeys: `on_no_server = "drop"`, Extra: "[limits]\nconnections = 5\n"})
	text := p.Config(map[string]string{Ext: "tap7"})
	for _, want := range []string{
		`tap       = "tap7"`, `mac       = "02:00:00:00:aa:01"`, `addresses = ["2001:db8:77:1::1/64", "2001:db8:77:2::1/64"]`,
		"masquerade = true\nforward = true\n", `listen    = "[2001:db8:77:1::100]:80"`, `on_no_server = "drop"`,
		"address = \"[2001:db8:77:2::11]:8000\"\n  weight  = 5\n", "address = \"[2001:db8:77:2::12]:8000\"\n  weight  = 1\n",
		"[limits]\nconnections = 5\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("config lacks %q:\n%s", want, text)
		}
	}
}
