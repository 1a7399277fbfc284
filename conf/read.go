package conf

import (
	"net/netip"
	"strings"
	"time"
)

// Bounds of single values; reference.toml explains each to the reader.
const (
	maxInterfaces  = 64
	maxQueues      = 16
	maxVLAN        = 4094 // IEEE 802.1Q: 4095 is reserved
	minMTU         = 576  // bytes of L3: what every IPv4 host must take (RFC 791)
	minMTU6        = 1280 // bytes of L3: IPv6's least (RFC 8200 section 5)
	maxMTU         = 65535
	maxWeight      = 65535
	maxConnections = 1 << 28 // 128 bytes each: 32 GiB
	maxRate        = 10_000_000
	maxFragments   = 1 << 20
	maxTemplates   = 1 << 26 // 64 bytes each: 4 GiB
	maxFTPSessions = 1 << 20 // 1.5 KiB each
	maxThreshold   = 1<<31 - 1
)

// The words of enumerations, defaults first.
var (
	drivers    = words{"auto", "linux", "water"}
	replies    = words{"last-hop", "route"}
	protocols  = words{"tcp", "udp", "sctp"}
	methods    = words{"nat", "dr", "tun", "fullnat"}
	idles      = words{"expire", "reset"}
	removals   = words{"expire", "keep", "reset"}
	onNoServer = words{"reject", "drop"}
	schedulers = words{"wlc", "rr", "wrr", "lc", "sed", "nq", "fo", "ovf", "twos", "sh", "dh", "mh", "lblc", "lblcr", "quic"}
)

// read is stage 2: the whole file, key by key.
func (d *draft) read(tree map[string]any) {
	root := &section{raw: tree, out: d.mistakes}
	for _, s := range root.many("interface", "no interface: write [[interface]] with a name and a tap") {
		d.readInterface(s)
	}
	for _, s := range root.many("route", "") {
		d.readRoute(s)
	}
	for _, s := range root.many("service", "no service: write [[service]] with a name, a listen and servers") {
		d.readService(s)
	}
	d.readLimits(root.one("limits", rankLimits))
	d.readTimeouts(root.one("timeouts", rankTimeouts))
	root.finish()
	d.vague = d.vague || len(d.c.Interfaces) == 0
}

// readInterface reads one [[interface]]. An interface with mistakes stays in the list, so that the places of the others are those of the
// file.
func (d *draft) readInterface(s *section) {
	defer s.finish()
	i := Interface{
		Name:      s.label("ext"),
		Tap:       s.text("tap"),
		Device:    s.text("device"),
		VLAN:      s.whole("vlan", span{0, 0, maxVLAN}),
		Driver:    s.word("driver", drivers),
		Bridge:    s.text("bridge"),
		MAC:       readMAC(s),
		Addresses: d.readAddresses(s),
		Queues:    s.whole("queues", span{0, 0, maxQueues}),
		MTU:       readMTU(s),
		Reply:     s.word("reply", replies),
	}
	d.forward = append(d.forward, s.yes("forward"))
	if masquerade := s.yes("masquerade"); masquerade != nil {
		i.Masquerade = *masquerade
	}
	attachment(s, &i)
	d.c.Interfaces = append(d.c.Interfaces, i)
}

