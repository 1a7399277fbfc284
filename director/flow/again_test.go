package flow

import (
	"math/rand/v2"
	"testing"
	"time"

	"tapdirector/stack"
)

// Again does what Touch does, for connections that stay, end, come anew and are moved; and says no where it cannot.
func TestAgainIsTouch(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		const n = 300
		rng := rand.New(rand.NewPCG(1, 2))
		quick, slow := New(Options{Max: 4 * n}), New(Options{Max: 4 * n})
		var places [n][2]Place
		flags := []uint8{stack.ACK, stack.ACK, stack.ACK, stack.ACK, stack.FIN | stack.ACK, stack.SYN, stack.RST}
		yes, now := 0, time.Duration(0)
		for range 60_000 {
			i, d, event := rng.IntN(n), Direction(rng.IntN(2)), flags[rng.IntN(len(flags))]
			now += time.Duration(rng.IntN(40)) * time.Millisecond
			c := ip.conn(NAT, stack.ProtoTCP, i)
			tuple := c.Tuple(d)
			hop := Hop{}
			if d == Forward {
				hop = HopTo(uint16(rng.IntN(2)), 7)
			}
			var want Conn
			switch rng.IntN(40) {
			case 0:
				if quick.Remove(&tuple, d) != slow.Remove(&tuple, d) {
					t.Fatal("one was removed, and not its twin")
				}
			case 1:
				quick.Expire(now)
				slow.Expire(now)
			case 2:
				quick.Insert(&c, stack.SYN, now, &want)
				slow.Insert(&c, stack.SYN, now, &want)
			}
			var k Key
			var got Conn
			if p := &places[i][d]; p.at != 0 && (d == Reply || p.hop == hop) && quick.Again(p, event, now) {
				yes++
				if r := slow.touchTuple(&tuple, d, event, hop, now, &want); r != Found || !quick.Find(&tuple, d, &got) || got != want || p.hop != got.Hop {
					t.Fatalf("again %+v, else %v %+v", got, r, want)
				}
				continue
			}
			quick.Prepare(&k, &tuple, d)
			r := quick.Touch(&k, event, hop, now, &got)
			if s := slow.touchTuple(&tuple, d, event, hop, now, &want); r != s || r == Found && got != want {
				t.Fatalf("%v %+v, its twin %v %+v", r, got, s, want)
			}
			if r == Found {
				places[i][d] = k.Place(&got)
			}
		}
		if a, b := quick.Stats(), slow.Stats(); a.States != b.States || a.Expired != b.Expired {
			t.Errorf("%+v, its twin %+v", a, b)
		}
		if yes < 1000 {
			t.Errorf("it said yes %d times", yes)
		}
	})
}

// What Fetch asks for need not be there any more.
func TestFetchGone(t *testing.T) {
	const n = 200_000
	table := New(Options{Max: n})
	var places []Place
	for i := range n {
		c := families[0].conn(NAT, stack.ProtoTCP, i)
		mustInsert(t, table, c, stack.SYN)
		if i%1000 == 0 {
			var k Key
			tuple := c.Tuple(Forward)
			table.Prepare(&k, &tuple, Forward)
			table.Touch(&k, stack.ACK, aHop, 0, &c)
			places = append(places, k.Place(&c))
		}
	}
	peak := table.entries.held
	for range 300 {
		table.Expire(time.Hour)
	}
	if table.entries.held >= peak {
		t.Fatalf("%d regions of %d are left", table.entries.held, peak)
	}
	for i := range places {
		table.Fetch(&places[i])
		if table.Again(&places[i], stack.ACK, 0) {
			t.Error("found again")
		}
	}
}
