package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// SCTP as a stream
//
// A one-to-one SCTP socket (RFC 6458, section 4) is made, bound and connected as a TCP one, and what is read from it is what was written, message after
// message. So once the kernel has made the socket, package net takes it for TCP's, and app need not know. Only a message has a bound that a
// stream's write has not: it must fit into the socket's send buffer.

// maxMessage is well below a send buffer, and many packets long.
const maxMessage = 16 << 10

// listenSCTP is net.Listen for SCTP.
func listenSCTP(at string) (net.Listener, error) {
	ap, err := netip.ParseAddrPort(at)
	if err != nil {
		return nil, err
	}
	f, err := socketSCTP(ap, func(fd int, sa unix.Sockaddr) error {
		if err := unix.Bind(fd, sa); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
		return unix.Listen(fd, 64)
	})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	return sctpListener{l}, err
}

// dialSCTP is net.Dial for SCTP.
func dialSCTP(ap netip.AddrPort, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	f, err := socketSCTP(ap, connectSCTP)
	if err != nil {
		return nil, fmt.Errorf("connect to %v: %w", ap, err)
	}
	defer f.Close()
	c, err := net.FileConn(f)
	return sctpConn{c}, err
}

// connectSCTP is connect, which for SCTP cannot be resumed after a signal: the kernel calls it again, and finds an association that is on its way (EALREADY).
// So it does not wait inside.
func connectSCTP(fd int, sa unix.Sockaddr) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	err := unix.Connect(fd, sa)
	if err != unix.EINPROGRESS {
		return err
	}
	for end := time.Now().Add(waitLimit); ; {
		left := time.Until(end).Milliseconds()
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left))
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			break
		}
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// socketSCTP makes a socket of the address's family and does with it what is to be done before package net has it.
func socketSCTP(ap netip.AddrPort, with func(fd int, sa unix.Sockaddr) error) (*os.File, error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()})
	if ap.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "sctp")
	if family == unix.AF_INET6 { // or the association would have IPv4 addresses as well
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err := with(fd, sa); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sctpListener makes its connections write in messages.
type sctpListener struct{ net.Listener }

func (l sctpListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return sctpConn{c}, nil
}

// sctpConn writes in messages.
type sctpConn struct{ net.Conn }

func (c sctpConn) Write(b []byte) (done int, err error) {
	for done < len(b) && err == nil {
		var n int
		n, err = c.Conn.Write(b[done:min(len(b), done+maxMessage)])
		done += n
	}
	return done, err
}
