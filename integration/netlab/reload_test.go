//go:build linux

package netlab

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/worldtest"
)

// TestReload runs the reload table over kernels.
func TestReload(t *testing.T) {
	needRights(t)
	worldtest.RunReload(t, func(t *testing.T, s integration.Spec) integration.Lab { return newWorld(t, s, Options{}) }, worldtest.Options{Parallel: true})
}

// lines is a log that can be waited for.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// wait returns when text was logged n times.
func (l *lines) wait(t *testing.T, text string, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Count(l.buf.String(), text)
	}
	for end := time.Now().Add(time.Minute); count() < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q was logged %d times in a minute, want %d:\n%s", text, count(), n, l.buf.String())
		}
	}
}

// TestReloadOfChild is the program itself, told by SIGHUP, under live TCP and UDP: servers drain, go and come back; a file with mistakes, and one that asks for what
// needs a restart, change nothing.
func TestReloadOfChild(t *testing.T) {
	needRights(t)
	t.Setenv(asDirector, "1")
	for _, s := range []integration.Spec{
		{Method: "nat", Family: 4, Offload: true}, {Method: "nat", Family: 6}, {Method: "dr", Family: 4}, {Method: "dr", Family: 6},
		{Method: "tun", Family: 4}, {Method: "fullnat", Family: 6},
	} {
		t.Run(s.String(), func(t *testing.T) { reloadChild(t, s) })
	}
}

func reloadChild(t *testing.T, s integration.Spec) {
	log := &lines{}
	w := newWorld(t, s, Options{Program: []string{"/proc/self/exe"}, Log: log})
	conns := map[string]*app.Client{}
	for range 3 {
		conn, err := w.Dial(t.Context(), "tcp")
		if err != nil {
			t.Fatal(err)
		}
		c := app.NewClient(conn, time.Minute)
		defer c.Close()
		a, err := c.Who()
		if err != nil {
			t.Fatal(err)
		}
		conns[a.Server] = c
	}
	flow, err := w.Dial(t.Context(), "udp")
	if err != nil {
		t.Fatal(err)
	}
	defer flow.Close()
	asked := uint64(0)
	// live fails the test unless the flow is answered, and every connection, by its own server, but that to one which is gone.
	live := func(gone string) {
		t.Helper()
		asked++
		if a, err := app.Ask(flow, asked, nil, 10, time.Minute); err != nil || a.Server == gone {
			t.Fatalf("UDP: answered by %q, %v", a.Server, err)
		}
		for name, c := range conns {
			a, err := c.Who()
			switch {
			case name == gone && err == nil:
				t.Errorf("%s answers though it was removed", name)
			case name != gone && (err != nil || a.Server != name):
				t.Errorf("%s: answered by %q, %v", name, a.Server, err)
			}
		}
		delete(conns, gone)
	}
	live("")
	original := w.config
	edit := func(old, new string) func(string) string {
		return func(text string) string { return strings.ReplaceAll(text, old, new) }
	}
	tell := func(edit func(string) string, want string, n int) {
		t.Helper()
		if err := w.Reload(edit); err != nil {
			t.Fatal(err)
		}
		log.wait(t, want, n)
	}
	tell(edit("weight  = 1", "weight  = 3"), "weight 1 -> 3", 2)
	live("")
	tell(edit("weight  = 3", "weight  = lots"), "reload refused", 1)
	live("")
	w.config = original
	tell(edit("queues    = 1", "queues    = 2"), "cannot change at run time, restart for it: interface", 1)
	live("")
	w.config = original
	last := original[strings.LastIndex(original, "  [[service.server]]"):] // of the same text in both services
	gone := w.plan.Servers[len(w.plan.Servers)-1].Name
	tell(edit(last, ""), "removed", 1)
	live(gone)
	tell(func(string) string { return original }, "added", 1)
	live("")
}
