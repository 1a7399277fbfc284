package uml

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tapdirector/integration"
	"tapdirector/integration/netlab"
)

// A LAN whose ends are all a guest's
//
// Where the host's kernel does not have what both ends speak (SCTP, tags), client and servers are network namespaces of one guest, each with TAPs of its own on the LANs' bridges:
//
//	client   ext .2
//	server   int .11, its gateway is the director: nat, fullnat
//	direct   int .12 and ext .12, with the VIPs on lo: dr, tun
//
// With tags there is one bridge, a trunk, and each end has a VLAN device: 100 for ext, 200 for int. Each method and family has a VIP of its own.

// closedLab is such a lab.
type closedLab struct {
	*lab
	guest  *Guest
	tagged bool
	cases  []closedCase
}

// leg is a TAP of the guest.
type leg struct {
	ns, lan string
	host    int
}

var legs = []leg{{"client", integration.Ext, 2}, {"server", integration.Int, 11}, {"direct", integration.Int, 12}, {"direct", integration.Ext, 12}}

// vlans are the tags of the LANs.
var vlans = map[string]int{integration.Ext: 100, integration.Int: 200}

// closedCase is a virtual service.
type closedCase struct {
	method string
	family int
	vip    netip.Addr
}

func (c closedCase) String() string { return fmt.Sprintf("%s/ipv%d", c.method, c.family) }

// direct reports whether the server answers the client itself.
func (c closedCase) direct() bool { return c.method == "dr" || c.method == "tun" }

// server is the real server and where it listens.
func (c closedCase) server() (ns string, rip netip.Addr, listen netip.AddrPort) {
	if c.direct() {
		return "direct", host(c.family, integration.Int, 12), netip.AddrPortFrom(c.vip, 80)
	}
	rip = host(c.family, integration.Int, 11)
	return "server", rip, netip.AddrPortFrom(rip, 8000)
}

// peer is whom the server sees.
func (c closedCase) peer() netip.Addr {
	if c.method == "fullnat" {
		return host(c.family, integration.Int, 1)
	}
	return host(c.family, integration.Ext, 2)
}

func closedCases() (cases []closedCase) {
	for _, method := range integration.Methods {
		for _, family := range []int{4, 6} {
			cases = append(cases, closedCase{method, family, host(family, integration.Ext, 101+len(cases))})
		}
	}
	return cases
}

