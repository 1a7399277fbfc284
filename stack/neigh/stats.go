package neigh

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tapdirector/stack"
)

// counters are Stats as they are kept.
type counters struct {
	asked, learned, changed, failed, refused atomic.Uint64
	turns                                    atomic.Uint64
	parked, parkedSent, parkDropped          atomic.Uint64
}

// Stats are a resolver's counters since it was made.
type Stats struct {
	Asked       uint64 // questions sent, ARP and ND
	Learned     uint64 // slots that got a MAC and had none
	Changed     uint64 // slots whose MAC became another
	Failed      uint64 // times that a slot was given up
	Refused     uint64 // slots not made because there were too many
	Parked      uint64 // frames that were made to wait
	ParkedSent  uint64 // frames that left after Park
	ParkDropped uint64 // frames that found no room, or whose slot was given up
	Waiting     int    // frames parked now
	Slots       int    // slots now, dynamic ones included
	Dynamic     int    // dynamic slots now
}

// Stats returns the counters.
func (r *Resolver) Stats() Stats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := &r.counters
	return Stats{
		Asked:       c.asked.Load(),
		Learned:     c.learned.Load(),
		Changed:     c.changed.Load(),
		Failed:      c.failed.Load(),
		Refused:     c.refused.Load(),
		Parked:      c.parked.Load(),
		ParkedSent:  c.parkedSent.Load(),
		ParkDropped: c.parkDropped.Load(),
		Waiting:     r.waiting,
		Slots:       len(r.slots),
		Dynamic:     len(r.dynamic),
	}
}

// Entry is one slot, for listings.
type Entry struct {
	Slot  Slot
	Iface int // place in Options.Links
	Addr  netip.Addr
	MAC   stack.MAC     // zero when there is none
	State string        // "idle", "asking", "reachable", "probing", "failed", "static"
	Age   time.Duration // since the last proof; 0 where there is no MAC or it is static
}

// Entries lists the slots by interface, then address.
func (r *Resolver) Entries() []Entry {
	now := r.now()
	r.mu.RLock()
	list := make([]Entry, 0, len(r.slots))
	for k, s := range r.slots {
		e := Entry{Slot: s, Iface: int(k.iface), Addr: k.addr.Netip(), State: r.entries[s].state.String()}
		if w := r.words[s].Load(); w&wordValid != 0 {
			e.MAC = wordMAC(w)
			if r.entries[s].state != fixed {
				e.Age = now - r.entries[s].confirmed
			}
		}
		list = append(list, e)
	}
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Iface, b.Iface), a.Addr.Compare(b.Addr))
	})
	return list
}

// hardware prints a MAC as people write it.
func hardware(m stack.MAC) string { return net.HardwareAddr(m[:]).String() }

// limitedLog is a log of at most logBurst lines in logEvery; the next line after a gap says how many are missing. Whoever
// floods the LAN with changing MACs must not fill the disk.
type limitedLog struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	start   time.Time
	lines   int
	skipped int
}

const (
	logBurst = 10
	logEvery = 10 * time.Second
)

func (l *limitedLog) Info(msg string, args ...any) { l.write(slog.LevelInfo, msg, args) }
func (l *limitedLog) Warn(msg string, args ...any) { l.write(slog.LevelWarn, msg, args) }

func (l *limitedLog) write(level slog.Level, msg string, args []any) {
	l.mu.Lock()
	if now := l.now(); now.Sub(l.start) >= logEvery {
		l.start, l.lines = now, 0
	}
	if l.lines == logBurst {
		l.skipped++
		l.mu.Unlock()
		return
	}
	l.lines++
	if l.skipped > 0 {
		args = append(args, "lines_left_out", l.skipped)
		l.skipped = 0
	}
	l.mu.Unlock()
	l.log.Log(context.Background(), level, msg, args...)
}
