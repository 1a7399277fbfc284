package conf

import (
	"fmt"
	"strings"
	"testing"
)

// asQUIC makes the first service one of QUIC.
const asQUIC = atWeb + "scheduler = \"quic\"\nprotocol = \"udp\"\n"

// hashing are slips in the keys of the schedulers that hash.
var hashing = []spoiled{
	slip("hash_port with wlc", atWeb, atWeb+"hash_port = true\n", `service "web": hash_port: scheduler "wlc" does not use it: only sh, mh, quic`),
	slip("hash_port with dh", atWeb, atWeb+"scheduler = \"dh\"\nhash_port = false\n",
		`service "web": hash_port: scheduler "dh" does not use it: only sh, mh, quic`),
	slip("hash_fallback with rr", atWeb, atWeb+"scheduler = \"rr\"\nhash_fallback = true\n",
		`service "web": hash_fallback: scheduler "rr" does not use it: only sh, dh, mh, quic`),
	slip("hash_fallback in words", atWeb, atWeb+"scheduler = \"sh\"\nhash_fallback = \"yes\"\n",
		`service "web": hash_fallback: expected true or false, got "yes"`),
	slip("mh_table_size with sh", atWeb, atWeb+"scheduler = \"sh\"\nmh_table_size = 251\n",
		`service "web": mh_table_size: scheduler "sh" does not use it: only mh, quic`),
	slip("mh_table_size is no prime", atWeb, atWeb+"scheduler = \"mh\"\nmh_table_size = 4096\n",
		`service "web": mh_table_size 4096: not a size of a Maglev table: 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071`),
	slip("mh_table_size 0", atWeb, atWeb+"scheduler = \"mh\"\nmh_table_size = 0\n",
		`service "web": mh_table_size 0: not a size of a Maglev table: 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071`),
	slip("a scheduler that is not understood says nothing of its keys", atWeb, atWeb+"scheduler = \"mg\"\nhash_port = true\nmh_table_size = 251\n",
		`service "web": scheduler "mg": unknown, did you mean "mh"?: wlc, rr, wrr, lc, sed, nq, fo, ovf, twos, sh, dh, mh, lblc, lblcr, quic`),
	slip("ipvsadm's flag", atWeb, atWeb+"scheduler = \"mh\"\nmh_port = true\n", `service "web": unknown key "mh_port": did you mean "hash_port"?`),
	slip("QUIC over TCP", atWeb, atWeb+"scheduler = \"quic\"\n", `service "web": scheduler "quic": QUIC runs over UDP: write protocol = "udp"`),
	slip("quic_id with wlc", atFirst, atFirst+"quic_id = \"01\"\n", `service "web": server 1: quic_id: scheduler "wlc" does not use it: only quic`),
	{"quic_id is not hexadecimal", []string{atWeb, asQUIC, atFirst, atFirst + "quic_id = \"0x01\"\n"},
		[]string{`service "web": server 1: quic_id "0x01": expected 1 to 8 bytes in hexadecimal, like "0a4d020b"`}},
	{"quic_id of nine bytes", []string{atWeb, asQUIC, atFirst, atFirst + "quic_id = \"010203040506070809\"\n"},
		[]string{`service "web": server 1: quic_id "010203040506070809": expected 1 to 8 bytes in hexadecimal, like "0a4d020b"`}},
	{"quic_id as a number", []string{atWeb, asQUIC, atFirst, atFirst + "quic_id = 1\n"},
		[]string{`service "web": server 1: quic_id: expected a string, got 1`}},
	{"quic_id of only one server", []string{atWeb, asQUIC, atFirst, atFirst + "quic_id = \"0102\"\n"},
		[]string{`service "web": server 2: quic_id: 4 bytes long, but 2 in the first server: all must have the same length`}},
	{"one quic_id twice", []string{atWeb, asQUIC, atFirst, atFirst + "quic_id = \"0000\"\n",
		"  address = \"10.77.2.12:8000\"\n", "  address = \"10.77.2.12:8000\"\nquic_id = \"0000\"\n"},
		[]string{`service "web": server 2: quic_id "0000": also the id of service "web": server 1: give each its own`}},
	{"a server without an address has no id either", []string{atWeb, asQUIC, atFirst, ""},
		[]string{`service "web": server 1: address: missing: write address = "10.77.2.12:8000"`}},
}

