package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tapdirector/integration"
	"tapdirector/integration/app"
)

// The lab, from nothing to a picture
//
//	1  stage        namespaces and kernels if they are to be had, else memory; it says which and why
//	2  map          the topology as a picture, and the lb.toml of the director
//	3  requests     one after the other, each on a connection of its own; what passes every point meanwhile is kept
//	4  table        which server answered how often
//	5  trace        the first request's frames as they passed each point
//	6  keep         with --keep all stays up until Ctrl-C
//
// It ends well only if every request was answered.

const labLong = `lab builds a client, a director and real servers, each a host of its own, sends requests to the virtual
address, and shows what happened: the topology, the lb.toml it used, which server answered how often, and one
request's frames as they passed each point, with MACs, addresses and ports before and after.

The hosts are network namespaces joined by bridges, with the kernel's own TCP/IP; the director is this very
program, run with -conf on TAPs. That needs root, or a system that lets users make user namespaces and open
/dev/net/tun. Where it is not to be had, or with --memory, the same runs over a LAN in memory. Nothing is left
behind, whichever way it ends. The exit code is 0 only if every request was answered.`

const labExample = `  tapdirector lab                              NAT over IPv4
  tapdirector lab --method dr --family 6       direct routing over IPv6
  tapdirector lab --protocol udp --servers 5   datagrams, five servers
  tapdirector lab --keep                       stay up; look around with tcpdump and curl`

// labCommand builds the subcommand lab.
func labCommand() *cobra.Command {
	o := &labOptions{}
	cmd := &cobra.Command{
		Use:                   "lab",
		Short:                 "See it work: a client, a director and servers in namespaces of their own",
		Long:                  labLong,
		Example:               labExample,
		Args:                  noArguments,
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.read(cmd)
			return runLab(cmd, *o)
		},
	}
	addChoice(cmd, cmd.Flags(), "method", "how packets are forwarded", integration.Methods...)
	addChoice(cmd, cmd.Flags(), "family", "IP version", "4", "6")
	addChoice(cmd, cmd.Flags(), "protocol", "what the requests use", "tcp", "udp")
	addChoice(cmd, cmd.Flags(), "arms", "interfaces of the director; auto is 1 (all on one LAN) for dr, else 2", "auto", "1", "2")
	cmd.Flags().IntVar(&o.servers, "servers", 3, "`N` real servers, 1 to 89")
	cmd.Flags().IntVar(&o.requests, "requests", 12, "`N` requests to make, 1 or more")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "stay up until Ctrl-C and say how to look around")
	cmd.Flags().BoolVar(&o.memory, "memory", false, "use a LAN in memory: needs no rights")
	return cmd
}

// labOptions are the flags of lab.
type labOptions struct {
	method, protocol string
	family, arms     int
	servers          int
	requests         int
	keep, memory     bool
}

// read takes the choices from the flags; they can hold nothing else than what is allowed.
func (o *labOptions) read(cmd *cobra.Command) {
	o.method, o.protocol = choiceOf(cmd, "method"), choiceOf(cmd, "protocol")
	o.family, _ = strconv.Atoi(choiceOf(cmd, "family"))
	o.arms = map[string]int{"nat": 2, "dr": 1, "tun": 2, "fullnat": 2}[o.method]
	if n, err := strconv.Atoi(choiceOf(cmd, "arms")); err == nil {
		o.arms = n
	}
}

func (o labOptions) spec() integration.Spec {
	return integration.Spec{Method: o.method, Family: o.family, Arms: o.arms, Servers: o.servers, Offload: true}
}

// check refuses numbers that no lab can be made of.
func (o labOptions) check() error {
	if o.servers < 1 || o.servers > integration.MaxServers {
		return &usageError{fmt.Errorf("--servers %d: must be 1 to %d", o.servers, integration.MaxServers)}
	}
	if o.requests < 1 {
		return &usageError{fmt.Errorf("--requests %d: must be 1 or more", o.requests)}
	}
	return nil
}

// runLab is `tapdirector lab`.
func runLab(cmd *cobra.Command, o labOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.WithoutCancel(contextOf(cmd)), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out := &page{w: cmd.OutOrStdout()}
	if !o.memory {
		done, err := elsewhere(cmd)
		if done {
			return err
		}
		if err != nil {
			out.printf("No lab of kernels here: %v.\nSo it runs in memory.\n", err)
			o.memory = true
		}
	}
	s, err := buildStage(out, &o)
	if err != nil {
		return err
	}
	return errors.Join(perform(ctx, out, o, s), s.Close())
}

