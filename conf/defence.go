package conf

import (
	"net/netip"
)

// The keys that say who may open connections to a service: allow, deny, rate_per_source, burst_per_source.

const (
	maxSourceRate  = 100_000 // connections per second; what director/guard can tell apart
	maxSourceBurst = 100_000 // connections
)

// readDefence reads the service's keys.
func readDefence(s *section, v *Service) {
	listed := map[netip.Prefix]string{}
	v.Allow = readSources(s, "allow", listed)
	v.Deny = readSources(s, "deny", listed)
	v.RatePerSource = s.whole("rate_per_source", span{0, 0, maxSourceRate})
	v.BurstPerSource = s.whole("burst_per_source", span{v.RatePerSource, 1, maxSourceBurst})
	if s.has("burst_per_source") && !s.has("rate_per_source") {
		s.add("burst_per_source: without rate_per_source there is no limit")
	}
	if v.RatePerSource == 0 {
		v.BurstPerSource = 0
	}
}

// readSources reads a list of prefixes; listed are those that were met before, with the key that had them.
func readSources(s *section, key string, listed map[netip.Prefix]string) (prefixes []netip.Prefix) {
	for _, text := range s.list(key) {
		p, wrong := parseSource(text)
		if first := listed[p]; wrong == "" && first == key {
			wrong = "listed twice"
		} else if wrong == "" && first != "" {
			wrong = "also in " + first
		}
		if wrong != "" {
			s.add("%s: %q: %s", key, text, wrong)
			continue
		}
		listed[p] = key
		prefixes = append(prefixes, p)
	}
	return prefixes
}

// parseSource reads a network, or one address.
func parseSource(text string) (netip.Prefix, string) {
	a, err := netip.ParseAddr(text)
	if err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case a.Is4In6():
		return netip.Prefix{}, "an IPv4 address in IPv6: write " + a.Unmap().String()
	case err != nil:
		return netip.Prefix{}, `not a network or an address, like "192.0.2.0/24" or "2001:db8::7"`
	case p.Addr().Is4In6():
		return netip.Prefix{}, "an IPv4 address in IPv6: write " + p.Addr().Unmap().String()
	case p != p.Masked():
		return netip.Prefix{}, "bits are set behind the prefix: write " + p.Masked().String()
	}
	return p, ""
}
