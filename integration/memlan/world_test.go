package memlan_test

import (
	"slices"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/integration/worldtest"
)

var (
	_ integration.World      = (*memlan.World)(nil)
	_ integration.Faulty     = (*memlan.World)(nil)
	_ integration.Observable = (*memlan.World)(nil)
)

// TestTable runs the table of every world over the in-memory LAN.
func TestTable(t *testing.T) {
	worldtest.RunTable(t, func(t *testing.T, s integration.Spec) integration.World {
		w, err := memlan.New(s)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}, worldtest.Options{DeafUDP: true, Specs: slices.Concat(worldtest.Specs(), mixed(), worldtest.TunnelSpecs(), worldtest.AcrossSpecs())})
}

// mixed are worlds whose inner LAN cannot carry what the outer one hands over: the director must cut and complete.
func mixed() (specs []integration.Spec) {
	for _, method := range integration.Methods {
		for _, family := range []int{4, 6} {
			specs = append(specs, integration.Spec{Method: method, Family: family, Offload: true, Mixed: true})
		}
	}
	return specs
}
