//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tapdirector/integration/netlab"
)

// TestMain makes the test binary the load, which the bench starts as itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == loadCommand {
		exit(runLoad(os.Args[2:], os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// needLab skips where no lab can be built, or nothing be compiled; with TAPDIRECTOR_NEED_NETNS=1, as in CI, it fails instead.
func needLab(t *testing.T) {
	t.Helper()
	err := netlab.Available()
	for _, tool := range []string{"gcc", "go"} {
		if err == nil {
			_, err = exec.LookPath(tool)
		}
	}
	if err != nil && os.Getenv("TAPDIRECTOR_NEED_NETNS") == "1" {
		t.Fatalf("TAPDIRECTOR_NEED_NETNS=1, but: %v", err)
	}
	if err != nil {
		t.Skipf("no bench here: %v", err)
	}
}

// TestBench runs the bench, shortly: some figures of every peer, and all of one, are there and are numbers that can be.
func TestBench(t *testing.T) {
	needLab(t)
	all := slices.DeleteFunc(figureKeys(), func(key string) bool { f, _ := figureOf(key); return f.Million })
	for name, c := range map[string]struct {
		family         string
		peers, figures []string
	}{
		"peers":   {"4,6", peerKeys(peers), []string{figureUp, figureCPUGB, figureP50, figureMemory}},
		"figures": {"4", []string{"copyloop2", "nat"}, all},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "bench.json")
			var out, progress bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			args := []string{"-rounds", "1", "-span", "200ms", "-family", c.family, "-peers", strings.Join(c.peers, ","),
				"-figures", strings.Join(c.figures, ","), "-json", file, "-svg", filepath.Join(dir, "bench.svg")}
			if err := run(ctx, args, &out, &progress); err != nil {
				t.Fatalf("%v\n%s", err, &progress)
			}
			want := 0
			for _, p := range peers {
				if !slices.Contains(c.peers, p.Key) || p.missing() != nil {
					continue
				}
				if !strings.Contains(out.String(), p.Title) {
					t.Errorf("%s is not in the table:\n%s", p.Key, &out)
				}
				want += len(strings.Split(c.family, ",")) * countOf(&p, c.figures)
			}
			checkReport(t, file, want)
		})
	}
}

// TestMillion fills a table, with fewer connections than a million: they and those that come and go are there, they end, and the figures are numbers that can be.
func TestMillion(t *testing.T) {
	needLab(t)
	for _, c := range []struct {
		peer   string
		family int
	}{{peerNAT, 4}, {peerDR, 6}} {
		o, err := parseOptions([]string{"-figures", figureEnding}, os.Stderr)
		if err == nil {
			err = o.build(t.Context(), t.TempDir())
		}
		if err != nil {
			t.Fatal(err)
		}
		o.million, o.stay, o.churnShare = 20_000, 5*time.Second, 0.01
		p, _ := peerOf(c.peer)
		got, failed := o.once(t.Context(), p, c.family)
		if len(failed) > 0 || got[figureChurn] <= 0 || got[figureMillion] <= 0 || got[figureEnding] <= 0 || got[figureMemoryMil] <= 0 {
			t.Errorf("%s, IPv%d: %v", c.peer, c.family, got)
		}
		for _, f := range failed {
			t.Errorf("%s, IPv%d, %s: %v", c.peer, c.family, f.what, f.err)
		}
	}
}

// countOf is how many of the figures a peer has.
func countOf(p *peer, keys []string) (n int) {
	for _, key := range keys {
		if f, _ := figureOf(key); p.has(f) {
			n++
		}
	}
	return n
}

// checkReport fails unless a report has so many rows of one good sample.
func checkReport(t *testing.T, file string, want int) {
	t.Helper()
	var r report
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != want {
		t.Errorf("%d rows, want %d", len(r.Rows), want)
	}
	for _, g := range r.Missing {
		t.Errorf("missing: %+v", g)
	}
	for _, row := range r.Rows {
		if row.Summary.N != 1 || row.Summary.Median <= 0 {
			t.Errorf("%s of %s: %+v", row.Figure, row.Peer, row.Summary)
		}
	}
}

