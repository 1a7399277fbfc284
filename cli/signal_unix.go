//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// counterSignals are the signals on which every counter is logged.
var counterSignals = []os.Signal{syscall.SIGUSR1}

// reloadSignals are what daemons are told to read their file again by.
var reloadSignals = []os.Signal{syscall.SIGHUP}

// surviveLostReader lets the log's reader go away: a write to it then fails, instead of ending the process and with it the LAN's service.
func surviveLostReader() { signal.Ignore(syscall.SIGPIPE) }
