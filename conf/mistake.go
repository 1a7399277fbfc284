package conf

import (
	"cmp"
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

// nearest returns the candidate that word was probably meant to be: the one at the smallest edit distance, if that is at most a third of
// the word's length and so more likely a slip than another word. Of equals the first.
func nearest(word string, candidates []string) (string, bool) {
	const lettersPerSlip = 3
	found, least := "", (len(word)+lettersPerSlip-1)/lettersPerSlip
	for _, c := range candidates {
		if d := distance(word, c); d <= least && (found == "" || d < least) {
			found, least = c, d
		}
	}
	return found, found != ""
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour to make b of a (the optimal string
// alignment distance). Words longer than any key of ours are not compared.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return max(len(a), len(b))
	}
	older, old, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, old, row = old, row, older
		row[0] = i
		for j := 1; j <= len(b); j++ {
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+differ(a[i-1], b[j-1]))
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// differ is the price of writing b for a.
func differ(a, b byte) int {
	return min(1, cmp.Compare(a, b)&1)
}
