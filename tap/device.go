package tap

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

// Batch is how many waiting frames one Read takes at most.
const Batch = 64

// faultPause is how long a read waits before it looks again at a device that is gone.
const faultPause = 100 * time.Millisecond

// MaxQueues is how many queues a device has at most.
const MaxQueues = 16

// MAC is a hardware address in wire order.
type MAC = [6]byte

// ErrClosed is what Read returns after Close.
var ErrClosed = errors.New("tap: device closed")

// Queue is one queue of a device. Read is for one goroutine; Write may be called by several at once.
type Queue interface {
	// Read waits until at least one frame is there, drains those waiting, at most Batch, and returns them. They are
	// borrowed: valid until the next Read of this queue. It returns no frames and no error when wait has passed, and, perhaps
	// earlier, while the device is gone; ErrClosed after Close. wait <= 0 does not wait.
	Read(wait time.Duration) ([]Frame, error)

	// Write sends the frames in order and returns how many the device took; the others are dropped and counted in Stats by
	// cause. It does not keep them. It uses the HeaderLen bytes before each frame.
	Write(frames []*Frame) int
}

// Offload says which unfinished frames the way out can carry.
type Offload struct {
	Csum bool // frames with FlagNeedsCsum
	TSO4 bool
	TSO6 bool
	USO  bool // USO4 and USO6
}

// Carries reports whether a frame with this header can be written as it is.
func (o Offload) Carries(h Header) bool {
	switch h.GSOType &^ GSOECN {
	case GSONone:
		return o.Csum || !h.Partial()
	case GSOTCPv4:
		return o.TSO4
	case GSOTCPv6:
		return o.TSO6
	case GSOUDPL4:
		return o.USO
	}
	return false
}

// Options say which device to open and how.
type Options struct {
	Name   string       // the kernel's interface name, "tap0"
	Path   string       // a macvtap character device, "/dev/tap7"; empty: /dev/net/tun
	Driver string       // "auto" (or empty), "linux", "water"
	Queues int          // 0: one per CPU, at most MaxQueues
	Bridge string       // put the interface in this bridge; empty: leave it
	MTU    int          // bytes of L3; 0: leave it
	Log    *slog.Logger // state changes: down, up, gone, back; nil: slog.Default
}

// Open opens a device with the driver that o asks for; "auto" is "linux" on Linux and "water" elsewhere. On Linux it works in the network
// namespace of the calling thread, and the device stays in it wherever its queues are used. The error is one line that
// says what was to be opened, what is wrong, and what to do about it.
func Open(o Options) (*Device, error) {
	var d *Device
	var err error
	switch o.Driver {
	case "", "auto":
		d, err = openAuto(o)
	case "linux":
		d, err = openLinux(o)
	case "water":
		d, err = openWater(o)
	default:
		err = fmt.Errorf("driver %q is unknown: use \"auto\", \"linux\" or \"water\"", o.Driver)
	}
	if err != nil {
		return nil, fmt.Errorf("open tap %q: %w", cmp.Or(o.Path, o.Name), err)
	}
	return d, nil
}

// queueCount is how many queues to open when n are asked for.
func queueCount(n int) int {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return min(n, MaxQueues)
}

// Stats are a device's counters since it was opened; the worker's verdicts count what becomes of the frames that were read.
type Stats struct {
	RxFrames, RxBytes  uint64
	RxErrors           uint64 // reads that failed for another cause than nothing waiting
	RxTruncated        uint64 // frames too short for their headers, dropped before anybody saw them
	TxFrames, TxBytes  uint64
	TxDown             uint64 // frames dropped because the device was down or gone (EIO, EBADFD)
	TxInvalid          uint64 // frames the kernel refused (EINVAL): a wrong virtio header, a bug of ours
	TxFull             uint64 // frames dropped because the device could take no more (EAGAIN, ENOBUFS)
	Downs, Ups         uint64 // times the interface was seen to go down, to come up
	Losses, Reattaches uint64 // times the interface was deleted under us, was opened again

	BridgeLosses, BridgeReturns uint64 // times the interface was seen to leave Options.Bridge, to be in it again
}

// Device is an open TAP, macvtap or fake: its queues and what is known of it. Drivers fill it in.
type Device struct {
	Name      string  // the kernel's interface name
	Driver    string  // "linux", "water", "memory"
	Queues    []Queue // at least one
	Offload   Offload
	VnetHdr   bool // false: frames come and go without a virtio header, so never partial and never super
	KernelMAC MAC  // the kernel's own address on this interface; zero when there is none
	MACBound  bool // true: only frames to KernelMAC reach us, so the director must use it (macvtap)
	MTU       int  // bytes of L3
	Index     int  // the kernel's interface index; 0 when there is none
	Created   bool // we made the interface: it goes when the device is closed or the process ends
	Bridge    string

	stats func() Stats
	close func() error
}

// Stats returns the counters of all queues together.
func (d *Device) Stats() Stats { return d.stats() }

// Close stops every Read and releases the device. An interface that we made goes with it; one that existed before stays.
func (d *Device) Close() error { return d.close() }
