package conf

import (
	"net/netip"
	"slices"
	"testing"
)

// defence are slips in the keys that say who may connect.
var defence = []spoiled{
	slip("allow as a string", atWeb, atWeb+"allow = \"10.0.0.0/8\"\n", `service "web": allow: expected an array of strings, got "10.0.0.0/8"`),
	slip("a word in deny", atWeb, atWeb+"deny = [\"all\"]\n", `service "web": deny: "all": not a network or an address, like "192.0.2.0/24" or "2001:db8::7"`),
	slip("bits behind the prefix", atWeb, atWeb+"deny = [\"192.0.2.1/24\", \"2001:db8::1/32\"]\n",
		`service "web": deny: "192.0.2.1/24": bits are set behind the prefix: write 192.0.2.0/24`,
		`service "web": deny: "2001:db8::1/32": bits are set behind the prefix: write 2001:db8::/32`),
	slip("a prefix in both", atWeb, atWeb+"allow = [\"192.0.2.0/24\"]\ndeny = [\"192.0.2.0/24\"]\n",
		`service "web": deny: "192.0.2.0/24": also in allow`),
	slip("an address twice", atWeb, atWeb+"allow = [\"2001:db8::7\", \"2001:db8::7/128\"]\n",
		`service "web": allow: "2001:db8::7/128": listed twice`),
	slip("IPv4 in IPv6", atWeb, atWeb+"allow = [\"::ffff:192.0.2.1\", \"::ffff:192.0.2.0/120\"]\n",
		`service "web": allow: "::ffff:192.0.2.1": an IPv4 address in IPv6: write 192.0.2.1`,
		`service "web": allow: "::ffff:192.0.2.0/120": an IPv4 address in IPv6: write 192.0.2.0`),
	slip("a zone", atWeb, atWeb+"deny = [\"fe80::1%eth0\"]\n",
		`service "web": deny: "fe80::1%eth0": not a network or an address, like "192.0.2.0/24" or "2001:db8::7"`),
	slip("a negative rate", atWeb, atWeb+"rate_per_source = -1\n", `service "web": rate_per_source -1: out of range: 0 to 100000`),
	slip("a burst of nothing", atWeb, atWeb+"rate_per_source = 5\nburst_per_source = 0\n", `service "web": burst_per_source 0: out of range: 1 to 100000`),
	slip("a burst without a rate", atWeb, atWeb+"burst_per_source = 5\n", `service "web": burst_per_source: without rate_per_source there is no limit`),
	slip("early_drop in words", atEnd, atEnd+"[limits]\nearly_drop = \"on\"\n", `limits: early_drop: expected true or false, got "on"`),
}

func TestDefenceMistakes(t *testing.T) {
	for _, tc := range defence {
		t.Run(tc.name, func(t *testing.T) { checkMistakes(t, tc, func(s string) string { return s }) })
	}
}

// TestDefence: what the keys become, and what they are when left out.
func TestDefence(t *testing.T) {
	prefix := netip.MustParsePrefix
	for text, want := range map[string]Service{
		"":                     {},
		"rate_per_source = 0":  {},
		"rate_per_source = 20": {RatePerSource: 20, BurstPerSource: 20},
		"rate_per_source = 20\nburst_per_source = 1":                     {RatePerSource: 20, BurstPerSource: 1},
		`allow = ["192.0.2.0/24", "198.51.100.7"]`:                       {Allow: []netip.Prefix{prefix("192.0.2.0/24"), prefix("198.51.100.7/32")}},
		"allow = [\"0.0.0.0/0\"]\ndeny = [\"2001:db8::/32\", \"::1\"]\n": {Allow: []netip.Prefix{prefix("0.0.0.0/0")}, Deny: []netip.Prefix{prefix("2001:db8::/32"), prefix("::1/128")}},
	} {
		v := mustParse(t, edit(t, good, atWeb, atWeb+text+"\n")).Services[0]
		if v.RatePerSource != want.RatePerSource || v.BurstPerSource != want.BurstPerSource || !slices.Equal(v.Allow, want.Allow) || !slices.Equal(v.Deny, want.Deny) {
			t.Errorf("%s: %v %v %d %d", text, v.Allow, v.Deny, v.RatePerSource, v.BurstPerSource)
		}
	}
	for text, want := range map[string]bool{"": true, "[limits]\nearly_drop = false\n": false, "[limits]\nearly_drop = true\n": true} {
		if got := mustParse(t, good+text).Limits.EarlyDrop; got != want {
			t.Errorf("%q: early drop %v", text, got)
		}
	}
}