// contextOf is the command's context; cobra leaves it nil when nobody set one.
func contextOf(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// buildStage builds the hosts and starts the director: of kernels, or in memory if that was asked for or hosts are not to be had.
func buildStage(out *page, o *labOptions) (*stage, error) {
	if !o.memory {
		s, err := kernelStage(o.spec())
		if !errors.Is(err, errNoHosts) {
			return s, err
		}
		out.printf("%v.\nSo it runs in memory.\n", err)
		o.memory = true
	}
	return memoryStage(o.spec())
}

// errNoHosts is why a lab of kernels cannot be built although namespaces and TAPs are there.
var errNoHosts = errors.New("no hosts can be built here")

// perform shows the stage, makes the requests and shows what came of them.
func perform(ctx context.Context, out *page, o labOptions, s *stage) error {
	out.heading("The lab: %s over IPv%d, %d servers, %s", methodNames[o.method], o.family, o.servers, s.kind)
	drawMap(out, s)
	out.heading("lb.toml, as the director runs it")
	out.indented(s.config)
	stop, err := s.record()
	if err != nil {
		return err
	}
	out.heading("%d requests from the client to %v/%s", o.requests, s.VIP(), o.protocol)
	tally, err := makeRequests(ctx, out, o, s)
	seen := stop()
	if err != nil {
		return err
	}
	tally.print(out, s.plan)
	drawTrace(out, s, seen, tally.first)
	if o.keep {
		keep(ctx, out, s)
	}
	return tally.verdict(o)
}

var methodNames = map[string]string{"nat": "NAT", "dr": "direct routing (DR)", "tun": "tunnels (TUN)", "fullnat": "FullNAT"}

// tally is what the requests brought.
type tally struct {
	answers map[string]int // by server
	failed  int
	first   net.Addr // the client's address of the first request
}

// requestLimit bounds one request.
const requestLimit = 5 * time.Second

// listed is how many requests are printed one by one; more are in the table only.
const listed = 24

// makeRequests makes them one after the other; its error is that it was interrupted.
func makeRequests(ctx context.Context, out *page, o labOptions, s *stage) (*tally, error) {
	t := &tally{answers: map[string]int{}}
	for i := range o.requests {
		begun := time.Now()
		a, local, err := request(ctx, o.protocol, uint64(i), s)
		took := time.Since(begun)
		if ctx.Err() != nil {
			return t, errors.New("interrupted")
		}
		if i == 0 {
			t.first = local
		}
		switch {
		case err != nil:
			t.failed++
			out.printf("  %3d  failed: %v\n", i+1, err)
		case i < listed:
			out.printf("  %3d  from %v  answered by %s, which saw %v  (%.2f ms)\n", i+1, local, a.Server, a.Remote, took.Seconds()*1e3)
		}
		if err == nil {
			t.answers[a.Server]++
		}
	}
	if o.requests > listed {
		out.printf("  ...  and %d more\n", o.requests-listed)
	}
	return t, nil
}

// request fetches once from the VIP on a connection of its own and says who answered, and from which address it asked.
func request(ctx context.Context, protocol string, id uint64, s *stage) (app.Answer, net.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	c, err := s.Dial(ctx, protocol)
	if err != nil {
		return app.Answer{}, nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if protocol == "udp" {
		a, err := app.Ask(c, id, []byte("hello"), 32, requestLimit)
		return a, c.LocalAddr(), err
	}
	a, err := app.NewClient(c, requestLimit).Who()
	return a, c.LocalAddr(), err
}

// print is the table of who answered how often.
func (t *tally) print(out *page, p *integration.Plan) {
	out.heading("Who answered")
	for _, s := range p.Servers {
		n := t.answers[s.Name]
		out.printf("  %-4s %-24v %4d  %s\n", s.Name, s.Addr(), n, strings.Repeat("#", min(n, 60)))
	}
	if t.failed > 0 {
		out.printf("  %-4s %-24s %4d\n", "none", "", t.failed)
	}
}

// verdict is an error unless every request was answered.
func (t *tally) verdict(o labOptions) error {
	if t.failed > 0 {
		return fmt.Errorf("%d of %d requests were not answered", t.failed, o.requests)
	}
	return nil
}

// keep leaves the lab up until ctx ends.
func keep(ctx context.Context, out *page, s *stage) {
	out.heading("The lab stays up until Ctrl-C")
	if len(s.visit) == 0 {
		out.printf("  It is in memory: other programs cannot look into it.\n")
	}
	for _, line := range s.visit {
		out.printf("  %s\n", line)
	}
	if s.log != nil {
		s.log(out.w)
	}
	<-ctx.Done()
	out.printf("\n")
}

// page is what the lab prints on.
type page struct{ w io.Writer }

// printf prints whole lines, without spaces at their ends.
func (p *page) printf(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintln(p.w, strings.TrimRight(line, " \n"))
	}
}

// heading starts a section.
func (p *page) heading(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	p.printf("\n%s\n%s\n", line, strings.Repeat("-", len(line)))
}

// indented prints a text with each line moved in.
func (p *page) indented(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		p.printf("  %s", line)
	}
}

// terminal reports whether a person looks at it, as far as can be told, and likes emphasis.
func (p *page) terminal() bool {
	f, ok := p.w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
