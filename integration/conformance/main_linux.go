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
	"slices"
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
}

func main() {
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
	var lvs side
	if !o.kept {
		if lvs, err = boot(); err != nil {
			return err
		}
		fmt.Printf("LVS booted in %v\n\n", time.Since(start).Round(100*time.Millisecond))
		defer lvs.Close() // also when a case panics
	}
	header(os.Stdout)
	outcomes, err := runAll(o, scripts, lvs)
	report(os.Stdout, outcomes, o.verbose)
	fmt.Printf("in %v\n", time.Since(start).Round(time.Second))
	if failed := failures(outcomes); failed > 0 {
		return errors.Join(err, fmt.Errorf("%d cases failed", failed))
	}
	return err
}

// boot starts LVS where that is possible.
func boot() (side, error) {
	if err := netlab.Available(); err != nil {
		return nil, fmt.Errorf("no lab here: %w", err)
	}
	return newLVS()
}

func parseOptions(args []string) (o options, err error) {
	f := flag.NewFlagSet("conformance", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", "integration/conformance", "the folder of cases/ and lvs/")
	f.BoolVar(&o.record, "record", false, "keep what LVS does in lvs/")
	f.BoolVar(&o.verbose, "v", false, "show every trace")
	f.BoolVar(&o.kept, "kept", false, "compare with what was kept in lvs/ and do not boot LVS")
	only := f.String("run", "", "only cases whose names match this regular expression")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.only, err = regexp.Compile(*only)
	return o, err
}

// runAll runs every case on both sides, until it is interrupted, and prints a row for each.
func runAll(o options, scripts []*script, lvs side) (all []*outcome, err error) {
	us := newUs()
	defer us.Close()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	for _, s := range scripts {
		kept, err := readRecord(filepath.Join(o.dir, "lvs"), s.name)
		if err != nil {
			return all, err
		}
		traces := map[string][]string{}
		for _, c := range s.cases {
			if ctx.Err() != nil || !o.only.MatchString(c.name) {
				traces[c.name] = kept[c.name]
				continue
			}
			r := &outcome{c: c}
			if r.lvs = kept[c.name]; lvs != nil {
				r.lvs, r.lvsErr = play(lvs, c)
			}
			r.us, r.usErr = play(us, c)
			r.unlikeOld = kept != nil && !slices.Equal(kept[c.name], r.lvs)
			traces[c.name], all = r.lvs, append(all, r)
			row(os.Stdout, r)
		}
		if o.record {
			if err := writeRecord(filepath.Join(o.dir, "lvs"), s, traces); err != nil {
				return all, err
			}
		}
	}
	return all, context.Cause(ctx)
}
