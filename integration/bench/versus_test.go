package main

import (
	"strings"
	"testing"
)

func TestVersus(t *testing.T) {
	m := measured{}
	m.add(peerNAT, 0, map[string]float64{figureUp: 30})
	m.add(peerNftables, 0, map[string]float64{figureUp: 20})
	m.add(peerNAT, 1, map[string]float64{figureUp: 10})
	r := &report{Rows: m.rows(peers)}
	got := r.versus()
	if len(got) != 1 || got[0] != (comparison{figureUp, peerNAT, peerNftables, summary{1.5, 1.5, 1.5, 1}}) {
		t.Errorf("%+v", got)
	}
	var b strings.Builder
	if err := r.writeVersus(&b); err != nil || !strings.Contains(b.String(), "| tcp-up | nat | nftables | 1.50 | 1.50..1.50 |") {
		t.Errorf("%v: %s", err, &b)
	}
}
