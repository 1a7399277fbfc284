package tap

import (
	"sync"
	"sync/atomic"
)

// MemoryOptions say what the fake device looks like. The zero value is a device "mem0" of one queue, MTU 1500, no offload.
type MemoryOptions struct {
	Name      string
	Queues    int // 0: 1; at most MaxQueues
	MTU       int // bytes of L3; 0: 1500
	Offload   Offload
	KernelMAC MAC
}

// Memory is the far side of a device in memory, where a real TAP has its kernel: the LAN sends frames to the device and sees
// those that are written to it. It stands in for a TAP in every test above this package: superpackets and virtio headers pass
// as they are, and it refuses what the kernel would refuse, so that a wrong header is found here and not on the wire.
//
// All its methods may be called by several goroutines at once.
type Memory struct {
	offload Offload
	queues  []*memoryQueue
	health  health
	closed  atomic.Bool
	onWrite func(queue int, f *Frame)
	once    sync.Once
}

// NewMemory returns a device in memory and its far side. The device is up.
func NewMemory(o MemoryOptions) (*Device, *Memory) {
	if o.Name == "" {
		o.Name = "mem0"
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	m := &Memory{offload: o.Offload}
	m.health.up.Store(true)
	d := &Device{
		Name: o.Name, Driver: "memory", Offload: o.Offload, VnetHdr: o.Offload != Offload{},
		KernelMAC: o.KernelMAC, MTU: o.MTU, Created: true,
		stats: m.stats,
		close: func() error { m.Close(); return nil },
	}
	for i := range min(max(o.Queues, 1), MaxQueues) {
		q := &memoryQueue{m: m, index: i, inbox: newInbox()}
		m.queues = append(m.queues, q)
		d.Queues = append(d.Queues, q)
	}
	return d, m
}

// Send gives the device a copy of f to read on a queue, counted from 0 and taken modulo their number. It reports false, and f is lost, when the
// queue is full (1,024 frames or 4 MiB), the device down or closed, f longer than MaxFrameLen, or f a superpacket or partial
// frame that the device's Offload does not carry: a kernel would have finished it first.
func (m *Memory) Send(queue int, f *Frame) bool {
	if !m.health.up.Load() || f.Len() > MaxFrameLen || !m.offload.Carries(f.Header) {
		return false
	}
	return m.queues[queue%len(m.queues)].inbox.put(f.Header, f.Bytes())
}

// OnWrite sets what is called for each frame that the device takes, before Write returns, by the goroutine that writes: by several at once
// when several write. The frame is borrowed until the call returns; clone it to keep it. Set it before the device is used.
func (m *Memory) OnWrite(fn func(queue int, f *Frame)) { m.onWrite = fn }

// SetDown takes the interface down or brings it up: while down, Send
// reports false and everything written is dropped (Stats.TxDown).
func (m *Memory) SetDown(down bool) { m.health.setUp(!down) }

// Close closes the device, as Device.Close does.
func (m *Memory) Close() {
	m.once.Do(func() {
		m.closed.Store(true)
		for _, q := range m.queues {
			q.inbox.close()
		}
	})
}

func (m *Memory) stats() (s Stats) {
	for _, q := range m.queues {
		q.counters.sum(&s)
	}
	m.health.sum(&s)
	return s
}
