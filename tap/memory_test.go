package tap

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"
)

var everything = Offload{Csum: true, TSO4: true, TSO6: true, USO: true}

func TestMemoryDefaults(t *testing.T) {
	d, m := NewMemory(MemoryOptions{})
	defer m.Close()
	if d.Name != "mem0" || d.Driver != "memory" || len(d.Queues) != 1 || d.MTU != 1500 || d.VnetHdr || d.Offload != (Offload{}) {
		t.Errorf("%+v", d)
	}
	mac := MAC{2, 0, 0, 0, 0, 1}
	d, m = NewMemory(MemoryOptions{Name: "lan", Queues: 99, MTU: 9000, Offload: everything, KernelMAC: mac})
	defer m.Close()
	if d.Name != "lan" || len(d.Queues) != MaxQueues || d.MTU != 9000 || !d.VnetHdr || d.Offload != everything || d.KernelMAC != mac {
		t.Errorf("%+v", d)
	}
}

func TestMemoryBothWays(t *testing.T) {
	d, m := NewMemory(MemoryOptions{Queues: 2, Offload: everything})
	defer d.Close()
	type written struct {
		queue int
		f     Frame
	}
	var out []written
	m.OnWrite(func(queue int, f *Frame) { out = append(out, written{queue, f.Clone()}) })

	super := NewFrame(Header{1, GSOTCPv4, 54, 1448, 34, 16}, bytes.Repeat([]byte{7}, 60000))
	small := NewFrame(Header{}, bytes.Repeat([]byte{9}, 60))
	for _, f := range []*Frame{&super, &small} {
		if !m.Send(1, f) {
			t.Fatal("not sent")
		}
	}
	super.Bytes()[0] = 1 // Send has made a copy
	frames, err := d.Queues[1].Read(time.Second)
	if err != nil || len(frames) != 2 || frames[0].Len() != 60000 || frames[0].Header != super.Header || frames[0].Bytes()[0] != 7 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	if frames[0].off() < Headroom || cap(frames[0].buf) != len(frames[0].buf) {
		t.Error("not as the real queue's frames")
	}
	if n := d.Queues[1].Write([]*Frame{&frames[0], &frames[1]}); n != 2 {
		t.Fatalf("%d written", n)
	}
	if len(out) != 2 || out[0].queue != 1 || out[0].f.Header != super.Header || !bytes.Equal(out[1].f.Bytes(), small.Bytes()) {
		t.Error("other frames came out than were written")
	}
	want := Stats{RxFrames: 2, RxBytes: 60060, TxFrames: 2, TxBytes: 60060}
	if s := d.Stats(); s != want {
		t.Errorf("%+v", s)
	}
	if frames, _ := d.Queues[0].Read(0); len(frames) != 0 {
		t.Error("something came out of the other queue")
	}
}

func TestMemoryRefuses(t *testing.T) {
	partial := Header{Flags: FlagNeedsCsum, CsumStart: 34, CsumOffset: 16}
	tests := []struct {
		name string
		o    Offload
		f    Frame
		ok   bool
	}{
		{"ordinary", Offload{}, NewFrame(Header{}, make([]byte, 60)), true},
		{"largest", everything, NewFrame(Header{}, make([]byte, MaxFrameLen)), true},
		{"too large", everything, NewFrame(Header{}, make([]byte, MaxFrameLen+1)), false},
		{"runt", everything, NewFrame(Header{}, make([]byte, 13)), false},
		{"partial", everything, NewFrame(partial, make([]byte, 60)), true},
		{"partial without offload", Offload{}, NewFrame(partial, make([]byte, 60)), false},
		{"checksum beyond the frame", everything, NewFrame(partial, make([]byte, 51)), false},
		{"super without size", everything, NewFrame(Header{1, GSOTCPv4, 54, 0, 34, 16}, make([]byte, 9000)), false},
		{"super TCP over IPv6 where only IPv4", Offload{Csum: true, TSO4: true}, NewFrame(Header{1, GSOTCPv6, 74, 1428, 54, 16}, make([]byte, 9000)), false},
		{"UFO", everything, NewFrame(Header{1, GSOUDP, 42, 1000, 34, 6}, make([]byte, 9000)), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, m := NewMemory(MemoryOptions{Offload: tt.o})
			defer d.Close()
			calls := 0
			m.OnWrite(func(int, *Frame) { calls++ })
			n := d.Queues[0].Write([]*Frame{&tt.f})
			if s := d.Stats(); (n == 1) != tt.ok || calls != n || s.TxInvalid != uint64(1-n) {
				t.Errorf("%d written, %d seen, %+v", n, calls, s)
			}
		})
	}
	_, m := NewMemory(MemoryOptions{})
	f := NewFrame(partial, make([]byte, 60))
	long := NewFrame(Header{}, make([]byte, MaxFrameLen+1))
	if m.Send(0, &f) || m.Send(0, &long) {
		t.Error("sent what no kernel would")
	}
}

