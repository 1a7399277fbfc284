package conf

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDiff: each edit of the same file, and what is said of it.
func TestDiff(t *testing.T) {
	second := good[strings.Index(good, "[[service]]"):]
	second = strings.Replace(second[:strings.LastIndex(second, "[[service]]")], `"web"`, `"extra"`, 1)
	second = strings.Replace(second, "10.77.1.100:80", "10.77.1.111:80", 1)
	for _, c := range []struct {
		name             string
		edits            []string // pairs
		changes, restart []string
	}{
		{name: "nothing"},
		{"weight", []string{`address = "10.77.2.12:8000"`, "address = \"10.77.2.12:8000\"\nweight = 0"}, []string{`service "web": server 10.77.2.12:8000: weight 1 -> 0`}, nil},
		{"server for server", []string{"10.77.2.12:8000", "10.77.2.13:8000"},
			[]string{`service "web": server 10.77.2.13:8000 added`, `service "web": server 10.77.2.12:8000 removed`}, nil},
		{"service added", []string{"[[service]]", second + "[[service]]"}, []string{`service "extra" added, 2 servers`}, nil},
		{"renamed", []string{`name = "web"`, `name = "www"`}, []string{`service "web": name web -> www`}, nil},
		{"another service", []string{`name = "web"`, `name = "www"`, "10.77.1.100:80", "10.77.1.111:80"},
			[]string{`service "www" added, 2 servers`, `service "web" removed`}, nil},
		{"listen", []string{"10.77.1.100:80", "10.77.1.111:80"}, []string{`service "web": listen changed`}, nil},
		{"scheduler and timeouts", []string{atWeb, atWeb + "scheduler = \"rr\"\npersistence_timeout = \"5m\"\n"},
			[]string{`service "web": scheduler wlc -> rr`, `service "web": persistence_timeout 0s -> 5m0s`}, nil},
		{"deny", []string{atWeb, atWeb + "deny = [\"10.0.0.0/8\"]\n"}, []string{`service "web": deny changed`}, nil},
		{"thresholds", []string{`address = "10.77.2.12:8000"`, "address = \"10.77.2.12:8000\"\nu_threshold = 9\nl_threshold = 3"},
			[]string{`service "web": server 10.77.2.12:8000: u_threshold 0 -> 9`, `service "web": server 10.77.2.12:8000: l_threshold 0 -> 3`}, nil},
		{"limits that can", []string{"[[service]]", "[limits]\nicmp_rate = 5\nhost_rate = 6\nearly_drop = false\n[timeouts]\ntcp = 60\ntcpfin = 61\ntcp_synack = 62\nudp = 63\n[[service]]"},
			[]string{"[limits] early_drop true -> false", "[limits] icmp_rate 1000 -> 5", "[limits] host_rate 20000 -> 6", "[timeouts] tcp 15m0s -> 1m0s",
				"[timeouts] tcpfin 2m0s -> 1m1s", "[timeouts] tcp_synack 2m0s -> 1m2s", "[timeouts] udp 5m0s -> 1m3s"}, nil},
		{"limits that cannot", []string{"[[service]]", "[limits]\nconnections = 5\nfragments = 6\ntemplates = 7\n[[service]]"}, nil,
			[]string{"[limits] connections", "[limits] fragments", "[limits] templates"}},
		{"interface", []string{`tap = "tap0"`, "tap = \"tap9\"\nmtu = 1400\nmasquerade = true\nreply = \"route\""},
			[]string{`interface "ext": masquerade false -> true`, `interface "ext": reply last-hop -> route`}, []string{`interface "ext": tap`, `interface "ext": mtu`}},
		{"interface for interface", []string{`name = "ext"`, `name = "outside"`}, nil, []string{`interface "outside": added`, `interface "ext": removed`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := good
			for i := 0; i < len(c.edits); i += 2 {
				if !strings.Contains(text, c.edits[i]) {
					t.Fatalf("no %q in the file", c.edits[i])
				}
				text = strings.Replace(text, c.edits[i], c.edits[i+1], 1)
			}
			old, now := mustParse(t, good), mustParse(t, text)
			d := Diff(old, now)
			slices.Sort(d.Changes)
			slices.Sort(c.changes)
			slices.Sort(d.Restart)
			slices.Sort(c.restart)
			if !slices.Equal(d.Changes, c.changes) || !slices.Equal(d.Restart, c.restart) {
				t.Errorf("changes %q\nwant    %q\nrestart %q\nwant    %q", d.Changes, c.changes, d.Restart, c.restart)
			}
			if back := Diff(now, now); len(back.Changes)+len(back.Restart) > 0 {
				t.Errorf("a file differs from itself: %+v", back)
			}
		})
	}
}

