package tap

import (
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func master(t testing.TB, name string) int { return link(t, name).Attrs().MasterIndex }

// TestBridgeMadeAgain: a bridge that is deleted and made again gets our interface back, whether we made that or found it.
func TestBridgeMadeAgain(t *testing.T) {
	for _, driver := range drivers {
		for _, pre := range []bool{false, true} {
			t.Run(driver+map[bool]string{false: "/ours", true: "/premade"}[pre], func(t *testing.T) {
				newNetns(t)
				if pre {
					premade(t, "tap0", netlink.TUNTAP_VNET_HDR|netlink.TUNTAP_MULTI_QUEUE)
				}
				br := newBridge(t, "br0")
				d, log := open(t, Options{Name: "tap0", Queues: 2, Driver: driver, Bridge: "br0"})
				for round := 1; round <= 2; round++ {
					must(t, netlink.LinkDel(br))
					until(t, "loss noticed", func() bool { return log.count("tap left its bridge") == round })
					until(t, "the reason", func() bool { return log.count(`bridge \"br0\" does not exist`) == round })
					br = newBridge(t, "br0")
					until(t, "back", func() bool { return log.count("tap back in its bridge") == round })
					if master(t, "tap0") != br.Attrs().Index {
						t.Error("not in its bridge")
					}
				}
				if log.count("tap left its bridge") != 2 || log.count("tap back in its bridge") != 2 || log.count("does not exist") != 2 {
					t.Errorf("log: %s", log)
				}
				if s := d.Stats(); s.Losses != 0 || s.Downs != 0 || s.BridgeLosses != 2 || s.BridgeReturns != 2 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// TestBridgeSameIndex: a bridge that is made again with the index of the old one is another all the same.
func TestBridgeSameIndex(t *testing.T) {
	newNetns(t)
	br := newBridge(t, "br0")
	d, log := open(t, Options{Name: "tap0", Queues: 1, Bridge: "br0"})
	must(t, netlink.LinkDel(br))
	until(t, "the reason", func() bool { return log.count("does not exist") == 1 })
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", Index: br.Attrs().Index}}))
	until(t, "back", func() bool { return d.Stats().BridgeReturns == 1 })
	if master(t, "tap0") != br.Attrs().Index {
		t.Error("not in its bridge")
	}
}

// TestBridgeByHand: what an administrator does to the interface itself is reported and left alone, until it is back by hand.
func TestBridgeByHand(t *testing.T) {
	tests := []struct {
		name   string
		away   func(t *testing.T, tap netlink.Link)
		reason string
	}{
		{"taken out", func(t *testing.T, tap netlink.Link) { must(t, netlink.LinkSetNoMaster(tap)) }, "somebody took it out"},
		{"put in another", func(t *testing.T, tap netlink.Link) { must(t, netlink.LinkSetMaster(tap, newBridge(t, "br1"))) }, "somebody put it in br1"},
		{"put in another, then that deleted", func(t *testing.T, tap netlink.Link) {
			br1 := newBridge(t, "br1")
			must(t, netlink.LinkSetMaster(tap, br1))
			must(t, netlink.LinkDel(br1))
		}, "somebody took it out"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newNetns(t)
			br := newBridge(t, "br0")
			d, log := open(t, Options{Name: "tap0", Queues: 1, Bridge: "br0"})
			tt.away(t, link(t, "tap0"))
			until(t, "the reason", func() bool { return log.count(tt.reason) == 1 })
			if s := d.Stats(); s.BridgeLosses != 1 || s.BridgeReturns != 0 || master(t, "tap0") == br.Attrs().Index {
				t.Errorf("%+v\n%s", s, log)
			}
			must(t, netlink.LinkSetMaster(link(t, "tap0"), br))
			until(t, "back", func() bool { return log.count("tap back in its bridge") == 1 })
			if s := d.Stats(); s.BridgeLosses != 1 || s.BridgeReturns != 1 || log.count("tap left its bridge") != 1 {
				t.Errorf("%+v\n%s", s, log)
			}
		})
	}
}

// TestBridgeRenamed: a bridge keeps its ports when it is renamed, and we are still in ours.
func TestBridgeRenamed(t *testing.T) {
	newNetns(t)
	br := newBridge(t, "br0")
	d, log := open(t, Options{Name: "tap0", Queues: 1, Bridge: "br0"})
	must(t, netlink.LinkSetName(br, "lan"))
	must(t, netlink.LinkSetDown(link(t, "tap0"))) // something that the watcher reports
	until(t, "down", func() bool { return log.count("tap down") == 1 })
	if s := d.Stats(); s.BridgeLosses != 0 || log.count("bridge") != 0 {
		t.Errorf("%+v\n%s", s, log)
	}
}

// TestBridgeLeftByMove: in another namespace the interface is in no bridge of ours.
func TestBridgeLeftByMove(t *testing.T) {
	newNetns(t)
	newBridge(t, "br0")
	d, log := open(t, Options{Name: "tap0", Queues: 1, Bridge: "br0"})
	var away netns.NsHandle
	otherNetns(t)(func() { away, _ = netns.Get() })
	defer away.Close()
	must(t, netlink.LinkSetNsFd(link(t, "tap0"), int(away)))
	until(t, "the reason", func() bool { return log.count("moved to another network namespace") == 1 })
	if s := d.Stats(); s.Losses != 0 || s.BridgeLosses != 1 {
		t.Errorf("%+v", s)
	}
}

// TestBridgeAndTapDeleted: an interface that is out of its bridge and then deleted is back in it when it is back.
func TestBridgeAndTapDeleted(t *testing.T) {
	newNetns(t)
	br := newBridge(t, "br0")
	d, log := open(t, Options{Name: "tap0", Queues: 2, Bridge: "br0"})
	must(t, netlink.LinkSetNoMaster(link(t, "tap0")))
	until(t, "loss noticed", func() bool { return log.count("tap left its bridge") == 1 })
	must(t, netlink.LinkDel(link(t, "tap0")))
	until(t, "back", func() bool { return log.count("tap back in its bridge") == 1 })
	if s := d.Stats(); s.Reattaches != 1 || s.BridgeReturns != 1 || master(t, "tap0") != br.Attrs().Index {
		t.Errorf("%+v\n%s", s, log)
	}
}

// TestBridgeLeavesNoGoroutine: a device that looks for its bridge closes like any other.
func TestBridgeLeavesNoGoroutine(t *testing.T) {
	newNetns(t)
	before := runtime.NumGoroutine()
	br := newBridge(t, "br0")
	d, log := open(t, Options{Name: "tap0", Queues: 1, Bridge: "br0"})
	must(t, netlink.LinkDel(br))
	until(t, "the reason", func() bool { return log.count("does not exist") == 1 })
	must(t, d.Close())
	until(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

// TestBridgeCarriesAgain: frames pass the bridge that was made again.
func TestBridgeCarriesAgain(t *testing.T) {
	newNetns(t)
	br := newBridge(t, "br0")
	must(t, netlink.LinkSetUp(br))
	in, _ := open(t, Options{Name: "tap0", Queues: 1, Bridge: "br0"})
	out, _ := open(t, Options{Name: "tap1", Queues: 1, Bridge: "br0"})
	must(t, netlink.LinkDel(br))
	until(t, "loss noticed", func() bool { return in.Stats().BridgeLosses == 1 && out.Stats().BridgeLosses == 1 })
	must(t, netlink.LinkSetUp(newBridge(t, "br0")))
	until(t, "back", func() bool { return in.Stats().BridgeReturns == 1 && out.Stats().BridgeReturns == 1 })
	f := probeFrame()
	until(t, "a frame across", func() bool {
		in.Queues[0].Write([]*Frame{&f})
		frames, err := out.Queues[0].Read(0)
		must(t, err)
		for i := range frames {
			if b := frames[i].Bytes(); b[12] == f.Bytes()[12] && b[13] == f.Bytes()[13] {
				return true
			}
		}
		return false
	})
}

// TestKernelRemovesFromBridge: what the watcher builds on: a deleted bridge lets its ports go, and a bridge made again has another index.
func TestKernelRemovesFromBridge(t *testing.T) {
	newNetns(t)
	br := newBridge(t, "br0")
	_, err := rawTAP(t, "tap0", unix.IFF_TAP|unix.IFF_NO_PI)
	must(t, err)
	must(t, netlink.LinkSetMaster(link(t, "tap0"), br))
	must(t, netlink.LinkDel(br))
	if m := master(t, "tap0"); m != 0 {
		t.Errorf("master %d", m)
	}
	if again := newBridge(t, "br0"); again.Attrs().Index == br.Attrs().Index {
		t.Error("the same index")
	}
}
