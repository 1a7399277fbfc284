package conf

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// spoiled is good with one slip, and every line that is said of it.
type spoiled struct {
	name  string
	edits []string // old, new, old, new ...
	want  []string // without the file's name
}

// slip is a shorthand of the tables below.
func slip(name, old, new string, want ...string) spoiled {
	return spoiled{name, []string{old, new}, want}
}

// atExt gives the first interface more keys, atWeb the first service, atFirst its first server, atEnd the file.
const (
	atExt   = "name = \"ext\"\n"
	atWeb   = "name = \"web\"\n"
	atFirst = "  address = \"10.77.2.11:8000\"\n"
	atEnd   = "  address = \"10.77.2.21\"\n"
)

// filesAndInterfaces are slips in the file, its types and its interfaces that are told the same way of IPv4 and IPv6.
var filesAndInterfaces = []spoiled{
	// The file and its keys.
	slip("unknown section", atEnd, atEnd+"[[servce]]\nname = \"x\"\n", `unknown key "servce": did you mean "service"?`),
	slip("unknown section, nothing near", atEnd, atEnd+"[pool]\n",
		`unknown key "pool": there are interface, route, service, limits, timeouts`),
	slip("unknown key of an interface", atExt, atExt+"adresses = []\n",
		`interface "ext": unknown key "adresses": did you mean "addresses"?`),
	slip("unknown key of a route", "via = ", "metric = 1\nvia = ", `route 1: unknown key "metric": there are to, via`),
	slip("unknown key of a service", atWeb, atWeb+"sheduler = \"rr\"\n",
		`service "web": unknown key "sheduler": did you mean "scheduler"?`),
	slip("unknown key of a server", atFirst, atFirst+"wieght = 1\n",
		`service "web": server 1: unknown key "wieght": did you mean "weight"?`),
	slip("unknown key of limits", atEnd, atEnd+"[limits]\nconnection = 1\n",
		`limits: unknown key "connection": did you mean "connections"?`),
	slip("unknown key of timeouts", atEnd, atEnd+"[timeouts]\ntcp_fin = 1\n",
		`timeouts: unknown key "tcp_fin": did you mean "tcpfin"?`),
	slip("a key in capitals", atWeb, atWeb+"Method = \"nat\"\n",
		`service "web": unknown key "Method": did you mean "method"?`),

	// Wrong types.
	slip("queues in words", atExt, atExt+"queues = \"two\"\n",
		`interface "ext": queues: expected a whole number, got "two"`),
	slip("queues as a fraction", atExt, atExt+"queues = 1.5\n", `interface "ext": queues: expected a whole number, got 1.5`),
	slip("mtu as an array", atExt, atExt+"mtu = [1500]\n", `interface "ext": mtu: expected a whole number, got an array`),
	slip("forward in words", atExt, atExt+"forward = \"yes\"\n",
		`interface "ext": forward: expected true or false, got "yes"`),
	slip("masquerade as a number", atExt, atExt+"masquerade = 1\n",
		`interface "ext": masquerade: expected true or false, got 1`),
	slip("name as a number", `name = "web"`, "name = 5", `service 1: name: expected a string, got 5`),
	slip("scheduler as a table", atWeb, atWeb+"scheduler = {name = \"rr\"}\n",
		`service "web": scheduler: expected a string, got a table`),
	slip("mac as a date", atExt, atExt+"mac = 2026-01-01\n", `interface "ext": mac: expected a string, got a date`),
	slip("bridge as a boolean", atExt, atExt+"bridge = true\n", `interface "ext": bridge: expected a string, got true`),
	slip("addresses as a string", `addresses = ["10.77.1.1/24"]`, `addresses = "10.77.1.1/24"`,
		`interface "ext": addresses: expected an array of strings, got "10.77.1.1/24"`),
	slip("a number among addresses", `["10.77.2.1/24"]`, `["10.77.2.1/24", 7]`,
		`interface "int": addresses: number 2: expected a string, got 7`),
	slip("[service] for [[service]]", good, strings.Replace(good[:strings.Index(good, "[[service]]")]+"[service]\nname = \"web\"\n", "\n\n", "\n", 1),
		`service: expected tables [[service]], got a table`),
	slip("a number for a section", good, "route = 5\n"+good[:strings.Index(good, "[[route]]")]+good[strings.Index(good, "[[service]]"):],
		`route: expected tables [[route]], got 5`),
	slip("[[limits]] for [limits]", atEnd, atEnd+"[[limits]]\n", `limits: expected one table [limits], got an array`),
	slip("server as a string", `  [[service.server]]
  address = "10.77.2.21"`, `server = "10.77.2.21"`, `service "fast": server: expected tables [[service.server]], got "10.77.2.21"`),

	// Interfaces.
	slip("no interface", good, good[strings.Index(good, "[[route]]"):],
		`no interface: write [[interface]] with a name and a tap`),
	slip("interface without a name", atExt, "", `interface 1: name: missing: write name = "ext"`),
	slip("interface with an empty name", atExt, "name = \"\"\n", `interface 1: name: missing: write name = "ext"`),
	slip("name too long", `"ext"`,
		`"`+strings.Repeat("x", 64)+`"`, fmt.Sprintf(`interface %q: name %[1]q: 64 bytes long: at most 63`, strings.Repeat("x", 64))),
	slip("name with a line end", `"ext"`, `"e\nxt"`,
		`interface "e\nxt": name "e\nxt": quotes and control characters are not for names`),
	slip("two interfaces of one name", `"int"`, `"ext"`, `interface 2: name "ext": also the name of interface 1`),
	slip("two interfaces on one tap", `"tap1"`, `"tap0"`, `interface "int": tap "tap0": also the tap of interface "ext"`),
	{"two interfaces on one device",
		[]string{`tap = "tap0"`, `device = "/dev/tap7"`, `tap = "tap1"`, `device = "/dev/tap7"`},
		[]string{`interface "int": device "/dev/tap7": also the device of interface "ext"`}},
	slip("neither tap nor device", "tap = \"tap0\"\n", "",
		`interface "ext": tap: missing: write tap = "tap0", or device = "/dev/tap7" for a macvtap`),
	slip("tap and device", atExt, atExt+"device = \"/dev/tap7\"\n",
		`interface "ext": tap and device: one of the two: a TAP by name, or a macvtap's character device`),
	slip("empty tap", `"tap0"`, `""`,
		`interface "ext": tap: missing: write tap = "tap0", or device = "/dev/tap7" for a macvtap`),
	slip("tap name too long", `"tap0"`, `"tap0123456789012"`,
		`interface "ext": tap "tap0123456789012": 16 bytes long: the kernel takes at most 15`),
	slip("tap name with a slash", `"tap0"`, `"net/tap0"`,
		`interface "ext": tap "net/tap0": not a name of an interface: no blank, "/", ":" or "%"`),
	slip("tap name as a pattern", `"tap0"`, `"tap%d"`,
		`interface "ext": tap "tap%d": not a name of an interface: no blank, "/", ":" or "%"`),
	slip("bridge name too long", atExt, atExt+"bridge = \"bridge0123456789\"\n",
		`interface "ext": bridge "bridge0123456789": 16 bytes long: the kernel takes at most 15`),
	slip("bridge is the tap", atExt, atExt+"bridge = \"tap0\"\n", `interface "ext": bridge "tap0": is the tap itself`),
	slip("bridge is another's tap", atExt, atExt+"bridge = \"tap1\"\n",
		`interface "ext": bridge "tap1": is the tap of interface "int"`),
	slip("bridge for a macvtap", `tap = "tap0"`, "device = \"/dev/tap7\"\nbridge = \"br0\"",
		`interface "ext": bridge "br0": only for a tap: a macvtap is on its NIC already`),
	slip("device without a path", `tap = "tap0"`, `device = "tap7"`,
		`interface "ext": device "tap7": not an absolute path, like "/dev/tap7"`),
	slip("unknown driver", atExt, atExt+"driver = \"linus\"\n",
		`interface "ext": driver "linus": unknown, did you mean "linux"?: auto, linux, water`),
	slip("water opens no device", `tap = "tap0"`, "device = \"/dev/tap7\"\ndriver = \"water\"",
		`interface "ext": driver "water": opens no device: leave it out, or write "linux"`),
	slip("water has one queue", atExt, atExt+"driver = \"water\"\nqueues = 2\n",
		`interface "ext": queues 2: driver "water" has one queue`),
	slip("too many queues", atExt, atExt+"queues = 17\n", `interface "ext": queues 17: out of range: 0 to 16`),
	slip("negative queues", atExt, atExt+"queues = -1\n", `interface "ext": queues -1: out of range: 0 to 16`),
	slip("mtu too large", atExt, atExt+"mtu = 65536\n", `interface "ext": mtu 65536: out of range: 0 to 65535`),
	slip("mtu too small", atExt, atExt+"mtu = 575\n",
		`interface "ext": mtu 575: out of range: 576 to 65535, or 0 for the kernel's`),
	slip("unknown reply", atExt, atExt+"reply = \"routes\"\n",
		`interface "ext": reply "routes": unknown, did you mean "route"?: last-hop, route`),
	slip("no mac", atExt, atExt+"mac = \"02:00:00:00:aa\"\n",
		`interface "ext": mac "02:00:00:00:aa": not a MAC address, like "02:00:00:00:aa:01"`),
	slip("a mac of eight bytes", atExt, atExt+"mac = \"02:00:00:00:00:00:aa:01\"\n",
		`interface "ext": mac "02:00:00:00:00:00:aa:01": not a MAC address, like "02:00:00:00:aa:01"`),
	slip("multicast mac", atExt, atExt+"mac = \"03:00:00:00:aa:01\"\n",
		`interface "ext": mac "03:00:00:00:aa:01": a multicast MAC: the first byte must be even`),
	slip("broadcast mac", atExt, atExt+"mac = \"ff:ff:ff:ff:ff:ff\"\n",
		`interface "ext": mac "ff:ff:ff:ff:ff:ff": a multicast MAC: the first byte must be even`),
	slip("zero mac", atExt, atExt+"mac = \"00:00:00:00:00:00\"\n",
		`interface "ext": mac "00:00:00:00:00:00": the zero MAC: leave the key out for the default`),
	{"two interfaces with one mac",
		[]string{atExt, atExt + "mac = \"02:00:00:00:aa:01\"\n", "name = \"int\"\n", "name = \"int\"\nmac = \"02-00-00-00-AA-01\"\n"},
		[]string{`interface "int": mac "02:00:00:00:aa:01": also the mac of interface "ext"`}},
	slip("address is the network", `["10.77.1.1/24"]`, `["10.77.1.0/24"]`,
		`interface "ext": addresses: "10.77.1.0/24": the address of the network 10.77.1.0/24 itself, not of a host`),
	slip("address without prefix length", `["10.77.1.1/24"]`, `["10.77.1.1"]`,
		`interface "ext": addresses: "10.77.1.1": no prefix length: write "10.77.1.1/24" or whatever its network has`),
	slip("address with a long prefix length", `["10.77.1.1/24"]`, `["10.77.1.1/129"]`,
		`interface "ext": addresses: "10.77.1.1/129": not an address with prefix length, like "10.77.1.1/24" or "2001:db8:1::1/64"`),
	slip("one address twice", `["10.77.2.1/24"]`, `["10.77.2.1/24", "10.77.1.1/24"]`,
		`interface "int": addresses: "10.77.1.1/24": also an address of interface "ext"`),
	slip("prefix length 0", `["10.77.1.1/24"]`, `["10.77.1.1/0"]`,
		`interface "ext": addresses: "10.77.1.1/0": a prefix length of 0 would put every address on this link`),
	slip("masquerade without an address", "[[route]]", "[[interface]]\nname = \"out\"\ntap = \"tap2\"\nmasquerade = true\n[[route]]",
		`interface "out": masquerade: needs an address of the interface to put in the place of the source`),
}

