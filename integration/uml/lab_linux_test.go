package uml

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/app"
	"tapdirector/integration/netlab"
)

// waitLimit bounds each wait.
const waitLimit = 30 * time.Second

// endsPath is the program that runs in guests; TestMain builds it.
var endsPath string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "uml-ends")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	endsPath = filepath.Join(dir, "ends")
	return m.Run()
}

// needGuests skips a test where no guest can be, and fails it where there should be.
func needGuests(t *testing.T) {
	t.Helper()
	err := netlab.Available()
	if err == nil {
		err = Available()
	}
	switch {
	case err == nil:
	case os.Getenv("TAPDIRECTOR_NEED_NETNS") == "1":
		t.Fatalf("TAPDIRECTOR_NEED_NETNS=1, but: %v", err)
	default:
		t.Skipf("no guest here: %v", err)
	}
	if _, err := os.Stat(endsPath); err == nil {
		return
	}
	build := exec.Command("go", "build", "-o", endsPath, "./ends")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./ends: %v\n%s", err, said)
	}
}

// lab is two LANs with a client of both families in ext; guests and the director are added.
type lab struct {
	*netlab.World
	guests map[string]*Guest
}

// The LANs' hosts by number, in both families.
func addr4(lan string, n int) netip.Addr { return lanAddr("10.77.%d.%d", lan, n) }
func addr6(lan string, n int) netip.Addr { return lanAddr("2001:db8:77:%d::%d", lan, n) }

func lanAddr(format, lan string, n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(format, map[string]int{integration.Ext: 1, integration.Int: 2}[lan], n))
}

// host is number n in that family.
func host(family int, lan string, n int) netip.Addr {
	if family == 6 {
		return addr6(lan, n)
	}
	return addr4(lan, n)
}

// interfaces is the beginning of each lb.toml: the director with an address of both families in each LAN.
const interfaces = `[[interface]]
name      = "ext"
tap       = "tap0"
bridge    = "br-ext"
mac       = "02:00:00:00:aa:01"
addresses = ["10.77.1.1/24", "2001:db8:77:1::1/64"]
[[interface]]
name      = "int"
tap       = "tap1"
bridge    = "br-int"
mac       = "02:00:00:00:aa:02"
addresses = ["10.77.2.1/24", "2001:db8:77:2::1/64"]
`

// newLab builds them.
func newLab(t *testing.T) *lab {
	t.Helper()
	w, err := netlab.NewBare(integration.Spec{Method: "nat"}, func(p *integration.Plan) { p.Servers = nil })
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{World: w, guests: map[string]*Guest{}}
	t.Cleanup(func() { l.close(t) })
	client := w.Namespace("client")
	if err := client.Address("eth0", netip.PrefixFrom(addr6(integration.Ext, 2), 64)); err != nil {
		t.Fatal(err)
	}
	return l
}

