package cli

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}, {"-version"}} {
		r := runArgs(args...)
		if r.code != ExitOK || !strings.HasPrefix(r.stdout, "tapdirector ") || !strings.Contains(r.stdout, runtime.Version()) ||
			!strings.Contains(r.stdout, "gvisor ") {
			t.Errorf("%v: exit code %d:\n%s", args, r.code, r.stdout)
		}
	}
}

func TestOwnVersion(t *testing.T) {
	settings := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
	}
	for _, c := range []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"nothing known", debug.BuildInfo{}, "(devel)"},
		{"released", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		{"made of a commit", debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20260102030405-0123456789ab+dirty"}, Settings: settings},
			"v0.0.0-20260102030405-0123456789ab+dirty"},
		{"commit", debug.BuildInfo{Settings: settings}, "(devel) commit 0123456789ab 2026-01-02T03:04:05Z"},
		{"modified", debug.BuildInfo{Settings: append(settings, debug.BuildSetting{Key: "vcs.modified", Value: "true"})},
			"(devel) commit 0123456789ab 2026-01-02T03:04:05Z, modified"},
		{"short revision", debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "01"}}}, "(devel) commit 01 "},
	} {
		if got := ownVersion(&c.info); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestModuleVersion(t *testing.T) {
	info := &debug.BuildInfo{Deps: []*debug.Module{{Path: "a", Version: "v1"}, {Path: gvisorModule, Version: "v2"}}}
	if got := moduleVersion(info, gvisorModule); got != "v2" {
		t.Errorf("%q", got)
	}
	if got := moduleVersion(info, "b"); got != "(unknown)" {
		t.Errorf("%q", got)
	}
}
