//go:build linux

package netlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tapdirector/integration"
)

// A neighbour is found once it is asked for, one that is not there is not, and on a link that is not there nobody is.
func TestAsk(t *testing.T) {
	a, b, _ := lan(t, "10.0.0.1/24", "10.0.0.2/24", "fd00::1/64", "fd00::2/64")
	l, err := b.link("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"10.0.0.2", "fd00::2"} {
		var got net.HardwareAddr
		eventually(t, address+" is found", func() bool { got = a.ask("eth0", netip.MustParseAddr(address)); return got != nil })
		if !bytes.Equal(got, l.Attrs().HardwareAddr) {
			t.Errorf("%s is at %v, want %v", address, got, l.Attrs().HardwareAddr)
		}
	}
	for range 3 {
		if got := a.ask("eth0", netip.MustParseAddr("10.0.0.3")); got != nil {
			t.Errorf("nobody is 10.0.0.3, but it is at %v", got)
		}
	}
	if got := a.ask("eth9", netip.MustParseAddr("10.0.0.2")); got != nil {
		t.Errorf("found %v on no link", got)
	}
}

// A watch tells what came in from what went out, whole lengths from kept bytes, and reports what still waits when it is stopped.
func TestWatch(t *testing.T) {
	a, b, _ := lan(t, "10.0.0.1/24", "10.0.0.2/24")
	sender, err := a.ListenPacket("udp", "10.0.0.1:1000")
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	receiver, err := b.ListenPacket("udp", "10.0.0.2:1000")
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	var mu sync.Mutex
	var seen []Seen
	w, err := newWatch(map[Point]*Namespace{{"a", "lan", "eth0"}: a, {"b", "lan", "eth0"}: b}, func(s Seen) {
		mu.Lock()
		defer mu.Unlock()
		if bytes.Contains(s.Bytes, []byte("needle")) {
			seen = append(seen, s)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sender.WriteTo([]byte("needle"), receiver.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	receiver.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := receiver.ReadFrom(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if len(seen) != 2 {
		t.Fatalf("seen %d times, want 2: %+v", len(seen), seen)
	}
	for _, s := range seen {
		if s.Out != (s.Host == "a") || s.Len != len(s.Bytes) || s.Len != 14+20+8+6 || time.Since(s.When) > time.Minute {
			t.Errorf("%+v", s)
		}
	}
}

// A watch on a link that is not there is an error and leaves nothing open.
func TestWatchOnNoLink(t *testing.T) {
	a := namespaces(t, "a")[0]
	files := openFiles(t)
	_, err := newWatch(map[Point]*Namespace{{"a", "lan", "lo"}: a, {"a", "lan", "eth9"}: a}, func(Seen) {})
	if err == nil || !strings.Contains(err.Error(), "eth9") {
		t.Errorf("error %v", err)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d descriptors before, %d after", files, now)
	}
}

func TestKernelTime(t *testing.T) {
	if got := kernelTime(nil); time.Since(got) > time.Minute {
		t.Errorf("without a message the time is %v, want now", got)
	}
	if got := kernelTime([]byte{1, 2, 3}); time.Since(got) > time.Minute {
		t.Errorf("with a broken message the time is %v, want now", got)
	}
}

func TestHtons(t *testing.T) {
	v := htons(unix.ETH_P_ALL)
	if b := binary.NativeEndian.AppendUint16(nil, v); !bytes.Equal(b, []byte{0, 3}) {
		t.Errorf("in memory: %v, want 0 3", b)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var l tail
	l.Write([]byte("begin"))
	for range tailSize / 4 {
		l.Write([]byte("abcd"))
	}
	l.Write([]byte("end"))
	got := l.String()
	if len(got) != tailSize || !strings.HasSuffix(got, "abcdend") || strings.Contains(got, "begin") {
		t.Errorf("%d bytes, from %q to %q", len(got), got[:8], got[len(got)-8:])
	}
}

func TestMemoryFile(t *testing.T) {
	f, err := memoryFile("x", "content")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 20)
	if n, err := f.ReadAt(b, 0); string(b[:n]) != "content" || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// A child lives in the namespace and finds its config there; what it says is passed on, and how it ends is told.
func TestChild(t *testing.T) {
	n := namespaces(t, "a")[0]
	needPrograms(t, "sh")
	var log bytes.Buffer
	// The script is given "-conf FILE" as $1 and $2; it ends at SIGTERM.
	script := `trap 'exit 0' TERM; cat "$2"; cat /proc/self/net/dev | grep -c :; while :; do sleep 0.02; done`
	r, err := startChild(n, Options{Program: []string{"/bin/sh", "-c", script, "sh"}, Log: &log}, "the config\n")
	if err != nil {
		t.Fatal(err)
	}
	c := r.(*child)
	eventually(t, "it speaks", func() bool { return strings.HasSuffix(c.tail.String(), "\n1\n") })
	if c.ended() != nil || c.counters() != nil || c.pid() == os.Getpid() {
		t.Errorf("ended %v, counters %v, pid %d", c.ended(), c.counters(), c.pid())
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	if want := "the config\n1\n"; log.String() != want {
		t.Errorf("it said %q, want %q: its config, and one link", log.String(), want)
	}
	if err := c.stop(); !errors.Is(err, errEnded) {
		t.Errorf("stopped again: %v, want %v", err, errEnded)
	}
}

// A child that fails when it is stopped says so, with its last words; a program that is not there does not start.
func TestChildThatFails(t *testing.T) {
	n := namespaces(t, "a")[0]
	needPrograms(t, "sh")
	script := `trap 'echo last words; exit 3' TERM; echo ready; while :; do sleep 0.02; done`
	r, err := startChild(n, Options{Program: []string{"/bin/sh", "-c", script, "sh"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is ready", func() bool { return r.(*child).tail.String() != "" })
	if err := r.stop(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("error %v", err)
	}
	if _, err := startChild(n, Options{Program: []string{"/no/such/program"}}, ""); err == nil {
		t.Error("no error for a program that is not there")
	}
}

// A director that cannot be made in this process leaves no device and no descriptor, and the error says why.
func TestHereFails(t *testing.T) {
	n := namespaces(t, "a")[0]
	files := openFiles(t)
	for name, config := range map[string]string{
		"no config":        "nonsense = 1",
		"no such bridge":   "[[interface]]\nname = \"a\"\ntap = \"tap0\"\nbridge = \"br9\"\naddresses = [\"10.0.0.1/24\"]\n",
		"the name is lo's": "[[interface]]\nname = \"a\"\ntap = \"lo\"\naddresses = [\"10.0.0.1/24\"]\n",
	} {
		service := "[[service]]\nname = \"s\"\nlisten = \"10.0.0.100:80\"\nmethod = \"nat\"\n[[service.server]]\naddress = \"10.0.0.2:80\"\n"
		r, err := startHere(n, Options{}, config+"\n"+service)
		if err == nil {
			r.stop()
			t.Errorf("%s: no error", name)
		}
	}
	eventually(t, "descriptors as before", func() bool { return openFiles(t) <= files })
	links, err := n.links.LinkList()
	if err != nil || len(links) != 1 {
		t.Errorf("links %v (%v), want lo only", links, err)
	}
}

// A spec that no world is built of is refused before anything is built, and a failure while building leaves nothing.
func TestNewFails(t *testing.T) {
	needRights(t)
	files := openFiles(t)
	if _, err := New(integration.Spec{Method: "masq"}); err == nil {
		t.Error("no error for an unknown method")
	}
	// No link takes an MTU of 60 once it is to carry IPv6.
	_, err := New(integration.Spec{Method: "nat", Family: 6, MTU: 60})
	if !errors.Is(err, ErrBuild) {
		t.Errorf("error %v, want %v", err, ErrBuild)
	}
	eventually(t, "descriptors as before", func() bool { return openFiles(t) <= files })
}

// Names lead to what they name, and to nothing when there is none.
func TestWorldNames(t *testing.T) {
	w := hostsOnly(t, integration.Spec{Method: "dr", Servers: 1})
	for _, c := range []struct{ host, lan, link, mac string }{
		{"client", "ext", "eth0", "02:77:01:00:00:02"},
		{"s1", "int", "eth0", "02:77:02:00:00:11"},
		{"s1", "ext", "eth1", "02:77:01:00:00:11"},
		{"client", "int", "", ""},
		{"nobody", "ext", "", ""},
		{"director", "ext", "tap0", ""}, // no director runs: no TAP is there
	} {
		if link, mac := w.LinkName(c.host, c.lan), w.LinkMAC(c.host, c.lan).String(); link != c.link || mac != c.mac {
			t.Errorf("%s on %s: %q %q, want %q %q", c.host, c.lan, link, mac, c.link, c.mac)
		}
	}
	for name, there := range map[string]bool{"client": true, "director": true, "s1": true, "s2": false} {
		if got := w.Namespace(name) != nil; got != there {
			t.Errorf("namespace of %s: %v", name, got)
		}
	}
}

// Dial ends with its context, and what it fails with is the kernel's word.
func TestDialEnds(t *testing.T) {
	a, _, _ := lan(t, "10.0.0.1/24", "10.0.0.2/24")
	if _, err := a.Dial(t.Context(), "tcp", "10.0.0.2:81"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed port: %v, want connection refused", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.Dial(ctx, "tcp", "10.0.0.3:80"); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody there: %v, want the deadline", err)
	}
}
