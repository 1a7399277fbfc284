package director

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/director/cputime"
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Both directions of a connection, and consecutive packets of one, come on whichever queue they like, all workers running: each packet goes to its connection's server and
// each answer to its client, and in the end all are established.
func TestDirectionsOnDifferentQueues(t *testing.T) {
	const flows, rounds = 300, 20
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) {
			w := newWorld(t, worldSpec{family: family, queues: 2})
			var picked [flows]atomic.Uint64 // MAC of the server
			var sent [flows]atomic.Int32
			var wg sync.WaitGroup
			wg.Add(flows)
			flowOf := func(a netip.AddrPort) int { return int(a.Port()) - 1024 }
			w.memory[in].OnWrite(func(queue int, f *tap.Frame) {
				answer := w.answerTo(f, stack.SYN|stack.ACK)
				i := flowOf(answer.Dst)
				server := macNumber(stack.DstMAC(f.Bytes()))
				if sent[i].Load() > 1 {
					answer.Flags = stack.ACK
				}
				if !picked[i].CompareAndSwap(0, server) && picked[i].Load() != server {
					t.Errorf("flow %d changed its server", i)
				}
				a := answer.Frame()
				w.memory[in].Send(1-queue, &a)
			})
			w.memory[ext].OnWrite(func(queue int, f *tap.Frame) {
				next := w.answerTo(f, stack.ACK)
				if next.Dst != w.spec.vip() {
					t.Errorf("an answer from %v", next.Dst)
				}
				i := flowOf(next.Src)
				if sent[i].Add(1) > rounds {
					wg.Done()
					return
				}
				g := w.fromPort(next.Src.Port(), stack.ACK).Frame()
				w.memory[ext].Send(1-queue, &g)
			})
			stop := w.runWorkers(t)
			for i := range flows {
				f := w.fromPort(uint16(1024+i), stack.SYN).Frame()
				sent[i].Add(1)
				w.memory[ext].Send(i&1, &f)
			}
			wg.Wait()
			stop()
			established := 0
			w.table.Each(0, func(c *flow.Conn, _ time.Duration) bool {
				if c.State == flow.Established {
					established++
				}
				return true
			})
			v := w.Verdicts()
			if established != flows || w.table.Len() != flows || v[ForwardedNAT.String()] != v[RepliedNAT.String()] || v[ForwardedNAT.String()]+v[RepliedNAT.String()] != w.FramesRead() {
				t.Errorf("%d of %d connections are established; verdicts %v", established, w.table.Len(), v)
			}
		})
	}
}

func macNumber(m stack.MAC) (n uint64) {
	for _, b := range m {
		n = n<<8 | uint64(b)
	}
	return n
}

// runWorkers lets all workers run until stop is called.
func (w *world) runWorkers(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range w.threads {
		wg.Go(func() {
			if err := w.threads[i].run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		for _, m := range w.memory {
			m.Close()
		}
		wg.Wait()
	}
}

// replay is a queue that always has the next of its frames to read: a TAP that is never empty, without somebody who fills it.
type replay struct {
	tap.Queue
	frames   []tap.Frame
	original [][]byte
	next     int
}

// replaying puts a replay of frames in front of a worker's queue.
func (k *worker) replaying(frames []tap.Frame) {
	r := &replay{Queue: k.queue, frames: frames}
	for i := range frames {
		r.original = append(r.original, append([]byte(nil), frames[i].Bytes()...))
	}
	k.queue = r
}

// Read hands out a batch as it was at first: the headers are edited on the way.
func (r *replay) Read(time.Duration) ([]tap.Frame, error) {
	if r.next == len(r.frames) {
		r.next = 0
	}
	batch := r.frames[r.next:][:tap.Batch]
	for i := range batch {
		copy(batch[i].Bytes(), r.original[r.next+i])
	}
	r.next += tap.Batch
	return batch, nil
}

// BenchmarkScaleQueues carries packets of known connections from a read to a write in memory, by one worker and by two, each on a queue and with flows of its own: 4,096 to three
// servers of one service.
//
//	packets/s-one  of one worker, by its thread's own time
//	of-one         how many times that two do
//	apart-of-one   the same for two workers of two directors, which share nothing: what the machine lets two of its CPUs do
func BenchmarkScaleQueues(b *testing.B) {
	for _, way := range []string{"forward", "reply"} {
		b.Run(way, func(b *testing.B) {
			for b.Loop() {
				one := carryQueues(b, replayingWorkers(b, way, 1))
				two := carryQueues(b, replayingWorkers(b, way, 2))
				apart := carryQueues(b, append(replayingWorkers(b, way, 1), replayingWorkers(b, way, 1)...))
				b.ReportMetric(one, "packets/s-one")
				b.ReportMetric(two/one, "of-one")
				b.ReportMetric(apart/one, "apart-of-one")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// replayingWorkers returns n workers of one director, each with flows of its own to carry.
func replayingWorkers(b *testing.B, way string, n int) []*worker {
	const flows = 4096
	w := newWorld(b, worldSpec{queues: 2})
	workers := w.workers[:n]
	if way == "reply" {
		workers = w.workers[2:][:n]
	}
	for q, k := range workers {
		var frames []tap.Frame
		for i := range flows {
			f, answer := w.known(uint16(1024 + q*flows + i))
			if way == "reply" {
				f = answer
			}
			frames = append(frames, f)
		}
		k.replaying(frames)
	}
	return workers
}

// carryQueues lets all workers carry batches at once, and returns how many packets a second they do together.
func carryQueues(b *testing.B, workers []*worker) (sum float64) {
	const batches = 20_000
	rates := make([]float64, len(workers))
	var begin, end sync.WaitGroup
	begin.Add(len(workers))
	for i, k := range workers {
		end.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			begin.Done()
			begin.Wait()
			start := cputime.Thread()
			for range batches {
				frames, _ := k.queue.Read(0)
				k.batch(frames)
			}
			rates[i] = batches * tap.Batch / (cputime.Thread() - start).Seconds()
		})
	}
	end.Wait()
	for i, k := range workers {
		if n := k.frames.Load(); n != batches*tap.Batch {
			b.Fatalf("worker %d carried %d", i, n)
		}
		sum += rates[i]
	}
	return sum
}

// known makes the connection of a client's port and returns a packet of each direction.
func (w *world) known(port uint16) (forward, reply tap.Frame) {
	s := w.fromPort(port, stack.SYN)
	_, left := w.step(ext, s.Frame())
	answer := w.answerTo(&left[0].frame, stack.SYN|stack.ACK)
	w.step(in, answer.Frame())
	s.Flags, answer.Flags = stack.ACK, stack.ACK
	return s.Frame(), answer.Frame()
}
