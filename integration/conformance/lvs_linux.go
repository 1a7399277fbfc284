package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tapdirector/integration/netlab"
	"tapdirector/integration/uml"
)

// lvs is ip_vs in a guest as a side. One guest serves all cases; each begins with an empty connection table.
type lvs struct {
	ns         *netlab.Namespace
	wires      [numLinks]*wire
	guest      *uml.Guest
	departures chan departure
	c          *testCase
	gone       []string // orders that remove its services
	loaded     []string // files of modules that only it has, in the order of loading
}

// modules that the guest loads.
var modules = []string{"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_sed", "ip_vs_nq", "ip_vs_fo", "ip_vs_ovf", "ip_vs_sh",
	"ip_vs_dh", "ip_vs_mh", "ip_vs_lblc", "ip_vs_lblcr", "sch_ingress", "cls_flower", "act_skbedit"}

// newLVS boots it. Its name tells several apart.
func newLVS(name string) (s *lvs, err error) {
	s = &lvs{departures: make(chan departure, 4096)}
	if s.ns, err = netlab.NewNamespace(name); err != nil {
		return nil, err
	}
	taps := [numLinks]string{"tap0", "tap1"}
	for l, tap := range taps {
		if s.wires[l], err = newWire(s.ns, link(l), tap, s.departures); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if s.guest, err = uml.Boot(s.ns, uml.Options{Name: name, TAPs: taps[:], Modules: modules}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare puts an agent in the place of the guest's shell, and the guest into the plan's world.
func (s *lvs) prepare() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := s.guest.Run("exec " + self + " " + agentName + " <&3 >&3 2>&3"); err != nil {
		return err
	}
	batch, err := s.guest.File(links())
	if err != nil {
		return err
	}
	return s.tell(slices.Concat(sysctls, []string{"sh /usr/sbin/ip -batch " + batch}, linkSysctls,
		[]string{"ipvsadm -A -f 9999", "ipvsadm -A -f 9999 -6"})) // a first service puts ip_vs's hooks in: these stay
}

// tell has the agent do something of which nothing is to be heard.
func (s *lvs) tell(orders []string) error {
	said, err := s.ask(orders...)
	if err == nil && len(said) > 0 {
		err = fmt.Errorf("guest said: %s", strings.Join(said, "; "))
	}
	return err
}

// ask has the agent do something and returns what it says.
func (s *lvs) ask(orders ...string) ([]string, error) {
	line, err := json.Marshal(orders)
	if err != nil {
		return nil, err
	}
	said, err := s.guest.Run(string(line))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w; its console: %s", err, s.guest.Console())
	}
	return said, err
}

const sys = "/proc/sys/net/"

// sysctls make the guest a router, without limits on the errors it sends, that says nothing unasked, and forgets no fragment while we run: it would
// say so in the middle of another case.
var sysctls = []string{
	"write " + sys + "ipv4/ip_forward 1", "write " + sys + "ipv6/conf/all/forwarding 1",
	"write " + sys + "ipv4/icmp_ratelimit 0", "write " + sys + "ipv6/icmp/ratelimit 0",
	"write " + sys + "ipv4/icmp_msgs_per_sec 1000000", "write " + sys + "ipv4/icmp_msgs_burst 1000000",
	"write " + sys + "ipv4/conf/all/rp_filter 0", "write " + sys + "ipv4/conf/default/rp_filter 0",
	"write " + sys + "ipv4/conf/all/send_redirects 0", "write " + sys + "ipv4/conf/default/send_redirects 0",
	"write " + sys + "ipv6/conf/default/accept_dad 0", "write " + sys + "ipv6/conf/default/router_solicitations 0", "write " + sys + "ipv6/conf/default/accept_ra 0",
	"write " + sys + "ipv4/ipfrag_time 3600", "write " + sys + "ipv6/ip6frag_time 3600", "write " + sys + "netfilter/nf_conntrack_frag6_timeout 3600",
}

// linkSysctls are those of the links.
var linkSysctls = []string{
	"write " + sys + "ipv4/conf/vec0/rp_filter 0", "write " + sys + "ipv4/conf/vec1/rp_filter 0",
	"write " + sys + "ipv4/conf/vec0/send_redirects 0", "write " + sys + "ipv4/conf/vec1/send_redirects 0",
	"write " + sys + "ipv6/conf/vec0/accept_dad 0", "write " + sys + "ipv6/conf/vec1/accept_dad 0",
	"write " + sys + "ipv6/conf/vec0/router_solicitations 0", "write " + sys + "ipv6/conf/vec1/router_solicitations 0",
}

// links is what ip is told: the addresses, routes and neighbours of the plan.
func links() string {
	var b strings.Builder
	b.WriteString("link set lo up\n")
	for l := range link(numLinks) {
		fmt.Fprintf(&b, "link set vec%d address %v\nlink set vec%[1]d up\n", l, net.HardwareAddr(ourMAC[l][:]))
		for _, family := range []int{4, 6} {
			a, _ := hostNamed([...]string{"dip", "indip"}[l], family)
			fmt.Fprintf(&b, "addr add %v/%d dev vec%d%s\n", a.addr, map[int]int{4: 24, 6: 64}[family], l, nodad(family))
		}
	}
	for _, family := range []int{4, 6} {
		for i := range 9 {
			a, _ := hostNamed("vip"+number(i+1), family)
			fmt.Fprintf(&b, "addr add %v/%d dev vec0%s\n", a.addr, a.addr.BitLen(), nodad(family))
		}
		gw, _ := hostNamed("gw", family)
		fmt.Fprintf(&b, "route add %s via %v\n", map[int]string{4: "0.0.0.0/0", 6: "::/0"}[family], gw.addr)
		neighbours(&b, family)
	}
	return b.String()
}

func nodad(family int) string {
	if family == 6 {
		return " nodad"
	}
	return ""
}

// neighbours fixes the MACs of all hosts: whom a director asks, and when, is not compared.
func neighbours(b *strings.Builder, family int) {
	for _, k := range kinds {
		n := map[string]int{"client": 40, "server": 12, "gw": 1, "router": 1, "probe": 1, "inprobe": 1}[k.name]
		for i := 1; i <= n; i++ {
			h, _ := hostNamed(k.name+number(i), family)
			fmt.Fprintf(b, "neigh replace %v lladdr %v dev vec%d nud permanent\n", h.addr, net.HardwareAddr(h.mac[:]), h.link)
		}
	}
}

func (s *lvs) Departures() <-chan departure { return s.departures }

func (s *lvs) Busy() bool { return false }

func (s *lvs) Send(l link, b []byte) error { return s.wires[l].send(b) }

const expireNodest = sys + "ipv4/vs/expire_nodest_conn"

// Begin removes the last case's services and, while no server is known, all connections: expire_nodest_conn ends those without one.
func (s *lvs) Begin(c *testCase) error {
	s.c = c
	orders := append([]string{"undo", "write " + expireNodest + " 1"}, s.gone...)
	orders = append(orders, "emptied", "write "+expireNodest+" 0", "write "+sys+"ipv4/route/flush 1", "write "+sys+"ipv6/route/flush 1") // paths' MTUs
	s.gone = nil
	swap, err := s.swapModules(c.modules)
	if err != nil {
		return err
	}
	return s.tell(slices.Concat(orders, swap, s.set(c)))
}

// swapModules returns the orders that put a case's modules, and what they need, in the place of the last case's: modules that hook into more than
// their services must not be there for cases that do not ask for them. No connection may use them any more.
func (s *lvs) swapModules(names []string) (orders []string, err error) {
	for _, file := range slices.Backward(s.loaded) {
		orders = append(orders, "sh rmmod "+file)
	}
	s.loaded = nil
	if names == nil {
		return orders, nil
	}
	always, err := uml.ModuleFiles(modules)
	if err != nil {
		return nil, err
	}
	files, err := uml.ModuleFiles(names)
	for _, file := range files {
		if !slices.Contains(always, file) {
			orders, s.loaded = append(orders, "sh insmod "+file), append(s.loaded, file)
		}
	}
	return orders, err
}

// set returns the orders that give the guest a case's services and settings, and notes those that take the services back.
func (s *lvs) set(c *testCase) (orders []string) {
	for _, v := range c.services {
		orders = append(orders, "ipvsadm -A "+v.which()+" "+v.how())
		for _, r := range slices.Backward(v.servers) { // its list is newest first
			orders = append(orders, "ipvsadm -a "+v.which()+" "+v.serverArgs(r))
		}
		s.gone = append(s.gone, "ipvsadm -D "+v.which())
	}
	if rules := c.marks(); rules != nil {
		orders = append(orders, "tc "+strings.Join(append([]string{"qdisc add dev vec0 ingress"}, rules...), "\n"))
		s.gone = append(s.gone, "tc qdisc del dev vec0 ingress")
	}
	for _, kv := range c.sysctls {
		orders = append(orders, "set /proc/sys/"+kv[0]+" "+kv[1])
	}
	if c.timeouts != [3]int{} {
		orders = append(orders, fmt.Sprintf("ipvsadm --set %d %d %d", c.timeouts[0], c.timeouts[1], c.timeouts[2]))
		s.gone = append(s.gone, "ipvsadm --set 900 120 300")
	}
	for l, mtu := range c.mtu {
		if mtu > 0 {
			orders = append(orders, fmt.Sprintf("set /sys/class/net/vec%d/mtu %d", l, mtu))
		}
	}
	return orders
}

func (s *lvs) Change(verb string, r realServer, _ []realServer) error {
	v := s.c.services[0]
	if verb == "del" {
		return s.tell([]string{"expired", "ipvsadm -d " + v.which() + " -r " + r.end().String()})
	}
	option := map[string]string{"add": "-a ", "edit": "-e ", "weight": "-e "}[verb]
	return s.tell([]string{"expired", "ipvsadm " + option + v.which() + " " + v.serverArgs(r)})
}

// deadPort is that of templates whose server is not to get more (expire_quiescent_template).
const deadPort = 65535

// Conns reads /proc/net/ip_vs_conn: protocol, three ends of address and port in hexadecimal, state, seconds left.
func (s *lvs) Conns() (list []connection, err error) {
	lines, err := s.ask("expired", "cat "+connFile)
	if err != nil || len(lines) == 0 {
		return nil, err
	}
	for _, l := range lines[1:] {
		w := strings.Fields(l)
		if len(w) < 9 {
			return nil, fmt.Errorf("connection %q", l)
		}
		left, err := strconv.Atoi(w[connExpires])
		if err != nil {
			return nil, fmt.Errorf("connection %q: %w", l, err)
		}
		// The kernel cuts to whole seconds.
		c := connection{proto: w[0], state: w[7], expires: time.Duration(left)*time.Second + 500*time.Millisecond}
		for i, to := range []*netip.AddrPort{&c.client, &c.virtual, &c.real} {
			if *to, err = hexEnd(w[1+2*i], w[2+2*i]); err != nil {
				return nil, fmt.Errorf("connection %q: %w", l, err)
			}
		}
		if c.client.Port() == 0 && c.real.Port() == deadPort {
			continue // a template that is no longer found and waits for its time
		}
		list = append(list, c)
	}
	return list, nil
}

// hexEnd reads "0A4D0101" or "2001:...", and "0050".
func hexEnd(addr, port string) (netip.AddrPort, error) {
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if strings.Contains(addr, ":") {
		a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		return netip.AddrPortFrom(a, uint16(n)), err
	}
	b, err := hex.DecodeString(addr)
	a, ok := netip.AddrFromSlice(b)
	if err == nil && !ok {
		err = errors.New("no address")
	}
	return netip.AddrPortFrom(a, uint16(n)), err
}

// Counts reads /proc/net/ip_vs: a line for each server, "-> ADDRESS:PORT FORWARD WEIGHT ACTIVE INACTIVE", its ends in hexadecimal.
func (s *lvs) Counts() (lines []string, err error) {
	said, err := s.ask("expired", "cat /proc/net/ip_vs")
	if err != nil {
		return nil, err
	}
	for _, l := range said {
		w := strings.Fields(l)
		if len(w) != 6 || w[0] != "->" || w[1] == "RemoteAddress:Port" {
			continue
		}
		colon := strings.LastIndex(w[1], ":")
		ap, err := hexEnd(w[1][:colon], w[1][colon+1:])
		if err != nil {
			return nil, fmt.Errorf("server %q: %w", l, err)
		}
		lines = append(lines, fmt.Sprintf("%s weight %s active %s inactive %s", named(ap), w[3], w[4], w[5]))
	}
	slices.Sort(lines)
	return lines, nil
}

// Close powers the guest off; with it go the namespace and the TAPs.
func (s *lvs) Close() (err error) {
	if s.guest != nil {
		err = s.guest.Close()
	}
	for _, w := range s.wires {
		if w != nil {
			w.close()
		}
	}
	if s.ns != nil {
		err = errors.Join(err, s.ns.Close())
	}
	return err
}
