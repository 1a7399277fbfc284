package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
	undo       []string // commands that take back what the last case set
	gone       []string // lines for ipvsadm -R that remove its services
}

// modules that the guest loads.
var modules = []string{"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_sed", "ip_vs_nq", "ip_vs_fo", "ip_vs_ovf", "ip_vs_sh",
	"ip_vs_dh", "ip_vs_mh", "ip_vs_lblc", "ip_vs_lblcr"}

// newLVS boots it.
func newLVS() (s *lvs, err error) {
	s = &lvs{departures: make(chan departure, 4096)}
	if s.ns, err = netlab.NewNamespace("lvs"); err != nil {
		return nil, err
	}
	taps := [numLinks]string{"tap0", "tap1"}
	for l, name := range taps {
		if s.wires[l], err = newWire(s.ns, link(l), name, s.departures); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if s.guest, err = uml.Boot(s.ns, uml.Options{Name: "lvs", TAPs: taps[:], Modules: modules}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for _, line := range world() {
		if _, err := s.guest.Run(line); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// world are the commands that give a guest the addresses, routes and neighbours of the plan. Sysctls: a router, without limits on the errors
// it sends, that says nothing unasked.
func world() (lines []string) {
	lines = append(lines, `ip() { /usr/sbin/ip "$@"; }`, // not the one of busybox, which knows less
		"ip link set lo up", "cd /proc/sys/net",
		"for f in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > $f; done",
		"for f in ipv4/icmp_ratelimit ipv6/icmp/ratelimit ipv4/conf/*/rp_filter ipv4/conf/*/send_redirects ipv6/conf/*/accept_dad "+
			"ipv6/conf/*/router_solicitations ipv6/conf/*/accept_ra; do echo 0 > $f; done",
		"echo 1000000 > ipv4/icmp_msgs_per_sec; echo 1000000 > ipv4/icmp_msgs_burst")
	for l := range link(numLinks) {
		dev := fmt.Sprintf("vec%d", l)
		lines = append(lines, fmt.Sprintf("ip link set %s address %v; ip link set %s up", dev, net.HardwareAddr(ourMAC[l][:]), dev))
		for _, family := range []int{4, 6} {
			a, _ := hostNamed([...]string{"dip", "indip"}[l], family)
			lines = append(lines, fmt.Sprintf("ip addr add %v/%d dev %s%s", a.addr, map[int]int{4: 24, 6: 64}[family], dev, nodad(family)))
		}
	}
	for _, family := range []int{4, 6} {
		for _, vip := range []string{"vip", "vip2"} {
			a, _ := hostNamed(vip, family)
			lines = append(lines, fmt.Sprintf("ip addr add %v/%d dev vec0%s", a.addr, a.addr.BitLen(), nodad(family)))
		}
		gw, _ := hostNamed("gw", family)
		lines = append(lines, fmt.Sprintf("ip -%d route add default via %v", family, gw.addr), neighbours(family))
	}
	return append(lines,
		"ipvsadm -A -f 9999; ipvsadm -A -f 9999 -6", // a first service puts ip_vs's hooks in: these stay
		"rm -f /run/none; sleep 0")
}

func nodad(family int) string {
	if family == 6 {
		return " nodad"
	}
	return ""
}

// neighbours fixes the MACs of all hosts: whom a director asks, and when, is not compared.
func neighbours(family int) string {
	var b strings.Builder
	for _, k := range kinds {
		n := map[string]int{"client": 40, "server": 12, "gw": 1, "router": 1, "probe": 1, "inprobe": 1}[k.name]
		for i := 1; i <= n; i++ {
			h, _ := hostNamed(k.name+number(i), family)
			fmt.Fprintf(&b, "neigh replace %v lladdr %v dev vec%d nud permanent\\n", h.addr, net.HardwareAddr(h.mac[:]), h.link)
		}
	}
	return "printf " + quote(b.String()) + " > /run/neighbours; ip -batch /run/neighbours"
}

func (s *lvs) Departures() <-chan departure { return s.departures }

func (s *lvs) Busy() bool { return false }

func (s *lvs) Send(l link, b []byte) error { return s.wires[l].send(b) }

// Begin removes the last case's services and, while no server is known, all connections: expire_nodest_conn ends those without one.
func (s *lvs) Begin(c *testCase) error {
	s.c = c
	clean := "cd /proc/sys/net; echo 1 > ipv4/vs/expire_nodest_conn; "
	if len(s.gone) > 0 {
		if err := s.restore(&clean, s.gone); err != nil {
			return err
		}
	}
	clean += "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do n=0; while read -r l; do n=$((n+1)); done < /proc/net/ip_vs_conn; " +
		"[ $n -le 1 ] && break; sleep 0.05; done; echo 0 > ipv4/vs/expire_nodest_conn; " + strings.Join(s.undo, "")
	s.gone, s.undo = nil, nil
	more, err := s.set(c)
	if err != nil {
		return err
	}
	said, err := s.guest.Run(clean + more)
	if err == nil && len(said) > 0 {
		err = fmt.Errorf("ipvsadm said: %s", strings.Join(said, "; "))
	}
	return err
}

// restore adds a run of ipvsadm -R to a line of shell. Programs are dear in a guest, so there is one for many commands.
func (s *lvs) restore(line *string, commands []string) error {
	path, err := s.guest.File(strings.Join(commands, "\n") + "\n")
	*line += "ipvsadm -R < " + path + "; "
	return err
}

// set returns the line of shell that gives the guest a case's services and settings.
func (s *lvs) set(c *testCase) (line string, err error) {
	var add []string
	for _, v := range c.services {
		listen, _ := endpoint(v.listen, c.family)
		who := map[string]string{"tcp": "-t ", "udp": "-u "}[v.proto] + listen.String()
		flags := ""
		if len(v.flags) > 0 {
			flags = " -b " + strings.Join(v.flags, ",")
		}
		add = append(add, fmt.Sprintf("-A %s -s %s%s", who, v.scheduler, flags))
		for _, r := range slices.Backward(v.servers) { // its list is newest first
			add = append(add, fmt.Sprintf("-a %s %s", who, serverArgs(v, r, c.family)))
		}
		s.gone = append(s.gone, "-D "+who)
	}
	if err := s.restore(&line, add); err != nil {
		return "", err
	}
	for i, kv := range c.sysctls { // what was is kept in a variable of the guest's shell
		line += fmt.Sprintf("read -r old%d < /proc/sys/%s; echo %s > /proc/sys/%[2]s; ", i, kv[0], kv[1])
		s.undo = append(s.undo, fmt.Sprintf("echo $old%d > /proc/sys/%s; ", i, kv[0]))
	}
	if c.timeouts != [3]int{} {
		line += fmt.Sprintf("ipvsadm --set %d %d %d; ", c.timeouts[0], c.timeouts[1], c.timeouts[2])
		s.undo = append(s.undo, "ipvsadm --set 900 120 300; ")
	}
	for l, mtu := range c.mtu {
		if mtu > 0 {
			line += fmt.Sprintf("ip link set vec%d mtu %d; ", l, mtu)
			s.undo = append(s.undo, fmt.Sprintf("ip link set vec%d mtu 1500; ip route flush cache; ", l))
		}
	}
	return line, nil
}

func serverArgs(v *virtualService, r realServer, family int) string {
	a, _ := endpoint(r.address, family)
	return fmt.Sprintf("-r %s %s -w %d", a, map[string]string{"nat": "-m", "dr": "-g"}[v.method], r.weight)
}

func (s *lvs) SetWeight(r realServer) error {
	v := s.c.services[0]
	listen, _ := endpoint(v.listen, s.c.family)
	_, err := s.guest.Run(fmt.Sprintf("ipvsadm -e %s%s %s", map[string]string{"tcp": "-t ", "udp": "-u "}[v.proto], listen, serverArgs(v, r, s.c.family)))
	return err
}

// Conns reads /proc/net/ip_vs_conn: protocol, three ends of address and port in hexadecimal, state, seconds left.
func (s *lvs) Conns() (list []connection, err error) {
	lines, err := s.guest.Run(readFile("/proc/net/ip_vs_conn"))
	if err != nil || len(lines) == 0 {
		return nil, err
	}
	for _, l := range lines[1:] {
		w := strings.Fields(l)
		if len(w) < 9 {
			return nil, fmt.Errorf("connection %q", l)
		}
		left, err := strconv.Atoi(w[8])
		if err != nil {
			return nil, fmt.Errorf("connection %q: %w", l, err)
		}
		if left == 0 {
			continue // ended, and only waits for its timer
		}
		// The kernel cuts to whole seconds.
		c := connection{proto: w[0], state: w[7], expires: time.Duration(left)*time.Second + 500*time.Millisecond}
		for i, to := range []*netip.AddrPort{&c.client, &c.virtual, &c.real} {
			if *to, err = hexEnd(w[1+2*i], w[2+2*i]); err != nil {
				return nil, fmt.Errorf("connection %q: %w", l, err)
			}
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

// readFile is cat without a program.
func readFile(path string) string { return `while read -r l; do echo "$l"; done < ` + path }

// Counts reads /proc/net/ip_vs: a line for each server, "-> ADDRESS:PORT FORWARD WEIGHT ACTIVE INACTIVE", its ends in hexadecimal.
func (s *lvs) Counts() (lines []string, err error) {
	said, err := s.guest.Run(readFile("/proc/net/ip_vs"))
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
