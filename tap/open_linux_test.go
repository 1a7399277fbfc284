package tap

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	drivers = []string{"linux", "water"}
	quiet   = slog.New(slog.DiscardHandler)
)

func TestCreateAndRemove(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			d, _ := open(t, Options{Name: "tap0", Driver: driver, Queues: 2, MTU: 1400})
			l := link(t, "tap0")
			if l == nil {
				t.Fatal("no interface")
			}
			a := l.Attrs()
			if a.MTU != 1400 || d.MTU != 1400 || a.RawFlags&unix.IFF_UP == 0 {
				t.Errorf("MTU %d (device says %d), flags %#x", a.MTU, d.MTU, a.RawFlags)
			}
			if d.KernelMAC != MAC(a.HardwareAddr) || d.Index != a.Index || d.Name != "tap0" || !d.Created || d.MACBound {
				t.Errorf("device %+v does not match the interface %v %d", d, a.HardwareAddr, a.Index)
			}
			must(t, d.Close())
			must(t, d.Close()) // twice is once
			if link(t, "tap0") != nil {
				t.Error("our interface is still there after Close")
			}
		})
	}
}

// TestQueueing: frames for an interface of ours pass no queueing discipline; what somebody else made keeps it.
func TestQueueing(t *testing.T) {
	for _, driver := range drivers {
		for name, ours := range map[string]bool{"tap0": true, "tap1": false} {
			t.Run(driver+"/"+name, func(t *testing.T) {
				newNetns(t)
				if !ours {
					premade(t, name, netlink.TUNTAP_VNET_HDR|netlink.TUNTAP_MULTI_QUEUE)
				}
				open(t, Options{Name: name, Driver: driver, Queues: 2})
				q, err := netlink.QdiscList(link(t, name))
				must(t, err)
				root := ""
				for _, q := range q {
					if q.Attrs().Parent == netlink.HANDLE_ROOT {
						root = q.Type()
					}
				}
				if (root == "noqueue") != ours {
					t.Errorf("%q", root)
				}
			})
		}
	}
}

func TestOffloadsOfLinuxDriver(t *testing.T) {
	newNetns(t)
	d, _ := open(t, Options{Name: "tap0", Queues: 2})
	if !d.VnetHdr || !d.Offload.Csum || !d.Offload.TSO4 || !d.Offload.TSO6 {
		t.Errorf("offload %+v, vnet header %v", d.Offload, d.VnetHdr)
	}
	if d.Driver != "linux" || len(d.Queues) != 2 {
		t.Errorf("driver %s, %d queues", d.Driver, len(d.Queues))
	}
	w, _ := open(t, Options{Name: "tap1", Queues: 2, Driver: "water"})
	if w.VnetHdr || w.Offload != (Offload{}) || len(w.Queues) != 1 {
		t.Errorf("water: offload %+v, vnet header %v, %d queues", w.Offload, w.VnetHdr, len(w.Queues))
	}
}

func TestNameChosenByKernel(t *testing.T) {
	newNetns(t)
	d, _ := open(t, Options{})
	if !strings.HasPrefix(d.Name, "tap") || link(t, d.Name) == nil {
		t.Errorf("name %q", d.Name)
	}
}

func TestPremade(t *testing.T) {
	tests := []struct {
		name   string
		flags  netlink.TuntapFlag
		queues int
		want   int
		driver string
	}{
		{"one queue, no vnet_hdr", 0, 4, 1, "linux"},
		{"one queue", netlink.TUNTAP_VNET_HDR, 4, 1, "linux"},
		{"multi_queue", netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_MULTI_QUEUE, 4, 4, "linux"},
		{"multi_queue, one wanted", netlink.TUNTAP_MULTI_QUEUE, 1, 1, "linux"},
		{"one queue", netlink.TUNTAP_VNET_HDR, 4, 1, "water"},
		{"multi_queue", netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_MULTI_QUEUE, 4, 1, "water"},
	}
	for _, tt := range tests {
		t.Run(tt.driver+"/"+tt.name, func(t *testing.T) {
			newNetns(t)
			premade(t, "tap0", tt.flags)
			d, _ := open(t, Options{Name: "tap0", Queues: tt.queues, Driver: tt.driver})
			if len(d.Queues) != tt.want || d.Created {
				t.Errorf("%d queues, created %v", len(d.Queues), d.Created)
			}
			if d.VnetHdr != (tt.driver == "linux") {
				t.Errorf("vnet header %v: an idle interface takes the flags of who opens it", d.VnetHdr)
			}
			must(t, d.Close())
			if link(t, "tap0") == nil {
				t.Error("the interface that was there before is gone")
			}
		})
	}
}

