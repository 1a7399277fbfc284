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
	"slices"
	"syscall"
	"time"

	"tapdirector/integration/netlab"
)

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
	begun := time.Now()
	o, err := parseOptions(args, progress)
	if err != nil {
		return err
	}
	if o.from != "" {
		return o.retell(out)
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
	s := &session{o: o, begun: begun, progress: progress, report: o.newReport(ctx), got: measured{}}
	s.leaveOut()
	err = s.rotate(ctx)
	s.finish()
	return errors.Join(err, o.tell(s.report, out))
}

// session is a run on its way.
type session struct {
	o        *options
	begun    time.Time
	progress io.Writer
	report   *report
	got      measured
}

// leaveOut takes the peers away that cannot be had here, and says so.
func (s *session) leaveOut() {
	s.o.peers = slices.DeleteFunc(slices.Clone(s.o.peers), func(p peer) bool {
		err := p.missing()
		if err != nil {
			s.note("%s is left out: %s", p.Key, oneLine(err.Error()))
		}
		return err != nil
	})
}

// note keeps a sentence for the report, and says it at once.
func (s *session) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.report.Notes = append(s.report.Notes, line)
	fmt.Fprintln(s.progress, line)
}

// rotate makes the rounds, as many as there is time for. Its error is that it was interrupted.
func (s *session) rotate(ctx context.Context) error {
	longest := time.Duration(0)
	for round := range s.o.rounds {
		if round > 0 && time.Since(s.begun)+longest > s.o.within {
			s.note("%d of %d rounds were made: another would not have ended within %v", round, s.o.rounds, s.o.within)
			return nil
		}
		s.report.Rounds = round + 1
		start := time.Now()
		if err := s.round(ctx, round); err != nil {
			return err
		}
		longest = max(longest, time.Since(start))
	}
	return nil
}

// round measures every peer once, in labs of each family, and begins with another one each time. A measurement that fails is missing; the rest goes on.
func (s *session) round(ctx context.Context, round int) error {
	for i := range s.o.peers {
		p := s.o.peers[(i+round)%len(s.o.peers)]
		for _, family := range s.o.families {
			start := time.Now()
			got, failures := s.o.once(ctx, p, family)
			if ctx.Err() != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, p.Key, ctx.Err())
			}
			s.got.add(place{family, p.Key}, round, got)
			for _, f := range failures {
				s.miss(gap{Family: family, Round: round + 1, Peer: p.Key, What: f.what, Reason: f.err.Error()})
			}
			fmt.Fprintf(s.progress, "round %d of %d: %-11s %s  %v\n", round+1, s.o.rounds, p.Key, ipName(family), time.Since(start).Round(100*time.Millisecond))
		}
	}
	return nil
}

func (s *session) miss(g gap) {
	s.report.Missing = append(s.report.Missing, g)
	fmt.Fprintf(s.progress, "round %d: %s %s, %s is missing: %s\n", g.Round, g.Peer, ipName(g.Family), g.What, g.Reason)
}

// finish completes the report.
func (s *session) finish() {
	s.report.Took = time.Since(s.begun).Seconds()
	s.report.Peers = peerKeys(s.o.peers)
	s.report.Rows = s.got.rows(s.o.families, s.o.peers, s.o.figures)
}
