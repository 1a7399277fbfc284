//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
)

// memory puts what the peer's process held at most into a figure: its resident memory, in MB of a million bytes.
func (l *lab) memory(figure string, got map[string]float64) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.pid()))
	if err != nil {
		return err
	}
	bytes, err := parsePeak(string(text))
	got[figure] = float64(bytes) / 1e6
	return err
}

// pid is the peer's process: that of user-mode Linux is the guest's memory.
func (l *lab) pid() int {
	switch {
	case l.peer != nil:
		return l.peer.pid
	case l.guest != nil:
		return l.guest.PID()
	}
	return l.world.DirectorPID()
}

// parsePeak finds the peak of the resident memory in /proc/PID/status, in bytes.
func parsePeak(status string) (int64, error) {
	for line := range strings.Lines(status) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10, nil
		}
	}
	return 0, fmt.Errorf("no peak of the resident memory in %q", status)
}