// TestInterrupted: Ctrl-C ends a run at once, leaves no child behind, and tells what had been measured.
func TestInterrupted(t *testing.T) {
	needLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	progress := &firstLine{seen: cancel}
	var out bytes.Buffer
	err := run(ctx, []string{"-rounds", "1000", "-span", "20ms", "-family", "4", "-figures", "tcp-up,udp-small", "-peers", "wire,copyloop2"}, &out, progress)
	if err == nil {
		t.Fatal("an interrupted run is no error")
	}
	if !strings.Contains(out.String(), "straight wire") {
		t.Errorf("what was measured is not told:\n%s", &out)
	}
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range children {
		if b, err := os.ReadFile(c); err == nil && len(bytes.TrimSpace(b)) > 0 {
			t.Errorf("children are left: %s", b)
		}
	}
}

// firstLine calls seen when something is written to it.
type firstLine struct{ seen func() }

func (f *firstLine) Write(b []byte) (int, error) {
	f.seen()
	return len(b), nil
}

// TestPeerThatFails: what cannot be measured of one peer is missing, and the others are told.
func TestPeerThatFails(t *testing.T) {
	needLab(t)
	var out, progress bytes.Buffer
	args := []string{"-rounds", "1", "-span", "20ms", "-family", "4", "-figures", "rtt-p50", "-peers", "wire,copyloop2,nat", "-copyloop", "/bin/false"}
	if err := run(t.Context(), args, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	for _, want := range []string{"straight wire", "  copy loop, two arms         ", "missing: everything of copyloop2, IPv4, in round 1: start copyloop2"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}

// TestWithin: no round is begun that would end too late, and a line says how many there were.
func TestWithin(t *testing.T) {
	needLab(t)
	var out, progress bytes.Buffer
	args := []string{"-rounds", "1000", "-within", "1ms", "-span", "20ms", "-family", "4", "-figures", "rtt-p50", "-peers", "wire"}
	if err := run(t.Context(), args, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if want := "1 of 1000 rounds were made: another would not have ended within 1ms"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in\n%s", want, &out)
	}
}

// TestRetell: what was kept is told without a lab, in the forms that are asked for.
func TestRetell(t *testing.T) {
	chart := filepath.Join(t.TempDir(), "chart.svg")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-from", "testdata/report.json", "-markdown", "-svg", chart}, &out, os.Stderr); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.md", out.String())
	drawn, err := os.ReadFile(chart)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "chart.svg", string(drawn))
	if err := run(t.Context(), []string{"-from", "no-such-file"}, &out, os.Stderr); err == nil {
		t.Error("a file that is not there is told")
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		args  string
		check func(o *options) bool
	}{
		{"", func(o *options) bool {
			return o.rounds == 5 && o.within < 15*time.Minute && slices.Equal(o.families, []int{4, 6})
		}},
		{"-quick", func(o *options) bool {
			return o.rounds == 2 && len(o.figures) == len(figures)-len(slowFigures) && o.within < 3*time.Minute
		}},
		{"-quick -rounds 7 -within 1h", func(o *options) bool { return o.rounds == 7 && o.span < 200*time.Millisecond && o.within == time.Hour }},
		{"-quick -figures tcp-small", func(o *options) bool { return slices.Equal(o.figures, []string{figureSeg}) }},
		{"-family 6 -queues 1", func(o *options) bool { return slices.Equal(o.families, []int{6}) && o.queues == 1 }},
		{"", func(o *options) bool { return len(o.peers) == len(peers) && len(o.figures) == len(figures) }},
		{"-peers dr,wire", func(o *options) bool { return slices.Equal(peerKeys(o.peers), []string{"wire", "dr"}) }},
		{"-peers haproxy", func(o *options) bool { return len(o.peers) == 1 && o.peers[0].TCPOnly }},
		{"-peers nat,nat@sh -versus /bin/sh", func(o *options) bool { return slices.Equal(peerKeys(o.peers), []string{"nat", "nat@sh"}) }},
	} {
		o, err := parseOptions(strings.Fields(c.args), &bytes.Buffer{})
		if err != nil || !c.check(o) {
			t.Errorf("%q: %+v, %v", c.args, o, err)
		}
	}
	for _, wrong := range []string{"-rounds 0", "-span 0s", "-span 2h", "-family 5", "-family 4,4,x", "-queues 17", "-peers lvs", "-peers nat@old", "-figures x", "more", "-unknown",
		"-director /builds/none", "-copyloop /etc/passwd", "-versus /bin/sh,/builds/none"} {
		if o, err := parseOptions(strings.Fields(wrong), &bytes.Buffer{}); err == nil {
			t.Errorf("%q is taken: %+v", wrong, o)
		}
	}
}

