package tap

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for anything before it calls it a failure.
const patience = 10 * time.Second

// newNetns moves the test into a network namespace of its own. The thread stays locked, so it ends with the test's goroutine, and
// the namespace with it. Sub-tests run in goroutines of their own, so each calls it for itself.
func newNetns(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		lacking(t, "needs the right to make network namespaces (root, or unshare -Urn): %v", err)
	}
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		lacking(t, "needs %s: %v", tunPath, err)
	}
	unix.Close(fd)
}

// lacking skips a test for want of rights, or fails it where they are promised.
func lacking(t testing.TB, why string, args ...any) {
	t.Helper()
	if os.Getenv("TAPDIRECTOR_NEED_NETNS") == "1" {
		t.Fatalf("TAPDIRECTOR_NEED_NETNS=1, but the test "+why, args...)
	}
	t.Skipf(why, args...)
}

// otherNetns makes a second namespace and returns a function that runs something in it on the test's thread.
func otherNetns(t testing.TB) func(func()) {
	t.Helper()
	home, err := netns.Get()
	must(t, err)
	away, err := netns.New()
	must(t, err)
	must(t, netns.Set(home))
	t.Cleanup(func() { home.Close(); away.Close() })
	return func(do func()) {
		t.Helper()
		must(t, netns.Set(away))
		defer func() { must(t, netns.Set(home)) }()
		do()
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a device and closes it with the test. Its log goes to the returned buffer.
func open(t testing.TB, o Options) (*Device, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	if o.Log == nil {
		o.Log = logTo(log)
	}
	d, err := Open(o)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d, log
}

func logTo(b *logBuffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count is how many lines hold s.
func (l *logBuffer) count(s string) int {
	return strings.Count(l.String(), s)
}

// premade makes a persistent TAP as "ip tuntap add" does.
func premade(t testing.TB, name string, flags netlink.TuntapFlag) *netlink.Tuntap {
	t.Helper()
	tt := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP, Flags: flags | netlink.TUNTAP_NO_PI}
	if flags&netlink.TUNTAP_MULTI_QUEUE != 0 {
		tt.Queues = 1
	}
	must(t, netlink.LinkAdd(tt))
	for _, f := range tt.Fds {
		f.Close()
	}
	return tt
}

func newBridge(t testing.TB, name string) netlink.Link {
	t.Helper()
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	must(t, netlink.LinkAdd(br))
	return br
}

// link returns the interface, or nil when there is none.
func link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	must(t, err)
	return l
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) // between two looks
	}
}

// openFDs is how many descriptors the process has.
func openFDs(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

// dropRights takes all capabilities from the test's thread, which ends with the test.
func dropRights(t testing.TB) {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	must(t, unix.Capset(&hdr, &none[0]))
}

// rawTAP attaches a descriptor to a TAP without any of our care.
func rawTAP(t testing.TB, name string, flags uint16) (int, error) {
	t.Helper()
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	ifr, err := unix.NewIfreq(name)
	must(t, err)
	ifr.SetUint16(flags)
	return fd, unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

// letGo ends what rawTAP began. The number stays taken, since rawTAP's cleanup closes it.
func letGo(t testing.TB, fd int) {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(null)
	must(t, unix.Dup3(null, fd, unix.O_CLOEXEC))
}

// readUntil reads until a frame satisfies ok, and returns a clone of it.
func readUntil(t testing.TB, q Queue, ok func(*Frame) bool) Frame {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		frames, err := q.Read(100 * time.Millisecond)
		must(t, err)
		for i := range frames {
			if ok(&frames[i]) {
				return frames[i].Clone()
			}
		}
	}
	t.Fatalf("no such frame in %v", patience)
	return Frame{}
}
