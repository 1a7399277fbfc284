package host

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"tapdirector/stack"
)

// counters are Stats as they are kept.
type counters struct {
	queued, ignored, overflow, uncut     atomic.Uint64
	sent, announced, conflicts, lastHops atomic.Uint64
}

// Stats are a host's counters since it was made.
type Stats struct {
	Queued    uint64 // frames taken by Deliver
	Ignored   uint64 // frames that were not for us
	Overflow  uint64 // frames for us beyond the budget or the queue
	Uncut     uint64 // UDP superpackets in too many pieces, dropped
	Sent      uint64 // frames that netstack sent
	Announced uint64 // announcements of our addresses
	Conflicts uint64 // frames of others that claim an address of ours
	LastHops  uint64 // off-link clients whose router is remembered now
}

// Stats returns the counters.
func (h *Host) Stats() Stats {
	c := &h.counters
	return Stats{
		Queued:    c.queued.Load(),
		Ignored:   c.ignored.Load(),
		Overflow:  c.overflow.Load(),
		Uncut:     c.uncut.Load(),
		Sent:      c.sent.Load(),
		Announced: c.announced.Load(),
		Conflicts: c.conflicts.Load(),
		LastHops:  c.lastHops.Load(),
	}
}

// limitedLog writes at most one line in logEvery, and says how many it left out: a host that claims our address may do so
// a thousand times a second.
type limitedLog struct {
	log *slog.Logger

	mu      sync.Mutex
	last    time.Time
	skipped int
}

const logEvery = 10 * time.Second

func (l *limitedLog) warn(msg string, args ...any) {
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.last) < logEvery {
		l.skipped++
		l.mu.Unlock()
		return
	}
	l.last = now
	if l.skipped > 0 {
		args = append(args, "lines_left_out", l.skipped)
		l.skipped = 0
	}
	l.mu.Unlock()
	l.log.Warn(msg, args...)
}

// hardware prints a MAC as people write it.
func hardware(m stack.MAC) string { return net.HardwareAddr(m[:]).String() }