// quicIDs are slips in ids that come from addresses.
var quicIDs = []spoiled{
	{"two servers of one address", []string{atWeb, asQUIC, "10.77.2.12:8000", "10.77.2.11:8001"},
		[]string{`service "web": server 2: quic_id "0a4d020b": also the id of service "web": server 1: give each its own`}},
	{"an id that is another's address", []string{atWeb, asQUIC, atFirst, atFirst + "quic_id = \"0A4D020C\"\n"},
		[]string{`service "web": server 2: quic_id "0a4d020c": also the id of service "web": server 1: give each its own`}},
}

// TestTooManyServersForATable needs more servers than a slip can add.
func TestTooManyServersForATable(t *testing.T) {
	var servers strings.Builder
	for i := range 252 {
		fmt.Fprintf(&servers, "  [[service.server]]\n  address = \"10.77.2.%d:%d\"\n", 11+i%100, 9000+i/100)
	}
	for size, want := range map[int]string{251: `lb.toml: service "web": mh_table_size 251: too small for 254 servers`, 509: ""} {
		text := edit(t, good, atWeb, atWeb+fmt.Sprintf("scheduler = \"mh\"\nmh_table_size = %d\n", size),
			"[[service]]\nname = \"fast\"", servers.String()+"[[service]]\nname = \"fast\"")
		got := ""
		if _, err := parse(text); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("size %d: got %q, want %q", size, got, want)
		}
	}
}

// TestHashing: what the keys become, and what they are when left out.
func TestHashing(t *testing.T) {
	type keys struct {
		port, fallback bool
		size, idLength int
	}
	for text, want := range map[string]keys{
		"":                    {},
		`scheduler = "lblcr"`: {},
		`scheduler = "sh"`:    {fallback: true},
		`scheduler = "dh"`:    {fallback: true},
		`scheduler = "mh"`:    {fallback: true, size: 16381},
		asQUIC[len(atWeb):]:   {fallback: true, size: 16381, idLength: 4},
		"scheduler = \"sh\"\nhash_port = true\nhash_fallback = false":  {port: true},
		"scheduler = \"mh\"\nhash_port = true\nmh_table_size = 131071": {port: true, fallback: true, size: 131071},
	} {
		inBothFamilies(t, func(t *testing.T, form func(string) string) {
			v := mustParse(t, form(edit(t, good, atWeb, atWeb+text+"\n"))).Services[0]
			if got := (keys{v.HashPort, v.HashFallback, v.MHTableSize, v.QUICIDLength}); got != want {
				t.Errorf("%s: %+v, want %+v", text, got, want)
			}
		})
	}
}

// TestQUICIDs: from the file, or from the last four bytes of the address.
func TestQUICIDs(t *testing.T) {
	text := edit(t, good, atWeb, asQUIC)
	explicit := edit(t, text, atFirst, atFirst+"quic_id = \"FF00000000000001\"\n", "  address = \"10.77.2.12:8000\"\n",
		"  address = \"10.77.2.12:8000\"\n  quic_id = \"0000000000000000\"\n")
	for _, tc := range []struct {
		name, text string
		length     int
		want       []uint64
	}{
		{"IPv4", text, 4, []uint64{0x0a4d020b, 0x0a4d020c}},
		{"IPv6", inIPv6(text), 4, []uint64{0x11, 0x12}},
		{"in the file", explicit, 8, []uint64{0xff00000000000001, 0}},
	} {
		v := mustParse(t, tc.text).Services[0]
		if v.QUICIDLength != tc.length {
			t.Errorf("%s: length %d, want %d", tc.name, v.QUICIDLength, tc.length)
		}
		for i, want := range tc.want {
			if got := v.Servers[i].QUICID; got != want {
				t.Errorf("%s: server %d has id %x, want %x", tc.name, i+1, got, want)
			}
		}
	}
}
