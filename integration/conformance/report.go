package main

import (
	"fmt"
	"io"
	"strings"
)

// Widths of the report's columns, in characters.
const (
	nameWidth = 44
	sideWidth = 56
)

// report prints a row for each case, and below those that failed what each side did.
func report(w io.Writer, outcomes []*outcome, verbose bool) {
	fmt.Fprintf(w, "%-*s  %-*s  %-*s  %s\n", nameWidth, "case", sideWidth, "LVS", sideWidth, "us", "verdict")
	for _, o := range outcomes {
		fmt.Fprintf(w, "%-*s  %-*s  %-*s  %s\n", nameWidth, o.c.name, sideWidth, short(summary(o.lvs, o.us, o.lvsErr)),
			sideWidth, short(summary(o.us, o.lvs, o.usErr)), o.verdict())
		if verbose || !o.passed() {
			fmt.Fprint(w, diff(o.lvs, o.us))
		}
		if o.unlikeOld {
			fmt.Fprintf(w, "  note: LVS did not do what is kept in lvs/ (make conformance-record keeps it)\n")
		}
	}
	failed := failures(outcomes)
	fmt.Fprintf(w, "\n%d passed, %d failed\n", len(outcomes)-failed, failed)
}

func failures(outcomes []*outcome) (n int) {
	for _, o := range outcomes {
		if !o.passed() {
			n++
		}
	}
	return n
}

func short(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > sideWidth {
		return s[:sideWidth-1] + "…"
	}
	return s
}
