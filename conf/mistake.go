package conf

import (
	"fmt"
	"slices"
	"strings"
)

// Errors is every mistake of one file, in the order of their places. Parse returns it as its error.
type Errors []Mistake

// Error returns one mistake a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, m := range e {
		lines[i] = m.Error()
	}
	return strings.Join(lines, "\n")
}

// Mistake is one thing that is wrong in a file.
type Mistake struct {
	File  string // as the caller named it: "lb.toml"
	Where string // `service "web": server 2`; a line when the file is no TOML; empty for the file as a whole
	What  string // `address "10.77.2.300:80": not an IP address`

	rank rank
}

// Error returns the three parts, joined by colons.
func (m Mistake) Error() string {
	if m.Where == "" {
		return m.File + ": " + m.What
	}
	return m.File + ": " + m.Where + ": " + m.What
}

// rank orders places as reference.toml has them: kind of section, number in the file, and number of the part within (0: the section).
type rank [3]int

// The kinds of sections in the order of their mistakes. Keys that belong to no section come first.
const (
	rankFile = iota
	rankInterface
	rankRoute
	rankService
	rankLimits
	rankTimeouts
)

// place is where in the file something is, for people and for sorting.
type place struct {
	text string
	rank rank
}

// mistakes collects what is wrong with one file.
type mistakes struct {
	file string
	list Errors
}

// add notes a mistake. The format says first which key it is about.
func (m *mistakes) add(at place, format string, args ...any) {
	m.list = append(m.list, Mistake{File: m.file, Where: at.text, What: fmt.Sprintf(format, args...), rank: at.rank})
}

// err returns the mistakes sorted by place, nil for none. Within a place the order of finding stays.
func (m *mistakes) err() error {
	if len(m.list) == 0 {
		return nil
	}
	slices.SortStableFunc(m.list, func(a, b Mistake) int { return slices.Compare(a.rank[:], b.rank[:]) })
	return m.list
}

// itemPlace is the place of the i-th [[kind]], by name if it has one.
func itemPlace(kind, name string, i int) place {
	ranks := map[string]int{"interface": rankInterface, "route": rankRoute, "service": rankService}
	p := place{fmt.Sprintf("%s %d", kind, i+1), rank{ranks[kind], i}}
	if name != "" {
		p.text = fmt.Sprintf("%s %q", kind, name)
	}
	return p
}

// part is the place of the i-th part within p.
func (p place) part(kind string, i int) place {
	return place{fmt.Sprintf("%s: %s %d", p.text, kind, i+1), rank{p.rank[0], p.rank[1], i + 1}}
}
