package conf

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// good is a small valid configuration that the tests spoil: two arms, a service of each method, a network behind a router.
const good = `
[[interface]]
name = "ext"
tap = "tap0"
addresses = ["10.77.1.1/24"]

[[interface]]
name = "int"
tap = "tap1"
addresses = ["10.77.2.1/24"]

[[route]]
to = "10.77.9.0/24"
via = "10.77.2.254"

[[service]]
name = "web"
listen = "10.77.1.100:80"
  [[service.server]]
  address = "10.77.2.11:8000"
  [[service.server]]
  address = "10.77.2.12:8000"

[[service]]
name = "fast"
listen = "10.77.1.101:80"
method = "dr"
  [[service.server]]
  address = "10.77.2.21"
`

// Addresses of the tests and how they are written in IPv6: 10.77.2.11 is 2001:db8:2::11.
var (
	endpoint4 = regexp.MustCompile(`10\.77\.(\d+)\.(\d+):(\d+)`)
	address4  = regexp.MustCompile(`10\.77\.(\d+)\.(\d+)`)
)

// inIPv6 rewrites the tests' IPv4 addresses as IPv6 ones, in a configuration or in what is said of it.
func inIPv6(text string) string {
	text = endpoint4.ReplaceAllString(text, "[2001:db8:$1::$2]:$3")
	text = address4.ReplaceAllString(text, "2001:db8:$1::$2")
	return strings.NewReplacer("::0/24", "::/64", "::0]", "::]", "::0\"", "::\"", "/24", "/64", "0.0.0.0/0", "::/0").Replace(text)
}

// edit replaces old by new, pairwise, each of which must be there.
func edit(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("nothing to replace: no %q", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

// parse parses text as lb.toml.
func parse(text string) (*Config, error) { return Parse(strings.NewReader(text), "lb.toml") }

// mustParse parses text that has no mistakes.
func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// inBothFamilies runs a test for text and its IPv6 form.
func inBothFamilies(t *testing.T, f func(t *testing.T, form func(string) string)) {
	t.Run("IPv4", func(t *testing.T) { f(t, func(s string) string { return s }) })
	t.Run("IPv6", func(t *testing.T) { f(t, inIPv6) })
}

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
