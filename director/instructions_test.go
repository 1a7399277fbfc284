//go:build linux && amd64

package director

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Machine instructions for each frame of a known connection: a figure that does not depend on the machine or its load, so that a path that grows is seen at
// once. The test starts itself as a child and runs the path there instruction by instruction, as a debugger would. Counts change with the
// compiler, and with the secrets of the table's hash by a few; the bounds leave 5 % for that. Who makes the path shorter lowers them: -v prints the
// counts, and with INSTRUCTIONS=1 in the environment, by function, where they are spent.

// instructions are the bounds: of a frame in a row of one connection, and of one among others.
var instructions = map[string][2]int{
	"nat/ipv4/forward":                     {420, 640},
	"nat/ipv4/reply":                       {420, 630},
	"nat/ipv4 partial/forward":             {480, 710},
	"nat/ipv4 partial/reply":               {480, 690},
	"nat/ipv4 super/forward":               {540, 740},
	"nat/ipv4 super/reply":                 {540, 720},
	"nat/ipv4 sctp/forward":                {1220, 1800},
	"nat/ipv4 sctp/reply":                  {1200, 1790},
	"dr/ipv4/forward":                      {360, 590},
	"dr/ipv4 partial/forward":              {420, 650},
	"tun/ipv4/forward":                     {1180, 1990},
	"fullnat/ipv4/forward":                 {420, 640},
	"fullnat/ipv4/reply":                   {420, 630},
	"fullnat/ipv4 with toa/forward":        {1350, 2150},
	"fullnat/ipv4 across/forward":          {1210, 2060},
	"fullnat/ipv4 across/reply":            {1460, 2400},
	"fullnat/ipv4 across with toa/forward": {1710, 2550},
	"nat/ipv6/forward":                     {440, 680},
	"nat/ipv6/reply":                       {440, 650},
	"nat/ipv6 partial/forward":             {500, 750},
	"nat/ipv6 partial/reply":               {500, 720},
	"nat/ipv6 super/forward":               {560, 780},
	"nat/ipv6 super/reply":                 {560, 750},
	"nat/ipv6 sctp/forward":                {1190, 1820},
	"nat/ipv6 sctp/reply":                  {1140, 1730},
	"dr/ipv6/forward":                      {370, 620},
	"dr/ipv6 partial/forward":              {440, 680},
	"tun/ipv6/forward":                     {1000, 1960},
	"fullnat/ipv6/forward":                 {440, 680},
	"fullnat/ipv6/reply":                   {440, 650},
	"fullnat/ipv6 with toa/forward":        {1310, 2270},
	"fullnat/ipv6 across/forward":          {1470, 2440},
	"fullnat/ipv6 across/reply":            {1210, 2070},
	"fullnat/ipv6 across with toa/forward": {1920, 2880},
}

// counted are the frames of the batches that are compared: what the batch itself costs drops out.
var counted = [2]int{4, 8}

// offers is how often each batch is carried, the first ones to warm up: one in which the runtime wants the thread for something else does not count.
const offers, warm = 8, 3

const steppedEnv = "TAPDIRECTOR_STEPPED"

// steppedLimit is how long the child may take for all of it, on a busy machine as well.
const steppedLimit = 5 * time.Minute

func TestInstructions(t *testing.T) {
	if os.Getenv(steppedEnv) != "" {
		stepped(t)
		return
	}
	s := startStepper(t)
	for row, conns := range [2]int{1, counted[1]} {
		for _, p := range knownPaths(t, conns) {
			few, many := s.next(), s.next()
			got := (many - few) / (counted[1] - counted[0])
			t.Logf("%s, %d connections: %d instructions", p.name, conns, got)
			if bound := instructions[p.name][row]; got > bound {
				t.Errorf("%s: %d instructions for a frame, want at most %d", p.name, got, bound)
			}
		}
	}
	s.end()
}

// stepped is the child: it marks each batch for its parent.
func stepped(t *testing.T) {
	for _, conns := range []int{1, counted[1]} {
		for _, p := range knownPaths(t, conns) {
			for _, n := range counted {
				tr := p.train(n)
				for range offers {
					tr.restore()
					runtime.Breakpoint()
					tr.carry()
					steppedEnd()
					tr.sent(t)
				}
			}
		}
	}
}

//go:noinline
func steppedEnd() {}

// stepper runs a child. All threads of it stand still while one is stepped, so that its runtime does nothing besides.
type stepper struct {
	t   *testing.T
	cmd *exec.Cmd
	tid int // the thread that stands at a mark

	late atomic.Bool // it was ended at steppedLimit
}