// newClosedLab builds the LANs, the guest and its ends, and serves and balances the protocols.
func newClosedLab(t *testing.T, tagged bool, modules []string, protocols ...string) *closedLab {
	t.Helper()
	w, err := netlab.NewBare(integration.Spec{Method: "nat"}, func(p *integration.Plan) {
		p.Servers, p.Client.Legs, p.Client.Gateway = nil, nil, netip.Addr{} // the client is another
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &closedLab{lab: &lab{World: w, guests: map[string]*Guest{}}, tagged: tagged, cases: closedCases()}
	t.Cleanup(func() { l.close(t) })
	var lans []string
	for _, at := range legs {
		if tagged {
			at.lan = integration.Ext // the trunk
		}
		lans = append(lans, at.lan)
	}
	l.guest = l.boot(t, "ends", append(modules, "ipip", "ip6_tunnel"), lans...)
	l.setUpEnds(t)
	for _, protocol := range protocols {
		l.serve(t, protocol)
	}
	if err := l.StartDirector(netlab.Options{Config: l.config(protocols)}); err != nil {
		t.Fatal(err)
	}
	return l
}

// device is the name of a leg in its namespace.
func (l *closedLab) device(i int) string {
	if l.tagged {
		return fmt.Sprintf("vec%d.%d", i, vlans[legs[i].lan])
	}
	return fmt.Sprintf("vec%d", i)
}

// setUpEnds makes the namespaces.
func (l *closedLab) setUpEnds(t *testing.T) {
	t.Helper()
	// IPv4's settings are inherited by namespaces.
	do(t, l.guest, "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce")
	var make []string
	within := map[string][]string{}
	for i, at := range legs {
		if within[at.ns] == nil {
			make = append(make, "netns add "+at.ns)
			within[at.ns] = append(within[at.ns], "link set lo up")
		}
		if l.tagged {
			make = append(make, fmt.Sprintf("link add link vec%d name %s type vlan id %d", i, l.device(i), vlans[at.lan]))
		}
		make = append(make, fmt.Sprintf("link set %s netns %s", l.device(i), at.ns))
		within[at.ns] = append(within[at.ns], fmt.Sprintf("link set %s up", l.device(i)),
			fmt.Sprintf("addr add %v/24 dev %s", addr4(at.lan, at.host), l.device(i)), fmt.Sprintf("addr add %v/64 dev %s nodad", addr6(at.lan, at.host), l.device(i)))
	}
	for _, family := range []int{4, 6} {
		within["server"] = append(within["server"], fmt.Sprintf("route add default via %v", host(family, integration.Int, 1)))
	}
	within["direct"] = append(within["direct"], "link set tunl0 up", "link set ip6tnl0 up")
	for _, c := range l.cases {
		if c.direct() {
			within["direct"] = append(within["direct"], fmt.Sprintf("addr add %v/%d dev lo", c.vip, c.vip.BitLen()))
		}
	}
	batch(t, l.guest, make...)
	for ns, lines := range within {
		batchIn(t, l.guest, ns, lines...)
	}
}

// serve serves a protocol on both servers.
func (l *closedLab) serve(t *testing.T, protocol string) {
	t.Helper()
	at := map[string]map[string]bool{"server": {}, "direct": {}}
	for _, c := range l.cases {
		ns, _, listen := c.server()
		at[ns][listen.String()] = true
	}
	for ns, all := range at {
		var list []string
		for a := range all {
			list = append(list, a)
		}
		serveIn(t, l.guest, ns, ns, protocol, list...)
	}
}

// config is the director's lb.toml.
func (l *closedLab) config(protocols []string) string {
	var b strings.Builder
	b.WriteString(interfaces)
	if l.tagged {
		b.Reset()
		for i, lan := range []string{integration.Ext, integration.Int} {
			fmt.Fprintf(&b, "[[interface]]\nname = %q\ntap = \"tap0\"\nbridge = \"br-ext\"\nmac = \"02:00:00:00:aa:%02d\"\nvlan = %d\naddresses = [\"%v/24\", \"%v/64\"]\n",
				lan, i+1, vlans[lan], addr4(lan, 1), addr6(lan, 1))
		}
	}
	for _, c := range l.cases {
		_, rip, listen := c.server()
		for _, protocol := range protocols {
			fmt.Fprintf(&b, "[[service]]\nname = \"%v-%s\"\nlisten = %q\nprotocol = %q\nmethod = %q\n  [[service.server]]\n  address = %q\n",
				c, protocol, netip.AddrPortFrom(c.vip, 80), protocol, c.method, netip.AddrPortFrom(rip, listen.Port()))
		}
	}
	return b.String()
}

// talk has the client talk to a VIP, by a protocol and so many bytes each time, and checks who answered, and whom it saw.
func (l *closedLab) talk(t *testing.T, c closedCase, jobs ...string) {
	t.Helper()
	line := "ip netns exec client " + endsPath + " talk"
	for _, job := range jobs {
		protocol, bytes, _ := strings.Cut(job, " ")
		line += fmt.Sprintf(" %s %v %s", protocol, netip.AddrPortFrom(c.vip, 80), bytes)
	}
	said := do(t, l.guest, line)
	if len(said) != len(jobs) {
		t.Errorf("%d answers, want %d: %q", len(said), len(jobs), said)
	}
	ns, _, _ := c.server()
	for _, line := range said {
		name, remote, _ := strings.Cut(line, " ")
		if ap, err := netip.ParseAddrPort(remote); err != nil || name != ns || ap.Addr() != c.peer() {
			t.Errorf("%q, want %s and %v", line, ns, c.peer())
		}
	}
}

// checkFaults reports what the kernels of the ends counted against packets.
func (l *closedLab) checkFaults(t *testing.T) {
	t.Helper()
	for _, ns := range []string{"client", "server", "direct"} {
		snmp := strings.Join(do(t, l.guest, "ip netns exec "+ns+" cat /proc/net/snmp"), "\n")
		snmp6 := strings.Join(do(t, l.guest, "ip netns exec "+ns+" cat /proc/net/snmp6"), "\n")
		if broken := netlab.ErrorsIn(snmp, snmp6); len(broken) > 0 {
			t.Errorf("%s: %v", ns, broken)
		}
	}
}

// TestTagged: both ends are kernels that tag, on a trunk with the director's one TAP; every method over TCP and UDP. On the host's kernel the tests of trunks have a switch
// of ours in the place of 802.1Q.
func TestTagged(t *testing.T) {
	needGuests(t)
	l := newClosedLab(t, true, []string{"8021q"}, "tcp", "udp")
	for _, c := range l.cases {
		t.Run(c.String(), func(t *testing.T) {
			l.talk(t, c, "tcp 1000000", "udp 1000", "udp 60000")
		})
	}
	l.checkFaults(t)
	l.checkAccounts(t)
}
