//go:build linux

package netlab

import (
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/worldtest"
)

var _ integration.Lab = (*World)(nil)

// TestState runs the state table over kernels.
func TestState(t *testing.T) {
	needRights(t)
	worldtest.RunState(t, func(t *testing.T, s integration.Spec) integration.Lab { return newWorld(t, s, Options{}) }, worldtest.Options{Parallel: true})
}
