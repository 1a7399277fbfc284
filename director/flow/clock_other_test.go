//go:build !linux

package flow

import "time"

var started = time.Now()

// threadTime is the time that goes by: only Linux tells a thread's own.
func threadTime() time.Duration { return time.Since(started) }
