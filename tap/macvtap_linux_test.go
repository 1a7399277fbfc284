package tap

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newMacvtap makes a macvtap on one end of a veth pair, the other being "lan", and returns the path of its character device. Its index is far from
// those of other namespaces: the devices of all of them are in one folder.
func newMacvtap(t testing.TB, mac net.HardwareAddr) string {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan"}, PeerName: "below"}))
	must(t, netlink.LinkSetUp(link(t, "lan")))
	must(t, netlink.LinkSetUp(link(t, "below")))
	at := netlink.NewLinkAttrs() // with a queue: one of length 0, the zero value, takes no frame
	at.Name, at.ParentIndex, at.Index, at.HardwareAddr = "mv0", link(t, "below").Attrs().Index, 100_000+os.Getpid(), mac
	m := &netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: at, Mode: netlink.MACVLAN_MODE_BRIDGE}}
	err := netlink.LinkAdd(m)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("this kernel has no macvtap: %v", err)
	}
	must(t, err)
	path := fmt.Sprintf("/dev/tap%d", at.Index)
	if _, err := os.Stat(path); err != nil { // no udev that would make it
		path = makeNode(t, fmt.Sprintf("/sys/class/net/mv0/tap%d/dev", at.Index))
	}
	return path
}

// makeNode makes a character device for the test's thread. Its number is in a file below /sys, of which each network namespace has its own view.
func makeNode(t testing.TB, number string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Unshare(unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("none", "/sys", "sysfs", 0, ""))
	must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	b, err := os.ReadFile(number)
	must(t, err)
	var major, minor uint32
	_, err = fmt.Sscanf(string(b), "%d:%d", &major, &minor)
	must(t, err)
	path := filepath.Join(dir, "tap")
	err = unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor)))
	if errors.Is(err, unix.EPERM) {
		t.Skipf("in this container or user namespace nobody may make a device: %v", err)
	}
	must(t, err)
	return path
}

// TestMacvtap: opened by its device, bound to its MAC, with offloads; frames pass both ways; it stays when it is closed.
func TestMacvtap(t *testing.T) {
	newNetns(t)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 2}
	path := newMacvtap(t, mac)
	d, _ := open(t, Options{Path: path, Queues: 2})
	if !d.MACBound || d.KernelMAC != MAC(mac) || d.Name != "mv0" || d.Created || !d.VnetHdr || !d.Offload.TSO4 {
		t.Errorf("opened as %+v", d)
	}
	send := routeOut(t, "lan")
	send(7, 0, []byte("hello"))
	f := readAny(t, d, func(f *Frame) bool { return strings.HasSuffix(string(f.Bytes()), "hello") })
	before := link(t, "lan").Attrs().Statistics.RxPackets
	copy(f.Bytes(), link(t, "lan").Attrs().HardwareAddr)
	copy(f.Bytes()[6:], mac)
	if n := d.Queues[0].Write([]*Frame{&f}); n != 1 {
		t.Fatalf("%d frames written: %+v", n, d.Stats())
	}
	until(t, "the frame to arrive", func() bool { return link(t, "lan").Attrs().Statistics.RxPackets > before })
	d.Close()
	if link(t, "mv0") == nil {
		t.Error("the macvtap is gone with its device")
	}
}

// readAny reads the queues of d in turn until a frame matches, and returns a copy of it.
func readAny(t testing.TB, d *Device, match func(*Frame) bool) (found Frame) {
	t.Helper()
	until(t, "a frame", func() bool {
		for _, q := range d.Queues {
			frames, err := q.Read(0)
			must(t, err)
			for i := range frames {
				if match(&frames[i]) {
					found = frames[i].Clone()
					return true
				}
			}
		}
		return false
	})
	return found
}
