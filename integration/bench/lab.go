//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/netlab"
	"tapdirector/integration/uml"
)

// One measurement: a lab with one peer in it, the server's load process, and a client's process for each figure.

// lab is a world with a peer at work.
type lab struct {
	o      *options
	world  *netlab.World
	peer   *process // the copy loop or HAProxy; nil: the peer is none, or the director, which is the world's
	guest  *uml.Guest
	dir    string // of the peer's files; "": none
	server *process
	who    peer
}

// spec is the world that a peer stands in: copy loops and the wire stand where the director of that many arms would.
func (o *options) spec(p peer) (integration.Spec, func(*integration.Plan)) {
	s := integration.Spec{Method: "nat", Arms: 2, Family: o.family, Servers: 1, Offload: true, Queues: o.queues}
	switch {
	case p.Key == peerWire, p.Key == peerCopyLoop2:
		return s, oneLAN
	case p.Key == peerCopyLoop1, p.Base == peerCopyLoop1:
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

// newLab builds the lab of a peer and returns when it works.
func (o *options) newLab(ctx context.Context, peer peer) (*lab, error) {
	spec, change := o.spec(peer)
	w, err := netlab.NewBare(spec, change)
	if err != nil {
		return nil, err
	}
	l := &lab{o: o, world: w, who: peer}
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
	return l.world.StartDirector(netlab.Options{Program: []string{cmp.Or(peer.Program, l.o.director)}, Log: l.o.log})
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

// measure takes the figures that are asked for.
func (l *lab) measure(ctx context.Context) (map[string]float64, error) {
	got := map[string]float64{}
	// Neighbours are found and caches filled before anything counts.
	if _, err := l.client(ctx, "rtt", l.o.warm, l.o.warm); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	for _, mode := range l.o.modes() {
		if l.who.TCPOnly && strings.HasPrefix(mode, "flood") {
			continue
		}
		run := l.client
		switch mode {
		case "segments":
			run = l.segments
		case "flood", "flood8", "flood64", "flood4096":
			run = l.flood
		}
		before, err1 := busy()
		start := time.Now()
		figures, err := run(ctx, mode, l.o.warm, l.o.span)
		after, err2 := busy()
		if err := errors.Join(err, err1, err2); err != nil {
			return nil, err
		}
		costs(figures, float64(after-before)/float64(time.Since(start)))
		maps.Copy(got, figures)
	}
	return got, nil
}

// modesOf says which client a figure comes from.
var modesOf = map[string]string{
	figureUp: "up", figureDown: "down", figureUDP: "flood", figureSeg: "segments",
	figureU8: "flood8", figureU64: "flood64", figureU4k: "flood4096", figureConn: "conn", figureP50: "rtt", figureP99: "rtt",
	figureUp4: "up4", figureDown4: "down4", figureP999: "rtt", figureL50: "rttload", figureL99: "rttload", figureL999: "rttload",
	figureCPUGB: "up", figureCPUPacket: "flood",
}

// modes are the clients that the wanted figures need, each once.
func (o *options) modes() (modes []string) {
	for _, f := range o.figures {
		if m := modesOf[f]; !slices.Contains(modes, m) {
			modes = append(modes, m)
		}
	}
	return modes
}

// client runs one client to its end and returns its figures.
func (l *lab) client(ctx context.Context, mode string, warm, span time.Duration) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, warm+span+2*callLimit)
	defer cancel()
	p := l.world.Plan()
	var out, complaint strings.Builder
	cmd := command(ctx, l.o.self, loadCommand, mode, p.VIP.String(), warm.String(), span.String())
	cmd.Stdout, cmd.Stderr = &out, &complaint
	ended, err := l.world.Namespace(p.Client.Name).Start(cmd)
	if err != nil {
		return nil, err
	}
	if err := <-ended; err != nil {
		return nil, fmt.Errorf("%s: %w: %s", mode, errors.Join(err, ctx.Err()), strings.TrimSpace(complaint.String()))
	}
	var figures map[string]float64
	return figures, json.Unmarshal([]byte(out.String()), &figures)
}

// flood runs the sender and asks the server twice what has arrived.
func (l *lab) flood(ctx context.Context, mode string, warm, span time.Duration) (map[string]float64, error) {
	sent := make(chan error, 1)
	go func() {
		_, err := l.client(ctx, mode, warm, span)
		sent <- err
	}()
	rate, err := l.arrivals(ctx, warm, span)
	if failed := <-sent; failed != nil || err != nil {
		return nil, errors.Join(failed, err)
	}
	for figure, m := range modesOf {
		if m == mode && figure != figureCPUPacket {
			return map[string]float64{figure: rate}, nil
		}
	}
	return nil, fmt.Errorf("%s is no figure's", mode)
}

// segments runs a client without offload, as one behind a wire: what it sends comes to the peer segment by segment.
func (l *lab) segments(ctx context.Context, mode string, warm, span time.Duration) (figures map[string]float64, err error) {
	client := l.world.Plan().Client.Name
	if err := l.world.SetOffload(client, false); err != nil {
		return nil, err
	}
	figures, err = l.client(ctx, mode, warm, span)
	return figures, errors.Join(err, l.world.SetOffload(client, true))
}

// arrivals is how many datagrams a second reach the server's socket.
func (l *lab) arrivals(ctx context.Context, warm, span time.Duration) (float64, error) {
	var n, at [2]int64
	for i, pause := range []time.Duration{warm, span} {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pause):
		}
		line, err := l.server.ask("count")
		if err != nil {
			return 0, err
		}
		if _, err := fmt.Sscan(line, &n[i], &at[i]); err != nil {
			return 0, fmt.Errorf("the server said %q: %w", line, err)
		}
	}
	return float64(n[1]-n[0]) / (float64(at[1]-at[0]) / float64(time.Second)), nil
}
