package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// example is a report of two rounds of both families: NAT at 1.33 of the copy loop in bulk, whose second round has no round trips, and a DR that was only measured once.
func example() *report {
	m := measured{}
	m.add(place{4, peerCopyLoop2}, 0, map[string]float64{figureUp: 10, figureUDP: 1_200_000, figureP50: 40})
	m.add(place{4, peerNAT}, 0, map[string]float64{figureUp: 12, figureUDP: 3_300_000, figureP50: 44, figureChurn: 100, figureMillion: 120, figureEnding: 110})
	m.add(place{4, peerHAProxy}, 0, map[string]float64{figureUp: 9, figureP50: 80})
	m.add(place{4, peerCopyLoop2}, 1, map[string]float64{figureUp: 20, figureUDP: 900})
	m.add(place{4, peerNAT}, 1, map[string]float64{figureUp: 28, figureUDP: 3000, figureChurn: 100, figureMillion: 300, figureEnding: 130})
	m.add(place{4, peerDR}, 1, map[string]float64{figureP99: 100})
	m.add(place{6, peerNAT}, 0, map[string]float64{figureUp: 11})
	m.add(place{6, peerCopyLoop2}, 0, map[string]float64{figureUp: 22})
	var some []peer
	for _, key := range []string{peerCopyLoop2, peerNAT, peerHAProxy, peerDR} {
		p, _ := peerOf(key)
		some = append(some, p)
	}
	families := []int{4, 6}
	return &report{
		When: "2026-01-02T03:04:05Z", Commit: "tapdirector (devel)", Kernel: "6.1", Go: "go1.26", CPU: "some CPU", CPUs: 2, Load: 3,
		Families: families, Queues: 2, Rounds: 2, Seconds: 0.5, Took: 83.4, Peers: peerKeys(some), Rows: m.rows(families, some, figureKeys()),
		Notes: []string{"lvs-nat is left out: no linux.uml"},
		Missing: []gap{
			{4, 2, peerHAProxy, "", "start haproxy: no such file"}, {4, 1, peerDR, "rtt", "it said\nnothing"}, {4, 2, peerDR, "rtt", "it said\nnothing"},
		},
	}
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// TestTables: a fixed result is told in each form, and what was kept of it is told in the same words.
func TestTables(t *testing.T) {
	r := example()
	js := told(t, r.writeJSON)
	golden(t, "report.json", js)
	back, err := readReport(strings.NewReader(js))
	if err != nil {
		t.Fatalf("the JSON does not read back: %v", err)
	}
	for name, form := range map[string]func(*report) func(io.Writer) error{
		"table.txt": func(r *report) func(io.Writer) error { return r.writeText },
		"table.md":  func(r *report) func(io.Writer) error { return r.writeMarkdown },
		"chart.svg": func(r *report) func(io.Writer) error { return r.writeChart },
	} {
		text := told(t, form(r))
		golden(t, name, text)
		if again := told(t, form(back)); again != text {
			t.Errorf("%s is another when the report was kept:\n%s", name, again)
		}
	}
	if again := told(t, back.writeJSON); again != js {
		t.Errorf("the JSON is another when it was kept:\n%s", again)
	}
}

// told is what write writes.
func told(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b strings.Builder
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReadReport(t *testing.T) {
	for _, bad := range []string{"", "{", `{"rows":[{"figure":"x","peer":"nat"}]}`, `{"rows":[{"figure":"tcp-up","peer":"x"}]}`, `{"rows":[{"samples":["x"]}]}`} {
		if r, err := readReport(strings.NewReader(bad)); err == nil {
			t.Errorf("%s is taken: %+v", bad, r)
		}
	}
	r, err := readReport(strings.NewReader(`{"rows":[{"figure":"tcp-up","peer":"nat@old","samples":[1,null]}]}`))
	if err != nil || r.Rows[0].peer.Program != "old" || !math.IsNaN(float64(r.Rows[0].Samples[1])) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRows(t *testing.T) {
	rows := map[string]row{}
	for _, r := range example().Rows {
		rows[fmt.Sprint(r.Family, " ", r.Figure, " ", r.Peer)] = r
	}
	for _, c := range []struct {
		row     string
		ratio   float64
		reached bool
	}{
		{"4 tcp-up copyloop2", 1.3, true},
		{"4 tcp-up haproxy", 12.0 / 9, false},
		{"4 udp-small copyloop2", (3300.0/1200 + 3000.0/900) / 2, true},
		{"4 rtt-p50 copyloop2", 1.1, false},
		{"4 rtt-million-p99.9 nat", 2.1, false},
		{"6 tcp-up copyloop2", 0.5, false},
	} {
		r := rows[c.row]
		if r.Ratio == nil || r.Reached == nil {
			t.Errorf("%s has no ratio: %+v", c.row, r)
			continue
		}
		if d := r.Ratio.Median - c.ratio; d > 1e-9 || d < -1e-9 || *r.Reached != c.reached {
			t.Errorf("%s: ratio %v, reached %v, want %v, %v", c.row, r.Ratio.Median, *r.Reached, c.ratio, c.reached)
		}
	}
	if r := rows["4 tcp-up haproxy"]; r.Floor == nil || r.Floor.Median != 10.0/9 || !r.outOfReach() {
		t.Errorf("the copy loop to HAProxy: %+v", r.Floor)
	}
	if r := rows["4 tcp-up copyloop2"]; r.Floor != nil {
		t.Errorf("the copy loop to itself: %+v", r.Floor)
	}
	if r, there := rows["4 rtt-p99 copyloop2"]; !there || r.Summary.N != 0 || r.Ratio != nil {
		t.Errorf("a peer that was not measured: %+v", r)
	}
	if r := rows["4 tcp-up nat"]; r.Ratio != nil || r.Reached != nil {
		t.Errorf("ours is compared: %+v", r)
	}
	if r, there := rows["4 udp-small haproxy"]; there {
		t.Errorf("a figure that the peer has not: %+v", r)
	}
	if r, there := rows["6 rtt-p50 nat"]; there {
		t.Errorf("a figure that nobody has samples of: %+v", r)
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		v      float64
		digits int
		want   string
	}{
		{0, 0, "0"}, {0.123, 2, "0.12"}, {999.6, 0, "1,000"}, {1234.56, 1, "1,234.6"}, {123456, 0, "123,456"}, {1234567.891, 2, "1,234,567.89"},
	} {
		if got := number(c.v, c.digits); got != c.want {
			t.Errorf("%v with %d digits: %q, want %q", c.v, c.digits, got, c.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine("  a\n b\t"); got != "a b" {
		t.Errorf("%q", got)
	}
	if got := oneLine(strings.Repeat("é", reasonLimit)); len(got) > reasonLimit+3 || !strings.HasSuffix(got, "é...") {
		t.Errorf("%q", got)
	}
}
