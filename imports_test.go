package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// layers gives every folder its height. A package may import only what lies lower, or what lies in its own folder; conf, at
// the bottom, all may read. So imports point one way: main -> cli -> integration -> director -> stack -> tap.
var layers = map[string]int{"main": 6, "cli": 5, "integration": 4, "director": 3, "stack": 2, "tap": 1, "conf": 0}

// outside says which packages of others only some folders may import: one place to know each of them.
var outside = map[string][]string{
	"github.com/BurntSushi/toml": {"conf"},
	"github.com/songgao/water":   {"tap"},
	"github.com/spf13/cobra":     {"cli"},
	"github.com/spf13/pflag":     {"cli"},
}

// folder returns the top folder of a package of ours.
func folder(pkg string) string {
	pkg = strings.TrimPrefix(pkg, "tapdirector")
	first, _, _ := strings.Cut(strings.TrimPrefix(pkg, "/"), "/")
	if first == "" {
		return "main"
	}
	return first
}

// importAllowed is the rule, on import paths.
func importAllowed(from, to string) bool {
	if from, to := folder(from), folder(to); to != from {
		_, known := layers[to]
		return known && layers[to] < layers[from]
	}
	return folder(from) != "conf"
}

func TestRule(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"tapdirector", "tapdirector/cli", true},
		{"tapdirector/cli", "tapdirector/director", true},
		{"tapdirector/cli", "tapdirector/integration/lab", true},
		{"tapdirector/director", "tapdirector/director/flow", true},
		{"tapdirector/director/flow", "tapdirector/stack", true},
		{"tapdirector/stack/host", "tapdirector/stack", true},
		{"tapdirector/stack", "tapdirector/conf", true},
		{"tapdirector/tap", "tapdirector/stack", false},
		{"tapdirector/stack", "tapdirector/director/flow", false},
		{"tapdirector/director", "tapdirector/integration", false},
		{"tapdirector/conf", "tapdirector/tap", false},
		{"tapdirector/conf", "tapdirector/conf/sub", false},
		{"tapdirector/cli", "tapdirector", false},
		{"tapdirector/cli", "tapdirector/utils", false},
	} {
		if got := importAllowed(c.from, c.to); got != c.want {
			t.Errorf("%s -> %s: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

// TestImports reads the imports of every file, for every operating system, and holds them to the rule. A test in a package
// of its own (package x_test) stands outside the layers and may use what it likes.
func TestImports(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := entry.Name(); entry.IsDir() && name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		files++
		return checkFile(t, name)
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Errorf("only %d files were read", files)
	}
}

// checkFile reports every import of a file that the rule forbids.
func checkFile(t *testing.T, name string) error {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil || strings.HasSuffix(file.Name.Name, "_test") {
		return err
	}
	from := path.Join("tapdirector", filepath.ToSlash(filepath.Dir(name)))
	if _, known := layers[folder(from)]; !known {
		t.Errorf("%s: the folder %s has no layer", name, folder(from))
	}
	for _, spec := range file.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if strings.HasPrefix(to+"/", "tapdirector/") && !importAllowed(from, to) {
			t.Errorf("%s: %s must not import %s", name, folder(from), to)
		}
		if only, limited := outside[to]; limited && !strings.Contains(strings.Join(only, " "), folder(from)) {
			t.Errorf("%s: %s is for %v only", name, to, only)
		}
	}
	return nil
}
