package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Config is a whole lb.toml: complete, checked, defaults filled in. It is read-only once Parse returned it.
type Config struct {
	Interfaces []Interface
	Routes     []Route
	Services   []Service
	Limits     Limits
	Timeouts   Timeouts
}

// Interface is one [[interface]]: a TAP of the director.
type Interface struct {
	Name       string         // ours
	Tap        string         // the kernel's name; empty with Device
	Device     string         // a macvtap's character device, "/dev/tap7"
	VLAN       int            // the 802.1Q tag of its frames, 1 to 4094; 0: none
	Driver     string         // "auto", "linux" or "water"
	Bridge     string         // a bridge to join; empty: none
	MAC        [6]byte        // our own; zero: the default, chosen when the device is open
	Addresses  []netip.Prefix // DIPs with their prefix, host bits kept
	Queues     int            // 0: one per CPU, at most 16
	MTU        int            // bytes of L3; 0: the kernel's
	Forward    bool           // route on what is addressed to us as a gateway and not load-balanced
	Masquerade bool           // what is routed out of this interface leaves with its DIP as source
	Reply      string         // "last-hop" or "route"
}

// SharesWith returns the first interface on the same TAP or device as interface i: i itself where it is that one. They differ in VLAN, and have
// Driver, Bridge, Queues and MTU in common.
func (c *Config) SharesWith(i int) int {
	for j := range i {
		if c.Interfaces[j].Tap == c.Interfaces[i].Tap && c.Interfaces[j].Device == c.Interfaces[i].Device {
			return j
		}
	}
	return i
}

// Route is one [[route]].
type Route struct {
	To        netip.Prefix
	Via       netip.Addr
	Interface int // index into Config.Interfaces: the interface whose prefix holds Via
}

// Service is one [[service]]: a virtual service.
type Service struct {
	Name       string
	Listen     []Listen
	Protocol   string       // "tcp", "udp" or "sctp"
	Method     string       // "nat", "dr", "tun" or "fullnat"
	Scheduler  string       // one of Schedulers()
	OnNoServer string       // "reject" or "drop"
	TunnelTTL  int          // TTL of a tunnel's outer header; 0: the inner one's
	PMTUDisc   bool         // what is too large for a tunnel is answered; false: fragmented outside
	MSSClamp   int          // with tun: most bytes of MSS that a client's SYN announces to a server; 0: any
	Sources    []netip.Addr // fullnat: the DIPs that connections to servers may come from, as written; empty: see Server.Sources
	TOA        bool         // fullnat, TCP: servers are told the client's address by a TCP option
	Servers    []Server

	HashPort     bool // sh, mh, quic: the client's port is hashed as well
	HashFallback bool // sh, dh, mh, quic: a client of a server that takes no connections goes to another
	MHTableSize  int  // mh, quic: slots of the Maglev table, one of MHTableSizes(); else 0
	QUICIDLength int  // quic: bytes of every Server.QUICID; else 0

	PersistenceTimeout      time.Duration // 0: not persistent
	PersistencePrefix4      int           // bits of an IPv4 client's address that persistence looks at
	PersistencePrefix6      int           // the same of an IPv6 client
	ExpireQuiescentTemplate bool          // a template to a server of weight 0 does not count
	OnePacket               bool          // udp: each datagram is scheduled by itself
	Pickup                  bool          // tcp, sh, dh and mh: connections that the table does not know go where the hash says
	Idle                    string        // "expire" or "reset" (tcp)
	OnServerRemoved         string        // "expire", "keep" or "reset" (tcp)
	FTP                     bool          // nat and fullnat: connections to listens of one port are FTP's control connections

	Allow, Deny    []netip.Prefix // who may open connections: the longest prefix decides; without Allow everybody else may; none is in both
	RatePerSource  int            // connections that one IPv4 address or IPv6 /64 may open per second; 0: any
	BurstPerSource int            // and at once, after a silence; 0 with RatePerSource 0
}

// Listen is one element of a service's listen: ports of a VIP.
type Listen struct {
	Addr      netip.Addr
	Low, High uint16 // the same for one port; 0 and 65535: every port
	Interface int    // index into Config.Interfaces: the owner of the VIP
}

// Single reports whether l is one port.
func (l Listen) Single() bool { return l.Low == l.High }

// Every reports whether l is every port.
func (l Listen) Every() bool { return l.Low == 0 }

// String is l as lb.toml has it.
func (l Listen) String() string {
	if l.Single() || l.Every() {
		return netip.AddrPortFrom(l.Addr, l.Low).String()
	}
	return fmt.Sprintf("%v-%d", netip.AddrPortFrom(l.Addr, l.Low), l.High)
}

// Owners returns the names of the interfaces that own v's VIPs, each once.
func (c *Config) Owners(v *Service) (names []string) {
	for _, l := range v.Listen {
		if name := c.Interfaces[l.Interface].Name; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// keepsPort reports whether servers see the port that the client asked for.
func (v *Service) keepsPort() bool { return v.Method == "dr" || v.Method == "tun" }

// port returns the one port that v listens on, 0 when there are more.
func (v *Service) port() uint16 {
	if len(v.Listen) == 1 && v.Listen[0].Single() {
		return v.Listen[0].Low
	}
	return 0
}

// Server is one [[service.server]]: a real server.
type Server struct {
	Address    netip.AddrPort // RIP:port; port 0: the one that the client's packet is for
	Weight     int            // 0: drain
	MAC        [6]byte        // static; zero: asked for by ARP or NDP
	Via        netip.Addr     // next hop: Address itself when it is on a link of ours, else a route's gateway
	Iface      int            // index into Config.Interfaces: the way to Via
	QUICID     uint64         // quic: what the server writes into its connection ids, first byte highest
	UThreshold int            // connections at which the server gets no new ones; 0: none
	LThreshold int            // connections below which it gets them again; 0: three quarters of UThreshold

	Tunnel  Tunnel       // with tun only
	Sources []netip.Addr // fullnat: the DIPs that connections to it come from, all on Iface and of its family; empty for other methods
}

// Tunnel is how packets travel to a server with tun.
type Tunnel struct {
	Kind   string     // "ipip", "gue" or "gre"; empty: none
	Port   int        // gue: UDP destination port
	Csum   bool       // gue: UDP checksum; gre: its own
	Source netip.Addr // of the outer header: a DIP of the interface
}

// Limits is [limits]: the bounds of memory and of work.
type Limits struct {
	Connections int  // entries of the connection table at most
	EarlyDrop   bool // when they are all in use, a new connection takes the place of a half-open, closed or idle one
	ICMPRate    int  // ICMP errors and resets that the director makes itself, per second at most
	Fragments   int  // fragments held at most while their datagram's first has not come
	HostRate    int  // frames to the director's own IP host, per second at most
	Templates   int  // persistence templates at most
	FTPSessions int  // control connections of FTP that are followed at once, at most
}

// Timeouts is [timeouts], by state: TCP, TCPFin and UDP are ipvsadm --set's; and that of fragments.
type Timeouts struct {
	TCP          time.Duration // ESTABLISHED
	TCPFin       time.Duration // FIN_WAIT
	TCPNone      time.Duration
	TCPSynSent   time.Duration
	TCPSynRecv   time.Duration
	TCPTimeWait  time.Duration
	TCPClose     time.Duration
	TCPCloseWait time.Duration
	TCPLastAck   time.Duration
	TCPListen    time.Duration
	TCPSynAck    time.Duration
	SCTPTimeouts
	UDP      time.Duration
	ICMP     time.Duration // masqueraded echoes
	Fragment time.Duration // a datagram of which fragments are missing
}
