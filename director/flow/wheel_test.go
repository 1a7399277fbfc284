package flow

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestTicks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		now, d := time.Duration(rng.Int64N(int64(1000*time.Hour))), time.Duration(rng.Int64N(int64(100*time.Hour)))
		over := tickOf(now) + ticks(d)
		if tickOf(now+d) >= over {
			t.Fatalf("%v after %v is already over", d, now)
		}
		if tickOf(now+d+2*tick) < over {
			t.Fatalf("%v and two ticks after %v is not over", d, now)
		}
	}
}

// wheelTwin is a map of the ticks at which entries end: the deadline, or the next tick for one filed when that had passed.
type wheelTwin map[uint32]uint32

// newTestWheel is a wheel over n entries of its own.
func newTestWheel(n int) *wheel {
	w := &wheel{store: newSlab[entry](n)}
	for w.store.used < uint32(n) {
		w.store.page()
	}
	return w
}

// checkLists follows every list both ways.
func (w *wheel) checkLists(t *testing.T, want int) {
	t.Helper()
	seen := 0
	for slot, i := range w.slots {
		prev := uint32(firstInSlot | slot)
		for ; i != 0; i = w.store.at(i).next {
			if w.store.at(i).prev != prev {
				t.Fatalf("entry %d in slot %d: prev %#x, want %#x", i, slot, w.store.at(i).prev, prev)
			}
			prev = i
			seen++
		}
	}
	if seen != want {
		t.Fatalf("%d entries in lists, want %d", seen, want)
	}
}

// The wheel against a map, with deadlines near, far, past and beyond its reach, moved on lazily and moved nearer, over steps short and long.
func TestWheelAgainstMap(t *testing.T) {
	const n = 500
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		w, twin := newTestWheel(n+pageCells), wheelTwin{}
		w.now = rng.Uint32N(1 << 30)
		to := w.now
		deadline := func() uint32 { return to + rng.Uint32N(1<<(1+rng.IntN(26))) - min(to, rng.Uint32N(3)) }
		for range 2000 {
			i := pageCells + rng.Uint32N(n)
			e := w.store.at(i)
			d := deadline()
			switch _, filed := twin[i]; {
			case !filed:
				e.deadline = d
				w.file(i)
				twin[i] = max(d, w.now+1)
			case d >= e.deadline:
				e.deadline, twin[i] = d, max(d, twin[i]) // lazily
			case rng.IntN(4) == 0:
				w.unfile(i)
				delete(twin, i)
			default:
				w.unfile(i)
				e.deadline, twin[i] = d, max(d, w.now+1)
				w.file(i)
			}
			if rng.IntN(10) == 0 {
				to += rng.Uint32N(1 << rng.IntN(20))
				twin.advance(t, w, to)
				w.checkLists(t, len(twin))
			}
		}
	}
}

// advance runs the wheel to a tick and checks that exactly those end whose deadline has come.
func (twin wheelTwin) advance(t *testing.T, w *wheel, to uint32) {
	t.Helper()
	for {
		i, done := w.step(to)
		if done {
			break
		}
		if i == 0 {
			continue
		}
		if d, ok := twin[i]; !ok || d > to {
			t.Fatalf("at %d entry %d ended, whose deadline is %d (%v)", to, i, d, ok)
		}
		delete(twin, i)
	}
	for i, d := range twin {
		if d <= to {
			t.Fatalf("at %d entry %d with deadline %d is left", to, i, d)
		}
	}
}

// An entry that is refreshed all the time is touched by the wheel only when its slot comes up.
func TestRefreshingIsLazy(t *testing.T) {
	w := newTestWheel(3 * pageCells)
	timeout := ticks(900 * time.Second)
	w.store.at(pageCells).deadline = timeout
	w.file(pageCells)
	refiled, hour := 0, tickOf(time.Hour)
	for now := range hour {
		for {
			before := w.now
			i, done := w.step(now)
			if done {
				break
			}
			if i != 0 {
				t.Fatal("ended")
			}
			if w.now == before {
				refiled++
			}
		}
		w.store.at(pageCells).deadline = now + timeout
	}
	if refiled > 10 {
		t.Errorf("filed anew %d times in an hour", refiled)
	}
}

// One call of Expire does all that is due, however much, in batches; and it goes through every slot after a long sleep.
func TestExpireIsComplete(t *testing.T) {
	table := New(Options{Max: 30_000})
	for n := range 30_000 {
		var out Conn
		c := families[0].conn(NAT, 17, n)
		table.Insert(&c, 0, time.Duration(n)*time.Millisecond, &out)
	}
	if n := table.Expire(0); n != 0 {
		t.Error(n)
	}
	if n := table.Expire(30 * 24 * time.Hour); n != 30_000 {
		t.Error(n)
	}
	wantLen(t, table, 0)
}

// Expire rests after every few hundred ends, and while it gives memory back; packets pass meanwhile.
func TestExpireRests(t *testing.T) {
	rests := 0
	var table *Table
	table = New(Options{Max: 30_000, Rest: func() {
		rests++
		for i := range table.shards {
			if s := &table.shards[i]; !s.mu.TryLock() {
				t.Errorf("shard %d is locked during a rest", i)
			} else {
				s.mu.Unlock()
			}
		}
	}})
	for n := range 30_000 {
		mustInsert(t, table, families[0].conn(NAT, 17, n), 0)
	}
	table.Expire(time.Hour)
	if least := 30_000 / (restEvery + batchWork); rests < least {
		t.Errorf("%d rests, want %d at least", rests, least)
	}
	if rests = 0; table.Expire(time.Hour) != 0 || rests == 0 {
		t.Errorf("%d rests while memory of 30,000 is given back", rests)
	}
}

func TestPace(t *testing.T) {
	rests := 0
	p := pace{rest: func() { rests++ }}
	for range 10 {
		p.did(restEvery - 1)
		p.did(0)
		p.did(1)
	}
	if p.did(2 * restEvery); rests != 11 {
		t.Errorf("%d rests, want 11", rests)
	}
}

// A batch ends after a bounded amount of work.
func TestExpireBatchIsBounded(t *testing.T) {
	table := New(Options{Max: 30_000})
	for n := range 30_000 {
		mustInsert(t, table, families[0].conn(NAT, 17, n), 0)
	}
	s := &table.shards[0]
	total := int(s.stats.states[UDP])
	batches := 0
	for done := false; !done; batches++ {
		var n int
		if n, done = table.expireBatch(s, tickOf(time.Hour)); n > batchWork {
			t.Fatalf("%d in one batch", n)
		}
	}
	if batches < total/batchWork || s.stats.expired != uint64(total) {
		t.Errorf("%d of %d in %d batches", s.stats.expired, total, batches)
	}
}
