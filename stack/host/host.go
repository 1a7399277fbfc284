// Package host is the director as an IP host on its LANs: a gVisor netstack that owns DIPs and VIPs, answers ARP, neighbour
// discovery and echo for them, refuses what nobody serves, and is where the director's own sockets live.
//
// # Theory of operation
//
// Workers hand over with Deliver what the path does not forward. The way of such a frame:
//
//	1  filter     is it for us at all? (filter.go) Most ARP of a LAN is not, and ends here
//	2  queue      a copy, in one of two bounded queues with a budget of frames per second each (queue.go): ARP and neighbour
//	              discovery in the one, the rest in the other, so that a flood of echoes does not cost us our addresses
//	3  Run        one goroutine takes them out, control first; completes partial checksums, cuts UDP superpackets
//	4  last hop   remembers where an off-link client's packet came from (lasthop.go)
//	5  netstack   through the endpoint of the link (endpoint.go); what it answers leaves by Link.Send
//
// One NIC for each link, numbered from 1 in the order of Options.Links. Which addresses it has:
//
//   - Its DIPs, its VIPs (never chosen as a source, a single address without a subnet), and, where one of these is IPv6, the
//     link-local address of its MAC (RFC 4291 appendix A). No duplicate address detection: the configuration says who we are.
//   - The DIPs and VIPs of all other links, as single addresses. A server that pings a VIP comes in on the servers' side: it
//     gets an answer, as from the kernel. But ARP and ND are answered only on the link that an address belongs to: the
//     filter lets nothing else through. Spoofing and promiscuous mode are off.
//
// How an answer finds its way: a source in the prefix of a DIP of the link is a neighbour, asked for with netstack's own ARP or
// ND. A source behind a configured route of the link goes to that gateway. Anybody else, a client behind a router that the
// configuration does not name, is answered at the MAC that the packet came from: the last hop.
//
// We announce ourselves (announce.go): netstack does not.
//
// Not handled: multicast and broadcast to us other than ARP and ND (an echo to a group is not answered), router
// advertisements, redirects. A gateway's gratuitous ARP is not learned here: if its MAC changes in silence, our own sockets
// notice after 8 s. Forwarded traffic has package neigh, and does not care.
package host

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"tapdirector/stack"
	"tapdirector/tap"
)

// Link is one interface of the director. Its number is its place in Options.Links.
type Link struct {
	Name      string
	MAC       stack.MAC
	MTU       int            // bytes of L3; 0: 1500
	Addresses []netip.Prefix // DIPs
	VIPs      []netip.Addr
	Offload   tap.Offload // what Send can carry: with Csum, TSO4 and TSO6 our sockets send superpackets; zero: never

	// Send writes one frame out of the interface. It is called from any goroutine, also with locks of netstack held, so it
	// must not wait and must not call back into the host; it does not keep the frame.
	Send func(f *tap.Frame)
}

// Route says how our own packets reach a network that is not on a link.
type Route struct {
	To   netip.Prefix
	Via  netip.Addr
	Link int // place in Options.Links
}

// Options are what a Host is made of.
type Options struct {
	Links  []Link
	Routes []Route
	Rate   int          // frames per second taken of each kind, control and others; 0: 20,000, a quarter of a core
	Log    *slog.Logger // conflicts of addresses; nil: slog.Default
}

const (
	defaultRate = 20000
	defaultMTU  = 1500
)

// FirstPort is the first port that our own sockets leave from when they do not ask for one; those below are for who forwards connections from our
// addresses. So no answer can be meant for both.
const FirstPort = 64512

// Host is the netstack and what feeds it.
type Host struct {
	links    []*link
	routes   atomic.Pointer[[]Route]
	own      addresses // DIPs and VIPs of all links
	netstack *gstack.Stack
	log      limitedLog

	control queue
	other   queue
	wake    chan struct{} // holds one token while there may be something in a queue
	hops    lastHops      // Run's own
	cuts    *tap.Arena    // Run's own: segments of UDP superpackets; made when the first comes

	mu      sync.Mutex
	closed  bool
	closing chan struct{}

	running  sync.WaitGroup
	started  atomic.Bool // Run was called
	counters counters
}

// link is a Link as the host keeps it.
type link struct {
	Link
	id tcpip.NICID
	ep *endpoint

	own  addresses                    // that ARP and ND are answered for here
	vips atomic.Pointer[[]netip.Addr] // as they are now; Link has those of the start
}

// New builds the netstack; it answers nothing before Run. Close releases it. The error says which link or route is wrong.
func New(o Options) (*Host, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	rate := o.Rate
	if rate <= 0 {
		rate = defaultRate
	}
	h := &Host{
		netstack: newStack(),
		log:      limitedLog{log: o.Log},
		control:  newQueue(rate),
		other:    newQueue(rate),
		wake:     make(chan struct{}, 1),
		closing:  make(chan struct{}),
	}
	h.hops = newLastHops(maxLastHops, h.setHop, h.forgetHop)
	if err := h.build(o); err != nil {
		h.netstack.Destroy()
		return nil, err
	}
	return h, nil
}

// newStack returns a netstack without NICs. TCPRecovery 0 turns RACK off, which takes reordering between queues for loss.
func newStack() *gstack.Stack {
	s := gstack.New(gstack.Options{
		NetworkProtocols:   []gstack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []gstack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol},
		HandleLocal:        true,
	})
	s.SetPortRange(FirstPort, 65535) // fails for a range the wrong way round only
	recovery := tcpip.TCPRecovery(0)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &recovery)
	return s
}

// Run announces our addresses and feeds the netstack until ctx is cancelled or the host is closed; it returns nil. One at a time.
func (h *Host) Run(ctx context.Context) error {
	if !h.enter() {
		return nil
	}
	defer h.running.Done()
	h.started.Store(true)
	var announcing sync.WaitGroup
	defer announcing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	announcing.Go(func() { announceAll(ctx, h.links, h.announce) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.closing:
			return nil
		case <-h.wake:
		}
		if h.step() {
			h.rouse() // there may be more; but look first whether we are to stop
		}
	}
}

// enter counts a Run in, unless the host is closed.
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.running.Add(1)
	}
	return !h.closed
}

// Close ends Run and destroys the netstack with all its sockets; no goroutine remains when it returns.
func (h *Host) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	close(h.closing)
	h.mu.Unlock()
	h.running.Wait()
	h.netstack.Destroy()
}

// Stack returns the netstack, for sockets of the director's own; NIC numbers are the places in Options.Links plus 1.
func (h *Host) Stack() *gstack.Stack { return h.netstack }
