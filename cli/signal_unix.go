//go:build unix

package cli

import (
	"os"
	"syscall"
)

// counterSignals are the signals on which every counter is logged.
var counterSignals = []os.Signal{syscall.SIGUSR1}
