package main

import (
	"fmt"
	"slices"
	"strings"
)

// outcome is what became of a case.
type outcome struct {
	c         *testCase
	lvs, us   []string // traces
	lvsErr    error
	usErr     error
	kept      []string // LVS's trace of an earlier run
	unlikeOld bool     // LVS did not do what was kept of it
}

// play plays the case to both; without an LVS, what was kept is what it did.
func (o *outcome) play(lvs side, us *us) {
	if o.lvs = o.kept; lvs != nil {
		o.lvs, o.lvsErr = play(lvs, o.c)
	}
	o.us, o.usErr = play(us, o.c)
	o.unlikeOld = o.kept != nil && !slices.Equal(o.kept, o.lvs)
}

// same reports whether both sides did the same.
func (o *outcome) same() bool { return slices.Equal(o.lvs, o.us) }

// passed reports whether nothing is undeclared.
func (o *outcome) passed() bool {
	return o.lvsErr == nil && o.usErr == nil && o.same() == (len(o.c.differs) == 0)
}

// verdict says it in a word or two.
func (o *outcome) verdict() string {
	switch {
	case o.lvsErr != nil || o.usErr != nil:
		return "FAIL: broken"
	case o.same() && len(o.c.differs) == 0:
		return "same"
	case o.same():
		return "FAIL: declared to differ, but does not"
	case len(o.c.differs) > 0:
		return "differs: " + docsRow(o.c.differs[0][0])
	}
	return "FAIL: differs"
}

// docsRow is where a difference is explained.
func docsRow(key string) string { return "docs/lvs.md#" + key }

// summary is a trace in short, for a column: what the first step that differs brought, or the last frame.
func summary(trace, other []string, err error) string {
	if err != nil {
		return err.Error()
	}
	best := ""
	for i, l := range trace {
		if !strings.HasPrefix(l, "    ") {
			continue
		}
		if i >= len(other) || other[i] != l {
			return strings.TrimSpace(l)
		}
		if !strings.HasPrefix(l, "    server") {
			best = strings.TrimSpace(l)
		}
	}
	return best
}

// diff shows two traces, with a mark at the lines that one of them lacks.
func diff(lvs, us []string) string {
	var b strings.Builder
	i, j := 0, 0
	for i < len(lvs) || j < len(us) {
		switch {
		case i < len(lvs) && j < len(us) && lvs[i] == us[j]:
			fmt.Fprintf(&b, "      %s\n", lvs[i])
			i, j = i+1, j+1
		case i < len(lvs) && !slices.Contains(us[j:], lvs[i]):
			fmt.Fprintf(&b, "  LVS %s\n", lvs[i])
			i++
		case j < len(us):
			fmt.Fprintf(&b, "  us  %s\n", us[j])
			j++
		default:
			fmt.Fprintf(&b, "  LVS %s\n", lvs[i])
			i++
		}
	}
	return b.String()
}
