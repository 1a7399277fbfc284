//go:build linux

package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Point is a place where frames are seen: a link of a host.
type Point struct{ Host, Link string }

// Seen is one frame as it passed a point.
type Seen struct {
	Point
	When  time.Time // the kernel's
	Out   bool      // the host sent it on this link; false: it came in
	Bytes []byte    // from the Ethernet header on, at most snapLen bytes of it
	Len   int       // bytes of the whole frame
}

// snapLen is how many bytes of a frame are kept: all headers, and enough to tell payloads apart.
const snapLen = 2048

// Capture listens on several points at once, each with a packet socket in the namespace of its link. What it costs the frames'
// way is a clone of each, as with tcpdump.
type Capture struct {
	taps []*packetTap

	mu   sync.Mutex
	seen []Seen
}

// packetTap is the socket of one point.
type packetTap struct {
	point Point
	file  *os.File
	raw   syscall.RawConn
	done  chan struct{}
}

// newCapture starts to listen. It keeps every frame until stop, so it is for a handful of requests.
func newCapture(points map[Point]*Namespace) (*Capture, error) {
	c := &Capture{}
	for point, ns := range points {
		t, err := openTap(point, ns)
		if err != nil {
			c.Stop()
			return nil, fmt.Errorf("capture on %s %s: %w", point.Host, point.Link, err)
		}
		c.taps = append(c.taps, t)
		go func() {
			defer close(t.done)
			t.read(c.keep)
		}()
	}
	return c, nil
}

// Stop ends the capture and returns what was seen in the order of time, the frames still waiting in the sockets included.
func (c *Capture) Stop() []Seen {
	for _, t := range c.taps {
		t.file.SetReadDeadline(time.Unix(1, 0))
		<-t.done
		t.raw.Control(func(fd uintptr) { t.drain(int(fd), c.keep) })
		t.file.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(c.seen, func(a, b Seen) int { return a.When.Compare(b.When) })
	return c.seen
}

func (c *Capture) keep(s Seen) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, s)
}

// openTap opens a packet socket bound to one link, with the kernel's time on every frame.
func openTap(point Point, ns *Namespace) (*packetTap, error) {
	l, err := ns.link(point.Link)
	if err != nil {
		return nil, err
	}
	t := &packetTap{point: point, done: make(chan struct{})}
	err = ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.file = os.NewFile(uintptr(fd), "packet:"+point.Link)
		// Room for a burst; without the right to it the default must do.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		// The protocol belongs to bind: a socket made with it would see other links until then.
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: l.Attrs().Index}),
		)
	})
	if err == nil {
		t.raw, err = t.file.SyscallConn()
	}
	if err != nil && t.file != nil {
		t.file.Close()
	}
	return t, err
}

// read passes frames to keep until the socket's deadline is set.
func (t *packetTap) read(keep func(Seen)) {
	t.raw.Read(func(fd uintptr) bool {
		t.drain(int(fd), keep)
		return false
	})
}

// drain passes the frames that are waiting to keep.
func (t *packetTap) drain(fd int, keep func(Seen)) {
	buf, control := make([]byte, snapLen), make([]byte, 128)
	for {
		n, cn, _, from, err := unix.Recvmsg(fd, buf, control, unix.MSG_TRUNC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		sent := false
		if ll, ok := from.(*unix.SockaddrLinklayer); ok {
			sent = ll.Pkttype == unix.PACKET_OUTGOING
		}
		keep(Seen{
			Point: t.point, When: kernelTime(control[:cn]), Out: sent,
			Bytes: slices.Clone(buf[:min(n, snapLen)]), Len: n,
		})
	}
}

// kernelTime reads the SCM_TIMESTAMPNS message; without one the time is now.
func kernelTime(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			ts := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			return time.Unix(ts.Unix())
		}
	}
	return time.Now()
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)}) }
