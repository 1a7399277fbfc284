//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"tapdirector/integration/netlab"
)

// options are what a run is asked for.
type options struct {
	rounds, family, queues int
	warm, span             time.Duration
	peers                  []peer
	figures                []string // keys
	markdown               bool
	json                   string // a file
	director, copyloop     string // programs; empty: they are built
	self                   string // this program
	log                    io.Writer
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == loadCommand {
		exit(runLoad(os.Args[2:], os.Stdin, os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// exit ends the process: 0, or 1 with the error.
func exit(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run is the bench from arguments to the table.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parseOptions(args, progress)
	if err != nil {
		return err
	}
	if err := netlab.Available(); err != nil {
		return fmt.Errorf("no lab here: %w", err)
	}
	dir, err := os.MkdirTemp("", "tapdirector-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := o.build(ctx, dir); err != nil {
		return err
	}
	o.leaveOut(progress)
	r := o.newReport(ctx)
	got, err := o.rotate(ctx, progress)
	r.Rows = got.rows(o.peers)
	return errors.Join(err, o.tell(r, out))
}

// leaveOut takes the peers away that cannot be had here, and says so.
func (o *options) leaveOut(progress io.Writer) {
	o.peers = slices.DeleteFunc(slices.Clone(o.peers), func(p peer) bool {
		err := p.missing()
		if err != nil {
			fmt.Fprintf(progress, "%s is left out: %s\n", p.Key, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return err != nil
	})
}

// parseOptions reads the command line.
func parseOptions(args []string, complaints io.Writer) (*options, error) {
	o := &options{warm: 300 * time.Millisecond, self: "/proc/self/exe"}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(complaints)
	quick := f.Bool("quick", false, "2 short rounds of fewer figures, unless -rounds or -span say otherwise")
	f.IntVar(&o.rounds, "rounds", 5, "measure every peer so many times")
	f.DurationVar(&o.span, "span", 600*time.Millisecond, "count for so long")
	f.IntVar(&o.family, "family", 4, "of IP: 4 or 6")
	f.IntVar(&o.queues, "queues", min(runtime.NumCPU(), 16), "of each TAP of the director; the default is that of lb.toml")
	chosen := f.String("peers", "", "some peers only, by commas: "+strings.Join(peerKeys(peers), ","))
	programs := f.String("versus", "", "other tapdirector `programs`, by commas, to be measured beside")
	figures := f.String("figures", "", "some figures only, by commas: "+strings.Join(figureKeys(), ","))
	f.BoolVar(&o.markdown, "markdown", false, "print the table for docs/performance.md")
	f.StringVar(&o.json, "json", "", "write all samples to this `file`")
	f.StringVar(&o.director, "director", "", "a tapdirector `program`; it is built unless given")
	f.StringVar(&o.copyloop, "copyloop", "", "a copy loop `program`; it is compiled unless given")
	verbose := f.Bool("v", false, "show what the director logs")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		set := map[string]bool{}
		f.Visit(func(given *flag.Flag) { set[given.Name] = true })
		o.shorten(set)
	}
	if *verbose {
		o.log = complaints
	}
	o.peers = peers
	if *programs != "" {
		o.peers = withPrograms(peers, strings.Split(*programs, ","))
	}
	keys, err1 := choose(*chosen, peerKeys(o.peers))
	o.peers = slices.DeleteFunc(slices.Clone(o.peers), func(p peer) bool { return !slices.Contains(keys, p.Key) })
	var err2 error
	o.figures, err2 = choose(*figures, figureKeys())
	if *quick && *figures == "" {
		o.figures = slices.DeleteFunc(slices.Clone(o.figures), func(f string) bool { return f == figureSeg || f == figureU8 || f == figureU64 })
	}
	return o, errors.Join(err1, err2, o.check(f.Args()))
}

// shorten makes the run quick where the command line did not say otherwise.
func (o *options) shorten(given map[string]bool) {
	if !given["rounds"] {
		o.rounds = 2
	}
	if !given["span"] {
		o.span, o.warm = 100*time.Millisecond, 100*time.Millisecond
	}
}

func (o *options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("what is %q?", rest[0])
	case o.rounds < 1:
		return fmt.Errorf("-rounds %d: must be at least 1", o.rounds)
	case o.span <= 0 || o.span > time.Minute:
		return fmt.Errorf("-span %v: must be above 0 and at most 1m", o.span)
	case o.family != 4 && o.family != 6:
		return fmt.Errorf("-family %d: must be 4 or 6", o.family)
	case o.queues < 1 || o.queues > 16:
		return fmt.Errorf("-queues %d: must be 1 to 16", o.queues)
	}
	return nil
}

// choose reads a list of keys; the empty one means all. The order is that of known.
func choose(list string, known []string) ([]string, error) {
	if list == "" {
		return known, nil
	}
	wanted := strings.Split(list, ",")
	for _, key := range wanted {
		if !slices.Contains(known, key) {
			return nil, fmt.Errorf("%q is unknown: choose of %s", key, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(known), func(key string) bool { return !slices.Contains(wanted, key) }), nil
}

func peerKeys(peers []peer) (keys []string) {
	for _, p := range peers {
		keys = append(keys, p.Key)
	}
	return keys
}

func figureKeys() (keys []string) {
	for _, f := range figures {
		keys = append(keys, f.Key)
	}
	return keys
}

// rotate measures all peers in every round. What was measured before an error is returned with it.
func (o *options) rotate(ctx context.Context, progress io.Writer) (measured, error) {
	got := measured{}
	for round := range o.rounds {
		for i := range o.peers {
			peer := o.peers[(i+round)%len(o.peers)]
			start := time.Now()
			figures, err := o.once(ctx, peer)
			if err != nil {
				return got, fmt.Errorf("round %d, %s: %w", round+1, peer.Key, err)
			}
			got.add(peer.Key, round, figures)
			fmt.Fprintf(progress, "round %d of %d: %-11s %v\n", round+1, o.rounds, peer.Key, time.Since(start).Round(100*time.Millisecond))
		}
	}
	return got, nil
}

// once measures one peer in a lab of its own.
func (o *options) once(ctx context.Context, peer peer) (map[string]float64, error) {
	l, err := o.newLab(ctx, peer)
	if err != nil {
		return nil, err
	}
	figures, err := l.measure(ctx)
	return figures, errors.Join(err, l.close())
}

// tell prints the table and writes the JSON.
func (o *options) tell(r *report, out io.Writer) error {
	if len(r.Rows) == 0 {
		return nil
	}
	write := r.writeText
	if o.markdown {
		write = r.writeMarkdown
	}
	err := errors.Join(write(out), r.writeVersus(out))
	if o.json == "" {
		return err
	}
	f, e := os.Create(filepath.Clean(o.json))
	if e != nil {
		return errors.Join(err, e)
	}
	return errors.Join(err, r.writeJSON(f), f.Close())
}
