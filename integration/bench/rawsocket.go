//go:build linux

package main

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawBlock is memory for a call that sends several packets of our own making.
type rawBlock struct {
	headers [messages]message
	vectors [messages]unix.Iovec
	packets [messages][ethernetHeader + rawPacketMax]byte
}

func newRawBlock() *rawBlock {
	b := &rawBlock{}
	for i := range b.headers {
		b.vectors[i].Base = &b.packets[i][0]
		b.headers[i].header.Iov = &b.vectors[i]
		b.headers[i].header.SetIovlen(1)
	}
	return b
}

// send has write make n packets, from number first on, and sends them. What the way out has no room for is sent again, until it has.
func (b *rawBlock) send(fd, first, n int, write func(b []byte, number int) int) error {
	for i := range n {
		b.vectors[i].SetLen(write(b.packets[i][:], first+i))
	}
	for done := 0; done < n; {
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[done])), uintptr(n-done), 0, 0, 0)
		switch errno {
		case 0:
			done += int(sent)
		case unix.EINTR:
			// Again, at once.
		case unix.EAGAIN, unix.ENOBUFS:
			pause := unix.Timespec{Nsec: fullPause}
			unix.Nanosleep(&pause, nil)
		default:
			return errno
		}
	}
	return nil
}

// fullPause is how long who finds a queue full lets its reader run, in nanoseconds: a quarter of what a queue of a thousand frames takes.
const fullPause = 500_000

// openRaw opens a socket that takes packets with their IP header and routes them.
func openRaw(to netip.Addr) (int, error) {
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err == nil {
		err = unix.Connect(fd, sockaddr(netip.AddrPortFrom(to, 0)))
	}
	if err != nil {
		return -1, fmt.Errorf("raw socket to %v: %w", to, err)
	}
	return fd, nil
}

// openLink opens a socket that puts frames on a link, past its queueing discipline, so that it is told when the link is full.
func openLink(name string) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index})
	}
	if err != nil {
		return -1, fmt.Errorf("packet socket on %s: %w", name, err)
	}
	return fd, nil
}
