package cli

import (
	"bytes"
	"strings"
	"testing"

	"tapdirector/director"
)

func TestLogCounters(t *testing.T) {
	var b bytes.Buffer
	logCounters(newLogger(&b, "text", "info"), []director.Counter{
		{Name: "frames_read", Value: 7},
		{Name: "verdict", Labels: []string{"verdict=routed"}, Value: 4},
		{Name: "verdict", Labels: []string{"verdict=drop: 802.1Q tag"}, Value: 3},
		{Name: "verdict", Labels: []string{"verdict=parked"}},
		{Name: "rx_frames", Labels: []string{"interface=ext"}, Value: 7},
		{Name: "rx_errors", Labels: []string{"interface=ext"}},
		{Name: "tx_full", Labels: []string{"interface=ext"}},
		{Name: "in_packets", Labels: []string{"service=web", "server=10.77.1.11:80"}, Value: 9},
		{Name: "in_packets", Labels: []string{"service=web", "server=[fd77:1::11]:80"}, Value: 8},
		{Name: "connections", Value: 2},
		{Name: "tx_frames", Labels: []string{"interface=int"}},
	})
	want := []string{
		`msg=counters frames_read=7 verdict[routed]=4 "verdict[drop: 802.1Q tag]"=3 connections=2 zero=verdict[parked]`,
		`msg=counters interface=ext rx_frames=7 zero="rx_errors, tx_full"`,
		`msg=counters service=web server=10.77.1.11:80 in_packets=9`,
		`msg=counters service=web server=[fd77:1::11]:80 in_packets=8`,
		`msg=counters interface=int zero=tx_frames`,
	}
	got := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), b.String())
	}
	for i := range want {
		if !strings.HasSuffix(got[i], want[i]) {
			t.Errorf("line %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}

// TestEveryCounterIsShown: whatever counters there are, each is on exactly one line, once.
func TestEveryCounterIsShown(t *testing.T) {
	var counters []director.Counter
	names := []string{"a", "b", "c"}
	for i, who := range [][]string{nil, {"interface=x"}, {"service=s"}, {"service=s", "server=1.2.3.4:5"}, {"state=SYN_RECV"}} {
		for j, name := range names {
			counters = append(counters, director.Counter{Name: name, Labels: who, Value: uint64((i + j) % 2)})
		}
	}
	shown := 0
	for _, line := range counterLines(counters) {
		shown += len(line.values)/2 + len(line.zero)
	}
	if shown != len(counters) {
		t.Errorf("%d of %d counters are shown", shown, len(counters))
	}
}

func TestNoCounters(t *testing.T) {
	var b bytes.Buffer
	logCounters(newLogger(&b, "text", "info"), nil)
	if b.Len() != 0 {
		t.Errorf("logged %q", b.String())
	}
}
