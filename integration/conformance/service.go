package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Services and servers: as words of a script, as lines of lb.toml, as arguments of ipvsadm.

// virtualService is one service with its servers.
type virtualService struct {
	family                   int
	proto, scheduler, method string
	listen                   []string // where the first one is what frames go to; several are a firewall mark for LVS
	mark                     int
	flags                    []string // as ipvsadm -b takes them
	persistent               int      // seconds; 0: not
	mask                     int      // bits of the client's address that persistence looks at; 0: all
	onePacket                bool
	lines                    []string // more lines of lb.toml
	servers                  []realServer
}

// realServer is one with what it has for itself.
type realServer struct {
	address      string
	family       int
	weight       int
	upper, lower int // thresholds; 0: none
	tunnel       string
	tunnelPort   int // of GUE
	csum         bool
}

// addService reads "service tcp VIP:PORT rr nat WORDS".
func (c *testCase) addService(w []string) error {
	if len(w) < 4 || !slices.Contains([]string{"tcp", "udp", "sctp"}, w[0]) || !slices.Contains([]string{"nat", "dr", "tun"}, w[3]) {
		return errors.New("expected service tcp|udp|sctp VIP:PORT[,VIP:PORT] SCHEDULER nat|dr|tun WORDS")
	}
	v := &virtualService{family: c.family, proto: w[0], listen: strings.Split(w[1], ","), scheduler: w[2], method: w[3], mark: len(c.services) + 1}
	c.services = append(c.services, v)
	for _, l := range v.listen {
		if _, err := endpoint(l, c.family); err != nil {
			return err
		}
	}
	return readWords(w[4:], func(word string, number func() int) bool {
		switch word {
		case "sh-port", "sh-fallback", "mh-port", "mh-fallback":
			v.flags = append(v.flags, word)
		case "persistent":
			v.persistent = number()
		case "mask":
			v.mask = number()
		case "one-packet":
			v.onePacket = true
		default:
			return false
		}
		return true
	})
}

// addServer reads "server ADDRESS:PORT WORDS".
func (c *testCase) addServer(w []string) error {
	if len(c.services) == 0 {
		return errors.New("expected below a service")
	}
	r, err := c.readServer(w)
	v := c.services[len(c.services)-1]
	v.servers = append(v.servers, r)
	return err
}

// readServer reads a server's words.
func (c *testCase) readServer(w []string) (r realServer, err error) {
	if len(w) == 0 {
		return r, errors.New("expected ADDRESS:PORT WORDS")
	}
	r = realServer{address: w[0], weight: 1, family: c.family, tunnel: "ipip"}
	err = readWords(w[1:], func(word string, number func() int) bool {
		switch word {
		case "weight":
			r.weight = number()
		case "upper":
			r.upper = number()
		case "lower":
			r.lower = number()
		case "over": // the family of its address
			r.family = number()
		case "ipip", "gre":
			r.tunnel = word
		case "gue":
			r.tunnel, r.tunnelPort = word, number()
		case "csum":
			r.csum = true
		default:
			return false
		}
		return true
	})
	if err == nil {
		_, err = endpoint(r.address, r.family)
	}
	return r, err
}

