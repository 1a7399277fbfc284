package tap

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What this package assumes of the kernel. A test that fails here says which of our reasons no longer holds.

const rawFlags = unix.IFF_TAP | unix.IFF_NO_PI

func TestKernelFirstAttachReplacesFlags(t *testing.T) {
	newNetns(t)
	premade(t, "tap0", 0)
	fd, err := rawTAP(t, "tap0", rawFlags|unix.IFF_VNET_HDR)
	must(t, err)
	if _, flags, err := attached(fd); err != nil || flags&unix.IFF_VNET_HDR == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	unix.Close(fd)
	fd, err = rawTAP(t, "tap0", rawFlags)
	must(t, err)
	if _, flags, err := attached(fd); err != nil || flags&unix.IFF_VNET_HDR != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func TestKernelLaterAttachTakesFlags(t *testing.T) {
	newNetns(t)
	_, err := rawTAP(t, "tap0", rawFlags|unix.IFF_MULTI_QUEUE)
	must(t, err)
	fd, err := rawTAP(t, "tap0", rawFlags|unix.IFF_MULTI_QUEUE|unix.IFF_VNET_HDR)
	must(t, err)
	if _, flags, err := attached(fd); err != nil || flags&unix.IFF_VNET_HDR != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func TestKernelAttachErrors(t *testing.T) {
	tests := []struct {
		name        string
		first, then uint16
		want        error
	}{
		{"second on a single queue", rawFlags, rawFlags, unix.EBUSY},
		{"many queues on a single one", rawFlags, rawFlags | unix.IFF_MULTI_QUEUE, unix.EINVAL},
		{"single queue on many", rawFlags | unix.IFF_MULTI_QUEUE, rawFlags, unix.EINVAL},
		{"TUN", unix.IFF_TUN | unix.IFF_NO_PI, rawFlags, unix.EINVAL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newNetns(t)
			_, err := rawTAP(t, "tap0", tt.first)
			must(t, err)
			if _, err := rawTAP(t, "tap0", tt.then); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// TestKernelKeepsForm: the header's size stays with a persistent interface, so that it must be set each time.
func TestKernelKeepsForm(t *testing.T) {
	newNetns(t)
	premade(t, "tap0", netlink.TUNTAP_VNET_HDR)
	fd, err := rawTAP(t, "tap0", rawFlags|unix.IFF_VNET_HDR)
	must(t, err)
	must(t, unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, 12))
	unix.Close(fd)
	fd, err = rawTAP(t, "tap0", rawFlags|unix.IFF_VNET_HDR)
	must(t, err)
	if n, err := unix.IoctlGetInt(fd, unix.TUNGETVNETHDRSZ); n != 12 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	unix.Close(fd)
	d, _ := open(t, Options{Name: "tap0", Queues: 1})
	if n, err := unix.IoctlGetInt(d.Queues[0].(*tunQueue).fd, unix.TUNGETVNETHDRSZ); n != HeaderLen || err != nil {
		t.Errorf("after Open %d bytes, %v", n, err)
	}
}

// TestKernelDeletedUnderUs: reads fail with EBADFD, poll says POLLERR, and the same descriptor can be attached again.
func TestKernelDeletedUnderUs(t *testing.T) {
	newNetns(t)
	fd, err := rawTAP(t, "tap0", rawFlags)
	must(t, err)
	must(t, netlink.LinkDel(link(t, "tap0")))
	buf := make([]byte, 100)
	if _, err := unix.Read(fd, buf); err != unix.EBADFD {
		t.Errorf("read: %v", err)
	}
	if _, err := unix.Write(fd, buf); err != unix.EBADFD {
		t.Errorf("write: %v", err)
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); n != 1 || fds[0].Revents&unix.POLLERR == 0 {
		t.Errorf("poll: %v, %#x", err, fds[0].Revents)
	}
	ifr, _ := unix.NewIfreq("tap0")
	ifr.SetUint16(rawFlags)
	must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr))
	if _, err := unix.Read(fd, buf); err != unix.EAGAIN {
		t.Errorf("read after it was attached again: %v", err)
	}
}

// TestKernelDown: reads see nothing, without an error that poll would report for ever; writes fail with EIO.
func TestKernelDown(t *testing.T) {
	newNetns(t)
	fd, err := rawTAP(t, "tap0", rawFlags)
	must(t, err)
	buf := make([]byte, 60)
	if _, err := unix.Read(fd, buf); err != unix.EAGAIN {
		t.Errorf("read: %v", err)
	}
	if _, err := unix.Write(fd, buf); err != unix.EIO {
		t.Errorf("write: %v", err)
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, 0); n != 0 {
		t.Errorf("poll: %#x", fds[0].Revents)
	}
}

// TestKernelRefusals: what Header.refusal refuses the kernel refuses too, so the fake is no stricter than the real thing; and it takes what we send.
func TestKernelRefusals(t *testing.T) {
	newNetns(t)
	d, _ := open(t, Options{Name: "tap0", Queues: 1})
	refused := 0
	for range 3000 {
		h := randomHeader()
		h.Flags &= 1
		h.HdrLen &= 0x7f
		h.CsumStart &= 0x7f
		h.CsumOffset &= 0x1f
		if h.GSOType &= 0x87; h.GSOType&3 == 0 {
			h.GSOSize = 0
		}
		f := NewFrame(h, make([]byte, 10+int(h.HdrLen>>1)))
		reason := h.refusal(f.Len())
		if reason == "" {
			continue
		}
		refused++
		if n := d.Queues[0].Write([]*Frame{&f}); n != 0 {
			t.Fatalf("the kernel takes %+v with %d bytes: %s", h, f.Len(), reason)
		}
	}
	if s := d.Stats(); refused == 0 || s.TxInvalid != uint64(refused) {
		t.Errorf("%d refused, %+v", refused, s)
	}
	for name, f := range wellFormed() {
		if d.Queues[0].Write([]*Frame{&f}) != 1 {
			t.Errorf("the kernel refuses %s", name)
		}
	}
}

// wellFormed returns frames of each kind that leave the director: addresses of nobody, right lengths.
func wellFormed() map[string]Frame {
	eth := []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1}
	v4 := func(proto byte, n int) []byte {
		b := append(append([]byte{}, eth...), 8, 0, 0x45, 0, byte((n+20)>>8), byte(n+20), 0, 0, 0, 0, 64, proto, 0, 0, 10, 9, 9, 1, 10, 9, 9, 2)
		return append(b, make([]byte, n)...)
	}
	v6 := func(proto byte, n int) []byte {
		b := append(append([]byte{}, eth...), 0x86, 0xdd, 0x60, 0, 0, 0, byte(n>>8), byte(n), proto, 64)
		b = append(append(b, make([]byte, 32)...), make([]byte, n)...)
		b[14+8], b[14+24] = 0xfd, 0xfd
		return b
	}
	tcp := func(b []byte, l4 int) []byte { b[l4+12], b[l4+13] = 5<<4, 0x10; return b }
	return map[string]Frame{
		"an ordinary frame":  NewFrame(Header{}, v4(17, 40)),
		"partial TCP, IPv4":  NewFrame(Header{1, 0, 0, 0, 34, 16}, tcp(v4(6, 100), 34)),
		"partial TCP, IPv6":  NewFrame(Header{1, 0, 0, 0, 54, 16}, tcp(v6(6, 100), 54)),
		"super TCP, IPv4":    NewFrame(Header{1, GSOTCPv4, 54, 1448, 34, 16}, tcp(v4(6, 20+9000), 34)),
		"super TCP, IPv6":    NewFrame(Header{1, GSOTCPv6, 74, 1428, 54, 16}, tcp(v6(6, 20+9000), 54)),
		"super TCP with CWR": NewFrame(Header{1, GSOTCPv4 | GSOECN, 54, 1448, 34, 16}, tcp(v4(6, 20+9000), 34)),
		"super UDP, IPv4":    NewFrame(Header{1, GSOUDPL4, 42, 1000, 34, 6}, v4(17, 8+5500)),
		"super UDP, IPv6":    NewFrame(Header{1, GSOUDPL4, 62, 1000, 54, 6}, v6(17, 8+5500)),
		"no hint of HdrLen":  NewFrame(Header{1, GSOTCPv4, 0, 1448, 34, 16}, tcp(v4(6, 20+9000), 34)),
	}
}

// TestKernelRemovesAfterCrash: an interface that we made goes with a process that is killed.
func TestKernelRemovesAfterCrash(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			if os.Getenv("TAP_TEST_CRASH") == driver {
				_, err := Open(Options{Name: "tapcrash", Driver: driver})
				must(t, err)
				os.Stdout.WriteString("open\n")
				select {} // until killed
			}
			newNetns(t)
			cmd := exec.Command(os.Args[0], "-test.run=^TestKernelRemovesAfterCrash$/^"+driver+"$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), "TAP_TEST_CRASH="+driver)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start()) // a child of this thread, so in this namespace
			kill := time.AfterFunc(patience, func() { cmd.Process.Kill() })
			defer kill.Stop()
			_, err = out.Read(make([]byte, 5))
			there := link(t, "tapcrash") != nil
			cmd.Process.Kill()
			cmd.Wait()
			if err != nil || !there {
				t.Fatalf("the child opened nothing: %v", err)
			}
			until(t, "the interface to go", func() bool { return link(t, "tapcrash") == nil })
		})
	}
}
