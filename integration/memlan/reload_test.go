package memlan_test

import (
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/worldtest"
)

// TestReload runs the reload table over the in-memory LAN.
func TestReload(t *testing.T) {
	worldtest.RunReload(t, func(t *testing.T, s integration.Spec) integration.Lab { return newWorld(t, s) }, worldtest.Options{})
}
