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

	"tapdirector/integration"
)

// Point is a place where frames are seen: a link of a host.
type Point struct {
	Host string // "client"
	LAN  string // "ext"
	Link string // "eth0"
}

// String is the point as integration.Observer has it, "client/ext".
func (p Point) String() string { return p.Host + "/" + p.LAN }

// Seen is one frame as it passed a point.
type Seen struct {
	Point
	When  time.Time // the kernel's
	Out   bool      // the host sent it there; false: it came in
	Bytes []byte    // from the Ethernet header on, at most snapLen bytes of it
	Len   int       // bytes of the whole frame
}

// snapLen is how many bytes of a frame are kept: all headers, and enough to tell payloads apart.
const snapLen = 2048

// startClock makes the kernel stamp frames as they pass, which it begins to do some time after it was first asked to; a frame from
// before is stamped when it is read. So it is asked when the world is built, not when a capture begins.
func (w *World) startClock() error {
	return w.director.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		w.clock = os.NewFile(uintptr(fd), "clock")
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
}

// watch listens on several points at once, each with a packet socket in the namespace of its link. What it costs the frames' way is
// a clone of each, as with tcpdump.
type watch struct {
	taps []*packetTap
	keep func(Seen) // called by a goroutine for each point
}

// packetTap is the socket of one point.
type packetTap struct {
	point Point
	file  *os.File
	raw   syscall.RawConn
	done  chan struct{}

	mirrored bool // a TAP: what the kernel sends there, the director receives
}

// newWatch starts to listen.
func newWatch(points map[Point]*Namespace, keep func(Seen)) (*watch, error) {
	w := &watch{keep: keep}
	for point, ns := range points {
		t, err := openTap(point, ns)
		if err != nil {
			w.stop()
			return nil, fmt.Errorf("capture on %s %s: %w", point.Host, point.Link, err)
		}
		w.taps = append(w.taps, t)
		go func() {
			defer close(t.done)
			t.read(keep)
		}()
	}
	return w, nil
}

// stop ends it; the frames that wait in the sockets are still reported.
func (w *watch) stop() {
	for _, t := range w.taps {
		t.file.SetReadDeadline(time.Unix(1, 0))
		<-t.done
		t.raw.Control(func(fd uintptr) { t.drain(int(fd), w.keep) })
		t.file.Close()
	}
}

// captureMax is how many frames a Capture keeps; later ones are not.
const captureMax = 1 << 14

// Capture keeps the frames of every point: for a handful of requests.
type Capture struct {
	watch *watch

	mu   sync.Mutex
	seen []Seen
}

// Capture starts to keep what passes the legs of all hosts and the director's TAPs.
func (w *World) Capture() (*Capture, error) {
	c := &Capture{}
	watch, err := newWatch(w.points(), func(s Seen) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.seen) < captureMax {
			c.seen = append(c.seen, s)
		}
	})
	c.watch = watch
	return c, err
}

// Stop ends the capture and returns what was seen in the order of time.
func (c *Capture) Stop() []Seen {
	c.watch.stop()
	slices.SortStableFunc(c.seen, func(a, b Seen) int { return a.When.Compare(b.When) })
	return c.seen
}

// Observe calls o for each frame that passes a host's leg or a TAP of the director from now until Close; it lags behind the frames.
func (w *World) Observe(o integration.Observer) {
	watch, err := newWatch(w.points(), func(s Seen) {
		dir := "in"
		if s.Out {
			dir = "out"
		}
		o(s.Point.String(), dir, s.Bytes)
	})
	w.note(err)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.watches = append(w.watches, watch)
	}
}

// points are all places where frames can be seen.
func (w *World) points() map[Point]*Namespace {
	points := map[Point]*Namespace{}
	for _, lan := range w.plan.LANs {
		points[Point{Host: w.director.Name, LAN: lan, Link: w.tapOn(lan)}] = w.director
	}
	for _, h := range w.hosts {
		for i, leg := range h.plan.Legs {
			points[Point{Host: h.Name, LAN: leg.LAN, Link: legName(i)}] = h.Namespace
		}
	}
	return points
}

// openTap opens a packet socket bound to one link, with the kernel's time on every frame.
func openTap(point Point, ns *Namespace) (*packetTap, error) {
	l, err := ns.link(point.Link)
	if err != nil {
		return nil, err
	}
	t := &packetTap{point: point, done: make(chan struct{}), mirrored: l.Type() == "tuntap"}
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
			sent = (ll.Pkttype == unix.PACKET_OUTGOING) != t.mirrored
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
