package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The table for a terminal: of each figure a line for each peer. To the right of a peer stands how tapdirector compares with it.

var columns = []string{"peer", "median", "min..max", "n", "tapdirector to it", "min..max", "aim", ""}

// cells are a row as text.
func (r *row) cells() []string {
	c := []string{r.peer.Title, "-", "", "0", "", "", "", ""}
	if d := r.figure.digits; r.Summary.N > 0 {
		c[1], c[2], c[3] = number(r.Summary.Median, d), r.Summary.spread(d), fmt.Sprint(r.Summary.N)
	}
	if r.Ratio != nil {
		c[4], c[5] = number(r.Ratio.Median, 2), r.Ratio.spread(2)
	}
	if r.Reached != nil {
		c[6], c[7] = r.figure.bound(r.Aim), r.verdict()
	}
	return c
}

// writeText writes the table: the peer and the verdict to the left, all else to the right.
func (r *report) writeText(w io.Writer) error {
	lines := [][]string{columns}
	for i := range r.Rows {
		lines = append(lines, r.Rows[i].cells())
	}
	width := widths(lines)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", r.head(), padded(columns, width))
	for i := range r.Rows {
		if row := &r.Rows[i]; i == 0 || r.Rows[i-1].Figure != row.Figure || r.Rows[i-1].Family != row.Family {
			fmt.Fprintf(&b, "\n%s: %s, %s\n", ipName(row.Family), row.figure.Title, row.Unit)
		}
		fmt.Fprintln(&b, padded(lines[i+1], width))
	}
	for _, line := range r.remarks() {
		fmt.Fprintf(&b, "\n%s", line)
	}
	fmt.Fprintf(&b, "\n%s\n", r.score())
	_, err := io.WriteString(w, b.String())
	return err
}

func widths(lines [][]string) []int {
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, c := range line {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	return width
}

func padded(line []string, width []int) string {
	last := len(line) - 1
	text := fmt.Sprintf("  %-*s", width[0], line[0])
	for i := 1; i < last; i++ {
		text += fmt.Sprintf("  %*s", width[i], line[i])
	}
	return strings.TrimRight(text+"  "+line[last], " ")
}

// score counts what was aimed at.
func (r *report) score() string {
	reached, all, beyond := 0, 0, 0
	for i := range r.Rows {
		switch row := &r.Rows[i]; {
		case row.Reached == nil:
			continue
		case *row.Reached:
			reached++
		case row.outOfReach():
			beyond++
		}
		all++
	}
	s := fmt.Sprintf("%d of %d aims reached", reached, all)
	if beyond > 0 {
		s += fmt.Sprintf("; %d of the others the copy loop misses as well", beyond)
	}
	return s
}
