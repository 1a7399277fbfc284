//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The server's side of the load. It is told things by lines on its standard input and answers by lines on its standard output:
//
//	"ready"           (said first, unasked)
//	count      ->     DATAGRAMS NANOSECONDS      received so far, and the time by its clock: two of them make a rate

// serverThreads is how many connections are served at a time: more than any client opens.
const serverThreads = 2 * clientThreads

// receiveBuffer is what a flood may fill while the receiver does not run, in bytes.
const receiveBuffer = 8 << 20

// serve runs until in ends, and with it the process.
func serve(at netip.AddrPort, in io.Reader, out io.Writer) error {
	stream, err := listen(at)
	if err != nil {
		return fmt.Errorf("serve %v: %w", at, err)
	}
	datagrams, err := openReceiver(at)
	if err != nil {
		return fmt.Errorf("serve %v: %w", at, err)
	}
	var received atomic.Uint64
	ended := make(chan error, 3)
	go func() { ended <- threads(1, func() error { return countDatagrams(datagrams, &received) }) }()
	go func() { ended <- threads(serverThreads, func() error { return serveStream(stream) }) }()
	go func() { ended <- answerCounts(in, out, &received) }()
	return <-ended
}

// answerCounts says that all is open, then answers each line, until there are no more.
func answerCounts(in io.Reader, out io.Writer, received *atomic.Uint64) error {
	say(out, "ready")
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		say(out, "%d %d", received.Load(), time.Now().UnixNano())
	}
	return lines.Err()
}

// openReceiver opens the socket that datagrams are counted at, with a large buffer if we may.
func openReceiver(at netip.AddrPort) (int, error) {
	fd, err := openSocket(at.Addr(), unix.SOCK_DGRAM)
	if err != nil {
		return -1, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		// In a user namespace of our own we may not; the host's limit must do, for every peer.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	return fd, unix.Bind(fd, sockaddr(at))
}

// countDatagrams adds up what the socket receives, for ever.
func countDatagrams(fd int, received *atomic.Uint64) error {
	block := newMessageBlock()
	for {
		n, err := block.move(unix.SYS_RECVMMSG, fd, unix.MSG_WAITFORONE)
		if err != nil {
			return fmt.Errorf("count datagrams: %w", err)
		}
		received.Add(uint64(n))
	}
}

// serveStream takes connections one after the other, for ever. One that breaks is the client's to complain about.
func serveStream(listener int) error {
	buf := make([]byte, bulkLen)
	for {
		fd, ok, err := accept(listener)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := serveConn(fd, buf); err != nil {
			fmt.Fprintln(os.Stderr, "serve:", err)
		}
		unix.Close(fd)
	}
}

// serveConn serves one connection to its end.
func serveConn(fd int, buf []byte) error {
	if err := readFull(fd, buf[:1]); err != nil {
		return err
	}
	if buf[0] == modeConn {
		return answerOnce(fd, buf)
	}
	if err := readFull(fd, buf[1:requestLen]); err != nil {
		return err
	}
	switch r := decodeRequest(buf); r.mode {
	case modeUp:
		return takeBulk(fd, buf, r)
	case modeDown:
		return giveBulk(fd, buf)
	case modeRTT:
		return echo(fd, buf[:1])
	default:
		return fmt.Errorf("request %q is unknown", r.mode)
	}
}

// answerOnce answers the one byte and lets the client close first, so that the time-wait is at its end.
func answerOnce(fd int, buf []byte) error {
	if err := writeFull(fd, buf[:1]); err != nil {
		return err
	}
	_, err := readSome(fd, buf)
	return err
}

// takeBulk counts, tells the client, and reads on until it is done.
func takeBulk(fd int, buf []byte, r request) error {
	n, took, err := receive(fd, buf, r.warm, r.span)
	if err != nil {
		return err
	}
	answer := make([]byte, answerLen)
	binary.BigEndian.PutUint64(answer, uint64(n))
	binary.BigEndian.PutUint64(answer[8:], uint64(took))
	if err := writeFull(fd, answer); err != nil {
		return err
	}
	for got := 1; got > 0 && err == nil; {
		got, err = readSome(fd, buf)
	}
	if err == unix.ECONNRESET {
		return nil // the client has its answer and left data of its own
	}
	return err
}

// giveBulk sends until the client has enough and closes.
func giveBulk(fd int, buf []byte) error {
	for writeFull(fd, buf) == nil {
		// The client says when it ends.
	}
	return nil
}

// echo answers each byte by one.
func echo(fd int, b []byte) error {
	for {
		if n, err := readSome(fd, b); n == 0 {
			return err
		}
		if err := writeFull(fd, b); err != nil {
			return err
		}
	}
}
