package tap

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// pump reads a queue in the background as a worker does, until the device is closed.
func pump(t testing.TB, q Queue) {
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := q.Read(time.Second); err != nil {
				done <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		select {
		case err := <-done:
			if !errors.Is(err, ErrClosed) {
				t.Errorf("read: %v", err)
			}
		case <-time.After(patience):
			t.Error("Close did not end the read")
		}
	})
}

func TestDownAndUp(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			var d *Device
			t.Cleanup(func() { d.Close() })
			d, log := open(t, Options{Name: "tap0", Queues: 1, Driver: driver})
			pump(t, d.Queues[0])
			t.Cleanup(func() { d.Close() }) // before the pump is waited for

			must(t, netlink.LinkSetDown(link(t, "tap0")))
			until(t, "down", func() bool { return log.count("tap down") == 1 })
			f := probeFrame()
			if n := d.Queues[0].Write([]*Frame{&f, &f}); n != 0 || d.Stats().TxDown != 2 {
				t.Errorf("wrote %d frames to a device that is down: %+v", n, d.Stats())
			}
			must(t, netlink.LinkSetUp(link(t, "tap0")))
			until(t, "up", func() bool { return log.count("tap up") == 1 })
			if n := d.Queues[0].Write([]*Frame{&f}); n != 1 {
				t.Errorf("not written after it came back: %+v", d.Stats())
			}
			if s := d.Stats(); s.Downs != 1 || s.Ups != 1 || s.Losses != 0 || s.RxErrors != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestDeletedOurs: an interface that we made is made again under the same name and address, in the same bridge.
func TestDeletedOurs(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			br := newBridge(t, "br0")
			d, log := open(t, Options{Name: "tap0", Queues: 2, Driver: driver, Bridge: "br0", MTU: 1400})
			for _, q := range d.Queues {
				pump(t, q)
			}
			t.Cleanup(func() { d.Close() })
			must(t, netlink.LinkDel(link(t, "tap0")))
			until(t, "made again", func() bool { return log.count("tap back") == 1 })
			a := link(t, "tap0").Attrs()
			if MAC(a.HardwareAddr) != d.KernelMAC || a.MTU != 1400 || a.MasterIndex != br.Attrs().Index || a.RawFlags&unix.IFF_UP == 0 {
				t.Errorf("it is not what it was: %+v", a)
			}
			f := probeFrame()
			until(t, "writable", func() bool { return d.Queues[len(d.Queues)-1].Write([]*Frame{&f}) == 1 })
			if s := d.Stats(); s.Losses != 1 || s.Reattaches != 1 || s.Downs != s.Ups || log.count("tap gone") != 1 || log.count("tap back") != 1 {
				t.Errorf("%+v\n%s", s, log)
			}
		})
	}
}

// TestBridgeDeletedToo: an interface that is there but cannot be made what it was is not back yet.
func TestBridgeDeletedToo(t *testing.T) {
	newNetns(t)
	d, log := open(t, Options{Name: "tap0", Queues: 2, Bridge: newBridge(t, "br0").Attrs().Name})
	must(t, netlink.LinkDel(link(t, "br0")))
	must(t, netlink.LinkDel(link(t, "tap0")))
	until(t, "the reason", func() bool { return log.count(`bridge \"br0\" does not exist`) == 1 })
	if s := d.Stats(); s.Losses != 1 || s.Reattaches != 0 {
		t.Errorf("%+v", s)
	}
	br := newBridge(t, "br0")
	until(t, "back", func() bool { return d.Stats().Reattaches == 1 })
	if link(t, "tap0").Attrs().MasterIndex != br.Attrs().Index {
		t.Error("not in its bridge")
	}
	if log.count("does not exist") != 1 {
		t.Errorf("log: %s", log)
	}
}

