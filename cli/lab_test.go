package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tapdirector/director"
	"tapdirector/integration"
	"tapdirector/integration/app"
)

// contains fails the test for every part that text lacks.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("the output lacks %q:\n%s", part, text)
		}
	}
}

// The lab in memory needs nothing, so it must work everywhere, in every form.
func TestLabInMemory(t *testing.T) {
	for _, method := range integration.Methods {
		for _, family := range []string{"4", "6"} {
			for _, rest := range [][]string{{"--protocol", "tcp", "--arms", "2"}, {"--protocol", "udp", "--arms", "1"}} {
				args := append([]string{"lab", "--memory", "--requests", "4", "--servers", "2", "--method", method, "--family", family}, rest...)
				t.Run(strings.Join(args[6:], " "), func(t *testing.T) {
					r := runArgs(args...)
					if r.code != ExitOK || r.stderr != "" {
						t.Fatalf("exit code %d, stderr %q", r.code, r.stderr)
					}
					way := "The answer came back through the director."
					if method == "dr" || method == "tun" {
						way = "The answer did not pass the director."
					}
					contains(t, r.stdout, "in memory", fmt.Sprintf("method    = %q", method), "answered by s1", "answered by s2", way,
						"client to server", "server to client")
					if got := strings.Contains(r.stdout, "*in ipip, "); got != (method == "tun") {
						t.Errorf("a tunnel is shown: %v", got)
					}
				})
			}
		}
	}
}

func TestLabUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--servers", "0"}, "--servers 0: must be 1 to 89"},
		{[]string{"--servers", "90"}, "--servers 90: must be 1 to 89"},
		{[]string{"--requests", "0"}, "--requests 0: must be 1 or more"},
		{[]string{"--method", "masq"}, "must be one of: nat, dr, tun, fullnat"},
		{[]string{"--family", "5"}, "must be one of: 4, 6"},
		{[]string{"--protocol", "sctp"}, "must be one of: tcp, udp"},
		{[]string{"--arms", "3"}, "must be one of: auto, 1, 2"},
		{[]string{"nat"}, "unexpected"},
	} {
		r := runArgs(append([]string{"lab"}, c.args...)...)
		if r.code != ExitUsage || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("lab %v: exit code %d, stderr %q, stdout %q; want %d and %q", c.args, r.code, r.stderr, r.stdout, ExitUsage, c.want)
		}
	}
}

// Without a word the director has the arms that textbooks draw.
func TestLabArms(t *testing.T) {
	for _, c := range []struct {
		args []string
		two  bool
	}{
		{[]string{"--method", "nat"}, true},
		{[]string{"--method", "dr"}, false},
		{[]string{"--method", "tun"}, true},
		{[]string{"--method", "nat", "--arms", "1"}, false},
		{[]string{"--method", "dr", "--arms", "2"}, true},
	} {
		r := runArgs(append([]string{"lab", "--memory", "--requests", "1"}, c.args...)...)
		if got := strings.Contains(r.stdout, "==== int: "); got != c.two || r.code != ExitOK {
			t.Errorf("lab %v: two LANs: %v, want %v (exit code %d)", c.args, got, c.two, r.code)
		}
	}
}

// fakeWorld is a lab without anything in it.
type fakeWorld struct {
	vip     netip.AddrPort
	dial    func() (net.Conn, error)
	closed  int
	closing error
}

func (w *fakeWorld) VIP() netip.AddrPort                            { return w.vip }
func (w *fakeWorld) Dial(context.Context, string) (net.Conn, error) { return w.dial() }
func (w *fakeWorld) Servers() []*app.Server                         { return nil }
func (w *fakeWorld) Counters() []director.Counter                   { return nil }
func (w *fakeWorld) Close() error                                   { w.closed++; return w.closing }

// fakeStage is a stage of a fake world, with hardware addresses that can be told from each other.
func fakeStage(t *testing.T, spec integration.Spec) (*stage, *fakeWorld) {
	t.Helper()
	plan, err := integration.NewPlan(spec)
	if err != nil {
		t.Fatal(err)
	}
	w := &fakeWorld{vip: plan.VIP, dial: func() (net.Conn, error) { return nil, errors.New("nobody there") }}
	return &stage{
		World: w, plan: plan, config: plan.Config(nil), kind: "of paper",
		wire: func(lan string) string { return "wire " + lan },
		link: func(host, lan string) string {
			return map[bool]string{true: "tap-", false: "nic-"}[host == "director"] + lan
		},
		mac:    fakeMAC,
		record: func() (func() []sighting, error) { return func() []sighting { return nil }, nil },
	}, w
}

// fakeMAC is 02:LAN:00:00:00:HOST with their first or last letters.
func fakeMAC(host, lan string) string {
	return fmt.Sprintf("02:%02x:00:00:00:%02x", lan[0], host[len(host)-1])
}

// A request without an answer makes the lab fail, whatever else it shows.
func TestLabFailsWithoutAnswers(t *testing.T) {
	s, _ := fakeStage(t, integration.Spec{Method: "nat"})
	var out bytes.Buffer
	err := perform(t.Context(), &page{w: &out}, labOptions{method: "nat", family: 4, protocol: "tcp", servers: 3, requests: 2}, s)
	if err == nil || err.Error() != "2 of 2 requests were not answered" {
		t.Errorf("error %v", err)
	}
	contains(t, out.String(), "failed: nobody there", "No frame of the first request was seen")
}

func TestLabInterrupted(t *testing.T) {
	s, _ := fakeStage(t, integration.Spec{Method: "dr"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := perform(ctx, &page{w: &bytes.Buffer{}}, labOptions{method: "dr", family: 4, protocol: "udp", servers: 3, requests: 2}, s)
	if err == nil || err.Error() != "interrupted" {
		t.Errorf("error %v, want interrupted", err)
	}
}

// Many requests are counted, but not all listed.
func TestLabListsSome(t *testing.T) {
	r := runArgs("lab", "--memory", "--protocol", "udp", "--requests", fmt.Sprint(listed+2), "--servers", "1")
	if r.code != ExitOK {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	contains(t, r.stdout, fmt.Sprintf("%3d  from", listed), "...  and 2 more", fmt.Sprintf("%4d  #", listed+2))
	if strings.Contains(r.stdout, fmt.Sprintf("%3d  from", listed+1)) {
		t.Error("more are listed than promised")
	}
}

// Kept labs show how to look around, pass the director's log on from then, and end with the context.
func TestKeep(t *testing.T) {
	s, _ := fakeStage(t, integration.Spec{Method: "nat"})
	log := &heldLog{}
	fmt.Fprintln(log, "before")
	s.log, s.visit = log.release, []string{"nsenter somewhere"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	keep(ctx, &page{w: &out}, s)
	fmt.Fprintln(log, "after")
	contains(t, out.String(), "The lab stays up until Ctrl-C", "nsenter somewhere", "after")
	if strings.Contains(out.String(), "before") {
		t.Error("what was logged before was not held back")
	}
	out.Reset()
	s.visit = nil
	keep(ctx, &page{w: &out}, s)
	contains(t, out.String(), "other programs cannot look into it")
}

func TestPage(t *testing.T) {
	var b bytes.Buffer
	p := &page{w: &b}
	p.heading("Title %d", 1)
	p.indented("a  \n\n  b\n\n")
	p.printf("c \nd\n")
	if want := "\nTitle 1\n-------\n  a\n\n    b\nc\nd\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "page"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p.terminal() || (&page{w: f}).terminal() {
		t.Error("a buffer or a file is taken for a terminal")
	}
}
