package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

// runArgs runs the program with args in this process.
func runArgs(args ...string) result {
	var stdout, stderr bytes.Buffer
	code := Main(args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// goodConf needs nothing but a device that no machine has.
const goodConf = `
[[interface]]
name      = "lan"
device    = "/dev/tapdirector-no-such-device"
addresses = ["10.77.1.2/24", "fd77:1::2/64"]

[[service]]
name      = "web"
listen    = "10.77.1.100:80"
protocol  = "tcp"
method    = "nat"
scheduler = "rr"

  [[service.server]]
  address = "10.77.1.11:8000"

[[service]]
name      = "dns6"
listen    = "[fd77:1::100]:53"
protocol  = "udp"
method    = "dr"
scheduler = "wlc"

  [[service.server]]
  address = "[fd77:1::11]:53"
`

// writeConf writes text to a file of the test's own and returns its path.
func writeConf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lb.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWrong does what users do wrong: each ends in the right exit code, and in words that help.
func TestWrong(t *testing.T) {
	good := writeConf(t, goodConf)
	bad := writeConf(t, "[[interface]]\nname = 7\n\n[[servce]]\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string // on stderr
	}{
		{"nothing said", nil, ExitUsage, []string{"Say -conf lb.toml", "See 'tapdirector --help'"}},
		{"conf without a value", []string{"-conf"}, ExitUsage, []string{"needs an argument"}},
		{"no such file", []string{"-conf", "no/such.toml"}, ExitUsage, []string{"no/such.toml", "no such file"}},
		{"no such file, check", []string{"check", "-conf", "no/such.toml"}, ExitUsage, []string{"no/such.toml"}},
		{"a folder", []string{"-conf", t.TempDir()}, ExitUsage, []string{"directory"}},
		{"mistakes in the file", []string{"-conf", bad}, ExitUsage, []string{bad, "servce"}},
		{"mistakes in the file, check", []string{"check", "-c", bad}, ExitUsage, []string{bad, "servce"}},
		{"check without a file", []string{"check"}, ExitUsage, []string{"Say -conf lb.toml", "'tapdirector check --help'"}},
		{"missing device", []string{"-conf", good}, ExitRuntime, []string{`interface "lan"`, "/dev/tapdirector-no-such-device"}},
		{"unknown flag", []string{"--config", good}, ExitUsage, []string{"unknown flag: --config", "Did you mean --conf?"}},
		{"unknown flag, one dash", []string{"check", "-cnf", good}, ExitUsage, []string{"--cnf", "Did you mean --conf?"}},
		{"unknown flag like no other", []string{"--zzzzzz"}, ExitUsage, []string{"unknown flag: --zzzzzz\n"}},
		{"unknown command", []string{"chek"}, ExitUsage, []string{`unknown command "chek"`, "Did you mean check?"}},
		{"unknown command like no other", []string{"frobnicate"}, ExitUsage, []string{`unknown command "frobnicate"` + "\n"}},
		{"file without -conf", []string{good}, ExitUsage, []string{"Did you mean -conf " + good}},
		{"file without -conf, check", []string{"check", good}, ExitUsage, []string{"Did you mean -conf " + good}},
		{"word too many", []string{"version", "please"}, ExitUsage, []string{`unexpected "please"`}},
		{"unknown format", []string{"-conf", good, "-log-format", "xml"}, ExitUsage, []string{"text, json"}},
		{"unknown level", []string{"-conf", good, "--log-level=loud"}, ExitUsage, []string{"debug"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := runArgs(c.args...)
			if r.code != c.code || r.stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q", r.code, c.code, r.stdout)
			}
			for _, want := range c.want {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("stderr lacks %q:\n%s", want, r.stderr)
				}
			}
		})
	}
}

// TestConfigMistakesAreBare: an editor can parse them, file first on every line.
func TestConfigMistakesAreBare(t *testing.T) {
	bad := writeConf(t, "[[servce]]\n\n[[rout]]\n")
	r := runArgs("check", "-conf", bad)
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	if len(lines) < 2 {
		t.Errorf("two mistakes gave %d lines", len(lines))
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, bad+":") {
			t.Errorf("line %q does not start with the file", line)
		}
	}
}

