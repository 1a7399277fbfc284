//go:build linux

// The command line imports this package, so it can only be imported from outside of it.
package netlab_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"tapdirector/cli"
	"tapdirector/integration/netlab"
)

// nested is set for tests that run in a user namespace of their own.
const nested = "NETLAB_TEST_NESTED"

func TestMain(m *testing.M) {
	if os.Getenv("NETLAB_TEST_IS_DIRECTOR") != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv(nested) == "" && errors.Is(netlab.Available(), syscall.EPERM) {
		runNested()
	}
	os.Exit(m.Run())
}

// runNested runs these tests as root of a new user namespace and ends with their exit code. It returns if there is none to be had: the tests
// then say why they are skipped.
func runNested() {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), nested+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if cmd.Start() == nil {
		cmd.Wait()
		os.Exit(cmd.ProcessState.ExitCode())
	}
}
