//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The load that has connections come and go: SYNs from an address of the client's that no socket has. The server answers, the client's kernel refuses the answer by
// a reset, and that ends the connection. It is three packets for each, so that there is CPU time left for what is to be measured beside.

const (
	churnRate  = 5000 // connections a second
	churnBatch = 10   // that are sent at a time
)

// churn sends SYNs until an end.
func churn(from netip.Addr, to netip.AddrPort, end time.Time) error {
	fd, err := openRaw(to.Addr())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	write := func(b []byte, number int) int {
		return putSYN(b, netip.AddrPortFrom(from, uint16(firstPort+number%fillPorts)), to, uint32(number)<<8)
	}
	block := newRawBlock()
	start := time.Now()
	first := int(start.UnixNano() / int64(time.Second/churnRate)) // ports go on with the clock, so that what came is not met again soon
	for i := 0; time.Now().Before(end); i += churnBatch {
		pause := unix.NsecToTimespec(int64(time.Until(start.Add(time.Duration(i) * time.Second / churnRate))))
		if pause.Nano() > 0 {
			unix.Nanosleep(&pause, nil)
		}
		if err := block.send(fd, first+i, churnBatch, write); err != nil {
			return fmt.Errorf("churn: %w", err)
		}
	}
	return nil
}

// rttBesideChurn is rtt while connections come and go.
func (l *load) rttBesideChurn() (map[string]float64, error) {
	end := time.Now().Add(l.warm + l.span)
	return l.beside(func() error { return churn(l.from, l.to, end) }, map[string]string{figureP999: figureChurn})
}
