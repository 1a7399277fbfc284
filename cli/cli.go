// Package cli is the command line: it turns words into one call of the other packages and an error into an exit code.
package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// What a run ends in
//
// Every command returns an error or nil, and Main alone turns it into what the user sees and the shell gets:
//
//	nil          0   nothing printed here
//	configError  2   the configuration's mistakes, one a line, as they are
//	usageError   2   one line, and where to find help
//	other        1   a runtime failure: one line, or one JSON record where the log is JSON
//
// What cobra itself refuses (flags, arguments, commands) is refused before a command's own function starts, so all errors
// from before that moment are usage errors; wrapUsage keeps track of it. Results go to stdout, everything else to stderr.

// The exit codes.
const (
	ExitOK      = 0 // done, or stopped by SIGINT or SIGTERM
	ExitRuntime = 1 // something failed while it ran
	ExitUsage   = 2 // wrong words on the command line, or mistakes in the configuration: nothing was started
)

// usageError is a mistake in the words of the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// configError is what is wrong with a configuration file, one mistake a line.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// Main runs the command that args (without the program's name) ask for, and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	return execute(rootCommand(), args, stdout, stderr)
}

// execute runs root, or the subcommand of it that args name.
func execute(root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(longFlags(args))
	started := wrapUsage(root)
	cmd, err := root.ExecuteC()
	var usage *usageError
	var config *configError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &config):
		fmt.Fprintln(stderr, config)
		return ExitUsage
	case !*started || errors.As(err, &usage):
		fmt.Fprintf(stderr, "tapdirector: %v\nSee '%s --help'.\n", err, cmd.CommandPath())
		return ExitUsage
	}
	reportFailure(cmd, stderr, err)
	return ExitRuntime
}

// wrapUsage makes every command below c say when its own function starts: what fails before that is a usage error.
func wrapUsage(c *cobra.Command) *bool {
	started := new(bool)
	var wrap func(c *cobra.Command)
	wrap = func(c *cobra.Command) {
		if run := c.RunE; run != nil {
			c.RunE = func(c *cobra.Command, args []string) error {
				*started = true
				return run(c, args)
			}
		}
		for _, sub := range c.Commands() {
			wrap(sub)
		}
	}
	wrap(c)
	return started
}

// reportFailure prints a runtime failure in the form of the log, so that a collector of JSON never meets a bare line.
func reportFailure(cmd *cobra.Command, stderr io.Writer, err error) {
	if choiceOf(cmd, "log-format") == "json" {
		newLogger(stderr, "json", "error").Error("failed", "error", err.Error())
		return
	}
	fmt.Fprintf(stderr, "tapdirector: %v\n", err)
}
