//go:build linux

package main

import (
	"testing"
	"time"
)

func TestBusy(t *testing.T) {
	if got, err := parseBusy("cpu  1 2 3 1000 2000 4 5 0 0 0"); err != nil || got != 150*time.Millisecond {
		t.Errorf("%v, %v: want 15 ticks", got, err)
	}
	if got, err := parseBusy("intr 1"); err == nil {
		t.Errorf("taken: %v", got)
	}
}

func TestCosts(t *testing.T) {
	got := map[string]float64{figureUp: 16, figureUDP: 500_000}
	costs(got, 1.5)
	if got[figureCPUGB] != 0.75 || got[figureCPUPacket] != 3 {
		t.Errorf("%v: want 0.75 s for each GB and 3 µs for each packet", got)
	}
}