// newTun is a device before its queues are opened.
func newTun(t *testing.T, o Options) *tunDevice {
	t.Helper()
	p, err := newPort(o)
	must(t, err)
	d := &tunDevice{port: p, stop: -1}
	p.each = d.eachFD
	t.Cleanup(func() { d.closeFDs(); p.release() })
	return d
}

// TestWithoutVnetHdr: an interface that comes without virtio headers, as another program had it first and then left, works without offloads.
func TestWithoutVnetHdr(t *testing.T) {
	newNetns(t)
	d := newTun(t, Options{Name: "tap0", Log: quiet})
	other, err := rawTAP(t, "tap0", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_MULTI_QUEUE)
	must(t, err)
	must(t, d.openQueues(2))
	letGo(t, other)
	if o := d.offload(d.queues[0].fd); d.vnet || o != (Offload{}) {
		t.Errorf("vnet header %v, offload %+v on an interface that has none", d.vnet, o)
	}
	must(t, d.configure())
	f := probeFrame()
	q := d.queues[0]
	q.vnet = d.vnet
	if n := q.Write([]*Frame{&f}); n != 1 {
		t.Errorf("not written: %+v", d.stats())
	}
	f.Header = Header{Flags: FlagNeedsCsum, CsumStart: 14, CsumOffset: 2}
	if n := q.Write([]*Frame{&f}); n != 0 || d.stats().TxInvalid != 1 {
		t.Errorf("wrote %d unfinished frames to a device without headers: %+v", n, d.stats())
	}
}

// TestTakenMeanwhile: what another program opens between our look at the interface and the end of Open is an error as well.
func TestTakenMeanwhile(t *testing.T) {
	for _, flags := range []uint16{tapFlags | unix.IFF_MULTI_QUEUE, unix.IFF_TAP | unix.IFF_MULTI_QUEUE} {
		t.Run(fmt.Sprintf("%#x", flags), func(t *testing.T) {
			newNetns(t)
			d := newTun(t, Options{Name: "tap0", Queues: 2, Log: quiet})
			other, err := rawTAP(t, "tap0", flags)
			must(t, err)
			if err := d.open(&Device{}); err == nil || !strings.Contains(err.Error(), "another program") {
				t.Errorf("opened: %v", err)
			}
			letGo(t, other)
		})
	}
}

// TestMeanwhileUnderWater: the water driver has no virtio header to read.
func TestMeanwhileUnderWater(t *testing.T) {
	newNetns(t)
	fd, err := rawTAP(t, "tap0", tapFlags)
	must(t, err)
	err = (&port{}).tameFD(fd)
	if err == nil || !strings.Contains(err.Error(), `driver = "linux"`) {
		t.Error(err)
	}
}

func TestBridge(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			br := newBridge(t, "br0")
			d, _ := open(t, Options{Name: "tap0", Bridge: "br0", Driver: driver})
			if got := link(t, "tap0").Attrs().MasterIndex; got != br.Attrs().Index || d.Bridge != "br0" {
				t.Errorf("master is %d, device says %q", got, d.Bridge)
			}
		})
	}
}

