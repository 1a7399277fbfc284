// Package memlan is a LAN in memory: a learning switch, hosts that are gVisor network stacks, and tap.Memory devices for a director. It is the
// world of every end-to-end test that must run without rights and without a network, and of `lab --memory`.
//
//	world.go    an integration.Plan as a running world
//	switch.go   the wire: ports, learning, flooding
//	host.go     a client or server: a netstack with one link per leg
//	link.go     that netstack's way to a port: frames, partial checksums, superpackets
//	check.go    an independent judge of frames, on every port
package memlan

import (
	"sync"
	"sync/atomic"

	"tapdirector/stack"
	"tapdirector/tap"
)

// How the switch works
//
// A port is a cable to one host: Send takes a frame from the host into the switch, deliver is called with the frames for it. Between
// them every port has a bounded queue and one goroutine. That is not for speed: a netstack calls its link with the locks of a TCP endpoint held,
// so a switch that delivered within Send would deadlock as soon as two hosts talk to each other. A queue that is full drops, as a real switch
// does, and counts.
//
// The order of frames from one goroutine of a host to another host is kept.

// Bounds of a switch.
const (
	queueFrames = 4096     // frames waiting at a port at most
	queueBytes  = 16 << 20 // bytes waiting at a port at most
	maxLearned  = 4096     // MACs known at most; frames to others are flooded
)

// Switch is a learning switch without VLANs: one broadcast domain.
type Switch struct {
	done chan struct{}
	wg   sync.WaitGroup
	once sync.Once

	mu      sync.RWMutex
	ports   []*Port
	learned map[stack.MAC]*Port
}

// NewSwitch returns a switch without ports. It is to be closed.
func NewSwitch() *Switch {
	return &Switch{done: make(chan struct{}), learned: map[stack.MAC]*Port{}}
}

// Close stops the delivery of frames and waits for the ports' goroutines.
func (s *Switch) Close() {
	s.once.Do(func() { close(s.done) })
	s.wg.Wait()
}

// Port is one port of a switch.
type Port struct {
	Name string // of the point, as observers see it: "client/ext"

	sw        *Switch
	deliver   func(f *tap.Frame)
	queue     chan tap.Frame
	waiting   atomic.Int64 // bytes in queue
	drops     atomic.Uint64
	observers atomic.Pointer[[]func(dir string, f *tap.Frame)]
	copies    atomic.Pointer[func(f *tap.Frame) int]
}

// Plug adds a port. Deliver is called for each frame to whatever is plugged in there, by one goroutine; the frame is borrowed until it
// returns, and read-only, since a flooded frame is shared.
func (s *Switch) Plug(name string, deliver func(f *tap.Frame)) *Port {
	p := &Port{Name: name, sw: s, deliver: deliver, queue: make(chan tap.Frame, queueFrames)}
	s.mu.Lock()
	s.ports = append(s.ports, p)
	s.mu.Unlock()
	s.wg.Go(p.run)
	return p
}

// Observe adds a function that is called for each frame that passes the port: dir is "in" towards what is plugged in, "out" from it.
// It is called by many goroutines and must neither change nor keep the frame.
func (p *Port) Observe(fn func(dir string, f *tap.Frame)) {
	for {
		old := p.observers.Load()
		var l []func(string, *tap.Frame)
		if old != nil {
			l = append(l, *old...)
		}
		l = append(l, fn)
		if p.observers.CompareAndSwap(old, &l) {
			return
		}
	}
}

func (p *Port) observe(dir string, f *tap.Frame) {
	if l := p.observers.Load(); l != nil {
		for _, fn := range *l {
			fn(dir, f)
		}
	}
}

// Disturb has fn say how many times each frame that comes from what is plugged in reaches the switch: 0 loses it, 2 doubles it. It is called by many goroutines
// and must neither change nor keep the frame.
func (p *Port) Disturb(fn func(f *tap.Frame) int) { p.copies.Store(&fn) }

// Drops counts frames that found the queue of this port full.
func (p *Port) Drops() uint64 { return p.drops.Load() }

// Send takes a copy of a frame into the switch. It never blocks.
func (p *Port) Send(f *tap.Frame) {
	if f.Len() >= tap.EthernetLen {
		p.give(f.Clone())
	}
}

// give is Send for a frame that the caller will not touch again.
func (p *Port) give(f tap.Frame) {
	p.observe("out", &f)
	n := 1
	if fn := p.copies.Load(); fn != nil {
		n = (*fn)(&f)
	}
	for ; n > 1; n-- {
		p.forward(f.Clone())
	}
	if n == 1 {
		p.forward(f)
	}
}

// forward is what a switch does with a frame that came in at p.
func (p *Port) forward(f tap.Frame) {
	s := p.sw
	dst, src := stack.DstMAC(f.Bytes()), stack.SrcMAC(f.Bytes())
	s.mu.RLock()
	known, to := s.learned[src], s.learned[dst]
	ports := s.ports
	s.mu.RUnlock()
	if known != p {
		s.learn(src, p)
	}
	if to != nil {
		to.enqueue(p, f)
		return
	}
	for _, q := range ports {
		q.enqueue(p, f)
	}
}

// learn notes where a host is; a host that moved is found at its new port. Group addresses are never learned.
func (s *Switch) learn(m stack.MAC, p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m[0]&1 == 0 && (len(s.learned) < maxLearned || s.learned[m] != nil) {
		s.learned[m] = p
	}
}

// enqueue queues f, which came in at from, for delivery; a frame never leaves where it came in.
func (p *Port) enqueue(from *Port, f tap.Frame) {
	if p == from {
		return
	}
	n := int64(f.Len())
	if p.waiting.Add(n) > queueBytes {
		p.waiting.Add(-n)
		p.drops.Add(1)
		return
	}
	select {
	case p.queue <- f:
	default:
		p.waiting.Add(-n)
		p.drops.Add(1)
	}
}

// run delivers until the switch is closed.
func (p *Port) run() {
	for {
		select {
		case <-p.sw.done:
			return
		case f := <-p.queue:
			p.waiting.Add(-int64(f.Len()))
			p.observe("in", &f)
			p.deliver(&f)
		}
	}
}
