package sched

import (
	"slices"
	"testing"

	"tapdirector/conf"
)

// TestNamesAreThoseOfConf: what lb.toml may say is what there is.
func TestNamesAreThoseOfConf(t *testing.T) {
	if got, want := slices.Sorted(slices.Values(Names())), conf.Schedulers(); !slices.Equal(got, want) {
		t.Errorf("schedulers are %v, lb.toml may say %v", got, want)
	}
}