// attachment judges the keys that say what an interface is attached to.
func attachment(s *section, i *Interface) {
	switch {
	case s.has("tap") && s.has("device"):
		s.add(`tap and device: one of the two: a TAP by name, or a macvtap's character device`)
	case !s.has("tap") && !s.has("device"):
		s.add(`tap: missing: write tap = "tap0", or device = "/dev/tap7" for a macvtap`)
	case i.Device != "" && i.Bridge != "":
		s.add("bridge %q: only for a tap: a macvtap is on its NIC already", i.Bridge)
	case i.Device != "" && i.Driver == "water":
		s.add(`driver "water": opens no device: leave it out, or write "linux"`)
	case i.Bridge != "" && i.Bridge == i.Tap:
		s.add("bridge %q: is the tap itself", i.Bridge)
	}
	if i.Driver == "water" && i.Queues > 1 {
		s.add(`queues %d: driver "water" has one queue`, i.Queues)
	}
	if i.Device != "" && (!strings.HasPrefix(i.Device, "/") || strings.ContainsRune(i.Device, 0)) {
		s.add(`device %q: not an absolute path, like "/dev/tap7"`, i.Device)
	}
	for _, name := range []struct{ key, text string }{{"tap", i.Tap}, {"bridge", i.Bridge}} {
		if wrong := deviceName(name.text); wrong != "" {
			s.add("%s %q: %s", name.key, name.text, wrong)
		}
	}
}

// readAddresses reads the DIPs. Each that cannot be read may have been the network of any server: from then on nothing is unreachable.
func (d *draft) readAddresses(s *section) (addresses []netip.Prefix) {
	if _, isArray := s.raw["addresses"].([]any); !isArray && s.raw["addresses"] != nil {
		d.vague = true
	}
	for _, text := range s.list("addresses") {
		p, wrong := parseDIP(text)
		if wrong != "" {
			s.add("addresses: %q: %s", text, wrong)
			d.vague = true
			continue
		}
		addresses = append(addresses, p)
	}
	return addresses
}

// readMAC reads an optional MAC; zero when absent or wrong.
func readMAC(s *section) (mac [6]byte) {
	text := s.text("mac")
	if text == "" {
		return mac
	}
	mac, wrong := parseMAC(text)
	if wrong != "" {
		s.add("mac %q: %s", text, wrong)
	}
	return mac
}

// readMTU allows 0, the kernel's, besides the range.
func readMTU(s *section) int {
	mtu := s.whole("mtu", span{0, 0, maxMTU})
	if mtu != 0 && mtu < minMTU {
		s.add("mtu %d: out of range: %d to %d, or 0 for the kernel's", mtu, minMTU, maxMTU)
		return 0
	}
	return mtu
}

// readRoute reads one [[route]]. Servers may be behind it, so one that cannot be read makes the draft vague as well.
func (d *draft) readRoute(s *section) {
	defer s.finish()
	to, okTo := readValue(s, "to", "0.0.0.0/0", parseDestination)
	via, okVia := readValue(s, "via", "10.77.1.254", parseHost)
	switch {
	case !okTo || !okVia:
		d.vague = true
	case to.Addr().Is4() != via.Is4():
		s.add("via %q: %s, but to is %s", via, family(via), family(to.Addr()))
		d.vague = true
	}
	d.c.Routes = append(d.c.Routes, Route{To: to, Via: via, Interface: -1})
}

// readValue reads a required key through one of value.go's functions.
func readValue[T any](s *section, key, example string, parse func(string) (T, string)) (v T, ok bool) {
	text, ok := s.required(key, example)
	if !ok {
		return v, false
	}
	v, wrong := parse(text)
	if wrong != "" {
		s.add("%s %q: %s", key, text, wrong)
		var none T
		return none, false
	}
	return v, true
}

// family names the family of a for people.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// readService reads one [[service]] with its servers. Its method decides only whether keys of tunnels may be there: what else methods
// need is for the cross checks.
func (d *draft) readService(s *section) {
	defer s.finish()
	v := Service{
		Name:       s.label("web"),
		Listen:     readListen(s),
		Protocol:   s.word("protocol", protocols),
		Method:     s.word("method", methods),
		Scheduler:  s.word("scheduler", schedulers),
		OnNoServer: s.word("on_no_server", onNoServer),
	}
	d.readFullNAT(s, &v)
	d.owners = append(d.owners, s.text("interface"))
	readHashing(s, &v)
	readState(s, &v)
	readFTP(s, &v)
	tunnel := readTunnelService(s, &v)
	readDefence(s, &v)
	servers := s.many("server", "no server: write [[service.server]] with an address")
	for _, server := range servers {
		v.Servers = append(v.Servers, readServer(server, &v, tunnel))
	}
	checkTableSize(s, &v)
	readQUICIDs(s, servers, &v)
	checkTunnelKeys(s, &v, tunnel)
	d.c.Services = append(d.c.Services, v)
}

