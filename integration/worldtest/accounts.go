package worldtest

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"tapdirector/integration"
)

// checkWay compares which way packets went with what the method says.
func checkWay(t *testing.T, e *env) {
	verdict := func(name string) uint64 { return e.counter("verdict", "verdict="+name) }
	for _, m := range integration.Methods {
		ours := m == e.plan.Spec.Method
		if n := verdict("forwarded-" + m); (n > 0) != ours {
			t.Errorf("%d frames forwarded by %s", n, m)
		}
		if n := verdict("replied-" + m); (n > 0) != (ours && e.plan.Translates()) {
			t.Errorf("%d answers by %s", n, m)
		}
	}
	if n := e.answers.Load(); e.observed && n != 0 && !e.plan.Translates() {
		t.Errorf("%d answers of servers passed the director", n)
	}
}

// checkFaults asks every host whether it got something that is wrong.
func checkFaults(t *testing.T, e *env) {
	w, ok := e.World.(integration.Faulty)
	if !ok {
		t.Skip("this world does not count faults")
	}
	for name, n := range w.Faults() {
		if n != 0 {
			t.Errorf("%s = %d, want 0", name, n)
		}
	}
}

// bad are the verdicts that healthy traffic never brings; besides them every refusal of the parser, "drop: ...".
var bad = []string{"drop-panic", "drop-no-server", "drop-table-full", "drop-clash", "drop-no-port", "drop-no-room",
	"drop-untranslatable", "drop-no-checksum",
	"drop-fragment", "drop-fragments-full",
	"sent-unreachable", "sent-time-exceeded", "sent-too-big"}

// checkAccounts adds up the director's counters. Traffic has ended, but its last frames may still be under way.
func checkAccounts(t *testing.T, e *env) {
	if !waitFor(e.Timeout, func() bool { return e.counter("frames_read") == e.counter("verdict") }) {
		t.Errorf("%d frames read, %d verdicts: %v", e.counter("frames_read"), e.counter("verdict"), e.Counters())
	}
	if e.counter("frames_read") == 0 {
		t.Error("no frame was read")
	}
	for _, c := range e.Counters() {
		if c.Name == "verdict" && c.Value != 0 && isBad(c.Labels) && !e.expected(c.Labels[0]) {
			t.Errorf("%d frames with %v", c.Value, c.Labels)
		}
	}
	if n := e.counter("tx_dropped_invalid"); n != 0 {
		t.Errorf("the kernel refused %d frames", n)
	}
	for network, service := range [2]string{"web", "datagrams"} {
		if got, want := e.counter("service_connections_total", "service="+service), e.dialled[network]; got < want {
			t.Errorf("service %s: %d connections counted, %d made", service, got, want)
		}
	}
	if n := e.counter("service_out_packets"); (n > 0) != e.plan.Translates() {
		t.Errorf("%d packets of answers counted", n)
	}
}

// expected reports whether a verdict belongs to the spec: in a cramped one clients must find out.
func (e *env) expected(label string) bool { return e.cramped() && label == "verdict=sent-too-big" }

// cramped reports whether the way to the servers has no room for a tunnel around a client's full packet.
func (e *env) cramped() bool {
	return e.plan.Spec.Method == "tun" && e.plan.MTU(e.plan.LANs[len(e.plan.LANs)-1]) <= e.plan.Spec.MTU
}

func isBad(labels []string) bool {
	for _, l := range labels {
		verdict := strings.TrimPrefix(l, "verdict=")
		if strings.HasPrefix(verdict, "drop: ") {
			return true
		}
		for _, b := range bad {
			if verdict == b {
				return true
			}
		}
	}
	return false
}

// inventory is what a world may leave behind.
type inventory struct{ goroutines, fds int }

func takeInventory() inventory { return inventory{runtime.NumGoroutine(), countFDs()} }

// countFDs returns 0 where the system does not tell.
func countFDs() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// more reports whether there is more of anything than before.
func (i inventory) more(before inventory) bool {
	return i.goroutines > before.goroutines || i.fds > before.fds
}

// checkClose closes the world, again, and waits until it has left nothing behind. (The first world of a process may have opened descriptors that the
// runtime keeps, its poller's; so the comparison allows for those few.)
func checkClose(t *testing.T, w integration.World, before inventory) {
	for range 2 {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	const poller = 3
	before.fds += poller
	before.goroutines++ // the subtest's own
	if !waitFor(20*time.Second, func() bool { return !takeInventory().more(before) }) {
		stacks := make([]byte, 1<<20)
		t.Errorf("before %+v, after %+v:\n%s", before, takeInventory(), stacks[:runtime.Stack(stacks, true)])
	}
}
