package neigh

import (
	"context"
	"math"
	"time"

	"tapdirector/stack"
)

// state is where a slot stands; the table is at the head of neigh.go.
type state uint8

const (
	idle state = iota
	asking
	reachable
	probing
	failed
	fixed
)

func (s state) String() string {
	return [...]string{"idle", "asking", "reachable", "probing", "failed", "static"}[s]
}

// never is a deadline that does not come.
const never = time.Duration(math.MaxInt64)

// period is how often Run looks for deadlines that have passed, and questionsPerTick how many questions it then asks: a
// thousand servers that are all down must not be a burst of broadcasts.
const (
	period           = 250 * time.Millisecond
	questionsPerTick = 256
)

// entry is what is known of a slot beside its MAC. Pointer-free: there may be many.
type entry struct {
	key
	state     state
	dynamic   bool
	lost      bool          // a line said that it does not answer
	draining  bool          // who knows its MAC sends what waits (drainLocked)
	asks      uint8         // questions since the state was entered
	confirmed time.Duration // last proof; meaningless before the first
	deadline  time.Duration // when timeoutLocked is due
	backoff   time.Duration // the pause after the next failure
}

// Run asks for the pinned slots at once, then keeps all slots fresh until ctx is cancelled; it returns nil.
func (r *Resolver) Run(ctx context.Context) error {
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		r.tick()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// tick gives every slot whose time has come its turn, starting where the last tick had to stop.
func (r *Resolver) tick() {
	now := r.now()
	qs := r.questions[:0]
	r.mu.Lock()
	for range len(r.entries) {
		if len(qs) == questionsPerTick {
			break
		}
		r.cursor = (r.cursor + 1) % len(r.entries)
		s := Slot(r.cursor)
		if s == 0 || r.entries[s].deadline > now {
			continue
		}
		if q, ok := r.timeoutLocked(s, now); ok {
			qs = append(qs, q)
		}
	}
	lost := r.lost
	r.lost = nil
	r.mu.Unlock()
	r.questions = qs
	for _, q := range qs {
		r.ask(q)
	}
	// Writing may block: nothing is sent or logged under the lock that Park needs.
	for _, k := range lost {
		r.log.Warn("next hop does not answer", "address", k.addr, "interface", r.o.Links[k.iface].Name)
	}
}

// timeoutLocked moves a slot whose deadline has passed on in the table, and returns what is to be asked.
func (r *Resolver) timeoutLocked(s Slot, now time.Duration) (question, bool) {
	e := &r.entries[s]
	switch e.state {
	case idle, failed:
		return r.enterLocked(s, asking, now), true
	case asking:
		if int(e.asks) < r.o.Asks {
			return r.askLocked(s, now), true
		}
		r.failLocked(s, now)
	case reachable:
		// Nobody sends there: leave it, and look again at the next tick.
		if r.words[s].Load()&wordUsed != 0 {
			return r.enterLocked(s, probing, now), true
		}
	case probing:
		if int(e.asks) < 2*r.o.Asks {
			return r.askLocked(s, now), true
		}
		r.failLocked(s, now)
	case fixed:
		e.deadline = never
	}
	return question{}, false
}

// firstRetry is the part of a Retransmit after which the very first question is repeated: a bridge port that has just come up loses it, and the
// first client should not wait a second for that.
const firstRetry = 4

// enterLocked starts to ask, as the state asking or probing.
func (r *Resolver) enterLocked(s Slot, to state, now time.Duration) question {
	e := &r.entries[s]
	e.state, e.asks = to, 0
	return r.askLocked(s, now)
}

// askLocked counts one question and returns it. The first ones of a probe go to the known MAC alone, as RFC 1122 2.3.2.1 and
// RFC 4861 7.3.3 want it.
func (r *Resolver) askLocked(s Slot, now time.Duration) question {
	e := &r.entries[s]
	q := question{key: e.key}
	if e.state == probing && int(e.asks) < r.o.Asks {
		q.to = wordMAC(r.words[s].Load())
	}
	e.asks++
	e.deadline = now + r.o.Retransmit
	if e.state == asking && e.asks == 1 {
		e.deadline = now + r.o.Retransmit/firstRetry
	}
	return q
}

// failLocked gives a slot up: no MAC, and its frames are dropped. A dynamic one is then left alone until a frame wants it
// again; a pinned one is asked for ever, with growing pauses, because health checks want to know when it is back.
func (r *Resolver) failLocked(s Slot, now time.Duration) {
	e := &r.entries[s]
	e.state = failed
	r.counters.failed.Add(1)
	r.counters.parkDropped.Add(uint64(len(r.takeLocked(s))))
	if e.dynamic {
		r.words[s].Store(0)
		e.deadline = never
		return
	}
	if r.words[s].Swap(wordFailed)&wordFailed == 0 {
		r.counters.turns.Add(1)
	}
	e.deadline = now + e.backoff
	e.backoff = min(2*e.backoff, r.o.MaxBackoff)
	if !e.lost {
		e.lost = true
		r.lost = append(r.lost, e.key)
	}
}

// reachLocked gives a slot its MAC; it reports whether the slot had been said to be lost. The new word is not marked as used,
// so after each proof the first packet says whether anybody still cares.
func (r *Resolver) reachLocked(s Slot, m stack.MAC, now time.Duration) (found bool) {
	e := &r.entries[s]
	e.state, e.asks = reachable, 0
	e.confirmed, e.deadline, e.backoff = now, now+r.o.Confirm, r.o.Retransmit
	if r.words[s].Swap(word(m))&wordFailed != 0 {
		r.counters.turns.Add(1)
	}
	found, e.lost = e.lost, false
	return found
}
