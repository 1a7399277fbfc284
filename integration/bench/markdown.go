package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// The tables for docs/performance.md: what was measured, a table for each family with a column for each peer; and what was aimed at, a line for each
// ratio, families beside each other.

func (r *report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s.\n", r.head(), r.score())
	for _, family := range r.Families {
		if keys := r.peersOf(family); len(keys) > 0 {
			fmt.Fprintf(&b, "\n%s, median and min..max:\n\n", ipName(family))
			r.writeMedians(&b, family, keys)
		}
	}
	if targets := r.targets(); len(targets) > 0 {
		b.WriteString("\nRatios of tapdirector to the peer, median and min..max, and what was aimed at:\n\n")
		r.writeTargets(&b, targets)
	}
	for _, line := range r.remarks() {
		fmt.Fprintf(&b, "\n%s.\n", line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tableLine is a line of a table in Markdown.
func tableLine(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// peersOf are the peers that have rows, in the order of the run.
func (r *report) peersOf(family int) []string {
	return slices.DeleteFunc(slices.Clone(r.Peers), func(key string) bool {
		return !slices.ContainsFunc(r.Rows, func(row row) bool { return row.Family == family && row.Peer == key })
	})
}

func (r *report) writeMedians(b *strings.Builder, family int, peers []string) {
	rule := append([]string{"---"}, slices.Repeat([]string{"--:"}, len(peers))...)
	b.WriteString(tableLine(append([]string{"figure"}, peers...)) + tableLine(rule))
	for _, f := range figures {
		line, some := []string{f.Title + ", " + f.Unit}, false
		for _, p := range peers {
			cell := ""
			if row := r.find(family, f.Key, p); row != nil {
				cell, some = row.medianCell(), true
			}
			line = append(line, cell)
		}
		if some {
			b.WriteString(tableLine(line))
		}
	}
}

// find returns a row, or nil.
func (r *report) find(family int, figure, peer string) *row {
	for i := range r.Rows {
		if row := &r.Rows[i]; row.Family == family && row.Figure == figure && row.Peer == peer {
			return row
		}
	}
	return nil
}

func (r *row) medianCell() string {
	if r.Summary.N == 0 {
		return "-"
	}
	return number(r.Summary.Median, r.figure.digits) + "<br>" + r.Summary.spread(r.figure.digits)
}

// target is a ratio that has an aim: the figure and the peer it is to.
type target struct{ figure, peer string }

// targets are all that some family has, by figure.
func (r *report) targets() (list []target) {
	for _, row := range r.Rows {
		if t := (target{row.Figure, row.Peer}); row.Reached != nil && !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	keys := figureKeys()
	slices.SortStableFunc(list, func(a, b target) int { return slices.Index(keys, a.figure) - slices.Index(keys, b.figure) })
	return list
}

func (r *report) writeTargets(b *strings.Builder, list []target) {
	head, rule := []string{"figure", "of", "to", "aim"}, []string{"---", "---", "---", "--:"}
	for _, family := range r.Families {
		head, rule = append(head, ipName(family), ""), append(rule, "--:", "---")
	}
	b.WriteString(tableLine(head) + tableLine(rule))
	for _, t := range list {
		b.WriteString(tableLine(r.targetCells(t)))
	}
}

func (r *report) targetCells(t target) []string {
	f, _ := figureOf(t.figure)
	p, _ := peerOf(t.peer)
	line := []string{f.Title, p.Method, t.peer, f.bound(aimOf(f, &p))}
	if f.Base != "" {
		line[2] = f.Base
	}
	for _, family := range r.Families {
		row := r.find(family, t.figure, t.peer)
		if row == nil || row.Reached == nil {
			line = append(line, "-", "missing")
			continue
		}
		line = append(line, fmt.Sprintf("%s (%s)", number(row.Ratio.Median, 2), row.Ratio.spread(2)), row.verdict())
	}
	return line
}
