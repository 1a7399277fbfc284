package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestGood(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, form func(string) string) {
		c := mustParse(t, form(good))
		if len(c.Interfaces) != 2 || len(c.Routes) != 1 || len(c.Services) != 2 {
			t.Fatalf("got %d interfaces, %d routes, %d services", len(c.Interfaces), len(c.Routes), len(c.Services))
		}
		web := c.Services[0]
		if len(web.Listen) != 1 || web.Listen[0].String() != form("10.77.1.100:80") || web.Protocol != "tcp" || web.Method != "nat" || web.Scheduler != "wlc" || web.OnNoServer != "reject" {
			t.Errorf("service: %+v", web)
		}
		want := Server{Address: addrPort(form("10.77.2.12:8000")), Weight: 1, Via: addr(form("10.77.2.12")), Iface: 1}
		if !reflect.DeepEqual(web.Servers[1], want) {
			t.Errorf("server: %+v, want %+v", web.Servers[1], want)
		}
		if got := c.Services[1].Servers[0].Address; got != addrPort(form("10.77.2.21:80")) {
			t.Errorf("a server without a port is %v, want the service's port", got)
		}
		if want := (Limits{1048576, true, 1000, 1024, 20000, 262144, 65536}); c.Limits != want {
			t.Errorf("limits %+v, want %+v", c.Limits, want)
		}
		if want := (Timeouts{TCP: 900 * time.Second, TCPFin: 120 * time.Second, TCPNone: 2 * time.Second, TCPSynSent: 120 * time.Second,
			TCPSynRecv: 60 * time.Second, TCPTimeWait: 120 * time.Second, TCPClose: 10 * time.Second, TCPCloseWait: 60 * time.Second,
			TCPLastAck: 30 * time.Second, TCPListen: 120 * time.Second, TCPSynAck: 120 * time.Second, UDP: 300 * time.Second, ICMP: 30 * time.Second, Fragment: 5 * time.Second, SCTPTimeouts: c.Timeouts.SCTPTimeouts}); c.Timeouts != want {
			t.Errorf("timeouts %+v, want %+v", c.Timeouts, want)
		}
		s := time.Second
		if want := (SCTPTimeouts{900 * s, 2 * s, 4 * s, 61 * s, 61 * s, 61 * s, 61 * s, 61 * s, 61 * s, 61 * s, 61 * s, 61 * s, 4 * s, 61 * s}); c.Timeouts.SCTPTimeouts != want {
			t.Errorf("timeouts of SCTP %+v, want %+v", c.Timeouts.SCTPTimeouts, want)
		}
	})
}

// TestAllAtOnce: every mistake of a file, in the order of the file and not of the stages that find them.
func TestAllAtOnce(t *testing.T) {
	_, err := parse(`
colour = "blue"
[timeouts]
tcp = "soon"
[[service]]
name = "web"
listen = "10.77.1.100:80"
method = "dr"
bogus1 = 1
  [[service.server]]
  address = "10.77.2.11:8080"
  [[service.server]]
  address = "10.77.2.300:80"
  bogus2 = 1
[[service]]
listen = "10.77.1.100:80"
  [[service.server]]
  address = "10.77.2.11"
[[route]]
to = "10.77.9.0/24"
via = "10.77.7.1"
[[interface]]
name = "ext"
tap = "tap0"
queues = "two"
addresses = ["10.77.1.1/24"]
[[interface]]
name = "ext"
tap = "tap0"
addresses = ["10.77.2.1/24"]
`)
	want := strings.TrimSpace(`
lb.toml: unknown key "colour": there are interface, route, service, limits, timeouts
lb.toml: interface "ext": queues: expected a whole number, got "two"
lb.toml: interface 2: name "ext": also the name of interface 1
lb.toml: interface "ext": tap "tap0": also the tap of interface "ext"
lb.toml: route 1: via "10.77.7.1": on the network of no interface
lb.toml: service "web": unknown key "bogus1": there are name, listen, protocol, method, scheduler, on_no_server, sources, toa, interface, hash_port, hash_fallback, mh_table_size, persistence_timeout, persistence_prefix4, persistence_prefix6, expire_quiescent_template, one_packet, pickup, idle, on_server_removed, ftp, tunnel, tunnel_port, tunnel_csum, tunnel_ttl, pmtu_disc, mss_clamp, allow, deny, rate_per_source, burst_per_source, server
lb.toml: service "web": server 1: address "10.77.2.11:8080": dr does not change ports: write "10.77.2.11:80" or leave the port out
lb.toml: service "web": server 2: address "10.77.2.300:80": not an IP address
lb.toml: service "web": server 2: unknown key "bogus2": there are address, weight, mac, tunnel, tunnel_port, tunnel_csum, u_threshold, l_threshold, quic_id
lb.toml: service 2: name: missing: write name = "web"
lb.toml: service 2: listen "10.77.1.100:80": tcp is also the listen of service "web"
lb.toml: timeouts: tcp "soon": expected seconds, or a duration like "90s", "15m", "1h30m"
`)
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("Parse: %T, want Errors", err)
	}
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if n := strings.Count(want, "\n") + 1; len(all) != n {
		t.Errorf("%d mistakes on %d lines", len(all), n)
	}
}

// TestStable: a file gives the same messages each time, although TOML's tables have no order.
func TestStable(t *testing.T) {
	text := "a1 = 1\nb2 = 1\nc3 = 1\nd4 = 1\ne5 = 1\n" + good
	_, first := parse(text)
	for range 20 {
		if _, err := parse(text); err.Error() != first.Error() {
			t.Fatalf("first\n%v\nthen\n%v", first, err)
		}
	}
}

