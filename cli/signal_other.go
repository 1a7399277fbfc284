//go:build !unix

package cli

import "os"

// counterSignals are the signals on which every counter is logged: here there is none.
var counterSignals []os.Signal

// reloadSignals are what daemons are told to read their file again by: here there is none.
var reloadSignals []os.Signal

// surviveLostReader has nothing to do: only Unix sends SIGPIPE.
func surviveLostReader() {}
