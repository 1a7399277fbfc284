package tap

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// The Linux driver: one descriptor for each queue, an eventfd that stops all their reads, a watcher. In the order of a device's life:
//
//	1 newPort      look at what bears the name
//	2 openQueues   attach a descriptor for each queue
//	3 offload      agree on unfinished frames
//	4 configure    MTU, bridge, up
//	5 watch        follow the interface's state, take it up again when it is lost
//	6 close

// tunDevice is an open TAP or macvtap.
type tunDevice struct {
	*port
	queues  []*tunQueue
	stop    int // eventfd: readable from close on
	watcher *watcher
	closing sync.Once
	invalid sync.Once // for the log line about the first frame refused
}

// openAuto opens with the driver that suits the platform best.
func openAuto(o Options) (*Device, error) { return openLinux(o) }

func openLinux(o Options) (*Device, error) {
	p, err := newPort(o)
	if err != nil {
		return nil, err
	}
	t := &tunDevice{port: p, stop: -1}
	p.each = t.eachFD
	d := &Device{Driver: "linux", stats: t.stats, close: t.close}
	if err := t.open(d); err != nil {
		t.closeFDs()
		p.release()
		return nil, err
	}
	t.watcher = watch(p)
	return d, nil
}

func (t *tunDevice) open(d *Device) (err error) {
	if t.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("no eventfd: %w", err)
	}
	if t.o.Path != "" && t.o.Bridge != "" {
		return fmt.Errorf("a macvtap cannot be in bridge %q: it is on its own device's LAN already", t.o.Bridge)
	}
	if err = t.openQueues(queueCount(t.o.Queues)); err != nil {
		return err
	}
	d.Offload = t.offload(t.queues[0].fd)
	if err = t.configure(); err != nil {
		return err
	}
	t.health.up.Store(running(t.attrs.RawFlags))
	t.describe(d)
	for _, q := range t.queues {
		q.vnet = t.vnet
		d.Queues = append(d.Queues, q)
	}
	return nil
}

// openQueues attaches as many descriptors as the interface can have, at most want.
func (t *tunDevice) openQueues(want int) error {
	first, err := t.openQueue()
	if err != nil {
		return err
	}
	n, err := t.attachFirst(first.fd, want)
	if err != nil {
		return err
	}
	if n < want {
		t.log.Info("tap has one queue only: make it with multi_queue for more", "tap", t.name, "wanted", want)
	}
	vnet := t.vnet
	for len(t.queues) < n {
		q, err := t.openQueue()
		if err != nil {
			return err
		}
		if err := t.attach(q.fd); err != nil {
			return fmt.Errorf("queue %d: %w", len(t.queues), t.explainAttach(err))
		}
		if t.vnet != vnet {
			return fmt.Errorf("queue %d: its flags were changed by another program just now: try again", len(t.queues))
		}
	}
	return nil
}

func (t *tunDevice) openQueue() (*tunQueue, error) {
	fd, err := t.openClone()
	if err != nil {
		return nil, err
	}
	q := newTunQueue(t, fd)
	t.queues = append(t.queues, q)
	return q, nil
}

func (t *tunDevice) eachFD(do func(fd int) error) error {
	for _, q := range t.queues {
		if err := do(q.fd); err != nil {
			return err
		}
	}
	return nil
}

func (t *tunDevice) stats() (s Stats) {
	for _, q := range t.queues {
		q.counters.sum(&s)
	}
	t.health.sum(&s)
	return s
}

// close ends the reads at once, then stops the watcher, which may be waiting for the kernel, then lets the interface go.
func (t *tunDevice) close() error {
	t.closing.Do(func() {
		unix.Write(t.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		t.watcher.stop()
		t.closeFDs()
		t.nl.Close()
	})
	return nil
}

func (t *tunDevice) closeFDs() {
	for _, q := range t.queues {
		q.close()
	}
	if t.stop >= 0 {
		unix.Close(t.stop)
	}
}