// TestOneSlipOneLine: what follows from a slip is not told.
func TestOneSlipOneLine(t *testing.T) {
	for _, tc := range []spoiled{
		slip("no network, so nothing is called unreachable", "10.77.2.1/24", "10.77.2.1", `interface "int": addresses: "10.77.2.1": no prefix length: write "10.77.2.1/24" or whatever its network has`),
		slip("addresses of a wrong type", `["10.77.2.1/24"]`, `10`, `interface "int": addresses: expected an array of strings, got 10`),
		slip("a listen that is none does not spoil its servers", "10.77.1.101:80", "here:80", `service "fast": listen "here:80": not an IP address`),
		slip("a tap that is a number is not missing", `"tap0"`, "0", `interface "ext": tap: expected a string, got 0`),
		{"a gateway that is none does not spoil those behind it", []string{`"10.77.2.254"`, `"gw"`, "10.77.2.12:8000", "10.77.9.12:8000"},
			[]string{`route 1: via "gw": not an IP address`}},
	} {
		t.Run(tc.name, func(t *testing.T) { checkMistakes(t, tc, func(s string) string { return s }) })
	}
}

func TestSyntax(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"no value", "\n\nname =\n", "lb.toml: line 3: expected value but found '\\n' instead"},
		{"no quotes", "[[interface]]\nname = ext\n", "lb.toml: line 2: expected value but found \"ext\" instead"},
		{"quote not closed", "[[interface]]\nname = \"ext\n", "lb.toml: line 2: strings cannot contain newlines"},
		{"key twice", "[[interface]]\nname = \"a\"\nname = \"b\"\n", "lb.toml: line 3: Key 'interface.name' has already been defined."},
		{"section twice", "[limits]\n[limits]\n", "lb.toml: line 2: Key 'limits' has already been defined."},
		{"not UTF-8", "\xff", "lb.toml: line 1: invalid UTF-8 byte: 0xff"},
		{"server before service", "[[service.server]]\naddress = \"1.2.3.4\"\n", "lb.toml: no interface: write [[interface]] with a name and a tap\n" +
			"lb.toml: service: expected tables [[service]], got a table"},
		{"empty", "", "lb.toml: no interface: write [[interface]] with a name and a tap\nlb.toml: no service: write [[service]] with a name, a listen and servers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := parse(tc.text); err == nil || err.Error() != tc.want {
				t.Errorf("got\n%v\nwant\n%s", err, tc.want)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	_, err := parse(strings.Repeat("#", maxFile+1))
	if want := "lb.toml: more than 16 MiB: not a configuration"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReadFails(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := Parse(iotest.ErrReader(broken), "lb.toml")
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "lb.toml") {
		t.Errorf("got %v", err)
	}
	if all := (Errors{}); errors.As(err, &all) {
		t.Error("a failure to read is no mistake in the file")
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lb.toml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	dir := filepath.Dir(path)
	if _, err := Load(dir); err == nil || err.Error() != "read "+dir+": is a directory" {
		t.Errorf("a directory: %v", err)
	}
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || len(c.Services) != 2 {
		t.Errorf("good file: %v", err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path+": line 1: ") {
		t.Errorf("bad file: %v", err)
	}
}

// TestTooManyInterfaces has 65, all of them fine.
func TestTooManyInterfaces(t *testing.T) {
	var b strings.Builder
	for i := range maxInterfaces - 1 {
		n := string(rune('a'+i/26)) + string(rune('a'+i%26))
		b.WriteString("[[interface]]\nname = \"" + n + "\"\ntap = \"" + n + "\"\n")
	}
	_, err := parse(good + b.String())
	if want := "lb.toml: 65 interfaces: at most 64"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`"15m"`: 15 * time.Minute, `"1h30m"`: 90 * time.Minute, `1`: time.Second, `2678400`: 744 * time.Hour, `"1500ms"`: 1500 * time.Millisecond,
	} {
		if c := mustParse(t, good+"[timeouts]\ntcp = "+text+"\n"); c.Timeouts.TCP != want {
			t.Errorf("tcp = %s is %v, want %v", text, c.Timeouts.TCP, want)
		}
	}
}

// TestDocs: the file that docs/configuration.md begins with is valid.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```toml\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("no toml in the page")
	}
	if c := mustParse(t, block); !c.Interfaces[0].Forward || len(c.Services[0].Servers) != 2 {
		t.Errorf("%+v", c)
	}
}

// TestMany: two thousand services with five servers each, to see that every one is told apart.
func TestMany(t *testing.T) {
	c := mustParse(t, manyServices(2000))
	for i, v := range c.Services {
		if v.Name != fmt.Sprint("s", i) || len(v.Servers) != 5 || v.Servers[4].Iface != 0 {
			t.Fatalf("service %d is %+v", i, v)
		}
	}
}

// manyServices writes n services on one address with five servers each.
func manyServices(n int) string {
	var b strings.Builder
	b.WriteString("[[interface]]\nname = \"lan\"\ntap = \"tap0\"\naddresses = [\"10.0.0.1/8\"]\n")
	for i := range n {
		fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\nlisten = \"10.0.0.2:%d\"\n", i, i+1)
		for j := range 5 {
			fmt.Fprintf(&b, "[[service.server]]\naddress = \"10.1.%d.%d\"\n", j, i%250+1)
		}
	}
	return b.String()
}

// BenchmarkParse shows that the cost grows with the file and not with its square.
func BenchmarkParse(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		text := manyServices(n)
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
