package tap

import (
	"errors"
	"net"
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
			fd, err := rawTAP(t, "tap0", tapFlags|unix.IFF_MULTI_QUEUE) // which makes it: there is no moment when nobody has it
			must(t, err)
			return func() { letGo(t, fd) }
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

// TestMTUAndMACChanged: what the director does not follow is logged, once for each change.
func TestMTUAndMACChanged(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			d, log := open(t, Options{Name: "tap0", Queues: 1, Driver: driver})
			must(t, netlink.LinkSetMTU(link(t, "tap0"), 1400))
			until(t, "the MTU", func() bool {
				return log.count("tap's MTU was changed: restart tapdirector to follow it\" tap=tap0 mtu=1400 used=1500") == 1
			})
			must(t, netlink.LinkSetMTU(link(t, "tap0"), 1500))
			until(t, "the MTU's return", func() bool { return log.count("tap's MTU is again what the director uses") == 1 })
			must(t, netlink.LinkSetHardwareAddr(link(t, "tap0"), net.HardwareAddr{2, 0, 0, 0, 0xaa, 1}))
			until(t, "the MAC", func() bool { return log.count("tap's kernel MAC was changed") == 1 })
			if log.count("kernel_mac=02:00:00:00:aa:01 was="+net.HardwareAddr(d.KernelMAC[:]).String()) != 1 || log.count("MTU was changed") != 1 {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestBackWithAnotherMTU: a new interface has another MAC, which is no news, and what else differs is.
func TestBackWithAnotherMTU(t *testing.T) {
	newNetns(t)
	premade(t, "tap0", manyQueues)
	d, log := open(t, Options{Name: "tap0", Queues: 2})
	must(t, netlink.LinkDel(link(t, "tap0")))
	until(t, "loss noticed", func() bool { return d.Stats().Losses == 1 })
	tt := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "new0"}, Mode: netlink.TUNTAP_MODE_TAP, Flags: manyQueues | netlink.TUNTAP_NO_PI, Queues: 1}
	must(t, netlink.LinkAdd(tt))
	for _, f := range tt.Fds {
		f.Close()
	}
	must(t, netlink.LinkSetMTU(tt, 1400))
	must(t, netlink.LinkSetName(tt, "tap0"))
	until(t, "the MTU", func() bool { return log.count("mtu=1400 used=1500") == 1 })
	if d.Stats().Reattaches != 1 || log.count("MAC was changed") != 0 {
		t.Errorf("%+v\n%s", d.Stats(), log)
	}
}

// TestMacvtapMACChanged: on a macvtap the director uses the interface's MAC. Its device node may not be there to open, so the watcher is asked itself.
func TestMacvtapMACChanged(t *testing.T) {
	log := &logBuffer{}
	own := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	p := &port{o: Options{Path: "/dev/tap7"}, name: "macvtap0", log: logTo(log), attrs: netlink.LinkAttrs{MTU: 1500, HardwareAddr: own}}
	w := newWatcher(p)
	for range 2 {
		w.compare(&netlink.LinkAttrs{MTU: 1500, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}})
	}
	w.compare(&p.attrs)
	if log.count("macvtap's MAC was changed: restart tapdirector to follow it") != 1 || log.count("macvtap's MAC is again what the director uses") != 1 || log.count("\n") != 2 {
		t.Errorf("log: %s", log)
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
