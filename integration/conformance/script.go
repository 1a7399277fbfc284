package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A script is a text file of cases; cases/README.md explains the notation. Reading goes in three steps: lines into blocks, "for" and "do" unrolled,
// words into directives. Every mistake says its file and line.

// script is one file of cases.
type script struct {
	name  string
	cases []*testCase
}

// testCase is one case.
type testCase struct {
	name     string
	line     int
	family   int // 4 or 6
	services []*virtualService
	timeouts [3]int           // tcp, tcpfin, udp in seconds; 0: the default
	mtu      [numLinks]int    // 0: 1500
	sysctls  [][2]string      // of LVS, below /proc/sys/
	modules  []string         // of LVS, that only this case has
	config   []string         // more lines of lb.toml, [limits] or [timeouts] with what is in them
	ifaces   [numLinks]string // more lines of lb.toml's interfaces
	steps    []step
	unaged   bool        // the tables are compared without timeouts
	noConns  bool        // the tables are not compared at the end
	differs  [][2]string // key of a row in docs/lvs.md, and the reason in short
}

// step is one line that does something.
type step struct {
	line int
	text string
	verb string // one of verbs
	args []string
}

// readScripts reads all scripts of a folder, by name.
func readScripts(dir string) ([]*script, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no scripts in %s (%w)", dir, err)
	}
	var scripts []*script
	seen := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		s, err := parseScript(strings.TrimSuffix(filepath.Base(f), ".txt"), string(text))
		if err != nil {
			return nil, err
		}
		for _, c := range s.cases {
			if first := seen[c.name]; first != "" {
				return nil, fmt.Errorf("%s:%d: case %q is also in %s", s.name, c.line, c.name, first)
			}
			seen[c.name] = s.name
		}
		scripts = append(scripts, s)
	}
	return scripts, nil
}

// srcLine is one line of a file.
type srcLine struct {
	n    int
	text string
}

// block is a line at the margin and the indented ones below it.
type block struct {
	head srcLine
	body []srcLine
}

// blocks cuts a file; comments and empty lines are gone.
func blocks(text string) (bs []block) {
	for i, l := range strings.Split(text, "\n") {
		if before, _, found := strings.Cut(l, "#"); found && !strings.Contains(l, "differs") {
			l = before
		}
		t := strings.TrimSpace(l)
		switch {
		case t == "":
		case l[0] == ' ' || l[0] == '\t':
			if len(bs) > 0 {
				bs[len(bs)-1].body = append(bs[len(bs)-1].body, srcLine{i + 1, t})
			}
		default:
			bs = append(bs, block{head: srcLine{i + 1, t}})
		}
	}
	return bs
}

// loop is one "for VARIABLE in VALUES".
type loop struct {
	name   string
	values []string
}

// parseScript reads one file.
func parseScript(name, text string) (*script, error) {
	s := &script{name: name}
	defs := map[string][]srcLine{}
	var loops []loop
	var differs []block
	for _, b := range blocks(text) {
		words := strings.Fields(b.head.text)
		switch {
		case words[0] == "def" && len(words) == 2:
			defs[words[1]] = b.body
		case words[0] == "for" && len(words) > 3 && words[2] == "in":
			loops = append(loops, loop{words[1], words[3:]})
		case words[0] == "case" && len(words) == 2:
			if err := s.addCases(b, defs, loops, map[string]string{}); err != nil {
				return nil, err
			}
			loops = nil
		case words[0] == "differs" && len(words) > 3:
			differs = append(differs, b)
		default:
			return nil, fmt.Errorf("%s:%d: %q: expected def NAME, for NAME in VALUES, case NAME, or differs CASES KEY REASON", name, b.head.n, b.head.text)
		}
	}
	for _, b := range differs {
		if err := s.declare(b.head); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// declare marks the cases whose names match the pattern of "differs PATTERN KEY REASON".
func (s *script) declare(l srcLine) error {
	words := strings.Fields(l.text)
	found := false
	for _, c := range s.cases {
		ok, err := path.Match(s.name+"/"+words[1], c.name)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", s.name, l.n, err)
		}
		if ok {
			c.differs, found = append(c.differs, [2]string{words[2], strings.Join(words[3:], " ")}), true
		}
	}
	if !found {
		return fmt.Errorf("%s:%d: no case is called %s", s.name, l.n, words[1])
	}
	return nil
}

// addCases adds a case for each combination of the loops' values.
func (s *script) addCases(b block, defs map[string][]srcLine, loops []loop, vars map[string]string) error {
	if len(loops) > 0 {
		for _, v := range loops[0].values {
			next := maps.Clone(vars)
			next[loops[0].name] = v
			if err := s.addCases(b, defs, loops[1:], next); err != nil {
				return err
			}
		}
		return nil
	}
	c := &testCase{name: s.name + "/" + expand(strings.Fields(b.head.text)[1], vars), line: b.head.n, family: 4}
	if err := s.fill(c, b.body, defs, vars, 0); err != nil {
		return err
	}
	if len(c.services) == 0 {
		return fmt.Errorf("%s:%d: case %s has no service", s.name, c.line, c.name)
	}
	s.cases = append(s.cases, c)
	return nil
}

// expand puts variables in, the longest names first.
func expand(text string, vars map[string]string) string {
	names := slices.SortedFunc(maps.Keys(vars), func(a, b string) int { return len(b) - len(a) })
	for _, n := range names {
		text = strings.ReplaceAll(text, "$"+n, vars[n])
	}
	return text
}

// maxDepth bounds defs that do each other.
const maxDepth = 8

// fill reads the lines of a case, those of its defs in place.
func (s *script) fill(c *testCase, lines []srcLine, defs map[string][]srcLine, vars map[string]string, depth int) error {
	for _, l := range lines {
		text := expand(l.text, vars)
		words := strings.Fields(text)
		if words[0] == "do" && len(words) == 2 {
			body, ok := defs[words[1]]
			if !ok || depth == maxDepth {
				return fmt.Errorf("%s:%d: no def %q, or defs that do each other", s.name, l.n, words[1])
			}
			if err := s.fill(c, body, defs, vars, depth+1); err != nil {
				return err
			}
			continue
		}
		if err := c.directive(l.n, text, words); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", s.name, l.n, text, err)
		}
	}
	return nil
}