// readListen reads VIP:port, or several of them. Those that are wrong are left out.
func readListen(s *section) (all []Listen) {
	for _, text := range s.oneOrMore("listen", "10.77.1.100:80") {
		l, wrong := parseListen(text)
		if wrong != "" {
			s.add("listen %q: %s", text, wrong)
			continue
		}
		all = append(all, l)
	}
	return all
}

// readServer reads one [[service.server]] of v, whose port, if it has only one, and tunnel are the default.
func readServer(s *section, v *Service, tunnel tunnelKeys) Server {
	defer s.finish()
	address, _ := readValue(s, "address", "10.77.2.12:8000", parseEndpoint)
	if address.IsValid() && address.Port() == 0 {
		address = netip.AddrPortFrom(address.Addr(), v.port())
	}
	server := Server{
		Address: address,
		Weight:  s.whole("weight", span{1, 0, maxWeight}),
		MAC:     readMAC(s),
		Iface:   -1,
		Tunnel:  readTunnel(s, v, tunnel, address),
	}
	readThresholds(s, &server)
	s.text("quic_id") // judged by readQUICIDs, when the scheduler and the other servers are known
	return server
}

// readLimits reads [limits]. The default of connections is a bound of memory: 2^20 entries of 128 bytes are 128 MiB. Those of the rates
// bound what a flood can take: 1000 ICMP errors cost next to nothing, 20 000 frames to the host some 25 %.
func (d *draft) readLimits(s *section) {
	defer s.finish()
	d.c.Limits = Limits{
		Connections: s.whole("connections", span{1 << 20, 1, maxConnections}),
		Fragments:   s.whole("fragments", span{1024, 0, maxFragments}),
		EarlyDrop:   s.yesUnless("early_drop"),
		ICMPRate:    s.whole("icmp_rate", span{1000, 0, maxRate}),
		HostRate:    s.whole("host_rate", span{20000, 1, maxRate}),
		Templates:   s.whole("templates", span{1 << 18, 1, maxTemplates}),
		FTPSessions: s.whole("ftp_sessions", span{1 << 16, 1, maxFTPSessions}),
	}
}

// readTimeouts reads [timeouts]; the defaults are IPVS's, that of ICMP is conntrack's. Of fragments: Linux reassembles for 30 s, a forwarder only has to
// outlast reordering.
func (d *draft) readTimeouts(s *section) {
	defer s.finish()
	d.c.Timeouts = Timeouts{
		TCP:          s.duration("tcp", 900*time.Second),
		TCPFin:       s.duration("tcpfin", 120*time.Second),
		TCPNone:      s.duration("tcp_none", 2*time.Second),
		TCPSynSent:   s.duration("tcp_syn_sent", 120*time.Second),
		TCPSynRecv:   s.duration("tcp_syn_recv", 60*time.Second),
		TCPTimeWait:  s.duration("tcp_time_wait", 120*time.Second),
		TCPClose:     s.duration("tcp_close", 10*time.Second),
		TCPCloseWait: s.duration("tcp_close_wait", 60*time.Second),
		TCPLastAck:   s.duration("tcp_last_ack", 30*time.Second),
		TCPListen:    s.duration("tcp_listen", 120*time.Second),
		TCPSynAck:    s.duration("tcp_synack", 120*time.Second),
		SCTPTimeouts: s.readSCTPTimeouts(),
		UDP:          s.duration("udp", 300*time.Second),
		ICMP:         s.duration("icmp", 30*time.Second),
		Fragment:     s.duration("fragment", 5*time.Second),
	}
}
