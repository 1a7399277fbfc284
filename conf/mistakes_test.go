package conf

import (
	"fmt"
	"strings"
	"testing"
)

// spoiled is good with one slip, and every line that is said of it.
type spoiled struct {
	name  string
	edits []string // old, new, old, new ...
	want  []string // without the file's name
}

// slips is a shorthand of the tables below.
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

// ofBothFamilies are slips that are told the same way of IPv4 and IPv6.
var ofBothFamilies = []spoiled{
	// The file and its keys.
	slip("unknown section", atEnd, atEnd+"[[servce]]\nname = \"x\"\n", `unknown key "servce": did you mean "service"?`),
	slip("unknown section, nothing near", atEnd, atEnd+"[pool]\n", `unknown key "pool": there are interface, route, service, limits, timeouts`),
	slip("unknown key of an interface", atExt, atExt+"adresses = []\n", `interface "ext": unknown key "adresses": did you mean "addresses"?`),
	slip("unknown key of a route", "via = ", "metric = 1\nvia = ", `route 1: unknown key "metric": there are to, via`),
	slip("unknown key of a service", atWeb, atWeb+"sheduler = \"rr\"\n", `service "web": unknown key "sheduler": did you mean "scheduler"?`),
	slip("unknown key of a server", atFirst, atFirst+"wieght = 1\n", `service "web": server 1: unknown key "wieght": did you mean "weight"?`),
	slip("unknown key of limits", atEnd, atEnd+"[limits]\nconnection = 1\n", `limits: unknown key "connection": did you mean "connections"?`),
	slip("unknown key of timeouts", atEnd, atEnd+"[timeouts]\ntcp_fin = 1\n", `timeouts: unknown key "tcp_fin": did you mean "tcpfin"?`),
	slip("a key in capitals", atWeb, atWeb+"Method = \"nat\"\n", `service "web": unknown key "Method": did you mean "method"?`),

	// Wrong types.
	slip("queues in words", atExt, atExt+"queues = \"two\"\n", `interface "ext": queues: expected a whole number, got "two"`),
	slip("queues as a fraction", atExt, atExt+"queues = 1.5\n", `interface "ext": queues: expected a whole number, got 1.5`),
	slip("mtu as an array", atExt, atExt+"mtu = [1500]\n", `interface "ext": mtu: expected a whole number, got an array`),
	slip("forward in words", atExt, atExt+"forward = \"yes\"\n", `interface "ext": forward: expected true or false, got "yes"`),
	slip("masquerade as a number", atExt, atExt+"masquerade = 1\n", `interface "ext": masquerade: expected true or false, got 1`),
	slip("name as a number", `name = "web"`, "name = 5", `service 1: name: expected a string, got 5`),
	slip("scheduler as a table", atWeb, atWeb+"scheduler = {name = \"rr\"}\n", `service "web": scheduler: expected a string, got a table`),
	slip("mac as a date", atExt, atExt+"mac = 2026-01-01\n", `interface "ext": mac: expected a string, got a date`),
	slip("bridge as a boolean", atExt, atExt+"bridge = true\n", `interface "ext": bridge: expected a string, got true`),
	slip("addresses as a string", `addresses = ["10.77.1.1/24"]`, `addresses = "10.77.1.1/24"`,
		`interface "ext": addresses: expected an array of strings, got "10.77.1.1/24"`),
	slip("a number among addresses", `["10.77.2.1/24"]`, `["10.77.2.1/24", 7]`, `interface "int": addresses: number 2: expected a string, got 7`),
	slip("[service] for [[service]]", good, strings.Replace(good[:strings.Index(good, "[[service]]")]+"[service]\nname = \"web\"\n", "\n\n", "\n", 1),
		`service: expected tables [[service]], got a table`),
	slip("a number for a section", good, "route = 5\n"+good[:strings.Index(good, "[[route]]")]+good[strings.Index(good, "[[service]]"):],
		`route: expected tables [[route]], got 5`),
	slip("[[limits]] for [limits]", atEnd, atEnd+"[[limits]]\n", `limits: expected one table [limits], got an array`),
	slip("server as a string", `  [[service.server]]
  address = "10.77.2.21"`, `server = "10.77.2.21"`, `service "fast": server: expected tables [[service.server]], got "10.77.2.21"`),

	// Interfaces.
	slip("no interface", good, good[strings.Index(good, "[[route]]"):], `no interface: write [[interface]] with a name and a tap`),
	slip("interface without a name", atExt, "", `interface 1: name: missing: write name = "ext"`),
	slip("interface with an empty name", atExt, "name = \"\"\n", `interface 1: name: missing: write name = "ext"`),
	slip("name too long", `"ext"`, `"`+strings.Repeat("x", 64)+`"`, fmt.Sprintf(`interface %q: name %[1]q: 64 bytes long: at most 63`, strings.Repeat("x", 64))),
	slip("name with a line end", `"ext"`, `"e\nxt"`, `interface "e\nxt": name "e\nxt": quotes and control characters are not for names`),
	slip("two interfaces of one name", `"int"`, `"ext"`, `interface 2: name "ext": also the name of interface 1`),
	slip("two interfaces on one tap", `"tap1"`, `"tap0"`, `interface "int": tap "tap0": also the tap of interface "ext"`),
	{"two interfaces on one device", []string{`tap = "tap0"`, `device = "/dev/tap7"`, `tap = "tap1"`, `device = "/dev/tap7"`},
		[]string{`interface "int": device "/dev/tap7": also the device of interface "ext"`}},
	slip("neither tap nor device", "tap = \"tap0\"\n", "", `interface "ext": tap: missing: write tap = "tap0", or device = "/dev/tap7" for a macvtap`),
	slip("tap and device", atExt, atExt+"device = \"/dev/tap7\"\n", `interface "ext": tap and device: one of the two: a TAP by name, or a macvtap's character device`),
	slip("empty tap", `"tap0"`, `""`, `interface "ext": tap: missing: write tap = "tap0", or device = "/dev/tap7" for a macvtap`),
	slip("tap name too long", `"tap0"`, `"tap0123456789012"`, `interface "ext": tap "tap0123456789012": 16 bytes long: the kernel takes at most 15`),
	slip("tap name with a slash", `"tap0"`, `"net/tap0"`, `interface "ext": tap "net/tap0": not a name of an interface: no blank, "/", ":" or "%"`),
	slip("tap name as a pattern", `"tap0"`, `"tap%d"`, `interface "ext": tap "tap%d": not a name of an interface: no blank, "/", ":" or "%"`),
	slip("bridge name too long", atExt, atExt+"bridge = \"bridge0123456789\"\n", `interface "ext": bridge "bridge0123456789": 16 bytes long: the kernel takes at most 15`),
	slip("bridge is the tap", atExt, atExt+"bridge = \"tap0\"\n", `interface "ext": bridge "tap0": is the tap itself`),
	slip("bridge is another's tap", atExt, atExt+"bridge = \"tap1\"\n", `interface "ext": bridge "tap1": is the tap of interface "int"`),
	slip("bridge for a macvtap", `tap = "tap0"`, "device = \"/dev/tap7\"\nbridge = \"br0\"", `interface "ext": bridge "br0": only for a tap: a macvtap is on its NIC already`),
	slip("device without a path", `tap = "tap0"`, `device = "tap7"`, `interface "ext": device "tap7": not an absolute path, like "/dev/tap7"`),
	slip("unknown driver", atExt, atExt+"driver = \"linus\"\n", `interface "ext": driver "linus": unknown, did you mean "linux"?: auto, linux, water`),
	slip("water opens no device", `tap = "tap0"`, "device = \"/dev/tap7\"\ndriver = \"water\"", `interface "ext": driver "water": opens no device: leave it out, or write "linux"`),
	slip("water has one queue", atExt, atExt+"driver = \"water\"\nqueues = 2\n", `interface "ext": queues 2: driver "water" has one queue`),
	slip("too many queues", atExt, atExt+"queues = 17\n", `interface "ext": queues 17: out of range: 0 to 16`),
	slip("negative queues", atExt, atExt+"queues = -1\n", `interface "ext": queues -1: out of range: 0 to 16`),
	slip("mtu too large", atExt, atExt+"mtu = 65536\n", `interface "ext": mtu 65536: out of range: 0 to 65535`),
	slip("mtu too small", atExt, atExt+"mtu = 575\n", `interface "ext": mtu 575: out of range: 576 to 65535, or 0 for the kernel's`),
	slip("unknown reply", atExt, atExt+"reply = \"routes\"\n", `interface "ext": reply "routes": unknown, did you mean "route"?: last-hop, route`),
	slip("no mac", atExt, atExt+"mac = \"02:00:00:00:aa\"\n", `interface "ext": mac "02:00:00:00:aa": not a MAC address, like "02:00:00:00:aa:01"`),
	slip("a mac of eight bytes", atExt, atExt+"mac = \"02:00:00:00:00:00:aa:01\"\n", `interface "ext": mac "02:00:00:00:00:00:aa:01": not a MAC address, like "02:00:00:00:aa:01"`),
	slip("multicast mac", atExt, atExt+"mac = \"03:00:00:00:aa:01\"\n", `interface "ext": mac "03:00:00:00:aa:01": a multicast MAC: the first byte must be even`),
	slip("broadcast mac", atExt, atExt+"mac = \"ff:ff:ff:ff:ff:ff\"\n", `interface "ext": mac "ff:ff:ff:ff:ff:ff": a multicast MAC: the first byte must be even`),
	slip("zero mac", atExt, atExt+"mac = \"00:00:00:00:00:00\"\n", `interface "ext": mac "00:00:00:00:00:00": the zero MAC: leave the key out for the default`),
	{"two interfaces with one mac", []string{atExt, atExt + "mac = \"02:00:00:00:aa:01\"\n", "name = \"int\"\n", "name = \"int\"\nmac = \"02-00-00-00-AA-01\"\n"},
		[]string{`interface "int": mac "02:00:00:00:aa:01": also the mac of interface "ext"`}},
	slip("address is the network", `["10.77.1.1/24"]`, `["10.77.1.0/24"]`, `interface "ext": addresses: "10.77.1.0/24": the address of the network 10.77.1.0/24 itself, not of a host`),
	slip("address without prefix length", `["10.77.1.1/24"]`, `["10.77.1.1"]`, `interface "ext": addresses: "10.77.1.1": no prefix length: write "10.77.1.1/24" or whatever its network has`),
	slip("address with a long prefix length", `["10.77.1.1/24"]`, `["10.77.1.1/129"]`,
		`interface "ext": addresses: "10.77.1.1/129": not an address with prefix length, like "10.77.1.1/24" or "2001:db8:1::1/64"`),
	slip("one address twice", `["10.77.2.1/24"]`, `["10.77.2.1/24", "10.77.1.1/24"]`, `interface "int": addresses: "10.77.1.1/24": also an address of interface "ext"`),
	slip("prefix length 0", `["10.77.1.1/24"]`, `["10.77.1.1/0"]`, `interface "ext": addresses: "10.77.1.1/0": a prefix length of 0 would put every address on this link`),
	slip("masquerade without an address", "[[route]]", "[[interface]]\nname = \"out\"\ntap = \"tap2\"\nmasquerade = true\n[[route]]",
		`interface "out": masquerade: needs an address of the interface to put in the place of the source`),

	// Routes.
	slip("route without to", "to = \"10.77.9.0/24\"\n", "", `route 1: to: missing: write to = "0.0.0.0/0"`),
	slip("route without via", "via = \"10.77.2.254\"\n", "", `route 1: via: missing: write via = "10.77.1.254"`),
	slip("to with host bits", `"10.77.9.0/24"`, `"10.77.9.3/24"`, `route 1: to "10.77.9.3/24": bits are set behind the prefix: write 10.77.9.0/24`),
	slip("to is a word", `"10.77.9.0/24"`, `"default"`, `route 1: to "default": write "0.0.0.0/0" or "::/0"`),
	slip("to one place twice", "[[route]]", "[[route]]\nto = \"10.77.9.0/24\"\nvia = \"10.77.1.254\"\n[[route]]", `route 2: to "10.77.9.0/24": also the destination of route 1`),
	slip("via nowhere", "10.77.2.254", "10.77.3.254", `route 1: via "10.77.3.254": on the network of no interface`),
	slip("via ourselves", "10.77.2.254", "10.77.2.1", `route 1: via "10.77.2.1": the director's own address, on interface "int"`),
	slip("via a VIP", "10.77.2.254", "10.77.1.100", `route 1: via "10.77.1.100": the VIP of service "web"`),
	slip("via a network", `"10.77.2.254"`, `"10.77.2.0"`, `route 1: via "10.77.2.0": the address of the network 10.77.2.0/24 itself, not of a host`),
	slip("via with a port", `"10.77.2.254"`, `"10.77.2.254:80"`, `route 1: via "10.77.2.254:80": not an IP address`),
	slip("via a name", `"10.77.2.254"`, `"gw"`, `route 1: via "gw": not an IP address`),

	// Services.
	slip("no service", good, good[:strings.Index(good, "[[service]]")], `no service: write [[service]] with a name, a listen and servers`),
	slip("service without a name", atWeb, "", `service 1: name: missing: write name = "web"`),
	slip("two services of one name", `"fast"`, `"web"`, `service 2: name "web": also the name of service 1`),
	slip("no listen", "listen = \"10.77.1.100:80\"\n", "", `service "web": listen: missing: write listen = "10.77.1.100:80"`),
	slip("listen without a port", `"10.77.1.100:80"`, `"10.77.1.100"`, `service "web": listen "10.77.1.100": no port: write "10.77.1.100:80"`),
	slip("listen on port 0", "10.77.1.100:80", "10.77.1.100:0", `service "web": listen "10.77.1.100:0": port 0 is not yet in this version: 1 to 65535`),
	slip("listen on a port too high", "10.77.1.100:80", "10.77.1.100:65536", `service "web": listen "10.77.1.100:65536": port "65536": not a number from 1 to 65535`),
	slip("listen on a range", "10.77.1.100:80", "10.77.1.100:6000-6999", `service "web": listen "10.77.1.100:6000-6999": a range of ports is not yet in this version: name one`),
	slip("listen on a name", `"10.77.1.100:80"`, `"www.example.net:80"`, `service "web": listen "www.example.net:80": not an IP address`),
	slip("a socket twice", "10.77.1.101:80", "10.77.1.100:80", `service "fast": listen "10.77.1.100:80": tcp is also the listen of service "web"`),
	slip("VIP is the network", `"10.77.1.100:80"`, `"10.77.1.0:80"`, `service "web": listen "10.77.1.0:80": the address of the network 10.77.1.0/24 itself, not of a host`),
	slip("VIP that nobody owns", "10.77.1.100:80", "10.77.3.100:80",
		`service "web": listen "10.77.3.100:80": on the network of no interface: add interface = "ext", the one to answer for it`),
	slip("VIP of an unknown interface", atWeb, atWeb+"interface = \"exd\"\n", `service "web": interface "exd": there is none of that name, did you mean "ext"?`),
	slip("VIP of a wrong interface", atWeb, atWeb+"interface = \"int\"\n", `service "web": interface "int": 10.77.1.100 is on the network 10.77.1.0/24 of interface "ext"`),
	{"one VIP on two interfaces", []string{"10.77.1.100:80", "10.77.3.9:80", atWeb, atWeb + "interface = \"ext\"\n", "10.77.1.101:80", "10.77.3.9:81", "method = \"dr\"", "interface = \"int\"\nmethod = \"dr\""},
		[]string{`service "fast": listen "10.77.3.9:81": its VIP is on interface "int", but on interface "ext" for service "web"`}},
	slip("unknown protocol", atWeb, atWeb+"protocol = \"tpc\"\n", `service "web": protocol "tpc": unknown, did you mean "tcp"?: tcp, udp`),
	slip("sctp", atWeb, atWeb+"protocol = \"sctp\"\n", `service "web": protocol "sctp": not yet in this version: tcp, udp`),
	slip("unknown method", atWeb, atWeb+"method = \"masq\"\n", `service "web": method "masq": unknown: nat, dr`),
	slip("tun", atWeb, atWeb+"method = \"tun\"\n", `service "web": method "tun": not yet in this version: nat, dr`),
	slip("fullnat", atWeb, atWeb+"method = \"fullnat\"\n", `service "web": method "fullnat": not yet in this version: nat, dr`),
	slip("unknown scheduler", atWeb, atWeb+"scheduler = \"wcl\"\n", `service "web": scheduler "wcl": unknown, did you mean "wlc"?: wlc, rr, wrr, lc`),
	slip("mh", atWeb, atWeb+"scheduler = \"mh\"\n", `service "web": scheduler "mh": not yet in this version: wlc, rr, wrr, lc`),
	slip("unknown on_no_server", atWeb, atWeb+"on_no_server = \"rejet\"\n", `service "web": on_no_server "rejet": unknown, did you mean "reject"?: reject, drop`),
	slip("VIP is a DIP in one-armed dr", "10.77.1.101:80", "10.77.2.1:80", `service "fast": listen "10.77.2.1:80": the VIP is an address of interface "int", where dr server 1 is: `+
		`the server holds the VIP too and would ignore our ARP and NDP questions, which come from that address: take another VIP`),
	slip("no server", "  [[service.server]]\n  address = \"10.77.2.21\"\n", "", `service "fast": no server: write [[service.server]] with an address`),
	slip("an empty list of servers", "  [[service.server]]\n  address = \"10.77.2.21\"\n", "server = []\n", `service "fast": no server: write [[service.server]] with an address`),

	// Servers.
	slip("server without an address", atEnd, "", `service "fast": server 1: address: missing: write address = "10.77.2.12:8000"`),
	slip("server is a name", "10.77.2.12:8000", "web2:8000", `service "web": server 2: address "web2:8000": not an IP address`),
	slip("server on port 0", "10.77.2.12:8000", "10.77.2.12:0", `service "web": server 2: address "10.77.2.12:0": port 0 is not yet in this version: 1 to 65535`),
	slip("server on a port in words", "10.77.2.12:8000", "10.77.2.12:80", ""),
	slip("one server twice", "10.77.2.12:8000", "10.77.2.11:8000", `service "web": server 2: address "10.77.2.11:8000": also the address of service "web": server 1`),
	slip("server is a VIP", "10.77.2.12:8000", "10.77.1.101:8000", `service "web": server 2: address "10.77.1.101:8000": the VIP of service "fast": packets would come back to the director`),
	slip("server is the director", "10.77.2.12:8000", "10.77.2.1:8000", `service "web": server 2: address "10.77.2.1:8000": the director's own address, on interface "int"`),
	slip("server is the network", `"10.77.2.12:8000"`, `"10.77.2.0:8000"`, `service "web": server 2: address "10.77.2.0:8000": the address of the network 10.77.2.0/24 itself, not of a host`),
	slip("server that nothing reaches", "10.77.2.12:8000", "10.77.3.12:8000", `service "web": server 2: address "10.77.3.12:8000": on the network of no interface, and no route leads there`),
	slip("dr server on another port", `"10.77.2.21"`, `"10.77.2.21:8080"`, `service "fast": server 1: address "10.77.2.21:8080": dr does not change ports: write "10.77.2.21:80" or leave the port out`),
	slip("dr server behind a gateway", `"10.77.2.21"`, `"10.77.9.21"`,
		`service "fast": server 1: address "10.77.9.21:80": behind the gateway 10.77.2.254, but dr reaches only servers on a network of an interface`),
	slip("weight negative", atFirst, atFirst+"weight = -1\n", `service "web": server 1: weight -1: out of range: 0 to 65535`),
	slip("weight too large", atFirst, atFirst+"weight = 65536\n", `service "web": server 1: weight 65536: out of range: 0 to 65535`),
	slip("weight in words", atFirst, atFirst+"weight = \"1\"\n", `service "web": server 1: weight: expected a whole number, got "1"`),
	slip("server's mac is multicast", atFirst, atFirst+"mac = \"01:00:5e:00:00:01\"\n", `service "web": server 1: mac "01:00:5e:00:00:01": a multicast MAC: the first byte must be even`),
	{"server's mac is ours", []string{atExt, atExt + "mac = \"02:00:00:00:aa:01\"\n", atFirst, atFirst + "mac = \"02:00:00:00:aa:01\"\n"},
		[]string{`service "web": server 1: mac "02:00:00:00:aa:01": the director's own, on interface "ext"`}},
	{"mac of a server behind a gateway", []string{"10.77.2.11:8000\"\n", "10.77.9.11:8000\"\nmac = \"02:00:00:00:bb:01\"\n"},
		[]string{`service "web": server 1: mac "02:00:00:00:bb:01": the server is behind the gateway 10.77.2.254, whose MAC is used`}},
	{"one server, two macs", []string{atFirst, atFirst + "mac = \"02:00:00:00:bb:01\"\n", `"10.77.2.21"`, `"10.77.2.11"`},
		[]string{`service "fast": server 1: mac: none, but 02:00:00:00:bb:01 in another place for the same address`}},

	// Limits and timeouts.
	slip("no connections", atEnd, atEnd+"[limits]\nconnections = 0\n", `limits: connections 0: out of range: 1 to 268435456`),
	slip("rates out of range", atEnd, atEnd+"[limits]\nicmp_rate = -1\nhost_rate = 0\n",
		`limits: icmp_rate -1: out of range: 0 to 10000000`, `limits: host_rate 0: out of range: 1 to 10000000`),
	slip("a limit with a unit", atEnd, atEnd+"[limits]\nconnections = \"1M\"\n", `limits: connections: expected a whole number, got "1M"`),
	slip("a timeout of 0", atEnd, atEnd+"[timeouts]\ntcp = 0\n", `timeouts: tcp 0: out of range: 1s to 744h (31 days)`),
	slip("a timeout that would wrap", atEnd, atEnd+"[timeouts]\ntcp = 9223372036854775807\n", `timeouts: tcp 9223372036854775807: out of range: 1s to 744h (31 days)`),
	slip("a timeout too short", atEnd, atEnd+"[timeouts]\ntcpfin = \"500ms\"\n", `timeouts: tcpfin "500ms": out of range: 1s to 744h (31 days)`),
	slip("a timeout without a unit", atEnd, atEnd+"[timeouts]\nudp = \"300\"\n", `timeouts: udp "300": expected seconds, or a duration like "90s", "15m", "1h30m"`),
	slip("a timeout as a boolean", atEnd, atEnd+"[timeouts]\nudp = true\n", `timeouts: udp: expected seconds, or a duration like "90s", "15m", "1h30m", got true`),
}