func startStepper(t *testing.T) *stepper {
	runtime.LockOSThread() // a child has one tracer, a thread
	s := &stepper{t: t, cmd: exec.Command(os.Args[0], "-test.run=^TestInstructions$")}
	s.cmd.Env = append(os.Environ(), steppedEnv+"=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := s.cmd.Start(); errors.Is(err, syscall.EPERM) {
		t.Skipf("counting instructions needs the right to trace a child: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(steppedLimit, s.giveUp)
	t.Cleanup(func() {
		limit.Stop()
		s.cmd.Process.Kill()
	})
	s.stopped(s.cmd.Process.Pid)
	const exitKill = 0x100000 // PTRACE_O_EXITKILL
	s.must(syscall.PtraceSetOptions(s.cmd.Process.Pid, syscall.PTRACE_O_TRACECLONE|exitKill))
	s.must(syscall.PtraceCont(s.cmd.Process.Pid, 0))
	return s
}

// giveUp ends the child and whoever waits for it. The kernel keeps the end of a process back until the ends of all its threads were taken.
func (s *stepper) giveUp() {
	s.late.Store(true)
	s.cmd.Process.Kill()
	for err := error(nil); err == nil; {
		_, err = syscall.Wait4(-1, nil, syscall.WALL, nil)
	}
}

func (s *stepper) must(err error) {
	s.t.Helper()
	if s.late.Load() {
		s.t.Fatalf("the child was not done within %v", steppedLimit)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// await waits for thread tid to stop or end, or any thread (-1).
func (s *stepper) await(tid int) (int, syscall.WaitStatus) {
	s.t.Helper()
	var ws syscall.WaitStatus
	tid, err := syscall.Wait4(tid, &ws, syscall.WALL, nil)
	s.must(err)
	return tid, ws
}

// stopped waits for thread tid to stop.
func (s *stepper) stopped(tid int) {
	_, ws := s.await(tid)
	if !ws.Stopped() {
		s.t.Fatalf("the child ended: status %d, signal %v", ws.ExitStatus(), ws.Signal())
	}
}

// next lets the child carry its next batch, as often as it does, and returns the instructions that it takes.
func (s *stepper) next() (n int) {
	for i := range offers {
		if !s.wait() {
			s.t.Fatal("the child ended too soon")
		}
		var others []int
		if i >= warm && n == 0 {
			others = s.halt()
			n = s.count()
		}
		for _, tid := range append(others, s.tid) {
			s.must(syscall.PtraceCont(tid, 0))
		}
	}
	if n == 0 {
		s.t.Fatal("the runtime came between each time")
	}
	return n
}

// end waits for the child's end.
func (s *stepper) end() {
	if s.wait() {
		s.t.Error("the child has more batches")
	}
}

// wait lets the child run to its next mark; false when it has ended instead.
func (s *stepper) wait() bool {
	for {
		tid, ws := s.await(-1)
		sig := 0
		switch {
		case !ws.Stopped() && tid == s.cmd.Process.Pid:
			if ws.ExitStatus() != 0 {
				s.t.Fatalf("the child: status %d, signal %v", ws.ExitStatus(), ws.Signal())
			}
			return false
		case !ws.Stopped():
			continue // another thread's end
		case ws.StopSignal() == syscall.SIGTRAP && ws.TrapCause() <= 0:
			s.tid = tid
			return true
		case ws.StopSignal() != syscall.SIGTRAP && ws.StopSignal() != syscall.SIGSTOP: // these two are of tracing: clones, new threads
			sig = int(ws.StopSignal())
		}
		s.must(syscall.PtraceCont(tid, sig))
	}
}

// halt stops all threads but the one at the mark.
func (s *stepper) halt() (others []int) {
	pid := s.cmd.Process.Pid
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	s.must(err)
	for _, e := range tasks {
		tid, err := strconv.Atoi(e.Name())
		s.must(err)
		if tid != s.tid {
			_, _, errno := syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(tid), uintptr(syscall.SIGSTOP))
			if errno != 0 {
				s.t.Fatal(errno)
			}
			s.stopped(tid)
			others = append(others, tid)
		}
	}
	return others
}

// count steps the thread up to steppedEnd; 0 when the runtime came between.
func (s *stepper) count() (n int) {
	var regs syscall.PtraceRegs
	end, where := uint64(reflect.ValueOf(steppedEnd).Pointer()), map[string]int{}
	for list := os.Getenv("INSTRUCTIONS") != ""; ; n++ {
		s.must(syscall.PtraceSingleStep(s.tid))
		s.stopped(s.tid)
		s.must(syscall.PtraceGetRegs(s.tid, &regs))
		if regs.PC() == end {
			break
		}
		f := runtime.FuncForPC(uintptr(regs.PC())).Name()
		if f == "runtime.newstack" {
			return 0
		}
		if list {
			where[f]++
		}
	}
	for _, f := range slices.SortedFunc(maps.Keys(where), func(a, b string) int { return where[b] - where[a] }) {
		s.t.Logf("%6d %s", where[f], filepath.Base(f))
	}
	return n
}
