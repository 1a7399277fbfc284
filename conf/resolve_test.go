package conf

import (
	"slices"
	"testing"
)

// TestNextHop: where packets to a server go, for networks and routes that overlap.
func TestNextHop(t *testing.T) {
	const longer = `["10.77.2.1/24"]`
	for _, tc := range []struct {
		name   string
		edits  []string
		server string
		via    string
		iface  int
	}{
		{"on a network", nil, "10.77.2.12", "10.77.2.12", 1},
		{"behind a gateway", nil, "10.77.9.12", "10.77.2.254", 1},
		{"by the default route", []string{`to = "10.77.9.0/24"`, `to = "0.0.0.0/0"`}, "10.77.8.12", "10.77.2.254", 1},
		{"the longer route wins", []string{"[[route]]", "[[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.77.1.254\"\n[[route]]"}, "10.77.9.12", "10.77.2.254", 1},
		{"a network wins over a shorter route", []string{`to = "10.77.9.0/24"`, `to = "0.0.0.0/0"`}, "10.77.1.12", "10.77.1.12", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBothFamilies(t, func(t *testing.T, form func(string) string) {
				text := edit(t, good, append(tc.edits, "10.77.2.12:8000", tc.server+":8000")...)
				s := mustParse(t, form(text)).Services[0].Servers[1]
				if s.Via != addr(form(tc.via)) || s.Iface != tc.iface {
					t.Errorf("%v goes to %v on %d, want %s on %d", s.Address, s.Via, s.Iface, form(tc.via), tc.iface)
				}
			})
		})
	}
	for _, tc := range []struct {
		name, network string
		iface         int
	}{
		{"the longer network wins", `["10.77.2.1/24", "10.77.1.129/25"]`, 1},
		{"of equal networks the first wins", `["10.77.2.1/24", "10.77.1.2/24"]`, 0},
	} {
		c := mustParse(t, edit(t, good, longer, tc.network, "10.77.2.12:8000", "10.77.1.200:8000"))
		if got := c.Services[0].Servers[1].Iface; got != tc.iface {
			t.Errorf("%s: server is on %d, want %d", tc.name, got, tc.iface)
		}
	}
}

// TestHostRoute: a route more specific than a network takes a server away from it, and dr says so.
func TestHostRoute(t *testing.T) {
	_, err := parse(edit(t, good, `to = "10.77.9.0/24"`, `to = "10.77.2.21/32"`))
	want := `lb.toml: service "fast": server 1: address "10.77.2.21:80": behind the gateway 10.77.2.254, but dr reaches only servers on a network of an interface`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestVIPOwner(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edits []string
		want  int
	}{
		{"by network", nil, 0},
		{"by network of the other arm", []string{"10.77.1.100:80", "10.77.2.100:80"}, 1},
		{"by name", []string{"10.77.1.100:80", "10.77.3.100:80", atWeb, atWeb + "interface = \"int\"\n"}, 1},
		{"by name and network", []string{atWeb, atWeb + "interface = \"ext\"\n"}, 0},
		{"a name chooses between equal networks", []string{`["10.77.2.1/24"]`, `["10.77.2.1/24", "10.77.1.2/24"]`, atWeb, atWeb + "interface = \"int\"\n"}, 1},
		{"the VIP may be a DIP with nat", []string{"10.77.1.100:80", "10.77.1.1:80"}, 0},
		{"the VIP may be a DIP with dr on two arms", []string{"10.77.1.101:80", "10.77.1.1:80"}, 0},
		{"one VIP, two ports", []string{"10.77.1.101:80", "10.77.1.100:81"}, 0},
		{"one VIP and port, two protocols", []string{"10.77.1.101:80", "10.77.1.100:80", "method = \"dr\"", "method = \"dr\"\nprotocol = \"udp\""}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBothFamilies(t, func(t *testing.T, form func(string) string) {
				if got := mustParse(t, form(edit(t, good, tc.edits...))).Services[0].Listen[0].Interface; got != tc.want {
					t.Errorf("the VIP is on %d, want %d", got, tc.want)
				}
			})
		})
	}
}

// TestOneArmDR: the usual one-armed setup is fine, also with a VIP that is a DIP which servers are not asked from.
func TestOneArmDR(t *testing.T) {
	const text = `
[[interface]]
name = "lan"
tap = "tap0"
addresses = ["10.77.1.1/24", "10.77.1.100/32"]
[[service]]
name = "web"
listen = "10.77.1.100:80"
method = "dr"
server = [{address = "10.77.1.11"}, {address = "10.77.1.12", weight = 0}]
`
	c := mustParse(t, text)
	if c.Interfaces[0].Forward {
		t.Error("forward is on without a NAT service")
	}
	if c.Services[0].Servers[1].Weight != 0 {
		t.Error("weight 0 is not kept")
	}
}

// TestForward: the default is where NAT servers and VIPs are.
func TestForward(t *testing.T) {
	atInt := "name = \"int\"\n"
	for _, tc := range []struct {
		name  string
		edits []string
		want  []bool
	}{
		{"on where NAT servers and VIPs are", nil, []bool{true, true}},
		{"off if told", []string{atInt, atInt + "forward = false\n"}, []bool{true, false}},
		{"on if told", []string{atExt, atExt + "forward = true\n"}, []bool{true, true}},
		{"off for dr", []string{atWeb, atWeb + "method = \"dr\"\n", "10.77.2.11:8000", "10.77.2.11", "10.77.2.12:8000", "10.77.2.12"}, []bool{false, false}},
		{"on where the gateway to NAT servers is", []string{"10.77.2.11:8000", "10.77.9.11:8000", "10.77.2.12:8000", "10.77.9.12:8000"}, []bool{true, true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBothFamilies(t, func(t *testing.T, form func(string) string) {
				c := mustParse(t, form(edit(t, good, tc.edits...)))
				if got := []bool{c.Interfaces[0].Forward, c.Interfaces[1].Forward}; !slices.Equal(got, tc.want) {
					t.Errorf("forward is %v, want %v", got, tc.want)
				}
			})
		})
	}
}