// TestReady opens pre-made interfaces without any rights: what is already as asked for needs none.
func TestReady(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			br := newBridge(t, "br0")
			l := premade(t, "tap0", netlink.TUNTAP_VNET_HDR|netlink.TUNTAP_MULTI_QUEUE)
			must(t, netlink.LinkSetMTU(l, 1300))
			must(t, netlink.LinkSetMaster(l, br))
			must(t, netlink.LinkSetUp(l))
			dropRights(t)
			d, _ := open(t, Options{Name: "tap0", Bridge: "br0", MTU: 1300, Queues: 2, Driver: driver})
			if d.MTU != 1300 {
				t.Errorf("MTU %d", d.MTU)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	tests := []struct {
		name  string
		setup func(t *testing.T)
		o     Options
		want  []string // of which each is in the message
		only  string   // the driver, when it is not for both
	}{
		{name: "name too long", o: Options{Name: "a-name-of-20-letters"}, want: []string{`open tap "a-name-of-20-letters"`, "20 bytes", "at most 15"}},
		{name: "slash in name", o: Options{Name: "a/b"}, want: []string{"blanks"}},
		{name: "pattern as name", o: Options{Name: "tap%d"}, want: []string{"%"}},
		{name: "not a TAP", setup: func(t *testing.T) { newBridge(t, "tap0") }, o: Options{Name: "tap0"}, want: []string{"no TAP but a bridge", "choose another"}},
		{name: "veth", setup: func(t *testing.T) {
			must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "tap0"}, PeerName: "peer0"}))
		}, o: Options{Name: "tap0"}, want: []string{"no TAP but a veth"}},
		{name: "a TUN", setup: func(t *testing.T) {
			_, err := rawTAP(t, "tap0", unix.IFF_TUN|unix.IFF_NO_PI)
			must(t, err)
		}, o: Options{Name: "tap0"}, want: []string{"TUN", "ip tuntap add tap0 mode tap"}},
		{name: "busy", setup: func(t *testing.T) { open(t, Options{Name: "tap0", Queues: 1}) }, o: Options{Name: "tap0", Queues: 1}, want: []string{"in use by another program"}},
		{name: "busy, many wanted", setup: func(t *testing.T) { open(t, Options{Name: "tap0", Queues: 1}) }, o: Options{Name: "tap0", Queues: 4}, want: []string{"in use by another program"}},
		{name: "busy, multi_queue", setup: func(t *testing.T) { open(t, Options{Name: "tap0", Queues: 2}) }, o: Options{Name: "tap0", Queues: 2}, want: []string{"in use by another program", "choose another interface"}},
		{name: "busy, multi_queue, one wanted", setup: func(t *testing.T) { open(t, Options{Name: "tap0", Queues: 2}) }, o: Options{Name: "tap0", Queues: 1}, want: []string{"in use by another program"}},
		{name: "busy, pre-made multi_queue, its queue disabled", setup: func(t *testing.T) {
			premade(t, "tap0", netlink.TUNTAP_VNET_HDR|netlink.TUNTAP_MULTI_QUEUE)
			fd, err := rawTAP(t, "tap0", tapFlags|unix.IFF_MULTI_QUEUE)
			must(t, err)
			ifr, err := unix.NewIfreq("")
			must(t, err)
			ifr.SetUint16(unix.IFF_DETACH_QUEUE)
			must(t, unix.IoctlIfreq(fd, unix.TUNSETQUEUE, ifr))
		}, o: Options{Name: "tap0", Queues: 2}, want: []string{"in use by another program"}},
		{name: "no bridge", o: Options{Name: "tap0", Bridge: "br9"}, want: []string{`bridge "br9" does not exist`, "ip link add br9 type bridge"}},
		{name: "bridge is none", setup: func(t *testing.T) { premade(t, "br0", 0) }, o: Options{Name: "tap0", Bridge: "br0"}, want: []string{`"br0" is no bridge but a tuntap`}},
		{name: "MTU out of range", o: Options{Name: "tap0", MTU: 70000}, want: []string{"MTU", "70000"}},
		{name: "creation without rights", setup: func(t *testing.T) { dropRights(t) }, o: Options{Name: "tap0"}, want: []string{"does not exist", "CAP_NET_ADMIN", "ip tuntap add tap0"}},
		{name: "another's, without rights", setup: func(t *testing.T) {
			l := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tap0"}, Mode: netlink.TUNTAP_MODE_TAP, Owner: 1234}
			if !becomeUser(1234) {
				lacking(t, "needs more users than there are in this user namespace")
			}
			becomeUser(0)
			must(t, netlink.LinkAdd(l))
			for _, f := range l.Fds {
				f.Close()
			}
			dropRights(t)
		}, o: Options{Name: "tap0"}, want: []string{"belongs to user 1234", "without CAP_NET_ADMIN"}},
		{name: "down, without rights", setup: func(t *testing.T) { premade(t, "tap0", 0); dropRights(t) }, o: Options{Name: "tap0"},
			want: []string{"is down", "CAP_NET_ADMIN", "ip link set tap0 up"}},
		{name: "other MTU, without rights", setup: func(t *testing.T) { premade(t, "tap0", 0); dropRights(t) }, o: Options{Name: "tap0", MTU: 1400},
			want: []string{"MTU of 1500 to 1400", "ip link set tap0 mtu 1400"}},
		{name: "not in bridge, without rights", setup: func(t *testing.T) { newBridge(t, "br0"); premade(t, "tap0", 0); dropRights(t) },
			o: Options{Name: "tap0", Bridge: "br0"}, want: []string{`bridge "br0"`, "ip link set tap0 master br0"}},
		{name: "no /dev/net/tun", setup: hideTun, o: Options{Name: "tap0"}, want: []string{`open tap "tap0": /dev/net/tun is missing: load the tun module, or run the container with --device /dev/net/tun`}},
		{name: "no access to /dev/net/tun", setup: refuseTun, o: Options{Name: "tap0"}, want: []string{"may not open /dev/net/tun", "chmod 0666"}},
		{name: "macvtap missing", o: Options{Path: "/dev/tap999999"}, want: []string{`open tap "/dev/tap999999"`, "type macvtap"}, only: "linux"},
		{name: "path is no macvtap", o: Options{Path: "/dev/null"}, want: []string{"/dev/null is no macvtap"}, only: "linux"},
		{name: "macvtap in a bridge", o: Options{Path: "/dev/null", Bridge: "br0"}, want: []string{"macvtap cannot be in bridge"}, only: "linux"},
		{name: "macvtap under water", o: Options{Path: "/dev/tap9"}, want: []string{`driver = "linux"`}, only: "water"},
	}
	for _, tt := range tests {
		for _, driver := range drivers {
			if tt.only != "" && tt.only != driver {
				continue
			}
			t.Run(driver+"/"+tt.name, func(t *testing.T) {
				newNetns(t)
				if tt.setup != nil {
					tt.setup(t)
				}
				tt.o.Driver, tt.o.Log = driver, quiet
				d, err := Open(tt.o)
				if err == nil {
					d.Close()
					t.Fatal("opened")
				}
				t.Log(err)
				for _, want := range tt.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("message does not say %q", want)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Error("more than one line")
				}
			})
		}
	}
}