var verbs = []string{">", "<", "conns", "counts", "picks", "weight", "edit", "add", "del", "wait", "expect"}

// directive reads one line: what both sides are, or what is done.
func (c *testCase) directive(line int, text string, words []string) (err error) {
	if slices.Contains(verbs, words[0]) {
		c.steps = append(c.steps, step{line: line, text: text, verb: words[0], args: words[1:]})
		return nil
	}
	read, ok := settings[words[0]]
	if !ok {
		return fmt.Errorf("no such directive")
	}
	return read(c, words[1:])
}

// settings are the directives that say what a case's world is.
var settings = map[string]func(*testCase, []string) error{
	"family":   (*testCase).setFamily,
	"service":  (*testCase).addService,
	"server":   (*testCase).addServer,
	"lb":       (*testCase).addLine,
	"config":   func(c *testCase, w []string) error { c.config = append(c.config, strings.Join(w, " ")); return nil },
	"iface":    (*testCase).addIfaceLine,
	"sysctl":   (*testCase).addSysctl,
	"module":   (*testCase).addModule,
	"timeouts": (*testCase).setTimeouts,
	"no-conns": func(c *testCase, _ []string) error { c.noConns = true; return nil },
	"unaged":   func(c *testCase, _ []string) error { c.unaged = true; return nil },
	"mtu":      (*testCase).setMTU,
}

func (c *testCase) setFamily(w []string) error {
	if len(w) != 1 || w[0] != "4" && w[0] != "6" {
		return fmt.Errorf("expected 4 or 6")
	}
	c.family = int(w[0][0] - '0')
	return nil
}

func linkNamed(name string) (link, error) {
	switch name {
	case "ext":
		return ext, nil
	case "int":
		return in, nil
	}
	return 0, fmt.Errorf("no link %q: there are ext and int", name)
}

func (c *testCase) addIfaceLine(w []string) error {
	if len(w) < 2 {
		return fmt.Errorf("expected iface ext|int LINE OF lb.toml")
	}
	l, err := linkNamed(w[0])
	c.ifaces[l] += strings.Join(w[1:], " ") + "\n"
	return err
}

func (c *testCase) addSysctl(w []string) error {
	if len(w) != 2 {
		return fmt.Errorf("expected sysctl net/ipv4/vs/NAME VALUE")
	}
	value := map[string]string{"true": "1", "false": "0"}[w[1]] // as lb.toml has it, for loops that set both
	c.sysctls = append(c.sysctls, [2]string{w[0], cmp.Or(value, w[1])})
	return nil
}

func (c *testCase) setTimeouts(w []string) error {
	if len(w) != 3 {
		return fmt.Errorf("expected timeouts TCP TCPFIN UDP in seconds")
	}
	for i := range w {
		n, err := strconv.Atoi(w[i])
		if err != nil {
			return err
		}
		c.timeouts[i] = n
	}
	return nil
}

func (c *testCase) addModule(w []string) error {
	if len(w) != 1 {
		return fmt.Errorf("expected module NAME")
	}
	c.modules = append(c.modules, w[0])
	return nil
}

func (c *testCase) setMTU(w []string) error {
	if len(w) != 2 {
		return fmt.Errorf("expected mtu ext|int BYTES")
	}
	l, err := linkNamed(w[0])
	if err != nil {
		return err
	}
	c.mtu[l], err = strconv.Atoi(w[1])
	return err
}

// seconds reads the time of "wait 3s".
func seconds(w []string) (time.Duration, error) {
	if len(w) != 1 {
		return 0, fmt.Errorf("expected wait DURATION")
	}
	return time.ParseDuration(w[0])
}
