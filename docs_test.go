package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tapdirector/conf"
	"tapdirector/director"
	"tapdirector/tap"
)

var (
	tomlBlock = regexp.MustCompile("(?s)\n```toml\n(.*?)\n```")
	link      = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
)

// pages returns every page for people, by name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range append(names, "README.md", "CONTRIBUTING.md", "CHANGELOG.md") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(b)
	}
	return out
}

// TestExamples: every lb.toml in the pages is right; one that shows interfaces only gets a service to go with it.
func TestExamples(t *testing.T) {
	const service = "\n[[service]]\nname = \"x\"\nlisten = \"192.0.2.100:80\"\nmethod = \"dr\"\n[[service.server]]\naddress = \"192.0.2.20\"\n"
	found := 0
	for name, text := range pages(t) {
		for _, block := range tomlBlock.FindAllStringSubmatch(text, -1) {
			found++
			example := block[1]
			if !strings.Contains(example, "[[service]]") {
				example += service
			}
			if _, err := conf.Parse(strings.NewReader(example), name); err != nil {
				t.Errorf("%v\nin:\n%s", err, example)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d examples", found)
	}
}

// TestLinks: what the pages point to is there.
func TestLinks(t *testing.T) {
	for name, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// observe is docs/observe.md.
func observe(t *testing.T) string {
	t.Helper()
	return pages(t)[filepath.Join("docs", "observe.md")]
}

// TestEveryCounterIsExplained: a director with a service of each method has no counter that docs/observe.md does not name.
func TestEveryCounterIsExplained(t *testing.T) {
	text := observe(t)
	for _, c := range exampleDirector(t).Counters() {
		if c.Name == "verdict" {
			name := strings.TrimPrefix(strings.TrimPrefix(c.Labels[0], "verdict="), "drop: ")
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("the verdict %q is not explained", name)
			}
		} else if !strings.Contains(text, "`"+c.Name+"`") {
			t.Errorf("the counter %q is not explained", c.Name)
		}
	}
}

// exampleDirector is a director with README's configuration, on devices in memory. It does not run.
func exampleDirector(t *testing.T) *director.Director {
	t.Helper()
	c, err := conf.Parse(strings.NewReader(tomlBlock.FindStringSubmatch(pages(t)["README.md"])[1]), "README.md")
	if err != nil {
		t.Fatal(err)
	}
	var devices []*tap.Device
	for i := range c.Interfaces {
		c.Interfaces[i].MAC = tap.MAC{2, 0, 0, 0, 0, byte(i)}
		d, _ := tap.NewMemory(tap.MemoryOptions{Name: c.Interfaces[i].Tap})
		t.Cleanup(func() { _ = d.Close() })
		devices = append(devices, d)
	}
	d, err := director.New(director.Options{Config: c, Devices: devices, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEveryLogLineIsExplained finds the calls of a log in the code and looks for their messages in docs/observe.md.
func TestEveryLogLineIsExplained(t *testing.T) {
	text, found := observe(t), 0
	for _, folder := range []string{"cli", "director", "stack", "tap"} {
		err := filepath.WalkDir(folder, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			messages, err := logMessages(name)
			for _, m := range messages {
				if found++; !strings.Contains(text, "`"+m+"`") {
					t.Errorf("%s: the log line %q is not explained", name, m)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 5 {
		t.Errorf("only %d log lines found", found)
	}
}

// logMessages returns the literal messages that a file's code logs.
func logMessages(name string) (messages []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		return nil, err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Debug", "Info", "Warn", "Error", "warn"}, method.Sel.Name) {
			return true
		}
		if literal, ok := call.Args[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if message, err := strconv.Unquote(literal.Value); err == nil {
				messages = append(messages, message)
			}
		}
		return true
	})
	return messages, nil
}
