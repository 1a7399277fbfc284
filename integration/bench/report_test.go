package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// example is a report of two rounds: NAT at 0.75 of the copy loop in bulk, whose second round has no round trips.
func example() *report {
	m := measured{}
	m.add(peerCopyLoop2, 0, map[string]float64{figureUp: 10, figureUDP: 1_200_000, figureP50: 40})
	m.add(peerNAT, 0, map[string]float64{figureUp: 8, figureUDP: 3_300_000, figureP50: 44})
	m.add(peerCopyLoop2, 1, map[string]float64{figureUp: 20, figureUDP: 900})
	m.add(peerNAT, 1, map[string]float64{figureUp: 14, figureUDP: 3000})
	m.add(peerDR, 1, map[string]float64{figureP99: 100})
	return &report{
		When: "2026-01-02T03:04:05Z", Commit: "tapdirector (devel)", Kernel: "6.1", Go: "go1.26", CPU: "some CPU", CPUs: 2, Load: 3,
		Family: 6, Queues: 2, Rounds: 2, Seconds: 0.5, Rows: m.rows(peers),
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

func TestTables(t *testing.T) {
	var text, markdown, js strings.Builder
	r := example()
	for _, err := range []error{r.writeText(&text), r.writeMarkdown(&markdown), r.writeJSON(&js)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "table.txt", text.String())
	golden(t, "table.md", markdown.String())
	golden(t, "report.json", js.String())
	var back report
	if err := json.Unmarshal([]byte(js.String()), &back); err != nil {
		t.Fatalf("the JSON does not read back: %v", err)
	}
}

func TestRows(t *testing.T) {
	rows := map[string]row{}
	for _, r := range example().Rows {
		rows[r.Figure+" "+r.Peer] = r
	}
	if len(rows) != 7 {
		t.Errorf("%d rows, want one for each figure and peer that has samples: 7", len(rows))
	}
	for _, c := range []struct {
		row     string
		ratio   float64
		reached bool
	}{
		{"tcp-up nat", 0.75, false},
		{"udp-small nat", (3300.0/1200 + 3000.0/900) / 2, true},
		{"rtt-p50 nat", 1.1, true},
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
	if r := rows["rtt-p99 dr"]; r.Ratio != nil || r.Base != "" {
		t.Errorf("a peer whose base was not measured has a ratio: %+v", r)
	}
	if r := rows["tcp-up copyloop2"]; r.Ratio != nil || r.Reached != nil {
		t.Errorf("a copy loop is compared: %+v", r)
	}
}

func TestReached(t *testing.T) {
	most, least := figure{Lower: true, Aim: 1.2}, figure{Aim: 0.8}
	for _, c := range []struct {
		f     figure
		ratio float64
		want  bool
	}{{most, 1.2, true}, {most, 1.21, false}, {most, 0.5, true}, {least, 0.8, true}, {least, 0.79, false}, {least, 3, true}} {
		if got := c.f.reached(c.ratio); got != c.want {
			t.Errorf("%+v at %v: %v", c.f, c.ratio, got)
		}
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

// What the tables refer to must be there, or a ratio would silently be left out.
func TestCatalogue(t *testing.T) {
	seen := []string{""}
	for _, p := range peers {
		if !slices.Contains(seen, p.Base) && p.Key != peerWire {
			t.Errorf("%s is compared with %q, which does not come before it", p.Key, p.Base)
		}
		if p.Ours && p.Base == "" {
			t.Errorf("%s is compared with nothing", p.Key)
		}
		seen = append(seen, p.Key)
	}
	for i, f := range figures {
		if slices.ContainsFunc(figures[:i], func(g figure) bool { return g.Key == f.Key }) || f.Title == "" || f.Unit == "" {
			t.Errorf("figure %+v", f)
		}
	}
}

func TestWithPrograms(t *testing.T) {
	all := withPrograms(peers, []string{"/builds/old", "new"})
	if want := len(peers) + 2*2; len(all) != want {
		t.Fatalf("%d peers, want %d: two more of each of ours", len(all), want)
	}
	i := slices.IndexFunc(all, func(p peer) bool { return p.Key == "nat@old" })
	if i < 1 || all[i-1].Key != peerNAT || all[i].Program != "/builds/old" || all[i].Base != peerCopyLoop2 || !all[i].Ours {
		t.Errorf("nat@old is not beside nat: %+v", all)
	}
}