// hideTun covers /dev/net with an empty directory for the test's thread.
func hideTun(t *testing.T) {
	must(t, unix.Unshare(unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("none", "/dev/net", "tmpfs", 0, ""))
}

// refuseTun puts a file that only root may open in the place of the character device, which everybody may open on many systems, and makes the test's thread, and
// no other, an ordinary user.
func refuseTun(t *testing.T) {
	hideTun(t)
	must(t, os.WriteFile(tunPath, nil, 0o600))
	if !becomeUser(65534) {
		lacking(t, "needs more users than there are in this user namespace")
	}
	dropRights(t)
}

// becomeUser makes the test's thread, and no other, a user for all that has to do with files. It reports false where there is none of that number.
func becomeUser(id uintptr) bool {
	unix.RawSyscall(unix.SYS_SETFSUID, id, 0, 0)
	now, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, id, 0, 0)
	return now == id
}

func TestUnknownDriver(t *testing.T) {
	if _, err := Open(Options{Name: "tap0", Driver: "pcap"}); err == nil || !strings.Contains(err.Error(), `driver "pcap" is unknown`) {
		t.Error(err)
	}
}

// TestNoLeaks opens and closes, with success and without, and counts descriptors and goroutines.
func TestNoLeaks(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			newBridge(t, "br0")
			cycle := func() {
				d, err := Open(Options{Name: "tap0", Driver: driver, Queues: 4, Log: quiet})
				must(t, err)
				d.Queues[0].Read(0)
				must(t, d.Close())
				for _, o := range []Options{{Name: "br0"}, {Name: "tap0", Bridge: "br9"}, {Name: "tap0", MTU: 70000}} {
					o.Driver, o.Log = driver, quiet
					if _, err := Open(o); err == nil {
						t.Fatal("opened")
					}
				}
			}
			cycle() // the runtime opens a few descriptors of its own the first time
			before, goroutines := openFDs(t), runtime.NumGoroutine()
			for range 5 {
				cycle()
			}
			if after := openFDs(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
			until(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
		})
	}
}

// TestMultiQueue sends many flows into a TAP: they come out of every queue, each flow of one only.
func TestMultiQueue(t *testing.T) {
	newNetns(t)
	d, _ := open(t, Options{Name: "tap0", Queues: 3})
	if len(d.Queues) != 3 {
		t.Fatalf("%d queues", len(d.Queues))
	}
	send := routeOut(t, "tap0")
	queueOf := map[string]int{}
	used := map[int]bool{}
	for port := 1; port <= 64; port++ {
		send(port, 0, []byte(fmt.Sprintf("flow %d", port)))
	}
	until(t, "frames of all flows", func() bool {
		for i, q := range d.Queues {
			frames, err := q.Read(0)
			must(t, err)
			for _, f := range frames {
				if _, flow, ok := strings.Cut(string(f.Bytes()), "flow"); ok {
					queueOf[flow], used[i] = i, true
				}
			}
		}
		return len(queueOf) == 64
	})
	if len(used) != 3 {
		t.Errorf("64 flows came out of queues %v only", used)
	}
}
