package main

import (
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// The cases against what was kept of LVS, without LVS.
func TestCasesAgainstRecord(t *testing.T) {
	scripts, err := readScripts("cases")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, s := range scripts {
		cases += len(s.cases)
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			againstRecord(t, s)
		})
	}
	if cases < 1300 {
		t.Errorf("%d cases, there were more than 1300", cases)
	}
}

// players play the cases of a script, some of which wait, beside each other.
const players = 4

func againstRecord(t *testing.T, s *script) {
	kept, err := readRecord("lvs", s.name)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range players {
		all.Go(func() {
			us := newUs()
			defer us.Close()
			for n := i; n < len(s.cases); n += players {
				c := s.cases[n]
				o := outcome{c: c, lvs: kept[c.name]}
				if o.lvs == nil {
					t.Errorf("%s: nothing is kept in lvs/: run make conformance-record", c.name)
					continue
				}
				if o.us, o.usErr = play(us, c); !o.passed() {
					t.Errorf("%s: %s %v\n%s", c.name, o.verdict(), o.usErr, diff(o.lvs, o.us))
				}
			}
		})
	}
	all.Wait()
}

// Whoever meets a difference finds its reason, and whoever reads of one that is said to be held by a case finds the case.
func TestDifferencesAreExplained(t *testing.T) {
	docs, err := os.ReadFile("../../docs/lvs.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := readScripts("cases")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, s := range scripts {
		for _, c := range s.cases {
			for _, d := range c.differs {
				shown[d[0]] = true
				if !strings.Contains(string(docs), `<a id="`+d[0]+`"></a>`) {
					t.Errorf("%s: docs/lvs.md has no row %q", c.name, d[0])
				}
			}
		}
	}
	for _, row := range regexp.MustCompile(`<a id="([^"]+)"></a>`).FindAllStringSubmatch(string(docs), -1) {
		if !shown[row[1]] {
			t.Errorf("docs/lvs.md says of its row %q that a case holds it, and none does", row[1])
		}
	}
}
