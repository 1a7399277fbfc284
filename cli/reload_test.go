package cli

import (
	"context"
	"os"
	"strings"
	"testing"
)

// TestReload: what a changed file does, and what it is said to do, by the file.
func TestReload(t *testing.T) {
	if len(reloadSignals) == 0 {
		t.Skip("this system has no reload signal")
	}
	r := startMemoryRun(t, context.Background())
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"the same", twoArms, []string{"msg=reload changes=nothing"}},
		{"a weight", strings.Replace(twoArms, `address = "10.77.1.11:8000"`, "address = \"10.77.1.11:8000\"\n  weight = 7", 1),
			[]string{`service \"web\": server 10.77.1.11:8000: weight 1 -> 7`}},
		{"two mistakes", strings.NewReplacer(`"nat"`, `"gnat"`, `"wlc"`, `"wlcc"`).Replace(twoArms),
			[]string{`msg="mistake in the configuration"`, "gnat", "wlcc", `msg="reload refused, nothing was changed"`, "mistakes=2"}},
		{"no TOML", "[[", []string{"mistakes=1"}},
		{"another interface", strings.Replace(twoArms, `"10.77.2.1/24"`, `"10.77.2.9/24"`, 1),
			[]string{`error="cannot change at run time, restart for it: interface \"inner\": addresses"`}},
		{"another MAC", strings.Replace(twoArms, `tap       = "tap9"`, "tap = \"tap9\"\nmac = \"02:00:00:00:00:99\"", 1),
			[]string{`interface \"inner\": mac"`}},
		{"one more interface", twoArms + "[[interface]]\nname = \"third\"\ntap = \"tap3\"\naddresses = [\"10.77.3.1/24\"]\n",
			[]string{`interface \"third\": added"`}},
		{"back", twoArms, []string{`weight 7 -> 1`}},
	} {
		before := len(r.log.String())
		if err := os.WriteFile(r.path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.signals <- reloadSignals[0]
		for _, want := range c.want {
			r.log.wait(t, want)
			if !strings.Contains(r.log.String()[before:], want) {
				t.Errorf("%s: no %q in:\n%s", c.name, want, r.log.String()[before:])
			}
		}
	}
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	r.signals <- reloadSignals[0]
	r.log.wait(t, `msg="reload failed, nothing was changed"`)
	r.signals <- os.Interrupt
	if err := r.ended(t); err != nil {
		t.Error(err)
	}
}
