package host

import (
	"math/rand/v2"
	"testing"
	"time"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// TestFloodDoesNotStarveARP fills one queue and uses up its budget: the other must be as if nothing were.
func TestFloodDoesNotStarveARP(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, func(o *Options) { o.Rate = 1 })
			overflow := 0
			for i := range 3 * queueFrames {
				if w.offer(0, echo(routerMAC, f.off, f.vip, uint16(i))) == Overflow {
					overflow++
				}
			}
			if want := 2 * queueFrames; overflow < want-5 || overflow > want {
				t.Errorf("%d frames of a flood refused, want about %d", overflow, want)
			}
			question := packettest.ARP(1, clientMAC, everyone, f.client, f.vip)
			if !f.vip.Is4() {
				question = solicit(f.client, clientMAC, f.vip)
			}
			if v := w.offer(0, question); v != Queued {
				t.Fatalf("the question for our address is %v", v)
			}
			w.step()
			if out := w.take(); len(out) != 1 || stack.DstMAC(out[0].frame.Bytes()) != clientMAC {
				t.Error("the question for our address was not answered first")
			}
			if st := w.Stats(); st.Overflow != uint64(overflow) || st.Queued != uint64(3*queueFrames-overflow+1) {
				t.Errorf("counted %+v", st)
			}
		})
	}
}

func TestQueueBounds(t *testing.T) {
	now := time.Unix(1e9, 0)
	small := tap.NewFrame(tap.Header{}, make([]byte, 60))
	large := tap.NewFrame(tap.Header{}, make([]byte, 60000))
	var p stack.Packet

	q := newQueue(1000)
	fill := func(f *tap.Frame) (n int) {
		for q.put(now, 0, f, &p) {
			n++
		}
		return n
	}
	empty := func() {
		for _, ok := q.take(); ok; _, ok = q.take() {
		}
	}
	if n := fill(&small); n != queueFrames {
		t.Errorf("%d frames fit, want %d", n, queueFrames)
	}
	empty()
	if n := fill(&small); n != 0 {
		t.Errorf("%d frames beyond the budget", n)
	}
	now = now.Add(100 * time.Millisecond)
	if n := fill(&small); n != 100 {
		t.Errorf("%d frames after 100 ms at 1000/s", n)
	}
	empty()
	now = now.Add(-time.Hour)
	if n := fill(&small); n != 0 {
		t.Errorf("%d frames from a clock that went back", n)
	}
	now = now.Add(24 * time.Hour)
	if n := fill(&large); n != queueBytes/60000 {
		t.Errorf("%d large frames fit, want %d", n, queueBytes/60000)
	}
	empty()
	if q.bytes != 0 || q.n != 0 {
		t.Errorf("an empty queue holds %d frames, %d bytes", q.n, q.bytes)
	}
}

// TestQueueOrder runs the ring against a slice.
func TestQueueOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	q := newQueue(1 << 30)
	now := time.Unix(1e9, 0)
	var slow []int
	var p stack.Packet
	f := tap.NewFrame(tap.Header{}, make([]byte, 60))
	for i := range 20000 {
		now = now.Add(time.Millisecond)
		if rnd.IntN(100) < 52 {
			if q.put(now, i, &f, &p) != (len(slow) < queueFrames) {
				t.Fatalf("step %d: put with %d waiting", i, len(slow))
			}
			if len(slow) < queueFrames {
				slow = append(slow, i)
			}
			continue
		}
		it, ok := q.take()
		if ok != (len(slow) > 0) || (ok && it.link != slow[0]) {
			t.Fatalf("step %d: took %d, %v", i, it.link, ok)
		}
		if ok {
			slow = slow[1:]
		}
	}
}

func BenchmarkDeliverIgnored(b *testing.B) {
	w := benchWire(b)
	f := packettest.ARP(1, clientMAC, everyone, families[0].client, families[0].foreign)
	var p stack.Packet
	stack.Parse(&f, &p)
	b.ReportAllocs()
	for b.Loop() {
		w.Deliver(0, &f, &p)
	}
}

func BenchmarkEcho(b *testing.B) {
	for _, fam := range families {
		b.Run(fam.name, func(b *testing.B) {
			w := benchWire(b)
			f := echo(routerMAC, fam.off, fam.vip, 1)
			var p stack.Packet
			stack.Parse(&f, &p)
			b.ReportAllocs()
			for b.Loop() {
				w.Deliver(0, &f, &p)
				w.step()
			}
		})
	}
}

func benchWire(b *testing.B) *Host {
	o := plan()
	o.Rate = 1 << 30
	for i := range o.Links {
		o.Links[i].Send = func(*tap.Frame) {}
	}
	h, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(h.Close)
	return h
}
