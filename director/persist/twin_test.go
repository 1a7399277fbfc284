package persist

import (
	"math/rand/v2"
	"testing"
	"time"
)

// twin is the slow table: a map, timers that are looked at all the time.
type twin struct {
	templates map[Key]*twinTemplate
	counts    map[uint32]int32
}

type twinTemplate struct {
	server   uint32
	deadline time.Duration
	holds    int
	assured  bool
}

func (w *twin) drop(k Key) {
	w.counts[w.templates[k].server]--
	delete(w.templates, k)
}

// tick runs every timer, one minute at a time.
func (w *twin) tick(now time.Duration) {
	for k, c := range w.templates {
		for c.deadline <= now && c.holds > 0 {
			c.deadline += 60 * time.Second
		}
		if c.deadline <= now {
			w.drop(k)
		}
	}
}

func (w *twin) find(k Key, l Lease) (uint32, bool) {
	c := w.templates[k]
	if c == nil {
		return 0, false
	}
	c.deadline = l.Now + l.Timeout
	if l.Hold {
		c.holds++
	}
	return c.server, true
}

func (w *twin) put(k Key, server uint32, l Lease) (uint32, bool) {
	if w.templates[k] == nil {
		w.templates[k] = &twinTemplate{server: server}
		w.counts[server]++
	}
	chosen, _ := w.find(k, l)
	return chosen, l.Hold
}

func (w *twin) release(k Key, server uint32) {
	c := w.templates[k]
	if c == nil || c.server != server || c.holds == 0 {
		return
	}
	if c.holds--; c.holds == 0 && !c.assured {
		w.drop(k)
	}
}

// The table against the slow twin: random operations over simulated time, nothing that a caller can see may differ.
func TestTableAgainstTwin(t *testing.T) {
	eachFamily(t, func(t *testing.T, family int) {
		rng := rand.New(rand.NewPCG(uint64(family), 1))
		table, counts := counted(10_000)
		w := &twin{templates: map[Key]*twinTemplate{}, counts: map[uint32]int32{}}
		now := time.Duration(0)
		seen := map[string]int{}
		for i := range 100_000 {
			k := Key{Client: client(family, rng.IntN(300)), Service: uint32(rng.IntN(2))}
			server := uint32(rng.IntN(4))
			l := Lease{Now: now, Timeout: time.Duration(1+rng.IntN(100)) * time.Second, Hold: rng.IntN(5) > 0}
			w.tick(now)
			switch op := rng.IntN(100); {
			case op < 30:
				got, ok := table.Find(&k, l)
				want, wantOK := w.find(k, l)
				if ok != wantOK || ok && got != want {
					t.Fatalf("%v find %v: %d %v, want %d %v", now, k, got, ok, want, wantOK)
				}
				seen["found"] += btoi(ok)
				seen["not found"] += btoi(!ok)
			case op < 55:
				got, held := table.Put(&k, server, l)
				want, wantHeld := w.put(k, server, l)
				if got != want || held != wantHeld {
					t.Fatalf("%v put %v: %d %v, want %d %v", now, k, got, held, want, wantHeld)
				}
				seen["put by another"] += btoi(got != server)
			case op < 65:
				table.Assure(&k, server)
				if c := w.templates[k]; c != nil && c.server == server {
					c.assured = true
				}
			case op < 90:
				table.Release(&k, server, now)
				w.release(k, server)
			case op < 92:
				table.Drop(&k, server)
				if c := w.templates[k]; c != nil && c.server == server {
					w.drop(k)
				}
			default:
				now += time.Duration(rng.IntN(5000)) * time.Millisecond
				table.Expire(now)
			}
			if i%1000 == 0 {
				w.tick(now)
				expireAll(table, now)
				table.check(t)
				if table.Len() != len(w.templates) {
					t.Fatalf("%v: %d templates, want %d", now, table.Len(), len(w.templates))
				}
				for server, n := range w.counts {
					if counts[server] != n {
						t.Fatalf("%v: server %d counts %d, want %d", now, server, counts[server], n)
					}
				}
			}
		}
		for _, what := range []string{"found", "not found", "put by another"} {
			if seen[what] == 0 {
				t.Errorf("never seen: %s", what)
			}
		}
		if st := table.Stats(); st.Expired == 0 || st.Unassured == 0 || st.Dropped == 0 || st.Evicted+st.Full != 0 {
			t.Errorf("not everything happened: %+v", st)
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
