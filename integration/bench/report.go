package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// report is what a run of the bench found; its JSON is meant to be kept and compared, and can be read again to be told in another form.
type report struct {
	When     string   `json:"when"`   // RFC 3339
	Commit   string   `json:"commit"` // as `tapdirector version` says it
	Kernel   string   `json:"kernel"`
	Go       string   `json:"go"`
	CPU      string   `json:"cpu"`
	CPUs     int      `json:"cpus"`
	Load     float64  `json:"load"` // of the machine in the minute before the run: what else it had to do
	Families []int    `json:"families"`
	Queues   int      `json:"queues"`  // of each TAP of the director
	Rounds   int      `json:"rounds"`  // that were begun
	Seconds  float64  `json:"seconds"` // that one figure of one peer was counted in one round
	Took     float64  `json:"took"`    // seconds, all of it
	Peers    []string `json:"peers"`
	Notes    []string `json:"notes,omitempty"` // who was left out, and why; rounds that were not made
	Missing  []gap    `json:"missing,omitempty"`
	Rows     []row    `json:"rows"`
}

// row is one figure of one peer.
type row struct {
	Family  int      `json:"family"`
	Figure  string   `json:"figure"`
	Unit    string   `json:"unit"`
	Peer    string   `json:"peer"`
	Samples []sample `json:"samples"` // by round; null: missing
	Summary summary  `json:"summary"`

	Ours    string   `json:"ours,omitempty"`  // the ratio is of this peer to the row's; "": to the figure's base
	Ratio   *summary `json:"ratio,omitempty"` // formed in each round
	Aim     float64  `json:"aim,omitempty"`
	Reached *bool    `json:"reached,omitempty"`
	Floor   *summary `json:"floor,omitempty"` // the ratio of the copy loop to the row's peer, where that is another and there is an aim

	figure figure
	peer   peer
}

// gap is a measurement that failed.
type gap struct {
	Family int    `json:"family"`
	Round  int    `json:"round"` // from 1
	Peer   string `json:"peer"`
	What   string `json:"what"` // a client of the load; "": all of the round
	Reason string `json:"reason"`
}

// sample is a number that may be missing: NaN, which is null in JSON.
type sample float64

func (s sample) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(s)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(s))
}

func (s *sample) UnmarshalJSON(b []byte) error {
	v := math.NaN()
	if string(b) != "null" {
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
	}
	*s = sample(v)
	return nil
}

// writeJSON writes the report for programs.
func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// readReport reads what writeJSON wrote.
func readReport(from io.Reader) (*report, error) {
	r := &report{}
	if err := json.NewDecoder(from).Decode(r); err != nil {
		return nil, fmt.Errorf("read a report: %w", err)
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		var knownFigure, knownPeer bool
		row.figure, knownFigure = figureOf(row.Figure)
		row.peer, knownPeer = peerOf(row.Peer)
		if !knownFigure || !knownPeer {
			return nil, fmt.Errorf("read a report: the row %d is of figure %q and peer %q: one is unknown", i+1, row.Figure, row.Peer)
		}
	}
	return r, nil
}

// head says in a few sentences what was measured where.
func (r *report) head() string {
	s := fmt.Sprintf("%s, %d rounds of %.3g s for each figure, medians. %s; %s, %d CPUs, Linux %s, %s, %d queues. It took %v.",
		ipNames(r.Families), r.Rounds, r.Seconds, r.Commit, r.CPU, r.CPUs, r.Kernel, r.Go, r.Queues, (time.Duration(r.Took) * time.Second).String())
	if r.Load > 0.5 {
		s += fmt.Sprintf(" The load was %.1f before: if other work went on, only the ratios mean something.", r.Load)
	}
	return s
}

func ipNames(families []int) string {
	var names []string
	for _, f := range families {
		names = append(names, ipName(f))
	}
	return strings.Join(names, " and ")
}

func ipName(family int) string { return fmt.Sprintf("IPv%d", family) }

// remarks are sentences to stand below the tables: why numbers are missing, and who was left out. What failed for one reason in several rounds is
// said once.
func (r *report) remarks() (lines []string) {
	lines = append(lines, r.Notes...)
	for i, g := range r.Missing {
		same := func(h gap) bool {
			return h.Family == g.Family && h.Peer == g.Peer && h.What == g.What && h.Reason == g.Reason
		}
		if slices.IndexFunc(r.Missing, same) < i {
			continue
		}
		var rounds []string
		for _, h := range r.Missing {
			if same(h) {
				rounds = append(rounds, fmt.Sprint(h.Round))
			}
		}
		what := g.What
		if what == "" {
			what = "everything"
		}
		lines = append(lines, fmt.Sprintf("missing: %s of %s, %s, in round %s: %s", what, g.Peer, ipName(g.Family), strings.Join(rounds, ", "), oneLine(g.Reason)))
	}
	return lines
}

// reasonLimit is how much of a reason is told below a table, in bytes; the JSON has all of it.
const reasonLimit = 300

// oneLine is a reason without line ends, and not too long.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > reasonLimit {
		s = strings.ToValidUTF8(s[:reasonLimit], "") + "..."
	}
	return s
}

// number writes v with so many digits behind the point, its thousands apart.
func number(v float64, digits int) string {
	s := fmt.Sprintf("%.*f", digits, v)
	whole, _, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// spread is min..max.
func (s *summary) spread(digits int) string {
	return number(s.Min, digits) + ".." + number(s.Max, digits)
}
