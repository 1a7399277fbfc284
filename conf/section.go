package conf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

// section is one table of the file while it is read. Asking for a key is what makes the key known: the schema is the code that reads it,
// and cannot disagree with it. finish reports the keys that nobody asked for.
type section struct {
	place
	name  string // "interface", "service.server"; empty: the file itself
	raw   map[string]any
	asked []string
	out   *mistakes
}

// add notes a mistake in this section.
func (s *section) add(format string, args ...any) { s.out.add(s.place, format, args...) }

// take returns what the file has for a key.
func (s *section) take(key string) (any, bool) {
	s.asked = append(s.asked, key)
	v, ok := s.raw[key]
	return v, ok
}

// has reports whether the file says something of a key, right or wrong.
func (s *section) has(key string) bool { return s.raw[key] != nil && s.raw[key] != "" }

// wrong reports a value of the wrong type.
func (s *section) wrong(key, want string, v any) {
	s.add("%s: expected %s, got %s", key, want, show(v))
}

// show writes a TOML value as a message quotes it.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case int64, float64, bool:
		return fmt.Sprint(v)
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	}
	return "an array"
}

// text returns a string; absent and empty are the same.
func (s *section) text(key string) string {
	v, ok := s.take(key)
	if !ok {
		return ""
	}
	t, ok := v.(string)
	if !ok {
		s.wrong(key, "a string", v)
	}
	return t
}

// required returns a string that must be there. ok is false when a mistake was reported.
func (s *section) required(key, example string) (t string, ok bool) {
	// A value of the wrong type is reported by text and must not be called missing as well.
	v, there := s.raw[key]
	t = s.text(key)
	_, isText := v.(string)
	if !there || isText && t == "" {
		s.add("%s: missing: write %s = %q", key, key, example)
	}
	return t, t != ""
}

// label returns a required name for people: anything that a log line and a table can show.
func (s *section) label(example string) string {
	const maxLabel = 63 // bytes, as in a DNS label
	t, _ := s.required("name", example)
	odd := strings.ContainsFunc(t, func(r rune) bool { return !unicode.IsPrint(r) || r == '"' })
	switch {
	case len(t) > maxLabel:
		s.add("name %q: %d bytes long: at most %d", t, len(t), maxLabel)
	case odd:
		s.add("name %q: quotes and control characters are not for names", t)
	}
	return t
}

// words is what a key of an enumeration may say; the first is the default.
type words []string

// word returns one of w. On a mistake it returns the default.
func (s *section) word(key string, w words) string {
	t := s.text(key)
	switch {
	case t == "":
		return w[0]
	case slices.Contains(w, t):
		return t
	}
	s.add("%s %q: unknown%s: %s", key, t, didYouMean(t, w), strings.Join(w, ", "))
	return w[0]
}

// didYouMean is the part of a message that suggests; empty when nothing is near.
func didYouMean(word string, candidates []string) string {
	if c, ok := nearest(word, candidates); ok {
		return fmt.Sprintf(", did you mean %q?", c)
	}
	return ""
}

// span is a range of whole numbers with its default.
type span struct{ def, min, max int }

// whole returns a whole number. On a mistake it returns the default.
func (s *section) whole(key string, r span) int {
	v, ok := s.take(key)
	if !ok {
		return r.def
	}
	n, ok := v.(int64)
	switch {
	case !ok:
		s.wrong(key, "a whole number", v)
	case n < int64(r.min) || n > int64(r.max):
		s.add("%s %d: out of range: %d to %d", key, n, r.min, r.max)
	default:
		return int(n)
	}
	return r.def
}

// yes returns a boolean, nil when the file says nothing.
func (s *section) yes(key string) *bool {
	v, ok := s.take(key)
	if !ok {
		return nil
	}
	b, ok := v.(bool)
	if !ok {
		s.wrong(key, "true or false", v)
	}
	return &b
}

// yesUnless returns a boolean whose default is true.
func (s *section) yesUnless(key string) bool {
	b := s.yes(key)
	return b == nil || *b
}