// readWords goes through words; a word that take knows may ask for the number behind it.
func readWords(words []string, take func(word string, number func() int) bool) (err error) {
	words = strings.FieldsFunc(strings.Join(words, " "), func(r rune) bool { return r == ' ' || r == '=' || r == ',' }) // "gue=6080,csum", one for a loop
	for i := 0; i < len(words); i++ {
		number := func() (n int) {
			if i++; i == len(words) {
				err = fmt.Errorf("%s: a number is missing", words[i-1])
				return 0
			}
			n, bad := strconv.Atoi(words[i])
			if bad != nil {
				err = fmt.Errorf("%s: %w", words[i-1], bad)
			}
			return n
		}
		if word := words[i]; !take(word, number) {
			return fmt.Errorf("the word %q is not known", word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *testCase) addLine(w []string) error {
	if len(c.services) == 0 {
		return errors.New("expected below a service")
	}
	v := c.services[len(c.services)-1]
	v.lines = append(v.lines, strings.Join(w, " "))
	return nil
}

// ends are the addresses that a service listens on.
func (v *virtualService) ends() (all []netip.AddrPort) {
	for _, l := range v.listen {
		a, _ := endpoint(l, v.family)
		all = append(all, a)
	}
	return all
}

// markEnd is how LVS writes the firewall mark of a service as an address.
func (v *virtualService) markEnd() netip.AddrPort {
	a := make([]byte, v.ends()[0].Addr().BitLen()/8)
	a[3] = byte(v.mark)
	addr, _ := netip.AddrFromSlice(a)
	return netip.AddrPortFrom(addr, 0)
}

// end is a server's address.
func (r *realServer) end() netip.AddrPort {
	a, _ := endpoint(r.address, r.family)
	return a
}

// For us.

// toml writes the lines of the i-th service.
func (v *virtualService) toml(b *strings.Builder, i int) {
	var listen []string
	for _, a := range v.ends() {
		listen = append(listen, fmt.Sprintf("%q", a))
	}
	fmt.Fprintf(b, "[[service]]\nname = \"s%d\"\nlisten = [%s]\nprotocol = %q\nmethod = %q\nscheduler = %q\n", i, strings.Join(listen, ", "), v.proto, v.method, v.scheduler)
	if v.persistent > 0 {
		fmt.Fprintf(b, "persistence_timeout = %d\n", v.persistent)
	}
	if v.mask > 0 {
		fmt.Fprintf(b, "persistence_prefix%d = %d\n", v.family, v.mask)
	}
	if v.onePacket {
		fmt.Fprintln(b, "one_packet = true")
	}
	if v.method == "tun" {
		fmt.Fprintln(b, "tunnel_ttl = 0") // as LVS has it
	}
	for _, l := range slices.Concat(v.hashLines(), v.lines) {
		fmt.Fprintln(b, l)
	}
	for _, r := range v.servers {
		r.toml(b, v)
	}
	fmt.Fprintln(b)
}

// toml writes the lines of a server. A port 0 is the client's.
func (r *realServer) toml(b *strings.Builder, v *virtualService) {
	a := r.end()
	address := a.String()
	if a.Port() == 0 {
		address = a.Addr().String()
	}
	fmt.Fprintf(b, "[[service.server]]\naddress = %q\nweight = %d\n", address, r.weight)
	if r.upper > 0 {
		fmt.Fprintf(b, "u_threshold = %d\nl_threshold = %d\n", r.upper, r.lower)
	}
	if v.method == "tun" {
		fmt.Fprintf(b, "tunnel = %q\n", r.tunnel)
	}
	if v.method == "tun" && r.tunnel != "ipip" {
		fmt.Fprintf(b, "tunnel_csum = %v\n", r.csum)
	}
	if r.tunnelPort > 0 {
		fmt.Fprintf(b, "tunnel_port = %d\n", r.tunnelPort)
	}
	if h, ok := hostOf(a.Addr()); ok && h.link == in {
		fmt.Fprintf(b, "mac = %q\n", net.HardwareAddr(h.mac[:]))
	}
}

// hashLines are ipvsadm's flags in our words: without a flag LVS takes no port and has no fallback.
func (v *virtualService) hashLines() (lines []string) {
	switch v.scheduler {
	case "sh", "mh":
		lines = append(lines, fmt.Sprintf("hash_port = %v", slices.Contains(v.flags, v.scheduler+"-port")))
		fallthrough
	case "dh":
		lines = append(lines, fmt.Sprintf("hash_fallback = %v", slices.Contains(v.flags, v.scheduler+"-fallback")))
	}
	return lines
}

// For LVS.

// which are the arguments that name a service.
func (v *virtualService) which() string {
	switch {
	case len(v.listen) > 1 && v.family == 6:
		return fmt.Sprintf("-f %d -6", v.mark)
	case len(v.listen) > 1:
		return fmt.Sprintf("-f %d", v.mark)
	}
	return map[string]string{"tcp": "-t ", "udp": "-u ", "sctp": "--sctp-service "}[v.proto] + v.ends()[0].String()
}

// how are those that say how it works.
func (v *virtualService) how() string {
	args := "-s " + v.scheduler
	if len(v.flags) > 0 {
		args += " -b " + strings.Join(v.flags, ",")
	}
	if v.persistent > 0 {
		args += fmt.Sprintf(" -p %d", v.persistent)
	}
	if v.mask > 0 && v.family == 4 {
		args += " -M " + net.IP(net.CIDRMask(v.mask, 32)).String()
	} else if v.mask > 0 {
		args += fmt.Sprintf(" -M %d", v.mask)
	}
	if v.onePacket {
		args += " -o"
	}
	return args
}

// marks are the rules of tc that set the marks of services on several addresses or ports, on what clients send.
func (c *testCase) marks() (rules []string) {
	for _, v := range c.services {
		if len(v.listen) == 1 {
			continue
		}
		for _, a := range v.ends() {
			rules = append(rules, fmt.Sprintf("filter add dev vec%d parent ffff: protocol %s flower ip_proto %s dst_ip %v dst_port %d action skbedit mark %d",
				ext, map[int]string{4: "ip", 6: "ipv6"}[v.family], v.proto, a.Addr(), a.Port(), v.mark))
		}
	}
	return rules
}

// serverArgs are those of a server.
func (v *virtualService) serverArgs(r realServer) string {
	args := fmt.Sprintf("-r %s %s -w %d -x %d -y %d", r.end(), map[string]string{"nat": "-m", "dr": "-g", "tun": "-i"}[v.method], r.weight, r.upper, r.lower)
	if v.method != "tun" {
		return args
	}
	args += " --tun-type " + r.tunnel
	if r.tunnelPort > 0 {
		args += fmt.Sprintf(" --tun-port %d", r.tunnelPort)
	}
	if r.tunnel != "ipip" {
		args += map[bool]string{true: " --tun-csum", false: " --tun-nocsum"}[r.csum]
	}
	return args
}