// ofOneFamily are slips whose family matters; they are run as they stand.
var ofOneFamily = []spoiled{
	slip("the example of the manual", "10.77.2.12:8000", "10.77.2.300:80", `service "web": server 2: address "10.77.2.300:80": not an IP address`),
	slip("broadcast DIP", "10.77.1.1/24", "10.77.1.255/24", `interface "ext": addresses: "10.77.1.255/24": the broadcast address of 10.77.1.0/24`),
	slip("broadcast VIP", "10.77.1.100:80", "10.77.1.255:80", `service "web": listen "10.77.1.255:80": the broadcast address of 10.77.1.0/24`),
	slip("broadcast server", "10.77.2.12:8000", "10.77.2.255:8000", `service "web": server 2: address "10.77.2.255:8000": the broadcast address of 10.77.2.0/24`),
	slip("limited broadcast VIP", "10.77.1.100:80", "255.255.255.255:80", `service "web": listen "255.255.255.255:80": the broadcast address`),
	slip("unspecified VIP", "10.77.1.100:80", "0.0.0.0:80", `service "web": listen "0.0.0.0:80": the unspecified address`),
	slip("unspecified VIP, IPv6", "10.77.1.100:80", "[::]:80", `service "web": listen "[::]:80": the unspecified address`),
	slip("multicast VIP", "10.77.1.100:80", "224.0.0.1:80", `service "web": listen "224.0.0.1:80": a multicast address`),
	slip("multicast VIP, IPv6", "10.77.1.100:80", "[ff02::1]:80", `service "web": listen "[ff02::1]:80": a multicast address`),
	slip("loopback VIP", "10.77.1.100:80", "127.0.0.1:80", `service "web": listen "127.0.0.1:80": a loopback address`),
	slip("loopback server, IPv6", "10.77.2.12:8000", "[::1]:8000", `service "web": server 2: address "[::1]:8000": a loopback address`),
	slip("VIP in 0/8", "10.77.1.100:80", "0.1.2.3:80", `service "web": listen "0.1.2.3:80": an address in 0.0.0.0/8, which is nobody's`),
	slip("IPv4 in IPv6", "10.77.2.12:8000", "[::ffff:10.77.2.12]:8000", `service "web": server 2: address "[::ffff:10.77.2.12]:8000": an IPv4 address in IPv6: write 10.77.2.12`),
	slip("IPv4 in IPv6 as a DIP", "10.77.1.1/24", "::ffff:10.77.1.1/120", `interface "ext": addresses: "::ffff:10.77.1.1/120": an IPv4 address in IPv6: write 10.77.1.1`),
	slip("zone", "10.77.2.12:8000", "[fe80::12%eth0]:8000", `service "web": server 2: address "[fe80::12%eth0]:8000": an address with a zone`),
	slip("IPv6 without brackets", "10.77.1.100:80", "2001:db8:1::100:80", `service "web": listen "2001:db8:1::100:80": no port: write "[2001:db8:1::100:80]:80"`),
	slip("IPv4 in brackets", "10.77.1.100:80", "[10.77.1.100]:80", `service "web": listen "[10.77.1.100]:80": not an IP address`),
	slip("bracket not closed", "10.77.1.100:80", "[2001:db8:1::100", `service "web": listen "[2001:db8:1::100": not an IP address`),
	slip("leading zeros", "10.77.2.12:8000", "10.77.02.12:8000", `service "web": server 2: address "10.77.02.12:8000": not an IP address`),
	slip("route of two families", "10.77.9.0/24", "2001:db8:9::/64", `route 1: via "10.77.2.254": IPv4, but to is IPv6`),
	slip("route to multicast", "10.77.9.0/24", "224.0.0.0/4", `route 1: to "224.0.0.0/4": a multicast network`),
	{"IPv6 server of an IPv4 service", []string{`["10.77.2.1/24"]`, `["10.77.2.1/24", "2001:db8:2::1/64"]`, "10.77.2.12:8000", "[2001:db8:2::12]:8000"},
		[]string{`service "web": server 2: address "[2001:db8:2::12]:8000": IPv6, but the service listens on IPv4, and nat does not change the family`}},
	{"IPv4 server of an IPv6 dr service", []string{`["10.77.1.1/24"]`, `["10.77.1.1/24", "2001:db8:1::1/64"]`, "10.77.1.101:80", "[2001:db8:1::101]:80"},
		[]string{`service "fast": server 1: address "10.77.2.21:80": IPv4, but the service listens on IPv6, and dr does not change the family`}},
	{"mtu too small for an IPv6 address", []string{`["10.77.2.1/24"]`, "[\"10.77.2.1/24\", \"2001:db8:2::1/64\"]\nmtu = 1279"},
		[]string{`interface "int": mtu 1279: at least 1280 where IPv6 is used`}},
	{"mtu too small for an IPv6 VIP", []string{atExt, atExt + "mtu = 1000\n", atEnd, atEnd + `
		[[interface]]
		name = "six"
		tap = "tap6"
		addresses = ["2001:db8:6::1/64"]
		[[service]]
		name = "six"
		listen = "[2001:db8:7::1]:80"
		interface = "ext"
		server = [{address = "2001:db8:6::2"}]`},
		[]string{`interface "ext": mtu 1000: at least 1280 where IPv6 is used`}},
	{"masquerade from link-local addresses", []string{`["10.77.1.1/24"]`, "[\"10.77.1.1/24\", \"fe80::1/64\"]\nmasquerade = true", "[[route]]", "[[route]]\nto = \"::/0\"\nvia = \"fe80::fe\"\n[[route]]"},
		[]string{`route 1: to "::/0": leaves by interface "ext" with masquerade, which has no IPv6 address but link-local ones`}},
}

func TestMistakes(t *testing.T) {
	inBothFamilies(t, func(t *testing.T, form func(string) string) {
		for _, tc := range ofBothFamilies {
			t.Run(tc.name, func(t *testing.T) { checkMistakes(t, tc, form) })
		}
	})
	for _, tc := range ofOneFamily {
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
