package conf

import (
	"errors"
	"flag"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	header = regexp.MustCompile(`^\s*\[+([a-z.]+)\]+$`)
	keyed  = regexp.MustCompile(`^\s*(# )?([a-z0-9_]+) = \S`)
)

// referenceKeys returns what reference.toml has for each section, commented out or not.
func referenceKeys(t *testing.T) (keys map[string][]string) {
	keys = map[string][]string{}
	section := ""
	for line := range strings.Lines(Reference) {
		line = strings.TrimRight(line, "\n")
		if m := header.FindStringSubmatch(line); m != nil {
			section = m[1]
		} else if m := keyed.FindStringSubmatch(line); m != nil {
			keys[section] = append(keys[section], m[2])
		}
	}
	return keys
}

// schemaKeys returns what the parser knows: it lists the keys of a section when it meets one that resembles none.
func schemaKeys(t *testing.T) (keys map[string][]string) {
	const odd = "zzzzzzzzzzzzzzzz = 1\n"
	_, err := parse(odd + "[[interface]]\n" + odd + "[[route]]\n" + odd + "[limits]\n" + odd + "[timeouts]\n" + odd +
		"[[service]]\n" + odd + "[[service.server]]\n" + odd)
	sections := map[string]string{"": "", "interface 1": "interface", "route 1": "route", "limits": "limits", "timeouts": "timeouts",
		"service 1": "service", "service 1: server 1": "service.server"}
	keys = map[string][]string{}
	var all Errors
	errors.As(err, &all)
	for _, m := range all {
		if _, list, ok := strings.Cut(m.What, ": there are "); ok {
			keys[sections[m.Where]] = strings.Split(list, ", ")
		}
	}
	if len(keys) != len(sections) {
		t.Fatalf("the parser listed the keys of %d sections, want %d:\n%v", len(keys), len(sections), err)
	}
	return keys
}

// TestReferenceNamesEveryKey, and no other. A section is named by its header, not as a key.
func TestReferenceNamesEveryKey(t *testing.T) {
	reference := referenceKeys(t)
	for section, keys := range schemaKeys(t) {
		for _, key := range keys {
			name := strings.TrimPrefix(section+"."+key, ".")
			if isHeader := regexp.MustCompile(`(?m)^\s*\[+` + regexp.QuoteMeta(name) + `\]+$`).MatchString(Reference); !isHeader &&
				!slices.Contains(reference[section], key) {
				t.Errorf("no %s in reference.toml", name)
			}
		}
		for _, key := range reference[section] {
			if !slices.Contains(keys, key) {
				t.Errorf("section %q of reference.toml has %s, which the parser does not know", section, key)
			}
		}
	}
}

// TestReferenceDefaults: every key that is commented out shows its true default, so that the file means the same with and without.
func TestReferenceDefaults(t *testing.T) {
	plain, err := Parse(strings.NewReader(Reference), "reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^(\s*)# ([a-z0-9_]+ = .*)$`)
	if n := len(commented.FindAllString(Reference, -1)); n < 18 {
		t.Errorf("only %d defaults found", n)
	}
	explicit, err := Parse(strings.NewReader(commented.ReplaceAllString(Reference, "$1$2")), "reference.toml, defaults explicit")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(normal(plain), normal(explicit)) {
		t.Errorf("a commented default is not the default:\n%+v\n%+v", plain, explicit)
	}
}

// normal makes nil and empty lists the same.
func normal(c *Config) *Config {
	for i := range c.Interfaces {
		if len(c.Interfaces[i].Addresses) == 0 {
			c.Interfaces[i].Addresses = nil
		}
	}
	for i := range c.Services {
		if len(c.Services[i].Sources) == 0 {
			c.Services[i].Sources = nil
		}
	}
	return c
}

// TestReferenceExplains: above every key of the reference that appears for the first time there is a comment.
func TestReferenceExplains(t *testing.T) {
	seen, section, above := map[string]bool{}, "", ""
	for line := range strings.Lines(Reference) {
		line = strings.TrimRight(line, "\n")
		if m := header.FindStringSubmatch(line); m != nil {
			section = m[1]
		} else if m := keyed.FindStringSubmatch(line); m != nil && !seen[section+"."+m[2]] {
			seen[section+"."+m[2]] = true
			if !strings.HasPrefix(strings.TrimSpace(above), "# ") {
				t.Errorf("%s.%s has no comment above it", section, m[2])
			}
		}
		above = line
	}
}

// TestTable compares with testdata/*.table; `go test -update` writes them.
func TestTable(t *testing.T) {
	for name, text := range map[string]string{
		"reference": Reference,
		"two-arms":  edit(t, good, `tap = "tap0"`, "tap = \"tap0\"\nbridge = \"br0\"\nmac = \"02:00:00:00:aa:01\"\nqueues = 2\nmtu = 9000\nmasquerade = true", "10.77.2.12:8000", "10.77.9.12:8000"),
		"one-arm": `
[[interface]]
name = "lan"
device = "/dev/tap7"
[[interface]]
name = "mgmt"
tap = "tap1"
reply = "route"
addresses = ["2001:db8:1::1/64"]
[[service]]
name = "web"
listen = "[2001:db8:1::100]:443"
method = "dr"
interface = "mgmt"
server = [{address = "2001:db8:1::11", weight = 0}]
`,
		"fullnat": edit(t, good, atWeb, atWeb+"method = \"fullnat\"\nsources = [\"10.77.2.1\", \"10.77.2.2\"]\ntoa = true\n",
			`["10.77.2.1/24"]`, `["10.77.2.1/24", "10.77.2.2/32"]`),
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			if err := Table(&got, mustParse(t, text)); err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/"+name+".table", got.String())
		})
	}
}

// golden compares text with a file.
func golden(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs; got\n%s\nwant\n%s", path, text, want)
	}
}

// TestTableFails: the writer's error comes back.
func TestTableFails(t *testing.T) {
	if err := Table(fullDisk{}, mustParse(t, good)); !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
}

var errFull = errors.New("disk full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }
