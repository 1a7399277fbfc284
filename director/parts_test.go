package director

import (
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// All workers together answer at most rate times in a second, and again in the next.
func TestBudget(t *testing.T) {
	b := budget{}
	b.rate.Store(100)
	for second := range time.Duration(3) {
		var got [4]int
		var all sync.WaitGroup
		for i := range got {
			all.Go(func() {
				for range 1000 {
					if b.take(second * time.Second) {
						got[i]++
					}
				}
			})
		}
		all.Wait()
		if n := got[0] + got[1] + got[2] + got[3]; n > 100+len(got) || n < 100-len(got) { // a turn of the second may be seen by several at once
			t.Errorf("second %d: %d taken, want 100", second, n)
		}
	}
	if (&budget{}).take(0) {
		t.Error("a rate of 0 gave a token")
	}
}

// routeTo's slow twin is the longest prefix of all that contain the address.
func TestRouteToIsTheLongestPrefix(t *testing.T) {
	w := newWorld(t, worldSpec{tail: `
[[route]]
to = "0.0.0.0/0"
via = "10.77.1.254"
[[route]]
to = "10.0.0.0/8"
via = "10.77.2.254"
[[route]]
to = "10.77.9.0/24"
via = "10.77.1.253"
`})
	v := w.view.Load()
	for _, a := range []string{"10.77.1.5", "10.77.2.5", "10.77.9.1", "10.1.2.3", "192.0.2.1", "2001:db8::1"} {
		ip := netip.MustParseAddr(a)
		var want *route
		for i := range v.routes {
			if r := &v.routes[i]; r.to.Contains(ip) && (want == nil || r.to.Bits() > want.to.Bits()) {
				want = r
			}
		}
		if got := v.routeTo(stack.AddrFrom(ip)); got != want {
			t.Errorf("%s goes by %+v, want %+v", a, got, want)
		}
	}
}

func TestBroadcast(t *testing.T) {
	for prefix, want := range map[string]string{"10.77.1.1/24": "10.77.1.255", "10.77.1.1/30": "10.77.1.3", "10.0.0.1/8": "10.255.255.255"} {
		if got := broadcast(netip.MustParsePrefix(prefix)); got.String() != want {
			t.Errorf("broadcast of %s is %v, want %s", prefix, got, want)
		}
	}
}

// Broadcast and network addresses of a link are never routed to.
func TestDirectedBroadcastIsDropped(t *testing.T) {
	for _, last := range []int{0, 255} {
		w := newWorld(t, worldSpec{})
		s := w.fromServerSpec(0, stack.SYN)
		s.Dst = netip.AddrPortFrom(w.spec.addr(1, last), 9)
		v, left := w.step(in, s.Frame())
		w.none(v, left, DropMulticast)
	}
}

// A tally adds up to what was put in, however servers alternate.
func TestTally(t *testing.T) {
	w := newWorld(t, worldSpec{})
	servers := w.view.Load().servers
	var tl tally
	for i := range 300 {
		tl.add(servers[i%7%3], flow.Direction(i%2), 100)
	}
	tl.flush()
	var pkts, bytes uint64
	for _, s := range servers {
		pkts += s.inPkts.Load() + s.outPkts.Load()
		bytes += s.inBytes.Load() + s.outBytes.Load()
	}
	if all := servers[0].service.all(); pkts != 300 || bytes != 30000 || all.inPkts != 150 || all.outBytes != 15000 {
		t.Errorf("%d packets, %d bytes, service %d in, %d bytes out", pkts, bytes, all.inPkts, all.outBytes)
	}
}

func TestCounterNames(t *testing.T) {
	var l counterList
	l.addFields("x_", struct {
		RxFrames, Ups uint64
		Hidden        string
	}{1, 2, "no number"}, "interface=ext")
	want := counterList{{"x_rx_frames", []string{"interface=ext"}, 1}, {"x_ups", []string{"interface=ext"}, 2}}
	if !reflect.DeepEqual(l, want) {
		t.Errorf("%v, want %v", l, want)
	}
	if s := l[0].String(); s != "x_rx_frames[interface=ext] 1" {
		t.Errorf("prints as %q", s)
	}
}

// Counters are all there, each name with its labels once, and the verdicts among them add up.
func TestCounters(t *testing.T) {
	w := newWorld(t, worldSpec{})
	w.workers[ext].batch([]tap.Frame{w.toVIP(stack.SYN), w.toVIP(stack.ACK)})
	seen := map[string]bool{}
	var sum, read uint64
	for _, c := range w.Counters() {
		key := c.Name + "|" + join(c.Labels)
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
		switch c.Name {
		case "verdict":
			sum += c.Value
		case "frames_read":
			read = c.Value
		}
	}
	if sum != 2 || read != 2 {
		t.Errorf("%d verdicts for %d frames, want 2", sum, read)
	}
}

func join(labels []string) (s string) {
	slices.Sort(labels)
	for _, l := range labels {
		s += l + ","
	}
	return s
}

// What the resolver and the host send is cut where the device cannot carry it.
func TestSenderCuts(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		w := newWorld(t, worldSpec{family: family, plain: true})
		var got []tap.Frame
		w.memory[in].OnWrite(func(_ int, f *tap.Frame) { got = append(got, f.Clone()) })
		s := w.fromServerSpec(0, stack.ACK)
		s.Payload, s.Partial, s.GSOSize = make([]byte, 3000), true, 1000
		f := s.Frame()
		w.sender(in, 0)(&f)
		if len(got) != 3 {
			t.Fatalf("%d frames left, want 3", len(got))
		}
		for i := range got {
			w.checkFrame(&got[i])
		}
	})
}

// A frame of a large UDP superpacket that may be fragmented: cut to segments, then to fragments.
func TestSegmentsThatAreTooLargeAreFragmented(t *testing.T) {
	w := newWorld(t, worldSpec{proto: "udp", mtu: 1000})
	s := w.toVIPSpec(0)
	s.DF, s.Payload, s.Partial, s.GSOSize = false, make([]byte, 4200), true, 1400
	v, left := w.step(ext, s.Frame())
	if v != ForwardedNAT || len(left) != 6 {
		t.Fatalf("verdict %v with %d frames, want %v with 6: three segments of two fragments", v, len(left), ForwardedNAT)
	}
}

// More pieces than a batch holds are written early, none is lost.
func TestManyPieces(t *testing.T) {
	w := newWorld(t, worldSpec{plain: true})
	w.step(ext, w.toVIP(stack.SYN))
	n := 0
	w.memory[in].OnWrite(func(_ int, f *tap.Frame) { n++ })
	s := w.toVIPSpec(stack.ACK)
	s.Payload, s.Partial, s.GSOSize = make([]byte, 60000), true, 10
	w.workers[ext].batch([]tap.Frame{s.Frame()})
	if n != 6000 || w.Verdicts()["forwarded-nat"] != 1 {
		t.Errorf("%d pieces left, want 6000; verdicts %v", n, w.Verdicts())
	}
}
