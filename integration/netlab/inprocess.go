//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"tapdirector/conf"
	"tapdirector/director"
	"tapdirector/tap"
)

// here is a director in this process: its TAPs were opened on a thread in its namespace and stay there, whichever thread uses them.
type here struct {
	*director.Director
	devices []*tap.Device
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // how it ended; valid after done
}

// places is how many goroutines of this process may run at once: those of four worlds side by side that each wait for queues, in the directors and in the trunks, and
// those of the tests. The first milliseconds of a wait for a queue keep their place in the Go scheduler, so where places are as many as CPUs, hosts that share the process
// wait for them with every frame: 40 ms for a round trip through a trunk on two CPUs.
const places = 32

var makeRoom = sync.OnceFunc(func() { runtime.GOMAXPROCS(max(places, runtime.GOMAXPROCS(0))) })

// startHere opens the TAPs of a config in a namespace and runs a director on them.
func startHere(ns *Namespace, o Options, config string) (runner, error) {
	makeRoom()
	cfg, err := conf.Parse(strings.NewReader(config), "lb.toml")
	if err != nil {
		return nil, err
	}
	log := o.logger
	if o.Log != nil {
		log = slog.New(slog.NewTextHandler(o.Log, nil))
	}
	h := &here{done: make(chan struct{})}
	if err := ns.Do(func() error { return h.open(cfg, log) }); err != nil {
		return nil, errors.Join(err, h.closeDevices())
	}
	h.Director, err = director.New(director.Options{Config: cfg, Devices: h.devices, Log: log, Confirm: o.confirm})
	if err != nil {
		return nil, errors.Join(err, h.closeDevices())
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		defer close(h.done)
		h.err = h.Run(ctx)
	}()
	return h, nil
}

// open opens a device for each interface.
func (h *here) open(cfg *conf.Config, log *slog.Logger) error {
	for n, i := range cfg.Interfaces {
		if first := cfg.SharesWith(n); first != n {
			h.devices = append(h.devices, h.devices[first])
			continue
		}
		d, err := tap.Open(tap.Options{
			Name: i.Tap, Path: i.Device, Driver: i.Driver, Queues: i.Queues, Bridge: i.Bridge, MTU: i.MTU, Log: log,
		})
		if err != nil {
			return err
		}
		h.devices = append(h.devices, d)
	}
	return nil
}

func (h *here) counters() []director.Counter { return h.Counters() }

func (h *here) reload(config string) error {
	cfg, err := conf.Parse(strings.NewReader(config), "lb.toml")
	if err != nil {
		return err
	}
	return h.Reload(cfg)
}

func (h *here) pid() int { return os.Getpid() }

// ended is nil while the director runs.
func (h *here) ended() error {
	select {
	case <-h.done:
		return fmt.Errorf("director: %w", errors.Join(h.err, errEnded))
	default:
		return nil
	}
}

// stop ends the director. Closing its devices wakes the workers that wait for frames.
func (h *here) stop() error {
	err := h.ended()
	h.cancel()
	err = errors.Join(err, h.closeDevices())
	<-h.done
	return errors.Join(err, h.err)
}

func (h *here) closeDevices() error {
	var failures []error
	for i, d := range h.devices {
		if slices.Index(h.devices, d) != i {
			continue // shared
		}
		failures = append(failures, d.Close())
	}
	return errors.Join(failures...)
}
