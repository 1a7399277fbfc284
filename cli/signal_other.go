//go:build !unix

package cli

import "os"

// counterSignals are the signals on which every counter is logged: here there is none.
var counterSignals []os.Signal
