//go:build linux

package main

import (
	"context"
	"os"
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
	if err := costs(got, usage{cpus: 1.5}); err != nil || got[figureCPUGB] != 0.75 || got[figureCPUPacket] != 3 {
		t.Errorf("%v: want 0.75 s for each GB and 3 µs for each packet", got)
	}
}

func TestMeter(t *testing.T) {
	u := <-meter(t.Context(), time.Millisecond, 50*time.Millisecond)
	if u.err != nil || u.cpus < 0 {
		t.Errorf("%+v", u)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if u := <-meter(ended, time.Hour, time.Hour); u.err == nil {
		t.Error("the end of the run is no error")
	}
}

func TestPeak(t *testing.T) {
	if n, err := parsePeak("Name:\ttapdirector\nVmHWM:\t   16384 kB\nVmRSS:\t 1 kB\n"); err != nil || n != 16<<20 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := parsePeak("Name:\tkthreadd\n"); err == nil {
		t.Errorf("taken: %d", n)
	}
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := parsePeak(string(own)); err != nil || n < 1<<20 {
		t.Errorf("this process: %d, %v", n, err)
	}
}
