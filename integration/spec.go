// Package integration describes the worlds that tapdirector is tried in: a client, servers, one or two LANs, a director between
// them, and the lb.toml that it runs. What a world is made of is someone else's: memlan builds it in memory, netlab of network
// namespaces and kernel sockets. The tests over both are in worldtest.
//
// # The topology
//
// Addresses are the same in every world; of LAN ext 10.77.1.0/24 and 2001:db8:77:1::/64, of LAN int 10.77.2.0/24 and 2001:db8:77:2::/64.
//
//	        ext: client .2, director .1, VIP .100          int: director .1, servers .11 .12 ...
//	two arms   [client]---ext---[director]---int---[servers]
//	one arm    [client]---+---[director]---+---[servers]      one wire, which is called ext
//
//	nat, two arms   a server's default gateway is the director's address in int.
//	nat, one arm    both subnets lie on the one wire, and the director's one interface has an address in each. So a server's answer to the
//	                client is off-link for it and goes to its gateway, the director: what a one-armed NAT needs, without a router.
//	dr, two arms    servers have a second leg in ext (.11 ...), through which they answer the client themselves.
//	dr, one arm     servers are in ext only (.11 ...).
//	tun             as dr, but packets come to a server in a tunnel, whose end is in the server; with two arms the servers' addresses in int may be of
//	                the other family, and int has room for what the tunnel adds, unless IntMTU says otherwise.
//	dr, tun         servers hold the VIP on their loopback and do not answer for it by ARP or ND.
//	fullnat         servers are in the last LAN and its subnet, and know no other network: they have no gateway. They see the director. Their addresses
//	                may be of the other family; then the director's interface there has one of each.
//
// The client's default gateway is the director's address in ext, so that tests can also reach what is routed and not balanced.
package integration

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Spec says which world is wanted. The zero value of each field has a meaning; Method is the only one that must be set.
type Spec struct {
	Method    string // "nat", "dr", "tun" or "fullnat"
	Family    int    // 4 (and 0) or 6
	Arms      int    // interfaces of the director: 1, or 2 (and 0)
	Servers   int    // 0: 3
	Scheduler string // "": rr
	Weights   []int  // of the servers in order; those not named weigh 1
	Offload   bool   // hosts and devices hand over partial checksums and superpackets
	Mixed     bool   // with Offload and two arms: ext has it, int has not, so the director must cut and complete
	Trunk     bool   // with two arms: both interfaces of the director are on one TAP, with VLANs 100 (ext) and 200 (int)
	Queues    int    // of each device of the director; 0: 1
	MTU       int    // of both LANs; 0: 1500
	IntMTU    int    // of LAN int; 0: MTU, with tun and no trunk 60 more

	Tunnel       string // with tun: "ipip" (and ""), "gue" or "gre"
	ServerFamily int    // of the servers' addresses, with fullnat, and with tun and two arms (those in int); 0: Family

	Masquerade    bool              // what servers send to the world leaves with the director's address
	InterfaceKeys map[string]string // more lines of lb.toml for an interface, by its name ("ext", "int")
	ServiceKeys   string            // more lines of lb.toml for each service
	ServerKeys    string            // more lines of lb.toml for each server
	WebKeys       string            // more lines of lb.toml for the TCP service
	Extra         string            // more of lb.toml, at its end
	Log           *slog.Logger      // of the director; nil: nothing is logged
	Confirm       time.Duration     // director.Options.Confirm, where the director is in this process
}

// Methods are the forwarding methods that worlds can be built for.
var Methods = []string{"nat", "dr", "tun", "fullnat"}

// MaxServers is how many servers a world has at most: their addresses end in 11, 12, ... 99.
const MaxServers = 89

// String is the spec as the name of a test.
func (s Spec) String() string {
	s, _ = s.complete()
	method := s.Method
	if method == "tun" {
		method = fmt.Sprintf("tun-%s-ipv%d", s.Tunnel, s.ServerFamily)
	}
	if s.across() {
		method = fmt.Sprintf("fullnat-ipv%d", s.ServerFamily)
	}
	name := fmt.Sprintf("%s/ipv%d/arms=%d", method, s.Family, s.Arms)
	switch {
	case s.Mixed:
		name += "/offload=mixed"
	case s.Offload:
		name += "/offload=on"
	default:
		name += "/offload=off"
	}
	if s.Trunk {
		name += "/trunk"
	}
	return name
}

// complete fills in the defaults and refuses what no world can be built of.
func (s Spec) complete() (Spec, error) {
	s.Family = orDefault(s.Family, 4)
	s.Arms = orDefault(s.Arms, 2)
	s.Servers = orDefault(s.Servers, 3)
	s.Scheduler = orDefault(s.Scheduler, "rr")
	s.Queues = orDefault(s.Queues, 1)
	s.MTU = orDefault(s.MTU, 1500)
	s.ServerFamily = orDefault(s.ServerFamily, s.Family)
	if s.Method == "tun" {
		s.Tunnel = orDefault(s.Tunnel, "ipip")
		if !s.Trunk {
			s.IntMTU = orDefault(s.IntMTU, s.MTU+tunnelRoom)
		}
	}
	s.IntMTU = orDefault(s.IntMTU, s.MTU)
	s.Log = orDefault(s.Log, slog.New(slog.DiscardHandler))
	switch {
	case !slices.Contains(Methods, s.Method):
		return s, fmt.Errorf("method %q: must be one of %v", s.Method, Methods)
	case s.ServerFamily != 4 && s.ServerFamily != 6, s.ServerFamily != s.Family && s.Method != "fullnat" && (s.Method != "tun" || s.Arms != 2):
		return s, fmt.Errorf("server family %d: must be 4 or 6, and the family unless it is fullnat, or tun with two arms", s.ServerFamily)
	case s.Family != 4 && s.Family != 6:
		return s, fmt.Errorf("family %d: must be 4 or 6", s.Family)
	case s.Arms != 1 && s.Arms != 2:
		return s, fmt.Errorf("arms %d: must be 1 or 2", s.Arms)
	case s.Servers < 1 || s.Servers > MaxServers:
		return s, fmt.Errorf("servers %d: must be 1 to %d", s.Servers, MaxServers)
	case len(s.Weights) > s.Servers || slices.Min(append(s.Weights, 0)) < 0:
		return s, fmt.Errorf("weights %v: at most one for each of the %d servers, none negative", s.Weights, s.Servers)
	case s.Mixed && (!s.Offload || s.Arms != 2):
		return s, fmt.Errorf("mixed offload needs offload and two arms")
	case s.Trunk && (s.Arms != 2 || s.Mixed || s.IntMTU != s.MTU):
		return s, fmt.Errorf("a trunk needs two arms with the same offload and MTU")
	}
	return s, nil
}

// across reports whether packets are translated between the families.
func (s Spec) across() bool { return s.Method == "fullnat" && s.ServerFamily != s.Family }

// tunnelRoom is more than any tunnel adds to a packet, in bytes.
const tunnelRoom = 60

// weight returns the weight of server i.
func (s Spec) weight(i int) int {
	if i < len(s.Weights) {
		return s.Weights[i]
	}
	return 1
}

// orDefault returns v, or d when v is the zero value.
func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