// close takes all down; a guest's last words are shown when the test failed.
func (l *lab) close(t *testing.T) {
	for name, g := range l.guests {
		if t.Failed() {
			t.Logf("%s: %s", name, g.Console())
		}
		if err := g.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.World.Close(); err != nil {
		t.Error(err)
	}
}

// boot adds a guest; its interfaces vec0 ... are on the LANs.
func (l *lab) boot(t *testing.T, name string, modules []string, lans ...string) *Guest {
	t.Helper()
	o := Options{Name: name, Modules: modules}
	for i, lan := range lans {
		tap := fmt.Sprintf("%s%d", name, i)
		if err := l.AddTAP(tap, lan); err != nil {
			t.Fatal(err)
		}
		o.TAPs = append(o.TAPs, tap)
	}
	start := time.Now()
	g, err := Boot(l.Namespace("director"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s booted in %v", name, time.Since(start).Round(time.Millisecond))
	l.guests[name] = g
	do(t, g, "cd /proc/sys/net; for f in ipv6/conf/*/accept_dad ipv6/conf/*/router_solicitations ipv4/conf/*/rp_filter; do echo 0 > $f; done")
	up := []string{"link set lo up"}
	for i := range lans {
		up = append(up, fmt.Sprintf("link set vec%d up", i))
	}
	batch(t, g, up...)
	return g
}

// do runs commands in a guest, one after the other.
func do(t *testing.T, g *Guest, lines ...string) []string {
	t.Helper()
	var said []string
	for _, line := range lines {
		s, err := g.Run(line)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, s...)
	}
	return said
}

// serve starts a server in a guest and waits until it listens.
func serve(t *testing.T, g *Guest, name, network string, at ...string) {
	t.Helper()
	serveBy(t, g, "", name, network, at...)
}

// serveIn starts it in a namespace of the guest.
func serveIn(t *testing.T, g *Guest, ns, name, network string, at ...string) {
	t.Helper()
	serveBy(t, g, "ip netns exec "+ns+" ", name, network, at...)
}

func serveBy(t *testing.T, g *Guest, prefix, name, network string, at ...string) {
	t.Helper()
	log := fmt.Sprintf("/run/%s.%s", name, network)
	do(t, g, fmt.Sprintf(": > %s; %s%s serve %s %s %s >> %[1]s 2>&1 &", log, prefix, endsPath, name, network, strings.Join(at, " ")))
	for end := time.Now().Add(waitLimit); ; time.Sleep(20 * time.Millisecond) {
		said := read(t, g, log)
		if said == "serving" {
			return
		}
		if said != "" || time.Now().After(end) {
			t.Fatalf("%s: serve: %q", name, said)
		}
	}
}

// dial connects the client.
func (l *lab) dial(t *testing.T, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	c, err := l.Namespace("client").Dial(ctx, network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// talkTCP moves content both ways.
func talkTCP(t *testing.T, c net.Conn, n int64, server string) {
	t.Helper()
	client := app.NewClient(c, waitLimit)
	for name, request := range map[string]func() (app.Answer, error){
		"WHO":    client.Who,
		"SINK":   func() (app.Answer, error) { return client.Sink(n, 1) },
		"SOURCE": func() (app.Answer, error) { return client.Source(n, 2) },
	} {
		if a, err := request(); err != nil || a.Server != server {
			t.Fatalf("%s of %d bytes: %v from %q, want %q", name, n, err, a.Server, server)
		}
	}
}

// faults is what a guest's kernel counted against packets.
func faults(t *testing.T, g *Guest) map[string]uint64 {
	t.Helper()
	return netlab.ErrorsIn(read(t, g, "/proc/net/snmp"), read(t, g, "/proc/net/snmp6"))
}

// read reads a file of a guest.
func read(t *testing.T, g *Guest, path string) string {
	t.Helper()
	s, err := g.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// batch runs many commands of ip, without the word, as one program: programs are dear in a guest.
func batch(t *testing.T, g *Guest, lines ...string) {
	t.Helper()
	path, err := g.File(strings.Join(lines, "\n") + "\n")
	if err != nil {
		t.Fatal(err)
	}
	do(t, g, "ip -batch "+path)
}

// batchIn runs them in a namespace of the guest.
func batchIn(t *testing.T, g *Guest, ns string, lines ...string) {
	t.Helper()
	path, err := g.File(strings.Join(lines, "\n") + "\n")
	if err != nil {
		t.Fatal(err)
	}
	do(t, g, "ip -n "+ns+" -batch "+path)
}

// checkAccounts waits until every frame has its verdict, and reports those that say that something is wrong.
func (l *lab) checkAccounts(t *testing.T) {
	t.Helper()
	var read, verdicts uint64
	var bad []string
	for end := time.Now().Add(waitLimit); ; time.Sleep(20 * time.Millisecond) {
		read, verdicts, bad = 0, 0, nil
		for _, c := range l.Counters() {
			switch {
			case c.Name == "frames_read":
				read += c.Value
			case c.Name == "verdict":
				verdicts += c.Value
				if c.Value > 0 && strings.HasPrefix(c.Labels[0], "verdict=drop") && c.Labels[0] != "verdict=drop-multicast" { // kernels speak IPv6 unasked
					bad = append(bad, fmt.Sprintf("%v %d", c.Labels, c.Value))
				}
			}
		}
		if read == verdicts || time.Now().After(end) {
			break
		}
	}
	if read != verdicts || read == 0 || len(bad) > 0 {
		t.Errorf("%d frames read, %d verdicts, of them bad: %v", read, verdicts, bad)
	}
}
