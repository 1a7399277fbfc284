package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Widths of the report's columns, in characters.
const (
	nameWidth = 44
	sideWidth = 56
)

func header(w io.Writer) {
	fmt.Fprintf(w, "%-*s  %-*s  %-*s  %s\n", nameWidth, "case", sideWidth, "LVS", sideWidth, "us", "verdict")
}

// row prints what became of one case.
func row(w io.Writer, o *outcome) {
	fmt.Fprintf(w, "%-*s  %-*s  %-*s  %s\n", nameWidth, o.c.name, sideWidth, short(summary(o.lvs, o.us, o.lvsErr)),
		sideWidth, short(summary(o.us, o.lvs, o.usErr)), o.verdict())
}

// report prints, below the rows, what each side did in the cases that failed, and the sum.
func report(w io.Writer, outcomes []*outcome, verbose bool) {
	var changed []string
	for _, o := range outcomes {
		if verbose || !o.passed() {
			fmt.Fprintf(w, "\n%s: %s\n%s", o.c.name, o.verdict(), diff(o.lvs, o.us))
			if err := errors.Join(o.lvsErr, o.usErr); err != nil {
				fmt.Fprintln(w, "  "+strings.ReplaceAll(err.Error(), "\n", "\n  "))
			}
		}
		if o.unlikeOld {
			changed = append(changed, o.c.name)
		}
	}
	if len(changed) > 0 {
		fmt.Fprintf(w, "\nin %d cases LVS did not do what is kept in lvs/ (make conformance-record keeps it): %s\n", len(changed), strings.Join(changed, ", "))
	}
	same := 0
	for _, o := range outcomes {
		if o.verdict() == "same" {
			same++
		}
	}
	failed := failures(outcomes)
	fmt.Fprintf(w, "\nconformance with LVS: %d cases: %d the same, %d differ on purpose, %d wrong\n", len(outcomes), same, len(outcomes)-same-failed, failed)
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
