//go:build linux

// The command line imports this package, so it can only be imported from outside of it.
package netlab_test

import (
	"os"
	"testing"

	"tapdirector/cli"
)

func TestMain(m *testing.M) {
	if os.Getenv("NETLAB_TEST_IS_DIRECTOR") != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}
