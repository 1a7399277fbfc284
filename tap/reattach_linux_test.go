package tap

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	oneQueue   = netlink.TUNTAP_VNET_HDR
	manyQueues = netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_MULTI_QUEUE
)

// TestOtherKindOfQueues: an interface that comes back with the other kind of queues is taken up when ours fit, else the log says what to do.
func TestOtherKindOfQueues(t *testing.T) {
	tests := []struct {
		name          string
		before, after netlink.TuntapFlag
		queues        int
		driver        string
		fits          bool
	}{
		{"one, then many", oneQueue, manyQueues, 2, "linux", true},
		{"many with one wanted, then one", manyQueues, oneQueue, 1, "linux", true},
		{"many, then one", manyQueues, oneQueue, 2, "linux", false},
		{"one, then many", oneQueue, manyQueues, 1, "water", true},
		{"many, then one", manyQueues, oneQueue, 1, "water", true},
	}
	for _, tt := range tests {
		t.Run(tt.driver+"/"+tt.name, func(t *testing.T) {
			newNetns(t)
			premade(t, "tap0", tt.before)
			d, log := open(t, Options{Name: "tap0", Queues: tt.queues, Driver: tt.driver})
			for _, q := range d.Queues {
				pump(t, q)
			}
			t.Cleanup(func() { d.Close() })
			must(t, netlink.LinkDel(link(t, "tap0")))
			until(t, "loss noticed", func() bool { return log.count("waiting for it to be made again") == 1 })
			premade(t, "tap0", tt.after)
			if !tt.fits {
				until(t, "the reason", func() bool { return log.count("made again for one queue and had 2: make it with multi_queue") == 1 })
				must(t, netlink.LinkDel(link(t, "tap0")))
				premade(t, "tap0", tt.before)
			}
			until(t, "taken up", func() bool { return d.Stats().Reattaches == 1 })
			f := probeFrame()
			until(t, "writable", func() bool { return d.Queues[len(d.Queues)-1].Write([]*Frame{&f}) == 1 })
		})
	}
}

// TestSomethingElseCameBack: an interface of another type, or another program's, is not taken up, and the log says what is wrong.
func TestSomethingElseCameBack(t *testing.T) {
	tests := []struct {
		name   string
		make   func(t *testing.T) func()
		reason string
	}{
		{"bridge", func(t *testing.T) func() {
			br := newBridge(t, "tap0")
			return func() { must(t, netlink.LinkDel(br)) }
		}, "no TAP but a bridge"},
		{"held with many queues", func(t *testing.T) func() {
			premade(t, "tap0", manyQueues)
			fd, err := rawTAP(t, "tap0", tapFlags|unix.IFF_MULTI_QUEUE)
			must(t, err)
			return func() { letGo(t, fd); must(t, netlink.LinkDel(link(t, "tap0"))) }
		}, "in use by another program"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newNetns(t)
			premade(t, "tap0", manyQueues)
			d, log := open(t, Options{Name: "tap0", Queues: 2})
			must(t, netlink.LinkDel(link(t, "tap0")))
			until(t, "loss noticed", func() bool { return d.Stats().Losses == 1 })
			end := tt.make(t)
			until(t, "the reason", func() bool { return log.count(tt.reason) == 1 })
			if d.Stats().Reattaches != 0 {
				t.Error("taken up")
			}
			end()
			premade(t, "tap0", manyQueues)
			until(t, "taken up", func() bool { return d.Stats().Reattaches == 1 })
		})
	}
}

// TestReasons: a reason is told once, and only when it lasts.
func TestReasons(t *testing.T) {
	var r reasons
	a, b := errors.New("a"), errors.New("b")
	for i, step := range []struct {
		err   error
		tell  bool
		pause time.Duration
	}{{a, false, faultPause}, {a, true, retryEvery}, {a, false, retryEvery}, {b, false, faultPause}, {a, false, faultPause}, {a, false, retryEvery}, {b, false, faultPause}, {b, true, retryEvery}} {
		if tell, pause := r.failed(step.err); tell != step.tell || pause != step.pause {
			t.Errorf("step %d: %v, %v", i, tell, pause)
		}
	}
}