// TestModes: each client runs once, and none for figures that a peer has not.
func TestModes(t *testing.T) {
	for _, c := range []struct {
		peer, figures string
		want          []string
	}{
		{peerNAT, "", []string{"up", "down", "up4", "down4", "segments", "flood", "flood8", "flood64", "flood4096", "conn", "rtt", "rttload"}},
		{peerHAProxy, "", []string{"up", "down", "up4", "down4", "segments", "conn", "rtt", "rttload"}},
		{peerNAT, "rtt-p99", []string{"rtt"}},
		{peerNAT, "cpu-gb,tcp-up", []string{"up"}},
		{peerNAT, "memory", nil},
	} {
		o, err := parseOptions([]string{"-figures", c.figures}, &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := peerOf(c.peer)
		l := lab{o: o, who: p}
		if got := l.modes(); !slices.Equal(got, c.want) {
			t.Errorf("%s, %q: %q", c.peer, c.figures, got)
		}
	}
}

func TestRequest(t *testing.T) {
	for _, r := range []request{{}, {modeUp, 1, 2}, {modeRTT, time.Hour, 3 * time.Second}} {
		b := r.encode()
		if got := decodeRequest(b); got != r || len(b) != requestLen {
			t.Errorf("%+v became %+v in %d bytes", r, got, len(b))
		}
	}
}

// TestLoad runs every client against the server over loopback, in this process's namespace: no rights are needed.
func TestLoad(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) { testLoad(t, netip.MustParseAddrPort(address)) })
	}
}

func testLoad(t *testing.T, at netip.AddrPort) {
	listener, err := listen(at)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skipf("this system has no such loopback address: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(listener)
	at = netip.AddrPortFrom(at.Addr(), portOf(name))
	server := startLoad(t, "serve", at.String())
	l := load{to: at, warm: time.Millisecond, span: 20 * time.Millisecond}
	for mode, figures := range map[string][]string{
		"up": {figureUp}, "down": {figureDown}, "conn": {figureConn}, "rtt": {figureP50, figureP99, figureP999}, "up4": {figureUp4}, "down4": {figureDown4}, "rttload": {figureL50, figureL99, figureL999}, "flood": nil,
		"segments": {figureSeg}, "flood8": nil, "flood64": nil,
	} {
		stop := make(chan struct{})
		l.ready, l.stop = func() { time.AfterFunc(20*time.Millisecond, func() { close(stop) }) }, stop
		got, err := loads[mode](&l)
		if err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		for _, f := range figures {
			if got[f] <= 0 {
				t.Errorf("%s: %v", mode, got)
			}
		}
	}
	if line, err := server.ask("count"); err != nil || strings.HasPrefix(line, "0 ") {
		t.Errorf("datagrams that arrived: %q, %v", line, err)
	}
}

func portOf(a unix.Sockaddr) uint16 {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}

// startHere starts a command in this process's namespace, by a thread that outlives it (Pdeathsig).
func startHere(cmd *exec.Cmd) (<-chan error, error) {
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return ended, <-started
}

// startLoad starts a load process without a namespace of its own.
func startLoad(t *testing.T, args ...string) *process {
	t.Helper()
	p, err := startProcess(t.Context(), startHere, "/proc/self/exe", append([]string{loadCommand}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// A child that ends, or that says something else than that it is ready, is an error that quotes it, at once.
func TestProcessThatFails(t *testing.T) {
	_, err := startProcess(t.Context(), startHere, "/proc/self/exe", loadCommand, "juggle", "127.0.0.1:1", "1s", "1s")
	if err == nil || !strings.Contains(err.Error(), "juggle") {
		t.Errorf("error %v", err)
	}
	var none *process
	if err := none.stop(); err != nil {
		t.Errorf("stopping nothing: %v", err)
	}
}
