package uml

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tapdirector/integration/netlab"
)

// bootAlone boots a guest without TAPs.
func bootAlone(t *testing.T, modules ...string) *Guest {
	t.Helper()
	needGuests(t)
	ns, err := netlab.NewNamespace("alone")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	g, err := Boot(ns, Options{Name: "alone", Modules: modules})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// What commands say and how they end comes back, whatever their length; when a guest is closed nothing of it is left.
func TestGuest(t *testing.T) {
	g := bootAlone(t, "sctp")
	long := strings.Repeat("x", 3*longest)
	for _, c := range []struct {
		line string
		said []string
		ok   bool
	}{
		{"echo a; echo b >&2", []string{"a", "b"}, true},
		{"true", nil, true},
		{"echo no; false", []string{"no"}, false},
		{"no-such-program", []string{"/tmp"}, false}, // where init is
		{"echo " + long, []string{long}, true},
		{"echo one\necho two", nil, false},
		{"ip -o link show lo | wc -l", []string{"1"}, true},
	} {
		said, err := g.Run(c.line)
		if c.line == "no-such-program" && len(said) == 1 && strings.HasPrefix(said[0], c.said[0]) {
			said = c.said
		}
		if !slices.Equal(said, c.said) || (err == nil) != c.ok {
			t.Errorf("%.40q: %.80q, %v; want %.80q, ok %v", c.line, said, err, c.said, c.ok)
		}
	}
	path, err := g.File("first\n  second\n")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := g.ReadFile(path); err != nil || s != "first\n  second" {
		t.Errorf("a file of ours: %q, %v", s, err)
	}
	if s, err := g.ReadFile("/proc/net/protocols"); err != nil || !strings.Contains(s, "SCTP") {
		t.Errorf("the guest's protocols: %q, %v", s, err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := g.cmd.Process.Signal(syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("the process after Close: %v", err)
	}
	if _, err := os.Stat(g.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", g.dir, err)
	}
}

// A guest that ends by itself is an error of the next command, not a wait, and can still be closed.
func TestGuestThatEnds(t *testing.T) {
	g := bootAlone(t)
	if _, err := g.Run("poweroff -f"); err == nil {
		t.Error("no error of the last command")
	}
	if _, err := g.Run("echo"); err == nil {
		t.Error("no error of a command after the end")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// A guest that cannot be says why, and leaves no folder.
func TestGuestThatCannotBe(t *testing.T) {
	needGuests(t)
	t.Setenv("TMPDIR", t.TempDir())
	ns, err := netlab.NewNamespace("alone")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if _, err := Boot(ns, Options{Name: "alone", Modules: []string{"nonsense"}}); err == nil || !strings.Contains(err.Error(), "no module nonsense") {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
