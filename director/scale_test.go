package director

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"tapdirector/conf"
	"tapdirector/director/cputime"
	"tapdirector/stack"
	"tapdirector/tap"
)

// What new connections cost a worker: `make bench-table` prints it.

// newcomers makes batches of first packets, each of a client of its own.
type newcomers struct {
	frames   []tap.Frame
	original [][]byte
	next     uint32
}

func (w *world) newcomers() *newcomers {
	n := &newcomers{}
	for range tap.Batch {
		f := w.fromPort(1024, stack.SYN).Frame()
		n.frames = append(n.frames, f)
		n.original = append(n.original, append([]byte(nil), f.Bytes()...))
	}
	return n
}

// batch returns the next ones. The checksum of L4 is that of another client: the path edits it by differences.
func (n *newcomers) batch() []tap.Frame {
	for i := range n.frames {
		b := n.frames[i].Bytes()
		copy(b, n.original[i])
		v := scatter(n.next)
		n.next++
		binary.BigEndian.PutUint32(b[tap.EthernetLen+12:], 11<<24|v&0xffffff)
		binary.BigEndian.PutUint16(b[tap.EthernetLen+20:], uint16(1024+v>>24))
		sumIPv4(b[tap.EthernetLen:][:20])
	}
	return n.frames
}

// scatter is a permutation of all numbers: clients do not come in the order of their addresses.
func scatter(n uint32) uint32 { return n * 0x9e3779b1 }

// BenchmarkScaleNew carries first packets, each of which makes a connection, from a read to a write in memory, while the table grows from nothing.
//
//	conns/s   on one core, by the thread's own time
//	p99.9-us  what one batch of 64 in a thousand takes longer than
//	max-us    the longest batch
func BenchmarkScaleNew(b *testing.B) {
	for _, proto := range []string{"tcp", "udp"} {
		for _, n := range []int{10_000, 1_000_000, 10_000_000} {
			b.Run(fmt.Sprintf("%s/%d", proto, n), func(b *testing.B) {
				for b.Loop() {
					scaleNew(b, proto, n)
				}
			})
		}
	}
}

func scaleNew(b *testing.B, proto string, n int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w := newWorld(b, worldSpec{proto: proto, sched: "wlc", tail: fmt.Sprintf("[limits]\nconnections = %d\n", n+tap.Batch)})
	come := w.newcomers()
	k := w.workers[ext]
	var batches cputime.Steps
	batches.Grow(n / tap.Batch)
	for range n / tap.Batch {
		frames := come.batch()
		batches.Do(func() { k.batch(frames) })
	}
	if w.table.Len() != n/tap.Batch*tap.Batch {
		b.Fatalf("%d connections: %v", w.table.Len(), w.Verdicts())
	}
	b.ReportMetric(float64(n)/batches.Sum.Seconds(), "conns/s")
	longest, most, _ := batches.Longest(99.9, 0)
	b.ReportMetric(float64(longest.Microseconds()), "max-us")
	b.ReportMetric(float64(most.Microseconds()), "p99.9-us")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkScaleReload carries packets of known connections in batches of 64 while 10,000 services are reloaded, over and over, and then as many without that.
//
//	reload-ms        for a reload
//	max-us           the longest batch while reloads go on, by the worker's own time
//	over             how many batches of a million took more than 100 us
//	wall-p99.9-us    what one batch in a thousand takes longer than while reloads go on, by the clock: with what the system and the collector give to others
//	quiet-...        the same without reloads
func BenchmarkScaleReload(b *testing.B) {
	const services, reloads = 10_000, 20
	cs := [2]*conf.Config{largeConf(b, services, 1), largeConf(b, services, 2)}
	d := newLarge(b, cs[0])
	for i := range services {
		d.neigh.Snoop(in, arp(i).Bytes(), arpPacket(i))
	}
	k, frames := knownOfMany(b, d, services)
	k.replaying(frames)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for b.Loop() {
		done := make(chan time.Duration, 1)
		go func() {
			start := time.Now()
			for i := range reloads {
				if err := d.Reload(cs[(i+1)%2]); err != nil {
					b.Error(err)
				}
			}
			done <- time.Since(start)
		}()
		n := carry(b, "", k, func(int) bool { return len(done) == 0 })
		carry(b, "quiet-", k, func(i int) bool { return i < n })
		b.ReportMetric(float64((<-done).Milliseconds())/reloads, "reload-ms")
	}
	if v := d.Verdicts(); v[ForwardedNAT.String()] != d.framesRead() {
		b.Errorf("not all packets were forwarded: %v", v)
	}
	b.ReportMetric(0, "ns/op")
}

// carry lets k carry batches for as long as on says so, and reports how long they took.
func carry(b *testing.B, name string, k *worker, on func(n int) bool) (n int) {
	const room = 10_000_000
	var own, wall cputime.Steps
	own.Grow(room)
	wall.Grow(room)
	for ; on(n) && n < room; n++ {
		frames, _ := k.queue.Read(0)
		start := time.Now()
		own.Do(func() { k.batch(frames) })
		wall.Add(time.Since(start))
	}
	longest, _, over := own.Longest(100, 100*time.Microsecond)
	b.ReportMetric(float64(longest.Microseconds()), name+"max-us")
	b.ReportMetric(float64(over)/float64(n)*1e6, name+"over")
	longest, most, _ := wall.Longest(99.9, 0)
	b.ReportMetric(float64(most.Microseconds()), name+"wall-p99.9-us")
	b.ReportMetric(float64(longest.Microseconds()), name+"wall-max-us")
	return n
}

// sumIPv4 sets the checksum of an IPv4 header.
func sumIPv4(b []byte) {
	binary.BigEndian.PutUint16(b[10:], 0)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
}