// list returns an array of strings.
func (s *section) list(key string) (texts []string) {
	v, ok := s.take(key)
	if !ok {
		return nil
	}
	array, ok := v.([]any)
	if !ok {
		s.wrong(key, "an array of strings", v)
	}
	for i, v := range array {
		if t, ok := v.(string); ok {
			texts = append(texts, t)
			continue
		}
		s.wrong(fmt.Sprintf("%s: number %d", key, i+1), "a string", v)
	}
	return texts
}

// oneOrMore returns the strings of a required key that is one string, or an array of at least one.
func (s *section) oneOrMore(key, example string) []string {
	if array, ok := s.raw[key].([]any); ok {
		if len(array) == 0 {
			s.add("%s: empty: write %s = %q", key, key, example)
		}
		return s.list(key)
	}
	if t, ok := s.required(key, example); ok {
		return []string{t}
	}
	return nil
}

// duration returns a length of time: whole seconds as a number, or a text like "15m". On a mistake it returns the default.
func (s *section) duration(key string, def time.Duration) time.Duration {
	const least, most = time.Second, 31 * 24 * time.Hour // ipvsadm's bounds
	const want = `seconds, or a duration like "90s", "15m", "1h30m"`
	v, ok := s.take(key)
	if !ok {
		return def
	}
	var d time.Duration
	switch v := v.(type) {
	case int64:
		// Beyond the bounds the exact value does not matter, but it must not wrap round.
		d = time.Duration(min(max(v, 0), int64(most/time.Second)+1)) * time.Second
	case string:
		var err error
		if d, err = time.ParseDuration(v); err != nil {
			s.add("%s %q: expected %s", key, v, want)
			return def
		}
	default:
		s.wrong(key, want, v)
		return def
	}
	if d < least || d > most {
		s.add("%s %s: out of range: 1s to 744h (31 days)", key, show(v))
		return def
	}
	return d
}

// one returns the table [key], empty when absent.
func (s *section) one(key string, kind int) *section {
	v, ok := s.take(key)
	table, isTable := v.(map[string]any)
	if ok && !isTable {
		s.wrong(key, "one table ["+key+"]", v)
	}
	return &section{place: place{key, rank{kind}}, name: key, raw: table, out: s.out}
}

// many returns the tables [[key]] in the order of the file. missing is the mistake of having none; empty: it is none.
func (s *section) many(key, missing string) (sections []*section) {
	name := strings.TrimPrefix(s.name+"."+key, ".")
	v, ok := s.take(key)
	tables, isTables := asTables(v)
	if ok && !isTables {
		s.wrong(key, "tables [["+name+"]]", v)
	} else if len(tables) == 0 && missing != "" {
		s.add("%s", missing)
	}
	for i, raw := range tables {
		sub := &section{name: name, raw: raw, out: s.out}
		if s.name == "" {
			title, _ := raw["name"].(string)
			sub.place = itemPlace(key, title, i)
		} else {
			sub.place = s.place.part(key, i)
		}
		sections = append(sections, sub)
	}
	return sections
}

// asTables accepts [[x]] and the same written as an array of inline tables.
func asTables(v any) ([]map[string]any, bool) {
	if tables, ok := v.([]map[string]any); ok {
		return tables, true
	}
	// An array of inline tables arrives as an array of anything.
	array, ok := v.([]any)
	if !ok {
		return nil, false
	}
	tables := make([]map[string]any, len(array))
	for i, v := range array {
		if tables[i], ok = v.(map[string]any); !ok {
			return nil, false
		}
	}
	return tables, true
}

// finish reports the keys that nobody asked for, with the one that was probably meant.
func (s *section) finish() {
	for _, key := range slices.Sorted(maps.Keys(s.raw)) {
		if slices.Contains(s.asked, key) {
			continue
		}
		if c, ok := nearest(key, s.asked); ok {
			s.add("unknown key %q: did you mean %q?", key, c)
			continue
		}
		s.add("unknown key %q: there are %s", key, strings.Join(s.asked, ", "))
	}
}
