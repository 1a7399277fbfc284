//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// needRights skips the test where no lab can be built; with TAPDIRECTOR_NEED_NETNS=1, as in CI, it fails instead.
func needRights(t *testing.T) {
	t.Helper()
	err := Available()
	if err == nil {
		return
	}
	if os.Getenv("TAPDIRECTOR_NEED_NETNS") == "1" {
		t.Fatalf("TAPDIRECTOR_NEED_NETNS=1, but: %v", err)
	}
	t.Skipf("no lab here: %v", err)
}

// namespaces makes one namespace for each name and closes them at the end of the test.
func namespaces(t *testing.T, names ...string) []*Namespace {
	t.Helper()
	needRights(t)
	all := make([]*Namespace, 0, len(names))
	for _, name := range names {
		n, err := NewNamespace(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		all = append(all, n)
	}
	return all
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if err := waitFor(5*time.Second, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestNamespaceIsApart(t *testing.T) {
	n := namespaces(t, "a")[0]
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	err = n.Do(func() error {
		here, err := netns.Get()
		if err != nil {
			return err
		}
		defer here.Close()
		if here.Equal(home) {
			return errors.New("the thread is still at home")
		}
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		if len(links) != 1 || links[0].Name != "lo" || links[0].Flags&net.FlagUp == 0 {
			return fmt.Errorf("links %v: want lo only, up", links)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestThreadsComeHome(t *testing.T) {
	n := namespaces(t, "a")[0]
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	for range 200 {
		n.Do(func() error { return nil })
		away := onThread(func() error {
			here, err := netns.Get()
			if err != nil {
				return err
			}
			defer here.Close()
			if !here.Equal(home) {
				return errors.New("a thread was left in another namespace")
			}
			return nil
		})
		if away != nil {
			t.Fatal(away)
		}
	}
}

func TestDoReturns(t *testing.T) {
	n := namespaces(t, "a")[0]
	sentinel := errors.New("sentinel")
	if err := n.Do(func() error { return sentinel }); !errors.Is(err, sentinel) || !strings.Contains(err.Error(), "namespace a") {
		t.Errorf("error %v: want the sentinel with the namespace's name", err)
	}
	if err := n.Do(func() error { runtime.Goexit(); return nil }); !errors.Is(err, errNoReturn) {
		t.Errorf("after Goexit: %v, want %v", err, errNoReturn)
	}
}

func TestSocketsOfANamespace(t *testing.T) {
	n := namespaces(t, "a")[0]
	for _, address := range []string{"127.0.0.1:80", "[::1]:80"} {
		l, err := n.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := n.Dial(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
			t.Errorf("%s: read %q, %v", address, b, err)
		}
		p, err := n.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
}

func TestPathLeadsIntoTheNamespace(t *testing.T) {
	n := namespaces(t, "a")[0]
	other, err := netns.GetFromPath(n.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if !other.Equal(n.handle) {
		t.Errorf("%s leads to another namespace", n.Path())
	}
}

// A namespace that nobody holds is gone with its links, and so are their other ends: nothing to clean up by hand.
func TestClosedNamespaceIsGone(t *testing.T) {
	both := namespaces(t, "a")
	a := both[0]
	b, err := NewNamespace("b")
	if err != nil {
		t.Fatal(err)
	}
	if err := cable(end{ns: a, name: "eth0"}, end{ns: b, name: "eth0"}, 1500); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other end of the cable vanishes", func() bool {
		_, err := a.links.LinkByName("eth0")
		return err != nil
	})
}

func TestNothingLeaks(t *testing.T) {
	needRights(t)
	make4 := func() {
		for range 4 {
			n, err := NewNamespace("x")
			if err != nil {
				t.Fatal(err)
			}
			n.Do(func() error { return nil })
			n.Close()
		}
	}
	make4()
	fds, routines := openFiles(t), runtime.NumGoroutine()
	make4()
	eventually(t, "descriptors and goroutines as before", func() bool {
		return openFiles(t) <= fds && runtime.NumGoroutine() <= routines
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// lan is two namespaces on one bridge, in a third.
func lan(t *testing.T, prefixes ...string) (a, b, hub *Namespace) {
	t.Helper()
	all := namespaces(t, "a", "b", "hub")
	a, b, hub = all[0], all[1], all[2]
	steps := []func() error{
		func() error { return hub.bridge("br0", 1500) },
		func() error { return cable(end{ns: a, name: "eth0"}, end{ns: hub, name: "a"}, 1500) },
		func() error { return cable(end{ns: b, name: "eth0"}, end{ns: hub, name: "b"}, 1500) },
		func() error { return hub.plug("a", "br0") },
		func() error { return hub.plug("b", "br0") },
	}
	for i, p := range prefixes {
		steps = append(steps, func() error { return []*Namespace{a, b}[i%2].address("eth0", netip.MustParsePrefix(p)) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return a, b, hub
}

func TestLAN(t *testing.T) {
	a, b, _ := lan(t, "10.0.0.1/24", "10.0.0.2/24", "fd00::1/64", "fd00::2/64")
	for _, address := range []string{"10.0.0.2:80", "[fd00::2]:80"} {
		l, err := b.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := a.Dial(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

func TestOffloadSwitch(t *testing.T) {
	n := namespaces(t, "a", "b")
	if err := cable(end{ns: n[0], name: "eth0"}, end{ns: n[1], name: "eth0"}, 1500); err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{false, true, false} {
		if err := n[0].setOffload("eth0", on); err != nil {
			t.Fatal(err)
		}
		state, err := n[0].offload("eth0")
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range state {
			if got != on {
				t.Errorf("offload %v: %s is %v", on, name, got)
			}
		}
	}
	if err := n[0].setOffload("nosuch", true); err == nil {
		t.Error("no error for a link that is not there")
	}
}
