package sched

import (
	"slices"
	"strings"
	"testing"

	"tapdirector/conf"
)

// TestNamesAreThoseOfConf: what lb.toml may say is what there is.
func TestNamesAreThoseOfConf(t *testing.T) {
	if got, want := slices.Sorted(slices.Values(Names())), conf.Schedulers(); !slices.Equal(got, want) {
		t.Errorf("schedulers are %v, lb.toml may say %v", got, want)
	}
}

// TestSizesAreThoseOfConf: the same of tables, and of their default.
func TestSizesAreThoseOfConf(t *testing.T) {
	if got := conf.MHTableSizes(); !slices.Equal(got, TableSizes) {
		t.Errorf("sizes are %v, lb.toml may say %v", TableSizes, got)
	}
	c, err := conf.Parse(strings.NewReader(conf.Reference), "reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range c.Services {
		if v.MHTableSize != 0 && v.MHTableSize != DefaultTableSize || v.QUICIDLength != 0 && v.QUICIDLength != DefaultQUICIDLength {
			t.Errorf("service %q: table of %d, ids of %d; the defaults are %d and %d", v.Name, v.MHTableSize, v.QUICIDLength, DefaultTableSize, DefaultQUICIDLength)
		}
	}
}
