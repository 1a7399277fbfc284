//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// options are what a run is asked for.
type options struct {
	rounds, queues     int
	families           []int
	warm, span         time.Duration
	within             time.Duration // no round is begun that would end later
	peers              []peer
	figures            []string // keys
	markdown           bool
	json, svg          string        // files
	from               string        // a file: what it holds is told, nothing is measured
	director, copyloop string        // programs; empty: they are built
	self               string        // this program
	million            int           // connections to fill a table with
	stay               time.Duration // that the million stays after its last packet: longer than it takes to make it
	churnShare         float64       // of churnRate that must have come for a figure to count: a sender that gets no CPU makes fewer
	log                io.Writer
}

// Figures that a quick run leaves out unless they are asked for.
var slowFigures = []string{figureSeg, figureU8, figureU64, figureChurn, figureMillion, figureEnding, figureMemoryMil}

// parseOptions reads the command line.
func parseOptions(args []string, complaints io.Writer) (*options, error) {
	o := &options{warm: 80 * time.Millisecond, self: "/proc/self/exe", million: 1_000_000, stay: 15 * time.Second, churnShare: 0.9}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(complaints)
	quick := f.Bool("quick", false, "2 short rounds of fewer figures, unless -rounds, -span or -figures say otherwise")
	f.IntVar(&o.rounds, "rounds", 5, "measure every peer so many times")
	f.DurationVar(&o.span, "span", 200*time.Millisecond, "count for so long")
	f.DurationVar(&o.within, "within", 14*time.Minute, "begin no round that would end later")
	family := f.String("family", "4,6", "of IP: 4, 6 or both")
	f.IntVar(&o.queues, "queues", min(runtime.NumCPU(), 16), "of each TAP of the director; the default is that of lb.toml")
	chosen := f.String("peers", "", "some peers only, by commas: "+strings.Join(peerKeys(peers), ","))
	programs := f.String("versus", "", "other tapdirector `programs`, by commas, to be measured beside")
	figures := f.String("figures", "", "some figures only, by commas: "+strings.Join(figureKeys(), ","))
	f.BoolVar(&o.markdown, "markdown", false, "print the tables for docs/performance.md")
	f.StringVar(&o.json, "json", "", "write all samples to this `file`")
	f.StringVar(&o.svg, "svg", "", "draw the ratios into this `file`")
	f.StringVar(&o.from, "from", "", "measure nothing: tell what -json wrote to this `file`")
	f.StringVar(&o.director, "director", "", "a tapdirector `program`; it is built unless given")
	f.StringVar(&o.copyloop, "copyloop", "", "a copy loop `program`; it is compiled unless given")
	verbose := f.Bool("v", false, "show what the director logs")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		o.shorten(f)
	}
	if *verbose {
		o.log = complaints
	}
	var err error
	o.families, err = parseFamilies(*family)
	return o, errors.Join(err, o.choosePeers(*chosen, *programs), o.chooseFigures(*figures, *quick), o.check(f.Args()), o.findPrograms())
}

// shorten makes the run quick where the command line did not say otherwise.
func (o *options) shorten(f *flag.FlagSet) {
	given := map[string]bool{}
	f.Visit(func(g *flag.Flag) { given[g.Name] = true })
	if !given["rounds"] {
		o.rounds = 2
	}
	if !given["span"] {
		o.span, o.warm = 180*time.Millisecond, 60*time.Millisecond
	}
	if !given["within"] {
		o.within = 170 * time.Second
	}
}

func parseFamilies(list string) ([]int, error) {
	keys, err := choose(list, []string{"4", "6"})
	if err != nil {
		return nil, fmt.Errorf("-family: %w", err)
	}
	var families []int
	for _, k := range keys {
		families = append(families, int(k[0]-'0'))
	}
	return families, nil
}

func (o *options) choosePeers(list, programs string) error {
	o.peers = peers
	if programs != "" {
		o.peers = withPrograms(peers, strings.Split(programs, ","))
	}
	keys, err := choose(list, peerKeys(o.peers))
	o.peers = slices.DeleteFunc(slices.Clone(o.peers), func(p peer) bool { return !slices.Contains(keys, p.Key) })
	return err
}

func (o *options) chooseFigures(list string, quick bool) (err error) {
	o.figures, err = choose(list, figureKeys())
	if quick && list == "" {
		o.figures = slices.DeleteFunc(slices.Clone(o.figures), func(f string) bool { return slices.Contains(slowFigures, f) })
	}
	return err
}

func (o *options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("what is %q?", rest[0])
	case o.rounds < 1:
		return fmt.Errorf("-rounds %d: must be at least 1", o.rounds)
	case o.span <= 0 || o.span > time.Minute:
		return fmt.Errorf("-span %v: must be above 0 and at most 1m", o.span)
	case o.queues < 1 || o.queues > 16:
		return fmt.Errorf("-queues %d: must be 1 to 16", o.queues)
	}
	return nil
}

// findPrograms looks for the programs that were given: better now than in each round.
func (o *options) findPrograms() error {
	given := []string{o.director, o.copyloop}
	for _, p := range o.peers {
		given = append(given, p.Program)
	}
	for _, program := range given {
		if program == "" {
			continue
		}
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("there is no such program to measure: %w", err)
		}
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

// wants reports whether a figure is asked for that fits.
func (o *options) wants(fits func(figure) bool) bool {
	return slices.ContainsFunc(o.figures, func(key string) bool {
		f, _ := figureOf(key)
		return fits(f)
	})
}