// TestDiffRoutes: a route is the one that leads to its destination.
func TestDiffRoutes(t *testing.T) {
	route := func(to, via string) string { return fmt.Sprintf("[[route]]\nto = %q\nvia = %q\n", to, via) }
	old := mustParse(t, good+route("10.9.0.0/16", "10.77.1.9")+route("10.8.0.0/16", "10.77.1.9"))
	now := mustParse(t, good+route("10.7.0.0/16", "10.77.1.9")+route("10.9.0.0/16", "10.77.1.8"))
	want := []string{"route to 10.7.0.0/16 added", "route to 10.9.0.0/16: via 10.77.1.9 -> 10.77.1.8", "route to 10.8.0.0/16 removed"}
	if d := Diff(old, now); !slices.Equal(d.Changes, want) || d.Restart != nil {
		t.Errorf("%+v, want %q", d, want)
	}
}

// TestSummary: one line of bounded length.
func TestSummary(t *testing.T) {
	var d Difference
	if got := d.Summary(); got != "nothing" {
		t.Errorf("no change is %q", got)
	}
	for i := range 5000 {
		d.change("service %q: a change", fmt.Sprint(i))
	}
	if got := d.Summary(); !strings.HasSuffix(got, "; and 4988 more") || len(got) > 500 {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

// TestDiffNamesKeys: every field of a Config is named as lb.toml names it, so that who reads the line finds the key.
func TestDiffNamesKeys(t *testing.T) {
	derived := []string{"next hop", "iface", "quicid_length", "servers"} // what follows from keys, or is told apart
	for _, s := range []any{Interface{}, Service{}, Server{}, Limits{}, Timeouts{}, SCTPTimeouts{}, Tunnel{}} {
		typ := reflect.TypeOf(s)
		for i := range typ.NumField() {
			key := field{name: typ.Field(i).Name}.key()
			if typ.Field(i).Anonymous {
				continue // has a place of its own in this list
			}
			if slices.Contains(derived, key) || typ == reflect.TypeFor[Tunnel]() || key == "tunnel" || key == "tunnel_kind" {
				continue
			}
			if !regexp.MustCompile(`(?m)^\s*(# )?` + key + ` = `).MatchString(Reference) {
				t.Errorf("%v.%s is called %q, which reference.toml does not have", typ, typ.Field(i).Name, key)
			}
		}
	}
}

// TestMatch: by name first, then by a port in common; each old service is at most one new one.
func TestMatch(t *testing.T) {
	service := func(name, protocol string, listens ...string) Service {
		s := Service{Name: name, Protocol: protocol}
		for _, text := range listens {
			l, wrong := parseListen(text)
			if wrong != "" {
				t.Fatal(wrong)
			}
			s.Listen = append(s.Listen, l)
		}
		return s
	}
	old := []Service{service("a", "tcp", "10.0.0.1:80"), service("b", "tcp", "10.0.0.2:80", "10.0.0.2:443"), service("c", "udp", "[2001:db8::1]:53"), service("d", "tcp", "10.0.0.4:1000-1999")}
	for _, c := range []struct {
		name string
		new  []Service
		want []int
	}{
		{"the same", old, []int{0, 1, 2, 3}},
		{"another order", []Service{old[2], old[0]}, []int{2, 0}},
		{"renamed", []Service{service("x", "tcp", "10.0.0.2:443")}, []int{1}},
		{"renamed, a range", []Service{service("x", "tcp", "10.0.0.4:1000-1999")}, []int{3}},
		{"another range", []Service{service("x", "tcp", "10.0.0.4:1000-1998")}, []int{-1}},
		{"another protocol", []Service{service("x", "tcp", "[2001:db8::1]:53")}, []int{-1}},
		{"the name wins over the port", []Service{service("x", "tcp", "10.0.0.1:80"), service("a", "tcp", "10.0.0.9:80")}, []int{-1, 0}},
		{"split in two", []Service{service("x", "tcp", "10.0.0.2:80"), service("y", "tcp", "10.0.0.2:443")}, []int{1, -1}},
		{"names change hands", []Service{service("b", "tcp", "10.0.0.1:80"), service("a", "tcp", "10.0.0.2:80")}, []int{1, 0}},
		{"none", nil, []int{}},
	} {
		if got := Match(old, c.new); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A state of SCTP is named like those of TCP.
func TestDiffOfSCTPTimeout(t *testing.T) {
	old, now := mustParse(t, good), mustParse(t, good+"\n[timeouts]\nsctp = 100\nsctp_cookie_sent = 7\n")
	d := Diff(old, now)
	got := d.Summary()
	for _, want := range []string{"sctp 15m0s -> 1m40s", "sctp_cookie_sent 1m1s -> 7s"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q, want %q in it", got, want)
		}
	}
}