func TestMistakes(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, form func(string) string) {
		for _, tc := range slices.Concat(filesAndInterfaces, routesAndServices, hashing) {
			t.Run(tc.name, func(t *testing.T) { checkMistakes(t, tc, form) })
		}
	})
	for _, tc := range slices.Concat(ofOneFamily, quicIDs) {
		t.Run(tc.name, func(t *testing.T) { checkMistakes(t, tc, func(s string) string { return s }) })
	}
}

// examples are addresses in messages that show how a value looks; they are IPv4 whatever the file has.
var examples = strings.NewReplacer(inIPv6(`write to = "0.0.0.0/0"`), `write to = "0.0.0.0/0"`, inIPv6(`write via = "10.77.1.254"`), `write via = "10.77.1.254"`,
	inIPv6(`write listen = "10.77.1.100:80"`), `write listen = "10.77.1.100:80"`, inIPv6(`write address = "10.77.2.12:8000"`), `write address = "10.77.2.12:8000"`,
	inIPv6(`like "10.77.1.1/24"`), `like "10.77.1.1/24"`, `write "::/0" or`, `write "0.0.0.0/0" or`)

// checkMistakes wants exactly the lines of tc, in their order; an empty line means that there is nothing to say.
func checkMistakes(t *testing.T, tc spoiled, form func(string) string) {
	_, err := parse(form(edit(t, good, tc.edits...)))
	var want []string
	for _, line := range tc.want {
		if line != "" {
			want = append(want, "lb.toml: "+examples.Replace(form(line)))
		}
	}
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}
