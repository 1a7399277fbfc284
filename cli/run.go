package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"tapdirector/conf"
	"tapdirector/director"
	"tapdirector/tap"
)

// A run, from the file to the last frame
//
//	1  conf.Load       all mistakes at once, or a complete configuration
//	2  openDevices     one device for each interface; the first that fails ends the run
//	3  withMACs        the director's own MAC on each
//	4  director.New
//	5  runTasks        the director and the signals, until one of them ends
//	6  closeDevices    ends the reads, and with them 5; then TAPs that we made go, others stay
//
// Nothing is visible on the LAN before 5.

// stopGrace is how long the director may take to stop once it was told to. How long the kernel then takes to remove TAPs is not in it: it waits for others that change
// interfaces and for RCU, on a busy machine for hundreds of milliseconds, and would do so as well at the end of a process that did not wait.
const stopGrace = 800 * time.Millisecond

// errStuck is a bug of ours: the process ends all the same, and the kernel takes the TAPs.
var errStuck = fmt.Errorf("the director did not stop within %v", stopGrace)

// environment is what a run takes from outside: everything that a test wants to replace.
type environment struct {
	log     *slog.Logger
	answers *slog.Logger // what the user asked for by a signal: not subject to --log-level
	open    func(tap.Options) (*tap.Device, error)
	machine string // what tells this machine from others, for default MACs
	signals <-chan os.Signal
	path    string // of the file, to be read again at a reload
}

// runCommand is `tapdirector -conf lb.toml`.
func runCommand(cmd *cobra.Command) error {
	path, err := confPath(cmd)
	if err != nil {
		return err
	}
	c, err := conf.Load(path)
	if err != nil {
		return &configError{err}
	}
	log := logger(cmd)
	log.Info("start", "version", ownVersion(buildInfo()), "conf", path, "pid", os.Getpid())
	surviveLostReader()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, slices.Concat([]os.Signal{os.Interrupt, syscall.SIGTERM}, counterSignals, reloadSignals)...)
	defer signal.Stop(signals)
	return run(cmd.Context(), c, environment{
		log:     log,
		answers: newLogger(cmd.ErrOrStderr(), choiceOf(cmd, "log-format"), "info"),
		open:    tap.Open,
		machine: machineID(),
		signals: signals,
		path:    path,
	})
}

// run is one life of a director: it returns nil after SIGINT, SIGTERM or the end of ctx, and why it failed otherwise.
func run(ctx context.Context, c *conf.Config, e environment) error {
	err := forward(ctx, c, e)
	if err == nil {
		e.log.Info("stopped")
	}
	return err
}

// forward is run from 2 to 6.
func forward(ctx context.Context, c *conf.Config, e environment) (err error) {
	devices, err := openDevices(c, e)
	shut := sync.OnceValue(func() error { return closeDevices(devices) })
	defer func() {
		if err != errStuck { // else closing may be what is stuck
			err = cmp.Or(err, shut())
		}
	}()
	if err != nil {
		return err
	}
	first := c
	c, err = withMACs(c, devices, e.machine)
	if err != nil {
		return err
	}
	d, err := director.New(director.Options{Config: c, Devices: devices, Log: e.log})
	if err != nil {
		return err
	}
	logStart(e.log, c, devices)
	makeRoom(d.Threads())
	reload := reloader{log: e.log, path: e.path, first: first, used: c, apply: d.Reload}
	return runTasks(ctx, d, e, tasks{shut, reload.run})
}

// sideTasks is how many goroutines may want to run while every thread does: host, resolver, janitor, signals.
const sideTasks = 4

// makeRoom lets every thread have a place in the Go scheduler at once. One that wakes up from ppoll would else wait, by futex and sleep, until
// another gives up its place, though a CPU is idle: with two queues on each of two interfaces and two CPUs that cost a quarter of the connections
// per second. More places than CPUs only leave the choice to the kernel's scheduler, which knows better.
func makeRoom(threads int) {
	if n := threads + sideTasks; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
}

// openDevices opens the device of every interface, once for those that share it; on failure those that are open come with the error.
func openDevices(c *conf.Config, e environment) ([]*tap.Device, error) {
	devices := make([]*tap.Device, 0, len(c.Interfaces))
	for i := range c.Interfaces {
		ifc := &c.Interfaces[i]
		if first := c.SharesWith(i); first != i {
			devices = append(devices, devices[first])
			continue
		}
		d, err := e.open(tap.Options{Name: ifc.Tap, Path: ifc.Device, Driver: ifc.Driver, Queues: ifc.Queues,
			Bridge: ifc.Bridge, MTU: ifc.MTU, Log: e.log.With("interface", ifc.Name)})
		if err != nil {
			return devices, fmt.Errorf("interface %q: %w", ifc.Name, err)
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// closeDevices closes them all, side by side: the kernel waits as long for one as for all.
func closeDevices(devices []*tap.Device) error {
	errs := make([]error, len(devices))
	var closing sync.WaitGroup
	for i, d := range devices {
		if slices.Index(devices, d) != i {
			continue // shared
		}
		closing.Go(func() {
			if err := d.Close(); err != nil {
				errs[i] = fmt.Errorf("close %s: %w", d.Name, err)
			}
		})
	}
	closing.Wait()
	return errors.Join(errs...)
}

// tasks are what runTasks is to do beside running.
type tasks struct {
	shut   func() error // close the devices, the first time; who calls it again waits as well
	reload func()       // read the file again
}

// runTasks runs the director and the signals until the director fails or is told to stop. Then it begins to close the devices: a
// worker that waits for a frame ends by that at once.
func runTasks(ctx context.Context, d *director.Director, e environment, do tasks) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.Run(ctx) })
	g.Go(func() error {
		defer stop()
		watchSignals(ctx, e, d.Counters, do.reload)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		go do.shut()
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(stopGrace):
		return errStuck
	}
}

// watchSignals logs the counters at a counter signal, reloads at a reload signal, and returns at any other, or when ctx ends.
func watchSignals(ctx context.Context, e environment, counters func() []director.Counter, reload func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-e.signals:
			switch {
			case slices.Contains(counterSignals, s):
				logCounters(e.answers, counters())
			case slices.Contains(reloadSignals, s):
				reload()
			default:
				e.log.Info("stop", "signal", s.String())
				return
			}
		}
	}
}
