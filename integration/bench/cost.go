//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// CPU time is that of the whole machine, client and server included: the only one that can be compared when some peers are processes and some are
// the kernel, whose work behind a write is charged to whoever wrote. What else runs on the machine is in it.

// tick is the unit of /proc/stat.
const tick = 10 * time.Millisecond

// busy is the CPU time that all CPUs have spent since the start of the machine, but idle or waiting.
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return parseBusy(line)
}

func parseBusy(line string) (time.Duration, error) {
	var user, nice, system, idle, wait, irq, soft int64
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &soft); err != nil {
		return 0, fmt.Errorf("/proc/stat: %q: %w", line, err)
	}
	return time.Duration(user+nice+system+irq+soft) * tick, nil
}

// usage is how many CPUs were busy.
type usage struct {
	cpus float64
	err  error
}

// meter watches the CPUs in the time that a client counts: for span, after warm. The answer comes by the channel.
func meter(ctx context.Context, warm, span time.Duration) <-chan usage {
	answer := make(chan usage, 1)
	go func() {
		err0 := sleep(ctx, warm)
		before, err1 := busy()
		start := time.Now()
		err2 := sleep(ctx, span)
		after, err3 := busy()
		answer <- usage{float64(after-before) / float64(time.Since(start)), errors.Join(err0, err1, err2, err3)}
	}()
	return answer
}

// costs adds to figures what they cost, given the CPUs that were busy meanwhile.
func costs(figures map[string]float64, used usage) error {
	if v := figures[figureUp]; v > 0 {
		figures[figureCPUGB] = used.cpus / (v / 8)
	}
	if v := figures[figureUDP]; v > 0 {
		figures[figureCPUPacket] = used.cpus / v * 1e6
	}
	return used.err
}
