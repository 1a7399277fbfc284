package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/integration/netlab"
)

// wire is the kernel's end of a TAP whose other end a guest holds: what is sent here the guest receives. Frames carry a virtio header, because
// a guest leaves checksums of its own packets to be completed.
type wire struct {
	link link
	fd   int
	stop int // an eventfd that ends the reader
	done chan struct{}
}

const (
	vnetLen     = 10
	needsCsum   = 1
	wireMTU     = 9000 // larger than any link of a script
	wireBuffer  = 65536
	vnetStartAt = 6 // of csum_start; csum_offset follows
)

// newWire makes a TAP in a namespace and listens on it.
func newWire(ns *netlab.Namespace, l link, name string, out chan<- departure) (*wire, error) {
	w := &wire{link: l, fd: -1, stop: -1, done: make(chan struct{})}
	err := ns.Do(func() error {
		index, err := addTap(name)
		if err != nil {
			return err
		}
		return w.open(index)
	})
	if err != nil {
		return nil, fmt.Errorf("TAP %s: %w", name, err)
	}
	go w.read(out)
	return w, nil
}

// addTap makes a TAP on which the kernel itself has nothing to say.
func addTap(name string) (int, error) {
	t := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_NO_PI}
	if err := netlink.LinkAdd(t); err != nil {
		return 0, err
	}
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, errors.Join(netlink.LinkSetMTU(l, wireMTU), netlink.LinkSetARPOff(l), netlink.LinkSetUp(l))
}

func (w *wire) open(index int) (err error) {
	if w.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	return errors.Join(
		unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: binary.BigEndian.Uint16([]byte{unix.ETH_P_ALL & 0xff, 0}), Ifindex: index}),
	)
}

// send sends a frame to the guest.
func (w *wire) send(b []byte) error {
	_, err := unix.Write(w.fd, append(make([]byte, vnetLen), b...))
	if err != nil {
		return fmt.Errorf("send %d bytes by %v: %w", len(b), w.link, err)
	}
	return nil
}

// read hands out what the guest sends, until close.
func (w *wire) read(out chan<- departure) {
	defer close(w.done)
	buf := make([]byte, wireBuffer)
	for {
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(w.stop), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil || fds[1].Revents != 0 {
			return
		}
		n, err := unix.Read(w.fd, buf)
		if err != nil || n < vnetLen+ethLen {
			continue
		}
		out <- departure{w.link, complete(slices.Clone(buf[:n]))}
	}
}

// complete takes the virtio header off and does what it asks for.
func complete(b []byte) []byte {
	h, f := b[:vnetLen], b[vnetLen:]
	if h[0]&needsCsum == 0 {
		return f
	}
	start := int(binary.NativeEndian.Uint16(h[vnetStartAt:]))
	at := start + int(binary.NativeEndian.Uint16(h[vnetStartAt+2:]))
	if at+2 <= len(f) {
		binary.BigEndian.PutUint16(f[at:], ^checksum.Checksum(f[start:], 0))
	}
	return f
}

func (w *wire) close() {
	unix.Write(w.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-w.done
	unix.Close(w.fd)
	unix.Close(w.stop)
}
