//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The client's side of the load.

// clientThreads is how many connections a second's client opens at a time: enough to keep two CPUs busy in spite of round trips.
const clientThreads = 8

// load is one client's task.
type load struct {
	to         netip.AddrPort
	warm, span time.Duration
	mss        int        // of TCP, options included; 0: the link's
	from       netip.Addr // of rttchurn: an address of the client's without sockets

	ready func()          // of a flood: called when it begins
	stop  <-chan struct{} // of a flood: closed when it is to end
}

// loads are the clients by name; each returns figures.
var loads = map[string]func(*load) (map[string]float64, error){
	"up": (*load).up, "down": (*load).down, "segments": (*load).segments, "rtt": (*load).rtt, "conn": (*load).conn,
	"up4": streams(4, figureUp, figureUp4, (*load).up), "down4": streams(4, figureDown, figureDown4, (*load).down), "rttload": (*load).rttBesideBulk, "rttchurn": (*load).rttBesideChurn,
	"flood": (*load).flood, "flood8": flows(8), "flood64": flows(64), "flood4096": flows(4096),
}

// open connects and asks.
func (l *load) open(mode byte) (int, error) {
	fd, err := dial(l.to, unix.SOCK_STREAM, l.mss)
	if err != nil {
		return -1, err
	}
	return fd, writeFull(fd, request{mode, l.warm, l.span}.encode())
}

// up sends bulk until the server, which counts, has said what it counted.
func (l *load) up() (map[string]float64, error) {
	fd, err := l.open(modeUp)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf, answer := make([]byte, bulkLen), make([]byte, answerLen)
	start := time.Now()
	for time.Since(start) < l.warm+l.span+callLimit {
		if err := writeFull(fd, buf); err != nil {
			return nil, err
		}
		n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT|unix.MSG_PEEK)
		switch {
		case err == nil && n == answerLen:
			n, took := binary.BigEndian.Uint64(answer), binary.BigEndian.Uint64(answer[8:])
			return bulk(figureUp, int64(n), time.Duration(took))
		case err == nil && n == 0:
			return nil, errors.New("the server closed before it said what it counted")
		case err != nil && err != unix.EAGAIN && err != unix.EINTR:
			return nil, err
		}
	}
	return nil, errors.New("the server did not say what it counted")
}

// segments is up in segments that carry 88 bytes: 12 of the 100 are the time stamp's.
func (l *load) segments() (map[string]float64, error) {
	small := load{to: l.to, warm: l.warm, span: l.span, mss: 100}
	figures, err := small.up()
	return map[string]float64{figureSeg: figures[figureUp] * 1000}, err
}

// down receives bulk and counts.
func (l *load) down() (map[string]float64, error) {
	fd, err := l.open(modeDown)
	if err != nil {
		return nil, err
	}
	n, took, err := receive(fd, make([]byte, bulkLen), l.warm, l.span)
	if err != nil {
		return nil, err
	}
	return bulk(figureDown, n, took)
}

// bulk is a rate in Gbit/s.
func bulk(figure string, n int64, took time.Duration) (map[string]float64, error) {
	if took <= 0 {
		return nil, errors.New("nothing arrived in time")
	}
	return map[string]float64{figure: float64(n) * 8 / float64(took)}, nil
}

// rtt sends one byte at a time and waits for its answer.
func (l *load) rtt() (map[string]float64, error) {
	fd, err := l.open(modeRTT)
	if err != nil {
		return nil, err
	}
	times := make([]int64, 0, 1<<22)
	b := make([]byte, 1)
	start := time.Now()
	for before := start; (before.Sub(start) < l.warm+l.span || len(times) == 0) && len(times) < cap(times); { // one at least, of a peer that stalls
		if err := writeFull(fd, b); err != nil {
			return nil, err
		}
		if err := readFull(fd, b); err != nil {
			return nil, err
		}
		now := time.Now()
		if before.Sub(start) >= l.warm {
			times = append(times, int64(now.Sub(before)))
		}
		before = now
	}
	slices.Sort(times)
	return map[string]float64{
		figureP50:  float64(percentile(times, 0.5)) / 1e3,
		figureP99:  float64(percentile(times, 0.99)) / 1e3,
		figureP999: float64(percentile(times, 0.999)) / 1e3,
	}, nil
}

// streams runs n connections of one client at a time and adds their figures up.
func streams(n int, figure, as string, one func(*load) (map[string]float64, error)) func(*load) (map[string]float64, error) {
	return func(l *load) (map[string]float64, error) {
		var mu sync.Mutex
		sum := 0.0
		err := threads(n, func() error {
			got, err := one(l)
			mu.Lock()
			defer mu.Unlock()
			sum += got[figure]
			return err
		})
		return map[string]float64{as: sum}, err
	}
}

// rttBesideBulk is rtt while another connection sends bulk.
func (l *load) rttBesideBulk() (map[string]float64, error) {
	bulk := func() error {
		_, err := l.up()
		return err
	}
	return l.beside(bulk, map[string]string{figureP50: figureL50, figureP99: figureL99, figureP999: figureL999})
}

// beside is rtt while something else goes on in a thread of its own. Its figures get other names.
func (l *load) beside(other func() error, names map[string]string) (map[string]float64, error) {
	done := make(chan error, 1)
	go func() { done <- threads(1, other) }()
	var got map[string]float64
	err := threads(1, func() (err error) {
		got, err = l.rtt()
		return err
	})
	named := map[string]float64{}
	for from, to := range names {
		named[to] = got[from]
	}
	return named, errors.Join(err, <-done)
}

// conn opens a connection, sends a byte, receives one and closes, by several threads.
func (l *load) conn() (map[string]float64, error) {
	var done atomic.Int64
	start := time.Now()
	err := threads(clientThreads, func() error {
		b := make([]byte, 1)
		for passed := time.Duration(0); passed < l.warm+l.span || done.Load() == 0; passed = time.Since(start) { // one at least, of a peer that stalls
			if err := l.once(b); err != nil {
				return err
			}
			if passed >= l.warm {
				done.Add(1)
			}
		}
		return nil
	})
	return map[string]float64{figureConn: float64(done.Load()) / l.span.Seconds()}, err
}

// once makes one connection.
func (l *load) once(b []byte) error {
	fd, err := dial(l.to, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b[0] = modeConn
	if err := writeFull(fd, b); err != nil {
		return err
	}
	return readFull(fd, b)
}

// flood sends small datagrams of one flow as fast as the socket takes them; who counts is the receiver.
func (l *load) flood() (map[string]float64, error) {
	fd, err := dial(l.to, unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, err
	}
	block := newMessageBlock()
	for l.ready(); !l.stopped(); {
		if _, err := block.move(unix.SYS_SENDMMSG, fd, 0); err != nil && err != unix.ECONNREFUSED {
			return nil, err
		}
	}
	return nil, nil
}

// flows returns a flood of n flows that take turns, datagram by datagram.
func flows(n int) func(*load) (map[string]float64, error) {
	return func(l *load) (map[string]float64, error) {
		fds := make([]int, n)
		for i := range fds {
			var err error
			if fds[i], err = dial(l.to, unix.SOCK_DGRAM, 0); err != nil {
				return nil, err
			}
		}
		l.ready()
		b := make([]byte, datagramLen)
		for i := 0; i%messages > 0 || !l.stopped(); i++ {
			if _, err := call(unix.SYS_WRITE, fds[i%n], b); err != nil && err != unix.ECONNREFUSED && err != unix.ENOBUFS && err != unix.EAGAIN {
				return nil, err
			}
		}
		return nil, nil
	}
}

// stopped reports whether a flood is to end.
func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}