func TestMemoryDown(t *testing.T) {
	d, m := NewMemory(MemoryOptions{})
	defer d.Close()
	f := probeFrame()
	m.SetDown(true)
	m.SetDown(true)
	if m.Send(0, &f) || d.Queues[0].Write([]*Frame{&f, &f}) != 0 {
		t.Error("a frame passed while down")
	}
	m.SetDown(false)
	if !m.Send(0, &f) || d.Queues[0].Write([]*Frame{&f}) != 1 {
		t.Error("no frame passes after it came up")
	}
	if s := d.Stats(); s.Downs != 1 || s.Ups != 1 || s.TxDown != 2 {
		t.Errorf("%+v", s)
	}
}

func TestMemoryFull(t *testing.T) {
	d, m := NewMemory(MemoryOptions{})
	defer d.Close()
	f := probeFrame()
	n := 0
	for m.Send(0, &f) {
		n++
	}
	frames, err := d.Queues[0].Read(0)
	if n != inboxFrames || len(frames) != Batch || err != nil {
		t.Errorf("%d sent, %d read, %v", n, len(frames), err)
	}
}

func TestMemoryClose(t *testing.T) {
	d, m := NewMemory(MemoryOptions{Queues: 2})
	var wg sync.WaitGroup
	for _, q := range d.Queues {
		wg.Go(func() {
			if _, err := q.Read(time.Minute); !errors.Is(err, ErrClosed) {
				t.Errorf("read: %v", err)
			}
		})
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	m.Close()
	wg.Wait()
	f := probeFrame()
	if m.Send(0, &f) || d.Queues[0].Write([]*Frame{&f}) != 0 {
		t.Error("a frame passed after Close")
	}
}

// TestMemoryTogether uses everything at once, for the race detector.
func TestMemoryTogether(t *testing.T) {
	d, m := NewMemory(MemoryOptions{Queues: 2})
	const each = 2000
	var wg sync.WaitGroup
	var mu sync.Mutex
	out := 0
	m.OnWrite(func(int, *Frame) { mu.Lock(); out++; mu.Unlock() })
	for i, q := range d.Queues {
		wg.Go(func() {
			f := probeFrame()
			for n := 0; n < each; {
				if m.Send(i, &f) {
					n++
				} else {
					d.Stats()
				}
			}
		})
		wg.Go(func() {
			for n := 0; n < each; {
				frames, err := q.Read(time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				for k := range frames {
					n += q.Write([]*Frame{&frames[k]})
				}
			}
		})
	}
	wg.Wait()
	if s := d.Stats(); out != 2*each || s.RxFrames != 2*each || s.TxFrames != 2*each {
		t.Errorf("%d came out, %+v", out, s)
	}
}

func TestMemoryAllocs(t *testing.T) {
	d, m := NewMemory(MemoryOptions{Offload: everything})
	defer d.Close()
	m.OnWrite(func(int, *Frame) {})
	in := probeFrame()
	out := make([]*Frame, 0, Batch)
	if n := testing.AllocsPerRun(100, func() {
		for range Batch {
			m.Send(0, &in)
		}
		frames, _ := d.Queues[0].Read(time.Second)
		out = out[:0]
		for i := range frames {
			out = append(out, &frames[i])
		}
		d.Queues[0].Write(out)
		d.Queues[0].Read(time.Microsecond) // also when it waits
	}); n != 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}

func probeFrame() Frame {
	b := make([]byte, 60)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	return NewFrame(Header{}, b)
}

// BenchmarkMemory is the fake's own share of every benchmark over it: a frame in and out again.
func BenchmarkMemory(b *testing.B) {
	for _, bb := range []struct {
		name string
		size int
	}{{"60", 60}, {"1514", 1514}, {"64k", 65000}} {
		b.Run(bb.name, func(b *testing.B) {
			d, m := NewMemory(MemoryOptions{})
			defer d.Close()
			in := NewFrame(Header{}, make([]byte, bb.size))
			out := make([]*Frame, 0, Batch)
			b.ReportAllocs()
			b.SetBytes(int64(bb.size))
			for done := 0; done < b.N; {
				for range 8 {
					m.Send(0, &in)
				}
				frames, _ := d.Queues[0].Read(0)
				out = out[:0]
				for i := range frames {
					out = append(out, &frames[i])
				}
				done += d.Queues[0].Write(out)
			}
		})
	}
}
