package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// report is what a run of the bench found; its JSON is meant to be kept and compared.
type report struct {
	When    string  `json:"when"`   // RFC 3339
	Commit  string  `json:"commit"` // as `tapdirector version` says it
	Kernel  string  `json:"kernel"`
	Go      string  `json:"go"`
	CPU     string  `json:"cpu"`
	CPUs    int     `json:"cpus"`
	Load    float64 `json:"load"` // of the machine in the minute before the run: what else it had to do
	Family  int     `json:"family"`
	Queues  int     `json:"queues"` // of each TAP of the director
	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"seconds"` // that one figure of one peer was counted in one round
	Rows    []row   `json:"rows"`

	Versus []comparison `json:"versus,omitempty"` // ours to each peer; made when it is written
}

// row is one figure of one peer.
type row struct {
	Figure  string   `json:"figure"`
	Unit    string   `json:"unit"`
	Peer    string   `json:"peer"`
	Samples []sample `json:"samples"` // by round; null: missing
	Summary summary  `json:"summary"`

	Base    string   `json:"base,omitempty"` // the ratio is to this peer, formed in each round
	Ratio   *summary `json:"ratio,omitempty"`
	Aim     float64  `json:"aim,omitempty"`
	Reached *bool    `json:"reached,omitempty"`

	figure figure
	peer   peer
}

// sample is a number that may be missing: NaN, which is null in JSON.
type sample float64

func (s sample) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(s)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(s))
}

// measured are samples by peer and figure; each has an element for each round.
type measured map[string]map[string][]float64

// add puts the samples of one round in; figures that the round has not are missing.
func (m measured) add(peer string, round int, got map[string]float64) {
	if m[peer] == nil {
		m[peer] = map[string][]float64{}
	}
	for _, f := range figures {
		s := m[peer][f.Key]
		for len(s) <= round {
			s = append(s, math.NaN())
		}
		if v, ok := got[f.Key]; ok {
			s[round] = v
		}
		m[peer][f.Key] = s
	}
}

// rows works the samples out, figure by figure. A figure or peer without any sample has no row.
func (m measured) rows(peers []peer) (rows []row) {
	for _, f := range figures {
		for _, p := range peers {
			samples := m[p.Key][f.Key]
			if sum := summarize(samples); sum.N > 0 {
				rows = append(rows, newRow(f, p, sum, samples, m[p.Base][f.Key]))
			}
		}
	}
	return rows
}

func newRow(f figure, p peer, sum summary, samples, base []float64) row {
	r := row{Figure: f.Key, Unit: f.Unit, Peer: p.Key, Summary: sum, figure: f, peer: p}
	for _, s := range samples {
		r.Samples = append(r.Samples, sample(s))
	}
	ratio := summarize(ratios(samples, base))
	if ratio.N == 0 {
		return r
	}
	r.Base, r.Ratio = p.Base, &ratio
	if p.Ours && f.Aim != 0 {
		reached := f.reached(ratio.Median)
		r.Aim, r.Reached = f.Aim, &reached
	}
	return r
}

// writeJSON writes the report for programs.
func (r *report) writeJSON(w io.Writer) error {
	r.Versus = r.versus()
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// head says in a sentence what was measured where.
func (r *report) head() string {
	s := fmt.Sprintf("IPv%d, %d rounds of %.3g s for each figure, medians. %s; %s, %d CPUs, Linux %s, %s, %d queues.",
		r.Family, r.Rounds, r.Seconds, r.Commit, r.CPU, r.CPUs, r.Kernel, r.Go, r.Queues)
	if r.Load > 0.5 {
		s += fmt.Sprintf(" Other work ran: the load was %.1f, so of these numbers only the ratios mean something.", r.Load)
	}
	return s
}

var columns = []string{"figure", "peer", "median", "min..max", "to the copy loop", "min..max", "aim", ""}

// cells are the rows as text. The figure is named once.
func (r *report) cells() (cells [][]string) {
	last := ""
	for _, row := range r.Rows {
		title := ""
		if row.Figure != last {
			title = row.figure.Title + ", " + row.Unit
		}
		last = row.Figure
		cells = append(cells, append([]string{title, row.peer.Title}, row.numbers()...))
	}
	return cells
}

func (r *row) numbers() []string {
	d := r.figure.digits
	n := []string{number(r.Summary.Median, d), number(r.Summary.Min, d) + ".." + number(r.Summary.Max, d), "", "", "", ""}
	if r.Ratio != nil {
		n[2], n[3] = number(r.Ratio.Median, 2), number(r.Ratio.Min, 2)+".."+number(r.Ratio.Max, 2)
	}
	if r.Reached != nil {
		n[4], n[5] = "≥ ", "missed"
		if r.figure.Lower {
			n[4] = "≤ "
		}
		n[4] += strconv.FormatFloat(r.Aim, 'g', -1, 64)
		if *r.Reached {
			n[5] = "reached"
		}
	}
	return n
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

// writeText writes the table for a terminal: the figure and the peer to the left, all else to the right.
func (r *report) writeText(w io.Writer) error {
	cells := append([][]string{columns}, r.cells()...)
	width := make([]int, len(columns))
	for _, line := range cells {
		for i, c := range line[1:] {
			width[i+1] = max(width[i+1], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.head())
	for n, line := range cells {
		if n > 0 && line[0] != "" {
			fmt.Fprintf(&b, "\n%s\n", line[0])
		}
		text := fmt.Sprintf("  %-*s", width[1], line[1])
		for i := 2; i < len(line); i++ {
			text += fmt.Sprintf("  %*s", width[i], line[i])
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeMarkdown writes the table for docs/performance.md.
func (r *report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", r.head())
	for _, line := range [][]string{columns, {"---", "---", "--:", "--:", "--:", "--:", "--:", "---"}} {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
	}
	for _, line := range r.cells() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
