package conf

import (
	"net/netip"
	"testing"
)

// tunService is the second service of good as a tun service with these lines.
func tunService(lines string) (old, new string) {
	return "method = \"dr\"\n", "method = \"tun\"\n" + lines
}

// tunSlip is a slip in that service, or in its server when at is atEnd.
func tunSlip(name, lines, server string, want ...string) spoiled {
	old, new := tunService(lines)
	return spoiled{name, []string{old, new, atEnd, atEnd + server}, want}
}

// slipsOfTunnels are told the same way of IPv4 and IPv6.
var slipsOfTunnels = []spoiled{
	tunSlip("tun", "", ""),
	tunSlip("tun with everything", "tunnel = \"gue\"\ntunnel_port = 1\ntunnel_csum = true\ntunnel_ttl = 0\npmtu_disc = false\nmss_clamp = 88\n", ""),
	tunSlip("a server with another tunnel", "tunnel = \"gue\"\ntunnel_csum = true\n", "tunnel = \"gre\"\ntunnel_csum = false\n"),
	tunSlip("unknown tunnel", "tunnel = \"gee\"\n", "", `service "fast": tunnel "gee": unknown, did you mean "gue"?: ipip, gue, gre`),
	tunSlip("tunnel port of ipip", "tunnel_port = 6080\n", "", `service "fast": tunnel_port 6080: only with gue, which no server has`),
	tunSlip("tunnel port of a server with gre", "", "tunnel = \"gre\"\ntunnel_port = 6080\n",
		`service "fast": server 1: tunnel_port 6080: only with gue: gre has no ports`),
	tunSlip("tunnel port 0", "tunnel = \"gue\"\ntunnel_port = 0\n", "", `service "fast": tunnel_port 0: out of range: 1 to 65535`),
	tunSlip("checksum of ipip", "tunnel_csum = false\n", "", `service "fast": tunnel_csum: only with gue and gre, which no server has`),
	tunSlip("checksum of a server with ipip", "", "tunnel_csum = true\n",
		`service "fast": server 1: tunnel_csum: only with gue and gre: ipip has no checksum`),
	tunSlip("numbers out of range", "tunnel_ttl = 256\nmss_clamp = 87\n", "", `service "fast": tunnel_ttl 256: out of range: 0 to 255`,
		`service "fast": mss_clamp 87: out of range: 88 to 65495, or 0 for none`),
	tunSlip("pmtu_disc in words", "pmtu_disc = \"no\"\n", "", `service "fast": pmtu_disc: expected true or false, got "no"`),
	slip("keys of tunnels with dr", "method = \"dr\"\n", "method = \"dr\"\ntunnel = \"ipip\"\ntunnel_ttl = 64\npmtu_disc = true\nmss_clamp = 0\n",
		`service "fast": tunnel: only with method = "tun"`, `service "fast": tunnel_ttl: only with method = "tun"`,
		`service "fast": pmtu_disc: only with method = "tun"`, `service "fast": mss_clamp: only with method = "tun"`),
	slip("a tunnel of a nat server", atFirst, atFirst+"tunnel = \"gue\"\n", `service "web": server 1: tunnel: only with method = "tun"`),
	{"tun server behind a gateway", []string{"method = \"dr\"\n", "method = \"tun\"\n", `"10.77.2.21"`, `"10.77.9.21"`}, nil},
	{"tun server on another port", []string{"method = \"dr\"\n", "method = \"tun\"\n", `"10.77.2.21"`, `"10.77.2.21:8080"`},
		[]string{`service "fast": server 1: address "10.77.2.21:8080": tun does not change ports: write "10.77.2.21:80" or leave the port out`}},
	{"VIP is the DIP that a tunnel starts from", []string{"method = \"dr\"\n", "method = \"tun\"\n", "10.77.1.101:80", "10.77.2.1:80", `"10.77.2.21"`, `"10.77.9.21"`},
		[]string{`service "fast": server 1: address "10.77.9.21:80": the tunnel would start from the VIP, which the server holds itself: ` +
			`take another VIP, or give interface "int" another address first`}},
}

