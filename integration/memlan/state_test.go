package memlan_test

import (
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/memlan"
	"tapdirector/integration/worldtest"
)

var _ integration.Lab = (*memlan.World)(nil)

// TestState runs the state table over the in-memory LAN.
func TestState(t *testing.T) {
	worldtest.RunState(t, func(t *testing.T, s integration.Spec) integration.Lab { return newWorld(t, s) }, worldtest.Options{Parallel: true})
}
