package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tapdirector/integration/netlab"
)

// options are what a run is asked for.
type options struct {
	dir     string         // of cases and lvs
	only    *regexp.Regexp // names of cases
	record  bool
	verbose bool
	kept    bool // LVS is what was kept of it
	guests  int
}

func main() {
	if slices.Equal(os.Args[1:], []string{agentName}) {
		fmt.Fprintln(os.Stderr, "conformance:", runAgent(os.Stdin))
		os.Exit(1)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run is the program from arguments to the last line.
func run(args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	scripts, err := readScripts(filepath.Join(o.dir, "cases"))
	if err != nil {
		return err
	}
	start := time.Now()
	var guests []side
	if !o.kept {
		if guests, err = boot(o.guests); err != nil {
			return err
		}
		fmt.Printf("%d times LVS booted in %v\n\n", len(guests), time.Since(start).Round(100*time.Millisecond))
		defer closeAll(guests) // also when a case panics
	}
	header(os.Stdout)
	outcomes, err := runAll(o, scripts, guests)
	report(os.Stdout, outcomes, o.verbose)
	fmt.Printf("in %v\n", time.Since(start).Round(time.Second))
	if failed := failures(outcomes); failed > 0 {
		return errors.Join(err, fmt.Errorf("%d cases failed", failed))
	}
	return err
}

// boot starts LVS n times, where that is possible.
func boot(n int) ([]side, error) {
	if err := netlab.Available(); err != nil {
		return nil, fmt.Errorf("no lab here: %w", err)
	}
	guests, errs := make([]side, n), make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			var s *lvs
			if s, errs[i] = newLVS(fmt.Sprintf("lvs%d", i)); errs[i] == nil {
				guests[i] = s
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, closeAll(guests))
	}
	return guests, nil
}

func closeAll(guests []side) error {
	errs := make([]error, len(guests))
	var wait sync.WaitGroup
	for i, g := range guests {
		if g != nil {
			wait.Go(func() { errs[i] = g.Close() })
		}
	}
	wait.Wait()
	return errors.Join(errs...)
}

func parseOptions(args []string) (o options, err error) {
	f := flag.NewFlagSet("conformance", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", "integration/conformance", "the folder of cases/ and lvs/")
	f.BoolVar(&o.record, "record", false, "keep what LVS does in lvs/")
	f.BoolVar(&o.verbose, "v", false, "show every trace")
	f.BoolVar(&o.kept, "kept", false, "compare with what was kept in lvs/ and do not boot LVS")
	f.IntVar(&o.guests, "guests", runtime.NumCPU(), "how many times to boot LVS")
	only := f.String("run", "", "only cases whose names match this regular expression")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.only, err = regexp.Compile(*only)
	return o, err
}

// runAll runs the cases on both sides, until it is interrupted, and prints a row for each. Each guest plays the next case that none has played yet, with
// a tapdirector of its own beside it.
func runAll(o options, scripts []*script, guests []side) ([]*outcome, error) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	all, kept, err := plan(o, scripts)
	if err != nil {
		return nil, err
	}
	if guests == nil { // what was kept plays
		guests = make([]side, runtime.NumCPU())
	}
	var next atomic.Int32
	var wait sync.WaitGroup
	done := make(chan int, len(all))
	for _, g := range guests {
		wait.Go(func() {
			us := newUs()
			defer us.Close()
			for i := int(next.Add(1)) - 1; i < len(all) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				all[i].play(g, us)
				done <- i
			}
		})
	}
	go func() { wait.Wait(); close(done) }()
	printed, played := 0, make([]bool, len(all))
	for i := range done {
		played[i] = true
		for ; printed < len(all) && played[printed]; printed++ {
			row(os.Stdout, all[printed])
		}
	}
	all = all[:printed]
	if o.record {
		err = record(o, scripts, all, kept)
	}
	return all, errors.Join(err, context.Cause(ctx))
}

// plan lists the cases to be run, and what was kept of each script.
func plan(o options, scripts []*script) (all []*outcome, kept map[string]map[string][]string, err error) {
	kept = map[string]map[string][]string{}
	for _, s := range scripts {
		if kept[s.name], err = readRecord(filepath.Join(o.dir, "lvs"), s.name); err != nil {
			return nil, nil, err
		}
		for _, c := range s.cases {
			if o.only.MatchString(c.name) {
				all = append(all, &outcome{c: c, kept: kept[s.name][c.name]})
			}
		}
	}
	return all, kept, nil
}

// record keeps what LVS did, and of the cases that were not run, what was kept.
func record(o options, scripts []*script, all []*outcome, kept map[string]map[string][]string) error {
	traces := map[string][]string{}
	for _, o := range all {
		traces[o.c.name] = o.lvs
	}
	for _, s := range scripts {
		for _, c := range s.cases {
			if traces[c.name] == nil {
				traces[c.name] = kept[s.name][c.name]
			}
		}
		if err := writeRecord(filepath.Join(o.dir, "lvs"), s, traces); err != nil {
			return err
		}
	}
	return nil
}
