package conf

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestSources: the DIPs that connections to a server come from.
func TestSources(t *testing.T) {
	const (
		fullnat = "method = \"fullnat\"\n"
		dips    = `["10.77.2.1/24"]`
		server  = "10.77.2.12:8000"
	)
	for _, tc := range []struct {
		name  string
		edits []string
		want  string // of the second server
	}{
		{"the DIP of its interface", nil, "10.77.2.1"},
		{"all of its network", []string{dips, `["10.77.2.1/24", "10.77.2.2/24"]`}, "10.77.2.1 10.77.2.2"},
		{"not those of other networks", []string{dips, `["10.77.3.1/24", "10.77.2.2/24"]`, "10.77.2.11", "10.77.3.11"}, "10.77.2.2"},
		{"those on the gateway's network", []string{server, "10.77.9.12:8000", dips, `["10.77.3.1/24", "10.77.2.1/24"]`, "10.77.2.11", "10.77.3.11"}, "10.77.2.1"},
		{"those that are named", []string{dips, `["10.77.2.1/24", "10.77.2.2/24", "10.77.2.3/32"]`, fullnat, fullnat + "sources = [\"10.77.2.3\", \"10.77.2.2\"]\n"},
			"10.77.2.2 10.77.2.3"},
		{"of those that are named its interface's", []string{fullnat, fullnat + "sources = [\"10.77.1.1\", \"10.77.2.1\"]\n", server, "10.77.1.12:8000"}, "10.77.1.1"},
		{"none with nat", []string{fullnat, ""}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBothFamilies(t, func(t *testing.T, form func(string) string) {
				text := edit(t, good, atWeb, atWeb+fullnat)
				c := mustParse(t, form(edit(t, text, tc.edits...)))
				want := []netip.Addr{}
				for _, w := range strings.Fields(tc.want) {
					want = append(want, addr(form(w)))
				}
				if got := c.Services[0].Servers[1].Sources; !slices.Equal(got, want) {
					t.Errorf("sources %v, want %v", got, want)
				}
			})
		})
	}
}

// TestSourcesOfBothFamilies: a fullnat service has servers of either family, each reached from the DIPs of its own.
func TestSourcesOfBothFamilies(t *testing.T) {
	for _, listen := range []string{"10.77.1.100:80", "[2001:db8:1::100]:80"} {
		for sources, want := range map[string][2]string{
			"":                               {"10.77.1.1 10.77.1.2", "2001:db8:1::1"},
			`["10.77.1.2", "2001:db8:1::1"]`: {"10.77.1.2", "2001:db8:1::1"},
		} {
			text := "[[interface]]\nname = \"lan\"\ntap = \"tap0\"\naddresses = [\"10.77.1.1/24\", \"10.77.1.2/24\", \"2001:db8:1::1/64\", \"fe80::1/64\"]\n" +
				"[[service]]\nname = \"web\"\nlisten = \"" + listen + "\"\nmethod = \"fullnat\"\ntoa = true\n"
			if sources != "" {
				text += "sources = " + sources + "\n"
			}
			c := mustParse(t, text+"server = [{address = \"10.77.1.11:8000\"}, {address = \"[2001:db8:1::11]:8000\"}]\n")
			for i, w := range want {
				var got []string
				for _, a := range c.Services[0].Servers[i].Sources {
					got = append(got, a.String())
				}
				if strings.Join(got, " ") != w {
					t.Errorf("%s, sources %q: server %d is reached from %v, want %s", listen, sources, i+1, got, w)
				}
			}
		}
	}
}

// TestSourcesBehindLinkLocalGateway: the gateway's own network has no address that an answer would find.
func TestSourcesBehindLinkLocalGateway(t *testing.T) {
	c := mustParse(t, `
[[interface]]
name = "lan"
tap = "tap0"
addresses = ["fe80::1/64", "2001:db8:1::1/64"]
[[route]]
to = "2001:db8:9::/64"
via = "fe80::fe"
[[service]]
name = "web"
listen = "[2001:db8:1::100]:80"
method = "fullnat"
toa = true
server = [{address = "2001:db8:9::2"}]
`)
	s := &c.Services[0]
	if got := s.Servers[0].Sources; len(got) != 1 || got[0] != addr("2001:db8:1::1") {
		t.Errorf("sources %v", got)
	}
	if !s.TOA || c.Interfaces[0].Forward {
		t.Errorf("toa %v, forward %v; want true, false: fullnat needs no router", s.TOA, c.Interfaces[0].Forward)
	}
}