func TestMistakesOfTunnels(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, form func(string) string) {
		for _, tc := range slipsOfTunnels {
			t.Run(tc.name, func(t *testing.T) { checkMistakes(t, tc, form) })
		}
	})
	for _, tc := range []spoiled{
		{"families differ", []string{"method = \"dr\"\n", "method = \"tun\"\n", `["10.77.2.1/24"]`, `["10.77.2.1/24", "2001:db8:2::1/64"]`, `"10.77.2.21"`, `"2001:db8:2::21"`}, nil},
		{"only a link-local source", []string{"method = \"dr\"\n", "method = \"tun\"\n", `["10.77.2.1/24"]`, `["10.77.2.1/24", "fe80::1/64"]`, "[[route]]",
			"[[route]]\nto = \"2001:db8:9::/64\"\nvia = \"fe80::2\"\n[[route]]", `"10.77.2.21"`, `"2001:db8:9::21"`},
			[]string{`service "fast": server 1: address "[2001:db8:9::21]:80": behind the gateway fe80::2, but interface "int" has no IPv6 address other than link-local ones for the tunnel to start from`}},
	} {
		t.Run(tc.name, func(t *testing.T) { checkMistakes(t, tc, func(s string) string { return s }) })
	}
}

// What is left out is filled in by service, kind and family.
func TestTunnels(t *testing.T) {
	a := netip.MustParseAddr
	for _, tc := range []struct {
		name, service, server, address string
		want                           Tunnel
	}{
		{"ipip", "", "", "10.77.2.21", Tunnel{Kind: "ipip", Source: a("10.77.2.1")}},
		{"behind a gateway", "", "", "10.77.9.21", Tunnel{Kind: "ipip", Source: a("10.77.2.1")}},
		{"second address", "", "", "10.77.3.21", Tunnel{Kind: "ipip", Source: a("10.77.3.1")}},
		{"gue", "tunnel = \"gue\"\n", "", "10.77.2.21", Tunnel{Kind: "gue", Port: 6080, Source: a("10.77.2.1")}},
		{"gue to IPv6 has a checksum", "tunnel = \"gue\"\n", "", "2001:db8:2::21", Tunnel{Kind: "gue", Port: 6080, Csum: true, Source: a("2001:db8:2::1")}},
		{"unless refused", "tunnel = \"gue\"\ntunnel_csum = false\n", "", "2001:db8:2::21", Tunnel{Kind: "gue", Port: 6080, Source: a("2001:db8:2::1")}},
		{"a server's own port", "tunnel = \"gue\"\ntunnel_port = 7\n", "tunnel_port = 8\ntunnel_csum = true\n", "10.77.2.21",
			Tunnel{Kind: "gue", Port: 8, Csum: true, Source: a("10.77.2.1")}},
		{"a server's own kind", "tunnel = \"ipip\"\n", "tunnel = \"gre\"\n", "10.77.2.21", Tunnel{Kind: "gre", Source: a("10.77.2.1")}},
		{"link-local on the link", "", "", "fe80::21", Tunnel{Kind: "ipip", Source: a("fe80::1")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old, new := tunService(tc.service)
			c, err := parse(edit(t, good, old, new, atEnd, "  address = \""+tc.address+"\"\n"+tc.server, `["10.77.2.1/24"]`,
				`["10.77.2.1/24", "fe80::1/64", "10.77.3.1/24", "2001:db8:2::1/64"]`))
			if err != nil {
				t.Fatal(err)
			}
			s := &c.Services[1]
			if got := s.Servers[0].Tunnel; got != tc.want || s.TunnelTTL != 64 || !s.PMTUDisc || s.MSSClamp != 0 {
				t.Errorf("got %+v in %+v, want %+v", got, s, tc.want)
			}
		})
	}
}
