//go:build linux

package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"runtime/debug"
	"time"
)

// The load: what runs in the client's and in the server's namespace
//
// Both are this program, started again with loadCommand as its first argument, so each is a process of its own that the scheduler moves as it
// would any other. They are loops of system calls on locked threads: no garbage collection, no netpoller, no scheduler of Go's between a
// packet and its counter; raw system calls that block are in order because nothing else wants to run. What they cost is the same for every peer.
//
//	load serve ADDRESS                      TCP and UDP on it; counts datagrams; until its standard input ends
//	load up|up4|segments|down|down4|rtt|rttload|conn ADDRESS WARM SPAN
//	                                        a client: for WARM nothing counts, then all does for SPAN; prints figures as JSON
//	load flood|flood8|flood64|flood4096 ADDRESS WARM SPAN
//	                                        says "ready" when it begins to send, and sends until its standard input ends
//	load rttchurn ADDRESS WARM SPAN FROM    likewise; connections that come and go are from that address
//	load fill ADDRESS SOURCES TAP FROM-MAC TO-MAC
//	                                        a datagram from each of so many sources, put on the TAP
//
// A TCP connection starts with a request, whose first byte says what it is for:
//
//	up     the client sends; the server reads, counts for SPAN after WARM, and answers with bytes and nanoseconds; then the client is done
//	down   the server sends, the client counts
//	rtt    each byte is answered by one byte
//	conn   the byte is answered, then the client closes
//
// Bulk is counted where it arrives, and so are datagrams: what was sent and lost is no throughput.
const loadCommand = "load"

// callLimit bounds every system call that waits.
const callLimit = 10 * time.Second

// request is the beginning of a connection.
type request struct {
	mode       byte
	warm, span time.Duration
}

const requestLen = 17

// answerLen is how long the answer of the server that counted is: bytes and nanoseconds.
const answerLen = 16

func (r request) encode() []byte {
	b := make([]byte, requestLen)
	b[0] = r.mode
	binary.BigEndian.PutUint64(b[1:], uint64(r.warm))
	binary.BigEndian.PutUint64(b[9:], uint64(r.span))
	return b
}

func decodeRequest(b []byte) request {
	return request{b[0], time.Duration(binary.BigEndian.Uint64(b[1:])), time.Duration(binary.BigEndian.Uint64(b[9:]))}
}

// The modes. All but modeConn are followed by the rest of a request: a connection for one byte shall carry one byte.
const (
	modeUp   = 'u'
	modeDown = 'd'
	modeRTT  = 'r'
	modeConn = 'c'
)

// bulkLen is how many bytes one read or write of bulk moves at most.
const bulkLen = 256 << 10

// runLoad is the child process.
func runLoad(args []string, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(serverThreads + 4)
	if len(args) < 2 {
		return errors.New("load: arguments are missing")
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	switch args[0] {
	case "serve":
		return serve(to, in, out)
	case "fill":
		return fill(to, args[2:])
	}
	l := load{to: to}
	if len(args) == 5 && args[0] == "rttchurn" {
		l.from, err = netip.ParseAddr(args[4])
		args = args[:4]
	}
	if err == nil {
		l.warm, l.span, err = parseSpans(args[2:])
	}
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	l.ready, l.stop = func() { say(out, "ready") }, endOf(in)
	run, known := loads[args[0]]
	if !known {
		return fmt.Errorf("load %q: no such client", args[0])
	}
	figures, err := run(&l)
	if err != nil || figures == nil {
		return wrapped("load "+args[0], err)
	}
	return json.NewEncoder(out).Encode(figures)
}

// wrapped says where an error was; nil stays nil.
func wrapped(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}

// endOf returns a channel that is closed when in ends.
func endOf(in io.Reader) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, in)
		close(ended)
	}()
	return ended
}

func parseSpans(args []string) (warm, span time.Duration, err error) {
	if len(args) != 2 {
		return 0, 0, errors.New("load: want WARM SPAN")
	}
	if warm, err = time.ParseDuration(args[0]); err != nil {
		return 0, 0, err
	}
	span, err = time.ParseDuration(args[1])
	return warm, span, err
}

// receive reads from a connection and counts the bytes that come in span after warm: how many, in how long. It ends early with the connection.
func receive(fd int, buf []byte, warm, span time.Duration) (n int64, took time.Duration, err error) {
	start := time.Now()
	for time.Since(start) < warm {
		if got, err := readSome(fd, buf); got == 0 {
			return 0, 0, err
		}
	}
	start = time.Now()
	for took < span {
		got, err := readSome(fd, buf)
		if got == 0 {
			return n, took, err
		}
		n += int64(got)
		took = time.Since(start)
	}
	return n, took, nil
}

// threads runs do n times on locked threads of their own and waits; it returns the first error there is.
func threads(n int, do func() error) error {
	failures := make(chan error, n)
	for range n {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			failures <- do()
		}()
	}
	var all []error
	for range n {
		all = append(all, <-failures)
	}
	return errors.Join(all...)
}

// say writes one line for the process that started this one.
func say(out io.Writer, format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
