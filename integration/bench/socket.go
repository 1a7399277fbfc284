//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sockets for the load: blocking, with a time limit on every call, by raw system calls.

// openSocket opens a blocking socket of a's family.
func openSocket(a netip.Addr, kind int) (int, error) {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if kind == unix.SOCK_STREAM {
		setCongestionControl(fd)
	}
	limit := unix.NsecToTimeval(int64(callLimit))
	return fd, errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
	)
}

// setCongestionControl has the socket use what nearly every host uses, whatever this host's default is; where we may not choose it, what every
// kernel has.
func setCongestionControl(fd int) {
	if unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic") != nil {
		unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
	}
}

// listen opens a listening TCP socket.
func listen(at netip.AddrPort) (int, error) {
	fd, err := openSocket(at.Addr(), unix.SOCK_STREAM)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
	)
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	return fd, err
}

// dial connects a socket; one of TCP with segments of at most mss bytes, if that is not 0.
func dial(to netip.AddrPort, kind, mss int) (int, error) {
	fd, err := openSocket(to.Addr(), kind)
	if err != nil {
		return -1, err
	}
	if kind == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil && mss > 0 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, mss)
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(to))
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect to %v: %w", to, err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// call makes a raw system call on a descriptor and memory, again when a signal ended it.
func call(trap uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// readSome reads what is there, 0 and nil at the end.
func readSome(fd int, b []byte) (int, error) { return call(unix.SYS_READ, fd, b) }

// readFull fills b.
func readFull(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := readSome(fd, b)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("read: the other end closed, %d bytes are missing", len(b))
		}
		b = b[n:]
	}
	return nil
}

// writeFull writes all of b.
func writeFull(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := call(unix.SYS_WRITE, fd, b)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
	}
	return nil
}

// accept takes the next connection. It reports false when none came in time.
func accept(fd int) (int, bool, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(n), true, nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EAGAIN:
			return -1, false, nil
		}
		return -1, false, fmt.Errorf("accept: %w", syscall.Errno(errno))
	}
}

// datagramLen is the payload of a small datagram; messages is how many of them one call sends or takes.
const (
	datagramLen = 18
	messages    = 64
)

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	n      uint32
	_      [4]byte
}

// messageBlock is memory for a call that moves several datagrams.
type messageBlock struct {
	headers  [messages]message
	vectors  [messages]unix.Iovec
	payloads [messages][datagramLen]byte
}

func newMessageBlock() *messageBlock {
	b := &messageBlock{}
	for i := range b.headers {
		b.vectors[i].Base = &b.payloads[i][0]
		b.vectors[i].SetLen(datagramLen)
		b.headers[i].header.Iov = &b.vectors[i]
		b.headers[i].header.SetIovlen(1)
	}
	return b
}

// move sends or takes datagrams: trap is SYS_SENDMMSG or SYS_RECVMMSG. It returns how many; 0 when time ran out.
func (b *messageBlock) move(trap uintptr, fd int, flags uintptr) (int, error) {
	n, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])), messages, flags, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR, unix.EAGAIN, unix.ENOBUFS:
		return 0, nil
	}
	return 0, errno
}
