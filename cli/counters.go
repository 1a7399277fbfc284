package cli

import (
	"log/slog"
	"slices"
	"strings"

	"tapdirector/director"
)

// How counters become log lines
//
// One line for each thing that has counters: the director as a whole, an interface, a service, a server. The labels in
// subjects say which thing; they stand first on the line. A counter's other labels are part of its name:
//
//	Counter{"dropped", ["interface=ext", "reason=martian source"], 3}   ->   interface=ext "dropped[martian source]"=3
//
// Every counter is on its line: the non-zero ones with their values, the names of the others together behind "zero", because
// a line of eighty zeros hides the one number that matters.

// subjects are the labels that name a thing with counters.
var subjects = []string{"interface", "queue", "service", "server"}

// counterLine is what is logged about one thing.
type counterLine struct {
	subject []any // its labels, as attributes
	values  []any // non-zero counters, as attributes
	zero    []string
}

// logCounters logs all counters, in their order of first appearance.
func logCounters(log *slog.Logger, counters []director.Counter) {
	for _, line := range counterLines(counters) {
		attrs := slices.Concat(line.subject, line.values)
		if len(line.zero) > 0 {
			attrs = append(attrs, "zero", strings.Join(line.zero, ", "))
		}
		log.Info("counters", attrs...)
	}
}

// counterLines sorts counters by the thing they belong to.
func counterLines(counters []director.Counter) []*counterLine {
	var lines []*counterLine
	bySubject := map[string]*counterLine{}
	for _, c := range counters {
		subject, name := splitLabels(c)
		key := strings.Join(subject, "\x00")
		line := bySubject[key]
		if line == nil {
			line = &counterLine{subject: asAttributes(subject)}
			bySubject[key] = line
			lines = append(lines, line)
		}
		if c.Value == 0 {
			line.zero = append(line.zero, name)
			continue
		}
		line.values = append(line.values, name, c.Value)
	}
	return lines
}

// splitLabels returns those of the labels that say whose counter it is, and the name with the values of the others.
func splitLabels(c director.Counter) (subject []string, name string) {
	name = c.Name
	for _, label := range c.Labels {
		key, value, _ := strings.Cut(label, "=")
		if slices.Contains(subjects, key) {
			subject = append(subject, label)
			continue
		}
		name += "[" + value + "]"
	}
	return subject, name
}

// asAttributes turns "key=value" labels into a list of keys and values.
func asAttributes(labels []string) []any {
	var attrs []any
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		attrs = append(attrs, key, value)
	}
	return attrs
}
