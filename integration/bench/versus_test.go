package main

import (
	"strings"
	"testing"
)

func TestVersus(t *testing.T) {
	m := measured{}
	m.add(place{4, peerNAT}, 0, map[string]float64{figureUp: 60})
	m.add(place{4, "nat@old"}, 0, map[string]float64{figureUp: 30})
	m.add(place{4, peerNftables}, 0, map[string]float64{figureUp: 20})
	m.add(place{4, peerCopyLoop1}, 0, map[string]float64{figureUp: 10})
	m.add(place{4, "nat@old"}, 1, map[string]float64{figureUp: 10})
	r := &report{Rows: m.rows([]int{4}, withPrograms(peers, []string{"old"}), []string{figureUp})}
	got := told(t, r.writeVersus)
	if strings.Count(got, "\n") != 4 || !strings.Contains(got, "| IPv4 | tcp-up | nat@old | nftables | 1.50 | 1.50..1.50 |") {
		t.Errorf("want one line, to nftables:\n%s", got)
	}
	if row := r.find(4, figureUp, "nat@old"); row == nil || row.Ratio == nil || row.Ratio.Median != 2 {
		t.Errorf("nat is not compared with nat@old: %+v", row)
	}
	if got := told(t, (&report{}).writeVersus); got != "" {
		t.Errorf("of nothing: %s", got)
	}
}
