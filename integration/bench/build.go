//go:build linux

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed copyloop.c
var copyLoopSource []byte

// build makes the programs that were not given: the copy loop in dir, the director in bin/ of the module, optimised as for a release, with symbols
// for profilers.
func (o *options) build(ctx context.Context, dir string) error {
	if o.copyloop == "" {
		o.copyloop = filepath.Join(dir, "copyloop")
		gcc := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-pthread", "-x", "c", "-", "-o", o.copyloop)
		gcc.Stdin = bytes.NewReader(copyLoopSource)
		if _, err := output(gcc); err != nil {
			return err
		}
	}
	if o.director != "" {
		return nil
	}
	module, err := output(exec.CommandContext(ctx, "go", "env", "GOMOD"))
	if err != nil {
		return err
	}
	root := filepath.Dir(module)
	o.director = filepath.Join(root, "bin", "tapdirector")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", o.director, ".")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err = output(cmd)
	return err
}

// output runs a command and returns the line it prints; what it complains of is in the error.
func output(cmd *exec.Cmd) (string, error) {
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, complaint.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// newReport says what runs where; rows come later.
func (o *options) newReport(ctx context.Context) *report {
	r := &report{
		When: time.Now().UTC().Format(time.RFC3339), Go: runtime.Version(), CPUs: runtime.NumCPU(), CPU: cpuModel(), Load: loadAverage(),
		Families: o.families, Queues: o.queues, Seconds: o.span.Seconds(),
	}
	// Whichever cannot be had stays empty.
	version, _ := output(exec.CommandContext(ctx, o.director, "version"))
	r.Commit, _, _ = strings.Cut(version, "\n")
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return r
}

// cpuModel is the name of the first CPU.
func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// loadAverage is that of the last minute.
func loadAverage() (load float64) {
	b, _ := os.ReadFile("/proc/loadavg")
	fmt.Sscan(string(b), &load)
	return load
}
