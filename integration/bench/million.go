//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"tapdirector/integration"
)

// A million connections
//
// What they cost a packet is measured in a lab of its own: round trips while connections come and go (loadchurn.go), first with nothing else in the table, then
// with a million flows in it that were made by frames (loadfill.go). The director's own count, which it logs at SIGUSR1, says that they are there. They stay
// for the five minutes of UDP; what comes and goes is gone a second after its end.

// fillLimit is how long it may take to make them.
const fillLimit = time.Minute

// millionSpans is how many spans round trips are counted for: a thousandth of them shall be more than a few.
const millionSpans = 4

// millionConfig makes room, and lets connections that were closed go at once, so that as many go as come.
const millionConfig = `
[limits]
connections = 2097152

[timeouts]
tcp_syn_recv = "1s"
`

// measureMillion takes the figures of a full table.
func (l *lab) measureMillion(ctx context.Context, got map[string]float64) []failure {
	if err := errors.Join(l.warmUp(ctx), l.addChurnAddress()); err != nil {
		return []failure{{figureMillion, err}}
	}
	empty, err := l.churn(ctx)
	if err != nil {
		return []failure{{figureChurn, err}}
	}
	if err := l.fill(ctx); err != nil {
		return []failure{{figureMillion, err}}
	}
	full, err := l.churn(ctx)
	if err != nil {
		return []failure{{figureMillion, err}}
	}
	got[figureChurn], got[figureMillion] = empty, full
	if err := l.memory(figureMemoryMil, got); err != nil {
		return []failure{{figureMemoryMil, err}}
	}
	return nil
}

// churnHost is the host number of the address that connections come from which come and go.
const churnHost = 3

func (l *lab) addChurnAddress() error {
	p := l.world.Plan()
	return l.world.Namespace(p.Client.Name).Address(l.world.LinkName(p.Client.Name, integration.Ext), p.At(integration.Ext, churnHost))
}

// churn is the p99.9 of round trips while connections come and go. That they do, the director says.
func (l *lab) churn(ctx context.Context) (float64, error) {
	before, err := l.connections(ctx)
	if err != nil {
		return 0, err
	}
	from := l.world.Plan().At(integration.Ext, churnHost).Addr()
	figures, err := l.client(ctx, "rttchurn", l.o.warm, millionSpans*l.o.span, from.String())
	if err != nil {
		return 0, err
	}
	after, err := l.connections(ctx)
	came := float64(after.made - before.made)
	if seconds := (l.o.warm + millionSpans*l.o.span).Seconds(); err == nil && came < l.o.churnShare*churnRate*seconds {
		err = fmt.Errorf("only %.0f connections a second came, not %d", came/seconds, churnRate)
	}
	return figures[figureChurn], err
}

// fill has a million connections made. What the director sends on ends at the bridge meanwhile: the server would only make it slower.
func (l *lab) fill(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, fillLimit)
	defer cancel()
	p, w := l.world.Plan(), l.world
	server := p.Servers[0].Name
	if err := w.Isolate(server, true); err != nil {
		return err
	}
	_, err := l.load(limited, "director", "fill", strconv.Itoa(l.o.million+l.o.million/100), "tap0",
		w.LinkMAC(p.Client.Name, integration.Ext).String(), net.HardwareAddr(p.Interfaces[0].MAC[:]).String())
	if err := errors.Join(err, w.Isolate(server, false)); err != nil {
		return err
	}
	n, err := l.connections(ctx)
	if n.now < l.o.million && err == nil {
		err = fmt.Errorf("%d connections are in the table, not %d", n.now, l.o.million)
	}
	return err
}

// connections asks the director how many are in its table, and how many were made.
func (l *lab) connections(ctx context.Context) (connections, error) {
	answer := l.said.expect()
	if err := syscall.Kill(l.world.DirectorPID(), syscall.SIGUSR1); err != nil {
		return connections{}, err
	}
	select {
	case n := <-answer:
		return n, nil
	case <-ctx.Done():
		return connections{}, ctx.Err()
	case <-time.After(answerLimit):
		return connections{}, fmt.Errorf("the director told no counters within %v", answerLimit)
	}
}
