//go:build linux

package main

import (
	"net/netip"
	"testing"
)

// TestFillSources: sources of either family are different, and none has a port that is reserved.
func TestFillSources(t *testing.T) {
	for _, to := range []string{"10.77.1.100", "2001:db8:77:1::100"} {
		vip := netip.MustParseAddr(to)
		const sources = 3*fillPorts + 5
		seen := make(map[netip.AddrPort]bool, sources)
		for i := range sources {
			s := fillSource(vip, i)
			if s.Port() < firstPort || s.Addr().Is4() != vip.Is4() || seen[s] {
				t.Fatalf("source %d is %v", i, s)
			}
			seen[s] = true
		}
	}
}

func TestFillArguments(t *testing.T) {
	to := netip.MustParseAddrPort("10.77.1.100:80")
	for _, args := range [][]string{nil, {"x", "lo", "02:00:00:00:00:01", "02:00:00:00:00:02"}, {"1", "lo", "x", "02:00:00:00:00:02"}, {"1", "no-such-link", "02:00:00:00:00:01", "02:00:00:00:00:02"}} {
		if err := fill(to, args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
