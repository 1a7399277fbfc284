//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// failure is a measurement that is missing: of which client of the load ("": of all), and why.
type failure struct {
	what string
	err  error
}

// failuresLimit is after how many the rest of a lab's clients is not tried: each may wait for as long as callLimit.
const failuresLimit = 2

// once measures one peer, in a lab of its own; ours once more with a full table.
func (o *options) once(ctx context.Context, p peer, family int) (map[string]float64, []failure) {
	got := map[string]float64{}
	var failed []failure
	if o.wants(func(f figure) bool { return !f.Million && p.has(f) }) {
		failed = o.inLab(ctx, p, family, "", got, (*lab).measure)
	}
	if o.wants(func(f figure) bool { return f.Million && p.has(f) }) && ctx.Err() == nil {
		failed = append(failed, o.inLab(ctx, p, family, o.millionConfig(), got, (*lab).measureMillion)...)
	}
	return got, failed
}

// inLab builds a lab, measures there and puts the figures into got.
func (o *options) inLab(ctx context.Context, p peer, family int, more string, got map[string]float64,
	measure func(*lab, context.Context, map[string]float64) []failure) []failure {
	l, err := o.newLab(ctx, p, family, more)
	if err != nil {
		return []failure{{"", err}}
	}
	failed := measure(l, ctx, got)
	if err := l.close(); err != nil {
		failed = append(failed, failure{"the end", err})
	}
	return failed
}

// measure takes the figures that are asked for.
func (l *lab) measure(ctx context.Context, got map[string]float64) (failed []failure) {
	// Neighbours are found and caches filled before anything counts.
	if err := l.warmUp(ctx); err != nil {
		return []failure{{"", err}}
	}
	for _, mode := range l.modes() {
		figures, err := l.figuresOf(ctx, mode)
		if err != nil {
			failed = append(failed, failure{mode, err})
		}
		if len(failed) == failuresLimit || ctx.Err() != nil {
			return failed
		}
		maps.Copy(got, figures)
	}
	if f, _ := figureOf(figureMemory); l.who.has(f) && slices.Contains(l.o.figures, figureMemory) {
		if err := l.memory(figureMemory, got); err != nil {
			failed = append(failed, failure{figureMemory, err})
		}
	}
	return failed
}

func (l *lab) warmUp(ctx context.Context) error {
	if _, err := l.client(ctx, "rtt", l.o.warm, l.o.warm); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	return nil
}

// figuresOf runs one client.
func (l *lab) figuresOf(ctx context.Context, mode string) (map[string]float64, error) {
	switch mode {
	case "segments":
		return l.segments(ctx)
	case "flood", "flood8", "flood64", "flood4096":
		return l.flood(ctx, mode)
	}
	return l.client(ctx, mode, l.o.warm, l.o.span)
}

// modes are the clients that the wanted figures of the peer need, each once.
func (l *lab) modes() (modes []string) {
	for _, key := range l.o.figures {
		f, _ := figureOf(key)
		if m := modesOf[key]; m != "" && l.who.has(f) && !slices.Contains(modes, m) {
			modes = append(modes, m)
		}
	}
	return modes
}

// client runs one client to its end and returns its figures, and what they cost.
func (l *lab) client(ctx context.Context, mode string, warm, span time.Duration, more ...string) (figures map[string]float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, warm+span+2*callLimit)
	defer cancel()
	client := l.world.Plan().Client.Name
	usage := meter(ctx, warm, span)
	out, err := l.load(ctx, client, mode, append([]string{warm.String(), span.String()}, more...)...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &figures)
	}
	if err != nil {
		return nil, err
	}
	return figures, costs(figures, <-usage)
}

// load runs a load process in a namespace to its end and returns what it printed.
func (l *lab) load(ctx context.Context, where, mode string, args ...string) (string, error) {
	var out, complaint strings.Builder
	cmd := command(ctx, l.o.self, append([]string{loadCommand, mode, l.world.Plan().VIP.String()}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	ended, err := l.world.Namespace(where).Start(cmd)
	if err != nil {
		return "", err
	}
	if err := <-ended; err != nil {
		return "", fmt.Errorf("%s: %w: %s", mode, errors.Join(err, ctx.Err()), strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// flood runs the sender, and meanwhile asks the server twice what has arrived.
func (l *lab) flood(ctx context.Context, mode string) (map[string]float64, error) {
	p := l.world.Plan()
	sender, err := startProcess(ctx, l.world.Namespace(p.Client.Name).Start, l.o.self, loadCommand, mode, p.VIP.String(), l.o.warm.String(), l.o.span.String())
	if err != nil {
		return nil, err
	}
	usage := meter(ctx, l.o.warm, l.o.span)
	rate, err := l.arrivals(ctx, l.o.warm, l.o.span)
	if err := errors.Join(err, sender.finish()); err != nil {
		return nil, err
	}
	figures := map[string]float64{floods[mode]: rate}
	return figures, costs(figures, <-usage)
}

// floods says which figure a flood is for.
var floods = map[string]string{"flood": figureUDP, "flood8": figureU8, "flood64": figureU64, "flood4096": figureU4k}

// segments runs a client without offload, as one behind a wire: what it sends comes to the peer segment by segment.
func (l *lab) segments(ctx context.Context) (figures map[string]float64, err error) {
	client := l.world.Plan().Client.Name
	if err := l.world.SetOffload(client, false); err != nil {
		return nil, err
	}
	figures, err = l.client(ctx, "segments", l.o.warm, l.o.span)
	return figures, errors.Join(err, l.world.SetOffload(client, true))
}

// arrivals is how many datagrams a second reach the server's socket.
func (l *lab) arrivals(ctx context.Context, warm, span time.Duration) (float64, error) {
	var n, at [2]int64
	for i, pause := range []time.Duration{warm, span} {
		if err := sleep(ctx, pause); err != nil {
			return 0, err
		}
		line, err := l.server.ask("count")
		if err != nil {
			return 0, err
		}
		if _, err := fmt.Sscan(line, &n[i], &at[i]); err != nil {
			return 0, fmt.Errorf("the server said %q: %w", line, err)
		}
	}
	return float64(n[1]-n[0]) / (float64(at[1]-at[0]) / float64(time.Second)), nil
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}
