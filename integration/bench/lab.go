//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/netlab"
	"tapdirector/integration/uml"
)

// One measurement: a lab with one peer in it, the server's load process, and a client's process for each figure.

// lab is a world with a peer at work.
type lab struct {
	o      *options
	family int
	world  *netlab.World
	peer   *process // the copy loop or HAProxy; nil: the peer is none, or the director, which is the world's
	guest  *uml.Guest
	dir    string // of the peer's files; "": none
	server *process
	who    peer
	said   counterLog // of the director

	stay time.Duration // as options.stay was when its lb.toml was written
}

// spec is the world that a peer stands in: copy loops and the wire stand where the director of that many arms would.
func (o *options) spec(p peer, family int) (integration.Spec, func(*integration.Plan)) {
	s := integration.Spec{Method: "nat", Arms: 2, Family: family, Servers: 1, Offload: true, Queues: o.queues}
	switch {
	case p.Key == peerWire, p.Key == peerCopyLoop2:
		return s, oneLAN
	case p.Method == peerDR:
		s.Method, s.Arms = "dr", 1
	case p.Key == peerWater:
		s.Queues = 1 // it has no more
		s.InterfaceKeys = map[string]string{integration.Ext: water, integration.Int: water}
	}
	return s, nil
}

// water is the interface's key that has the portable driver.
const water = `driver    = "water"`

// oneLAN gives the server the VIP on its link and no gateway: nobody between it and the client looks at addresses.
func oneLAN(p *integration.Plan) {
	s := &p.Servers[0]
	s.Legs[0].Address = netip.PrefixFrom(p.VIP.Addr(), p.Client.Legs[0].Address.Bits())
	s.Gateway = netip.Addr{}
	s.Listen = p.VIP
}

// newLab builds the lab of a peer and returns when it works; more is added to the director's lb.toml.
func (o *options) newLab(ctx context.Context, peer peer, family int, more string) (*lab, error) {
	spec, change := o.spec(peer, family)
	spec.Extra = more
	w, err := netlab.NewBare(spec, change)
	if err != nil {
		return nil, err
	}
	l := &lab{o: o, family: family, world: w, who: peer, stay: o.stay}
	l.said.next = o.log
	if err := l.start(ctx, peer); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) start(ctx context.Context, peer peer) error {
	if err := l.settle(); err != nil {
		return err
	}
	if err := l.startPeer(ctx, peer); err != nil {
		return fmt.Errorf("start %s: %w", peer.Key, err)
	}
	var err error
	server := l.world.Plan().Servers[0]
	l.server, err = startProcess(ctx, l.world.Namespace(server.Name).Start, l.o.self, loadCommand, "serve", server.Listen.String())
	return err
}

// settle takes from the namespaces what they inherit from the host, so that two hosts measure the same: firewalls that look into bridges
// (br_netfilter, which comes with some container engines).
func (l *lab) settle() error {
	client := l.world.Namespace("client")
	// Thousands of connections a second from one address: ports for all, and again after a second.
	err := client.Sysctl(map[string]string{"ipv4/ip_local_port_range": "1024 65535", "ipv4/tcp_tw_reuse": "1"})
	if err != nil {
		return err
	}
	for _, key := range []string{"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables", "bridge/bridge-nf-call-arptables"} {
		err := l.world.Namespace("director").Sysctl(map[string]string{key: "0"})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the module is not loaded
			return err
		}
	}
	return nil
}

func (l *lab) startPeer(ctx context.Context, peer peer) error {
	switch peer.Key {
	case peerWire:
		return l.world.Join()
	case peerCopyLoop2:
		return l.startCopyLoop(ctx, "tap0", "tap1")
	case peerCopyLoop1:
		return l.startCopyLoop1(ctx)
	case peerNftables:
		return l.startNftables(ctx)
	case peerHAProxy:
		return l.startHAProxy(ctx)
	case peerLVSNAT, peerLVSDR:
		return l.startLVS(peer)
	}
	return l.world.StartDirector(netlab.Options{Program: []string{cmp.Or(peer.Program, l.o.director)}, Log: &l.said})
}

// startCopyLoop1 starts the copy loop with one arm in the name of the director's MAC.
func (l *lab) startCopyLoop1(ctx context.Context) error {
	p, w := l.world.Plan(), l.world
	own := net.HardwareAddr(p.Interfaces[0].MAC[:])
	server := w.LinkMAC(p.Servers[0].Name, integration.Ext)
	if err := l.startCopyLoop(ctx, "tap0", own.String(), server.String()); err != nil {
		return err
	}
	return w.Namespace(p.Client.Name).Neighbour(w.LinkName(p.Client.Name, integration.Ext), p.VIP.Addr(), own)
}

func (l *lab) startCopyLoop(ctx context.Context, args ...string) (err error) {
	l.peer, err = startProcess(ctx, l.world.Namespace("director").Start, l.o.copyloop, args...)
	if err != nil {
		return err
	}
	for _, lan := range l.world.Plan().LANs {
		if err := l.world.AttachTap(lan); err != nil {
			return err
		}
	}
	return nil
}

// close ends all of it.
func (l *lab) close() error {
	err := errors.Join(l.server.stop(), l.peer.stop())
	if l.guest != nil {
		err = errors.Join(err, l.guest.Close())
	}
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return errors.Join(err, l.world.Close())
}
