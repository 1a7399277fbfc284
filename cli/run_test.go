package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tapdirector/conf"
	"tapdirector/director"
	"tapdirector/tap"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// twoArms has two interfaces, both families and both methods.
const twoArms = goodConf + `
[[interface]]
name      = "inner"
tap       = "tap9"
addresses = ["10.77.2.1/24"]
`

// lineWatch is a log that a test can wait on.
type lineWatch struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // told after each write, capacity 1
}

func newLineWatch() *lineWatch { return &lineWatch{more: make(chan struct{}, 1)} }

func (w *lineWatch) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.text.Write(p)
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default: // Nothing to do: somebody was told already.
	}
	return len(p), nil
}

func (w *lineWatch) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// wait returns when the log holds text.
func (w *lineWatch) wait(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for !strings.Contains(w.String(), text) {
		select {
		case <-w.more:
		case <-deadline:
			t.Fatalf("no %q in:\n%s", text, w)
		}
	}
}

// memoryRun is a director on devices in memory, running in this process.
type memoryRun struct {
	log     *lineWatch
	signals chan os.Signal
	devices []*tap.Device
	done    chan error
	path    string // of its file
}

// parseConf parses a configuration that must be right.
func parseConf(t *testing.T, text string) *conf.Config {
	t.Helper()
	c, err := conf.Parse(strings.NewReader(text), "lb.toml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// startMemoryRun starts one and waits for its start lines.
func startMemoryRun(t *testing.T, ctx context.Context) *memoryRun {
	t.Helper()
	r := &memoryRun{log: newLineWatch(), signals: make(chan os.Signal, 4), done: make(chan error, 1)}
	log := newLogger(r.log, "text", "info")
	e := environment{
		log:     log,
		answers: log,
		machine: "m",
		signals: r.signals,
		open: func(o tap.Options) (*tap.Device, error) {
			d, _ := tap.NewMemory(tap.MemoryOptions{Name: o.Name + o.Path})
			r.devices = append(r.devices, d)
			return d, nil
		},
	}
	r.path = writeConf(t, twoArms)
	e.path = r.path
	c := parseConf(t, twoArms)
	go func() { r.done <- run(ctx, c, e) }()
	r.log.wait(t, "msg=service service=dns6")
	return r
}

// ended waits for the end of the run, checks that the devices are closed, and returns the run's error.
func (r *memoryRun) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		for _, d := range r.devices {
			if _, err := d.Queues[0].Read(0); !errors.Is(err, tap.ErrClosed) {
				t.Errorf("%s is still open: %v", d.Name, err)
			}
		}
		return err
	case <-time.After(patience):
		t.Fatalf("the run does not end:\n%s", r.log)
		return nil
	}
}

func TestRunUntilSignal(t *testing.T) {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			r := startMemoryRun(t, context.Background())
			for _, want := range []string{"interface=lan", "interface=inner", "service=web", "service=dns6"} {
				r.log.wait(t, want)
			}
			for _, counterSignal := range counterSignals {
				r.signals <- counterSignal
				r.log.wait(t, "msg=counters")
				r.log.wait(t, "service=web server=10.77.1.11:8000")
			}
			r.signals <- s
			if err := r.ended(t); err != nil {
				t.Error(err)
			}
			r.log.wait(t, "msg=stop signal="+s.String())
			r.log.wait(t, "msg=stopped")
		})
	}
}

func TestRunUntilCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r := startMemoryRun(t, ctx)
	cancel()
	if err := r.ended(t); err != nil {
		t.Error(err)
	}
}

// TestSlowKernel: how long the kernel takes to remove the TAPs is not the director's: it has stopped when its reads have ended.
func TestSlowKernel(t *testing.T) {
	c := parseConf(t, twoArms)
	e := environment{log: slog.New(slog.DiscardHandler), machine: "m", open: func(o tap.Options) (*tap.Device, error) {
		d, _ := tap.NewMemory(tap.MemoryOptions{Name: o.Name})
		return d, nil
	}}
	devices, err := openDevices(c, e)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = withMACs(c, devices, e.machine); err != nil {
		t.Fatal(err)
	}
	d, err := director.New(director.Options{Config: c, Devices: devices, Log: e.log})
	if err != nil {
		t.Fatal(err)
	}
	removed := make(chan struct{})
	defer close(removed)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = runTasks(ctx, d, e, tasks{shut: func() error {
		defer func() { <-removed }()
		return closeDevices(devices)
	}})
	if err != nil {
		t.Error(err)
	}
}

// TestRunWithoutDevice: when the second device cannot be had the first is closed again, and the error says which it was.
func TestRunWithoutDevice(t *testing.T) {
	var opened []*tap.Device
	e := environment{log: slog.New(slog.DiscardHandler), open: func(o tap.Options) (*tap.Device, error) {
		if o.Name == "tap9" {
			return nil, errors.New("open tap tap9: busy")
		}
		d, _ := tap.NewMemory(tap.MemoryOptions{})
		opened = append(opened, d)
		return d, nil
	}}
	err := run(context.Background(), parseConf(t, twoArms), e)
	if err == nil || err.Error() != `interface "inner": open tap tap9: busy` {
		t.Errorf("error %v", err)
	}
	if len(opened) != 1 {
		t.Fatalf("%d devices were opened", len(opened))
	}
	if _, err := opened[0].Queues[0].Read(0); !errors.Is(err, tap.ErrClosed) {
		t.Errorf("the first device is still open: %v", err)
	}
}

// TestRunRefusesKernelsMAC: found after opening, before anything runs.
func TestRunRefusesKernelsMAC(t *testing.T) {
	c := parseConf(t, twoArms)
	c.Interfaces[0].MAC = ownMAC
	e := environment{log: slog.New(slog.DiscardHandler), open: func(tap.Options) (*tap.Device, error) {
		d, _ := tap.NewMemory(tap.MemoryOptions{KernelMAC: ownMAC})
		return d, nil
	}}
	if err := run(context.Background(), c, e); err == nil || !strings.Contains(err.Error(), "kernel's own address") {
		t.Errorf("error %v", err)
	}
}

// TestOpenOptions: what the configuration says of a device reaches the driver.
func TestOpenOptions(t *testing.T) {
	var got []tap.Options
	e := environment{log: newLogger(io.Discard, "text", "info"), open: func(o tap.Options) (*tap.Device, error) {
		got = append(got, o)
		return &tap.Device{}, nil
	}}
	c := &conf.Config{Interfaces: []conf.Interface{
		{Name: "a", Tap: "tap0", Driver: "linux", Bridge: "br0", Queues: 2, MTU: 9000},
		{Name: "b", Device: "/dev/tap7", Driver: "auto"},
	}}
	if _, err := openDevices(c, e); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if got[i].Log == nil {
			t.Errorf("device %d has no log", i)
		}
		got[i].Log = nil
	}
	want := []tap.Options{{Name: "tap0", Driver: "linux", Bridge: "br0", Queues: 2, MTU: 9000}, {Path: "/dev/tap7", Driver: "auto"}}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("device %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}
