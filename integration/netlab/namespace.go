//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Theory of operation
//
// A network namespace here has no name: it lives as long as somebody holds it, and the only holders are a file descriptor of
// ours, the sockets opened in it and the children started in it. Children die with us (Pdeathsig), so nothing is left behind
// after SIGKILL either, and there is nothing to clean up at the next start. While we live, other programs reach a namespace
// through our descriptor: nsenter --net=/proc/PID/fd/N.
//
// A namespace is a property of a thread. Do lends a locked thread to a function and takes it back; a thread that cannot be
// brought home again is never reused. A socket stays in the namespace it was made in, whichever thread uses it later, which is
// why Listen and Dial need the namespace for the call only.
//
// Not handled: a function that starts goroutines and expects them to be in the namespace. They are not.

// Namespace is one network namespace with its loopback up.
type Namespace struct {
	Name string // ours, for people: "client"

	handle netns.NsHandle
	links  *netlink.Handle // route netlink within the namespace
}

// errNoReturn is what Do returns when fn left by runtime.Goexit or a panic took the goroutine.
var errNoReturn = errors.New("function did not return")

// NewNamespace makes a namespace. It needs CAP_SYS_ADMIN in the user namespace that owns the caller's network namespace.
func NewNamespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name}
	err := onThread(func() (err error) {
		n.handle, err = netns.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("new network namespace %s: %w", name, err)
	}
	if n.links, err = netlink.NewHandleAt(n.handle, unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink in namespace %s: %w", name, err), n.handle.Close())
	}
	if err := n.linkUp("lo"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Do runs fn on a thread of its own inside the namespace and returns its error.
func (n *Namespace) Do(fn func() error) error {
	err := onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter: %w", err)
		}
		return fn()
	})
	if err != nil {
		return fmt.Errorf("in namespace %s: %w", n.Name, err)
	}
	return nil
}

// Listen opens a listening socket in the namespace, as net.Listen does.
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a datagram socket in the namespace, as net.ListenPacket does.
func (n *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial connects from the namespace. The address must be a literal: looking up a name would leave the thread.
func (n *Namespace) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Path is where other programs find the namespace while this process lives.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(n.handle)) }

// Close gives the namespace up: the kernel removes it, its links and their peers once its sockets and children are gone too.
func (n *Namespace) Close() error {
	n.links.Close()
	return n.handle.Close()
}

// onThread runs fn on a locked thread and brings the thread home.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errNoReturn
		defer func() { done <- err }()
		runtime.LockOSThread()
		home, e := netns.Get()
		if e != nil {
			err = fmt.Errorf("this thread's network namespace: %w", e)
			return
		}
		defer goHome(home)
		err = fn()
	}()
	return <-done
}

// goHome unlocks the thread only if it is back in its own namespace; a locked thread ends with its goroutine.
func goHome(home netns.NsHandle) {
	if netns.Set(home) == nil {
		runtime.UnlockOSThread()
	}
	home.Close()
}
