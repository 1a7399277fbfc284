package conf

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestEdge compares with counting the network's addresses one by one.
func TestEdge(t *testing.T) {
	for bits := 20; bits <= 32; bits++ {
		p := netip.PrefixFrom(netip.MustParseAddr("10.77.130.77"), bits)
		first := p.Masked().Addr()
		for a := first; p.Contains(a); a = a.Next() {
			isEdge := bits < 31 && (a == first || !p.Contains(a.Next()))
			if got := edge(p, a) != ""; got != isEdge {
				t.Fatalf("edge(%v, %v) is %v, want %v", p, a, got, isEdge)
			}
		}
	}
	for text, want := range map[string]bool{
		"2001:db8:1::/64": true, "2001:db8:1::1/64": false, "2001:db8:1::ffff:ffff:ffff:ffff/64": false,
		"2001:db8:1::/127": false, "2001:db8:1::1/128": false, "2001:db8:1::4/126": true,
	} {
		p := netip.MustParsePrefix(text)
		if p.Addr() == netip.MustParseAddr("2001:db8:1::ffff:ffff:ffff:ffff") {
			p = netip.MustParsePrefix("2001:db8:1:0:ffff:ffff:ffff:ffff/64")
		}
		if got := edge(p, p.Addr()) != ""; got != want {
			t.Errorf("edge(%s) is %v, want %v", text, got, want)
		}
	}
}

func TestSplitEndpoint(t *testing.T) {
	for _, tc := range []struct {
		text, host, port string
		hasPort          bool
	}{
		{"10.77.1.1", "10.77.1.1", "", false},
		{"10.77.1.1:80", "10.77.1.1", "80", true},
		{"10.77.1.1:", "10.77.1.1", "", true},
		{":80", "", "80", true},
		{"2001:db8::1", "2001:db8::1", "", false},
		{"[2001:db8::1]", "2001:db8::1", "", false},
		{"[2001:db8::1]:80", "2001:db8::1", "80", true},
		{"[2001:db8::1]80", "[2001:db8::1]80", "", false},
		{"[10.77.1.1]:80", "[10.77.1.1]:80", "", false},
		{"[]", "[]", "", false},
		{"[", "[", "", false},
		{"", "", "", false},
	} {
		host, port, hasPort := splitEndpoint(tc.text)
		if host != tc.host || port != tc.port || hasPort != tc.hasPort {
			t.Errorf("splitEndpoint(%q) = %q, %q, %v", tc.text, host, port, hasPort)
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"name", "tap", "device", "driver", "addresses", "masquerade"}
	for word, want := range map[string]string{
		"nmae": "name", "names": "name", "tab": "tap", "dirver": "driver", "address": "addresses", "masqerade": "masquerade",
		"colour": "", "": "", "x": "", "taptaptap": "",
	} {
		if got, ok := nearest(word, candidates); got != want || ok != (want != "") {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

// slowDistance is the definition of the distance, by recursion.
func slowDistance(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	n, m := len(a)-1, len(b)-1
	d := slowDistance(a[:n], b[:m])
	if a[n] != b[m] {
		d++
	}
	d = min(d, slowDistance(a[:n], b)+1, slowDistance(a, b[:m])+1)
	if n > 0 && m > 0 && a[n] == b[m-1] && a[n-1] == b[m] {
		d = min(d, slowDistance(a[:n-1], b[:m-1])+1)
	}
	return d
}

func TestDistanceSlowTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	word := func() string {
		b := make([]byte, rnd.IntN(6))
		for i := range b {
			b[i] = 'a' + byte(rnd.IntN(3))
		}
		return string(b)
	}
	for range 2000 {
		a, b := word(), word()
		if got, want := distance(a, b), slowDistance(a, b); got != want {
			t.Fatalf("distance(%q, %q) = %d, want %d", a, b, got, want)
		}
	}
}
