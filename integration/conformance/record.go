package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What LVS did is kept in lvs/SCRIPT.txt: for each case "== NAME", then its trace.

// readRecord reads what was kept of a script's cases, by their names; a file that is not there is empty.
func readRecord(dir, script string) (map[string][]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, script+".txt"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	record := map[string][]string{}
	name := ""
	for _, l := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
		if n, ok := strings.CutPrefix(l, "== "); ok {
			name = n
			record[name] = []string{}
		} else if name != "" && l != "" {
			record[name] = append(record[name], l)
		}
	}
	return record, nil
}

// writeRecord keeps the traces of a script's cases.
func writeRecord(dir string, s *script, traces map[string][]string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "What LVS (ip_vs of Linux 6.1) did with cases/%s.txt. Written by make conformance-record: do not edit.\n", s.name)
	for _, c := range s.cases {
		if t := traces[c.name]; t != nil {
			fmt.Fprintf(&b, "\n== %s\n%s\n", c.name, strings.Join(t, "\n"))
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, s.name+".txt"), []byte(b.String()), 0o644)
}
