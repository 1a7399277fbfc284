package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// gvisorModule is the dependency whose version matters as much as our own: it is the host's IP stack.
const gvisorModule = "gvisor.dev/gvisor"

// versionCommand is `tapdirector version`.
func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:                   "version",
		Short:                 "Print the version, the commit it was built from, and the versions of Go and gVisor",
		Args:                  noArguments,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionText())
			return err
		},
	}
}

// versionText says in three lines what this binary is.
func versionText() string {
	info := buildInfo()
	return fmt.Sprintf("tapdirector %s\n%s %s/%s\ngvisor %s\n",
		ownVersion(info), runtime.Version(), runtime.GOOS, runtime.GOARCH, moduleVersion(info, gvisorModule))
}

// buildInfo is what the linker recorded; empty where it recorded nothing.
func buildInfo() *debug.BuildInfo {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return &debug.BuildInfo{}
	}
	return info
}

// ownVersion is the module's version, and the commit where the build knew it and the version does not tell:
// "v0.0.0-20260102030405-0123456789ab+dirty", "v1.2.3 commit 0123456789ab 2026-01-02T03:04:05Z, modified".
func ownVersion(info *debug.BuildInfo) string {
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	vcs := map[string]string{}
	for _, s := range info.Settings {
		if name, ok := strings.CutPrefix(s.Key, "vcs."); ok {
			vcs[name] = s.Value
		}
	}
	revision := vcs["revision"]
	revision = revision[:min(12, len(revision))]
	if strings.Contains(version, revision) { // also when there is none: a version that Go made of a commit holds all this
		return version
	}
	version += " commit " + revision + " " + vcs["time"]
	if vcs["modified"] == "true" {
		version += ", modified"
	}
	return version
}

// moduleVersion is the version of a dependency, "(unknown)" where the build recorded none.
func moduleVersion(info *debug.BuildInfo, path string) string {
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "(unknown)"
}