// TestDeletedPremade: an interface of somebody else is waited for.
func TestDeletedPremade(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			premade(t, "tap0", netlink.TUNTAP_VNET_HDR|netlink.TUNTAP_MULTI_QUEUE)
			d, log := open(t, Options{Name: "tap0", Queues: 2, Driver: driver})
			for _, q := range d.Queues {
				pump(t, q)
			}
			t.Cleanup(func() { d.Close() })
			must(t, netlink.LinkDel(link(t, "tap0")))
			until(t, "loss noticed", func() bool { return log.count("waiting for it to be made again") == 1 })
			if link(t, "tap0") != nil {
				t.Fatal("made again by us")
			}
			errorsAtFirst := d.Stats().RxErrors
			premade(t, "tap0", netlink.TUNTAP_VNET_HDR|netlink.TUNTAP_MULTI_QUEUE)
			until(t, "taken up", func() bool { return d.Stats().Reattaches == 1 })
			if errorsAtFirst > 8 {
				t.Errorf("%d read errors: a spin", errorsAtFirst)
			}
			must(t, d.Close())
			if link(t, "tap0") == nil {
				t.Error("it went with us")
			}
		})
	}
}

// TestMoved: an interface that is moved to another namespace works on, and its loss over there is noticed.
func TestMoved(t *testing.T) {
	newNetns(t)
	d, _ := open(t, Options{Name: "tap0", Queues: 1})
	in := otherNetns(t)
	var away netns.NsHandle
	in(func() { away, _ = netns.Get() })
	defer away.Close()
	must(t, netlink.LinkSetNsFd(link(t, "tap0"), int(away)))
	var send func(port, gso int, b []byte)
	in(func() {
		must(t, netlink.LinkSetUp(link(t, "tap0")))
		send = routeOut(t, "tap0")
	})
	send(7, 0, []byte("over here"))
	readUntil(t, d.Queues[0], func(f *Frame) bool { return f.Bytes()[12] == 8 && f.Bytes()[13] == 0 })
	if d.Stats().Losses != 0 {
		t.Error("counted as lost")
	}
	pump(t, d.Queues[0])
	t.Cleanup(func() { d.Close() })
	in(func() { must(t, netlink.LinkDel(link(t, "tap0"))) })
	until(t, "loss noticed", func() bool { return d.Stats().Losses == 1 })
}

// TestResync: when messages were lost, the watcher asks.
func TestResync(t *testing.T) {
	newNetns(t)
	d, log := open(t, Options{Name: "tap0", Queues: 1})
	w := d.Queues[0].(*tunQueue).dev.watcher
	w.stop() // it hears nothing any more
	must(t, netlink.LinkSetDown(link(t, "tap0")))
	w.resync()
	w.resync()
	must(t, netlink.LinkSetUp(link(t, "tap0")))
	w.resync()
	if s := d.Stats(); s.Downs != 1 || s.Ups != 1 || log.count("tap down") != 1 {
		t.Errorf("%+v\n%s", s, log)
	}
}

func TestCloseEndsRead(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			d, _ := open(t, Options{Name: "tap0", Queues: 2, Driver: driver})
			ended := make(chan error, len(d.Queues))
			for _, q := range d.Queues {
				go func() {
					for {
						if _, err := q.Read(time.Hour); err != nil {
							ended <- err
							return
						}
					}
				}()
			}
			f := probeFrame()
			must(t, d.Close())
			for range d.Queues {
				select {
				case err := <-ended:
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
				case <-time.After(patience):
					t.Fatal("a read goes on after Close")
				}
			}
			if n := d.Queues[0].Write([]*Frame{&f}); n != 0 {
				t.Error("written after Close")
			}
		})
	}
}

// TestStaysInNamespace: a device that was opened in one namespace and lost is made again there, whatever thread does it.
func TestStaysInNamespace(t *testing.T) {
	newNetns(t)
	in := otherNetns(t)
	var d *Device
	in(func() { d, _ = open(t, Options{Name: "tap7", Queues: 1}) })
	in(func() { must(t, netlink.LinkDel(link(t, "tap7"))) })
	until(t, "made again", func() bool { return d.Stats().Reattaches == 1 })
	if link(t, "tap7") != nil {
		t.Error("it is in the wrong namespace")
	}
	in(func() {
		if link(t, "tap7") == nil {
			t.Error("it is not in its namespace")
		}
	})
}
