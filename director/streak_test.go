package director

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Batches with rows of packets of one connection: what becomes of each, and of the connections, is what becomes of packets that come alone.
func TestStreakAgainstTwin(t *testing.T) {
	for _, spec := range []worldSpec{
		{}, {method: "dr"}, {proto: "udp"}, {method: "tun"}, {service: "idle = \"reset\""}, {ext: `reply = "route"`}, {service: "persistence_timeout = \"5m\""},
	} {
		bothFamilies(t, func(t *testing.T, family int) {
			spec.family = family
			rng := rand.New(rand.NewPCG(uint64(family), 7))
			rows, alone := newWorld(t, spec), newWorld(t, spec)
			went, inRow := 0, 0
			for range 2000 {
				iface, batch := rows.randomBatch(rng)
				now := rows.clock()
				k := rows.workers[iface]
				k.open(rows.view.Load(), now)
				read := cloned(batch)
				k.looked = 0
				k.lookAll(read)
				for i := range batch {
					got, left := rows.carried(iface, k.oneOf(read, i))
					alone.workers[iface].open(alone.view.Load(), now)
					alone.workers[iface].recents.forget()
					f := batch[i].Clone()
					want, wanted := alone.carried(iface, alone.workers[iface].one(&f))
					if got != want || !slices.EqualFunc(left, wanted, sameFrame) {
						t.Fatalf("%s: %v and %d frames, alone %v and %d", stack.Describe(batch[i].Bytes()), got, len(left), want, len(wanted))
					}
					if k.streak.on && k.streak.event != noEvent {
						went++
					}
					if k.streak.on && k.row.takes(&k.looks[i]) {
						inRow++
					}
				}
				if got, want := rows.connections(), alone.connections(); got != want {
					t.Fatalf("connections\n%s alone\n%s", got, want)
				}
			}
			if went == 0 || inRow == 0 && spec.method != "tun" {
				t.Errorf("of packets in a row there were %d, of such that are alike %d", went, inRow)
			}
		})
	}
}

// randomBatch is of one interface, with few different packets, often the same one again.
func (w *world) randomBatch(rng *rand.Rand) (iface int, batch []tap.Frame) {
	flags := []uint8{stack.ACK, stack.ACK, stack.ACK, stack.ACK | stack.PSH, stack.ACK | stack.FIN, stack.SYN, stack.SYN | stack.ACK, stack.RST, 0}
	iface = rng.IntN(2)
	for range 1 + rng.IntN(6) {
		s := w.fromPort(uint16(40000+rng.IntN(2)), flags[rng.IntN(len(flags))])
		if iface == in {
			client := s.Src
			s = w.fromServerSpec(rng.IntN(2), s.Flags)
			s.Dst = client
		}
		s.SrcMAC[5] += byte(rng.IntN(8) / 7)
		s.TTL = []uint8{64, 64, 64, 1}[rng.IntN(4)]
		for range 1 + rng.IntN(5) {
			s.Payload = make([]byte, rng.IntN(8)*rng.IntN(300))
			batch = append(batch, s.Frame())
		}
	}
	return iface, batch
}

// cloned copies a batch.
func cloned(batch []tap.Frame) []tap.Frame {
	c := make([]tap.Frame, len(batch))
	for i := range batch {
		c[i] = batch[i].Clone()
	}
	return c
}

// oneOf carries frame i of a batch at which the worker has looked.
func (w *worker) oneOf(frames []tap.Frame, i int) Verdict {
	w.counts, w.next = [len(w.counts)]uint32{}, i
	w.steps(frames[:i+1])
	for v, n := range w.counts {
		if n == 1 {
			return Verdict(v)
		}
	}
	return DropPanic
}

// carried is what became of one frame of a batch, whose verdict is v.
func (w *world) carried(iface int, v Verdict) (_ Verdict, left []sent) {
	k := w.workers[iface]
	for i := range k.outs {
		for _, g := range k.outs[i].batch {
			left = append(left, sent{i, g.Clone()})
		}
		k.outs[i].batch = k.outs[i].batch[:0]
	}
	k.flush()
	return v, left
}

func sameFrame(a, b sent) bool {
	return a.iface == b.iface && bytes.Equal(a.frame.Bytes(), b.frame.Bytes())
}

// connections lists all there are, in order.
func (w *world) connections() string {
	type lasting struct {
		flow.Conn
		expires time.Duration
	}
	var all []lasting
	w.table.Each(0, func(c *flow.Conn, expires time.Duration) bool {
		all = append(all, lasting{*c, expires})
		return true
	})
	slices.SortFunc(all, func(a, b lasting) int {
		return cmp.Or(cmp.Compare(a.ClientPort, b.ClientPort), cmp.Compare(a.ServerID, b.ServerID))
	})
	return fmt.Sprintf("%+v", all)
}
