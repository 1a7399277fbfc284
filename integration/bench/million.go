//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	"tapdirector/integration"
)

// A million connections
//
// What they cost a packet is measured in a lab of its own: round trips while connections come and go (loadchurn.go), first with nothing else in the table, then
// with a million flows in it that were made by frames (loadfill.go), then while these end, because nothing comes for them any more. The director's own count, which
// it logs at SIGUSR1, says that they are there, when they begin to end, and that they have ended.

const (
	fillLimit = time.Minute // how long it may take to make them
	endPause  = 20 * time.Millisecond
)

// millionSpans is how many spans round trips are counted for: a thousandth of them shall be more than a few.
const millionSpans = 4

// millionConfig makes room, and lets connections that were closed go at once, so that as many go as come.
func (o *options) millionConfig() string {
	return fmt.Sprintf(`
[limits]
connections = 2097152

[timeouts]
tcp_syn_recv = "1s"
udp = "%v"
`, o.stay)
}

// measureMillion takes the figures of a full table, and of one that empties.
func (l *lab) measureMillion(ctx context.Context, got map[string]float64) []failure {
	if err := errors.Join(l.warmUp(ctx), l.addChurnAddress()); err != nil {
		return []failure{{figureMillion, err}}
	}
	span := millionSpans * l.o.span
	empty, err := l.churn(ctx, span)
	if err != nil {
		return []failure{{figureChurn, err}}
	}
	f, err := l.fill(ctx)
	if err != nil {
		return []failure{{figureMillion, err}}
	}
	full, err := l.churn(ctx, span)
	if err != nil {
		return []failure{{figureMillion, err}}
	}
	got[figureChurn], got[figureMillion] = empty, full
	if err := l.memory(figureMemoryMil, got); err != nil {
		return []failure{{figureMemoryMil, err}}
	}
	if slices.Contains(l.o.figures, figureEnding) {
		if got[figureEnding], err = l.ending(ctx, f, span); err != nil {
			delete(got, figureEnding)
			return []failure{{figureEnding, err}}
		}
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
func (l *lab) churn(ctx context.Context, span time.Duration) (float64, error) {
	before, err := l.connections(ctx)
	if err != nil {
		return 0, err
	}
	from := l.world.Plan().At(integration.Ext, churnHost).Addr()
	figures, err := l.client(ctx, "rttchurn", l.o.warm, span, from.String())
	if err != nil {
		return 0, err
	}
	after, err := l.connections(ctx)
	came := float64(after.made - before.made)
	if seconds := (l.o.warm + span).Seconds(); err == nil && came < l.o.churnShare*churnRate*seconds {
		err = fmt.Errorf("only %.0f connections a second came, not %d", came/seconds, churnRate)
	}
	return figures[figureChurn], err
}

// filling is when a million connections were made.
type filling struct {
	begun time.Time
	took  time.Duration
}

// fill has a million connections made. What the director sends on ends at the bridge meanwhile: the server would only make it slower.
func (l *lab) fill(ctx context.Context) (filling, error) {
	limited, cancel := context.WithTimeout(ctx, fillLimit)
	defer cancel()
	p, w := l.world.Plan(), l.world
	server := p.Servers[0].Name
	if err := w.Isolate(server, true); err != nil {
		return filling{}, err
	}
	f := filling{begun: time.Now()}
	_, err := l.load(limited, "director", "fill", strconv.Itoa(l.o.million+l.o.million/100), "tap0",
		w.LinkMAC(p.Client.Name, integration.Ext).String(), net.HardwareAddr(p.Interfaces[0].MAC[:]).String())
	f.took = time.Since(f.begun)
	if err := errors.Join(err, w.Isolate(server, false)); err != nil {
		return f, err
	}
	n, err := l.connections(ctx)
	if n.now < l.o.million && err == nil {
		err = fmt.Errorf("%d connections are in the table, not %d: to make them took %v, and they stay for %v", n.now, l.o.million, f.took, l.o.stay)
	}
	l.o.stay = (f.took*3/2 + 2*time.Second).Round(time.Second) // of the next lab's
	return f, err
}

// ending is churn while the million ends. It goes as it came: for as long as that took.
func (l *lab) ending(ctx context.Context, f filling, atLeast time.Duration) (float64, error) {
	if err := l.awaitEnding(ctx, f.begun.Add(l.stay)); err != nil {
		return 0, err
	}
	v, err := l.churn(ctx, max(f.took, atLeast))
	if err != nil {
		return 0, err
	}
	n, err := l.connections(ctx)
	if left := l.o.million/10 + 2*churnRate; n.now > left && err == nil {
		err = fmt.Errorf("%d connections are left of the million", n.now)
	}
	return v, err
}

// awaitEnding waits for the first of the million to end, which is not before a time.
func (l *lab) awaitEnding(ctx context.Context, first time.Time) error {
	if err := sleep(ctx, time.Until(first)); err != nil {
		return err
	}
	for {
		n, err := l.connections(ctx)
		if err != nil || n.now < l.o.million {
			return err
		}
		if time.Since(first) > answerLimit {
			return fmt.Errorf("%d connections do not end", n.now)
		}
		if err := sleep(ctx, endPause); err != nil {
			return err
		}
	}
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