// TestCheck: every spelling of the flag, and the table names all there is.
func TestCheck(t *testing.T) {
	good := writeConf(t, goodConf)
	for _, args := range [][]string{
		{"check", "-conf", good}, {"check", "-conf=" + good}, {"check", "--conf", good}, {"check", "-c", good}, {"check", "-c" + good},
	} {
		r := runArgs(args...)
		if r.code != ExitOK || r.stderr != "" {
			t.Fatalf("%v: exit code %d, stderr %s", args, r.code, r.stderr)
		}
		for _, want := range []string{"lan", "web", "dns6", "10.77.1.100:80", "[fd77:1::100]:53", "10.77.1.11:8000", "nat", "dr"} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%v: the table lacks %q:\n%s", args, want, r.stdout)
			}
		}
	}
}

// TestFailureAsJSON: where the log is JSON, so is a failure, line by line.
func TestFailureAsJSON(t *testing.T) {
	r := runArgs("-conf", writeConf(t, goodConf), "--log-format", "json")
	if r.code != ExitRuntime {
		t.Errorf("exit code %d", r.code)
	}
	var last map[string]any
	for _, line := range strings.Split(strings.TrimSpace(r.stderr), "\n") {
		last = nil
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
	}
	if last["level"] != "ERROR" || !strings.Contains(last["error"].(string), `interface "lan"`) {
		t.Errorf("last line %v", last)
	}
}

// TestExitCodes: what an error of a command's own is taken for.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code int
	}{
		{"none", nil, ExitOK},
		{"any", errors.New("tap0 is gone"), ExitRuntime},
		{"usage", &usageError{errors.New("what?")}, ExitUsage},
		{"config", &configError{errors.New("lb.toml: bad")}, ExitUsage},
	} {
		root := rootCommand()
		root.AddCommand(&cobra.Command{Use: "probe", RunE: func(*cobra.Command, []string) error { return c.err }})
		var stdout, stderr bytes.Buffer
		if code := execute(root, []string{"probe"}, &stdout, &stderr); code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.name, code, c.code)
		}
		if c.err != nil && !strings.Contains(stderr.String(), c.err.Error()) {
			t.Errorf("%s: stderr %q", c.name, stderr.String())
		}
	}
}

// TestHelp: every command and flag explains itself, the root with examples that name only what exists.
func TestHelp(t *testing.T) {
	r := runArgs("--help")
	if r.code != ExitOK || r.stderr != "" {
		t.Fatalf("exit code %d, stderr %q", r.code, r.stderr)
	}
	for _, want := range []string{"tapdirector check -conf lb.toml", "--conf FILE", "--log-format text|json", "SIGUSR1", "Exit codes"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("the help lacks %q", want)
		}
	}
	for _, c := range rootCommand().Commands() {
		if c.Short == "" {
			t.Errorf("%s has no short help", c.Name())
		}
		if r := runArgs(c.Name(), "--help"); r.code != ExitOK || !strings.Contains(r.stdout, "Usage:") {
			t.Errorf("%s --help: exit code %d", c.Name(), r.code)
		}
	}
}

// TestCompletion asks as a shell does.
func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{""}, []string{"lab", "check", "version"}},
		{[]string{"--log-format", ""}, []string{"text\njson\n", ":4"}},
		{[]string{"check", "--log-level", ""}, []string{"debug", "info", "warn", "error"}},
		{[]string{"-conf", ""}, []string{"toml\n:8"}},
		{[]string{"check", "-c", ""}, []string{"toml\n:8"}},
		{[]string{"check", "--"}, []string{"--conf", "--log-format"}},
	} {
		r := runArgs(append([]string{"__complete"}, c.args...)...)
		for _, want := range c.want {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%q: lacks %q:\n%s", c.args, want, r.stdout)
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := runArgs("completion", shell); r.code != ExitOK || len(r.stdout) < 1000 {
			t.Errorf("%s: exit code %d, %d bytes", shell, r.code, len(r.stdout))
		}
	}
}
