//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"tapdirector/integration"
	"tapdirector/integration/uml"
)

// Other balancers in the director's place
//
//	nftables   the director's namespace has the director's addresses on its bridges, forwards, and translates by one rule
//	haproxy    the same addresses; HAProxy listens at the VIP and splices. It ends connections, so TCP only
//	lvs-*      a guest of user-mode Linux with ip_vs on the TAPs that the director would have
//
// All have the addresses that the plan gives the director, so clients and servers are told nothing new. A gateway's MAC is the bridge's own.

// missing says what a peer lacks here; nil: nothing.
func (p peer) missing() error {
	switch p.Key {
	case peerNftables:
		_, err := exec.LookPath("nft")
		return err
	case peerHAProxy:
		_, err := exec.LookPath("haproxy")
		return err
	case peerLVSNAT, peerLVSDR:
		_, err := exec.LookPath("ipvsadm")
		return errors.Join(uml.Available(), err)
	}
	return nil
}

// route gives the director's namespace the director's addresses, and has it forward.
func (l *lab) route() error {
	p, ns := l.world.Plan(), l.world.Namespace("director")
	err := ns.Sysctl(map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/disable_ipv6": "0", "ipv6/conf/all/forwarding": "1",
		"ipv4/ip_local_port_range": "1024 65535", "ipv4/tcp_tw_reuse": "1",
	})
	for _, i := range p.Interfaces {
		bridge := l.world.Bridge(i.Name)
		err = errors.Join(err, ns.Sysctl(map[string]string{"ipv6/conf/" + bridge + "/disable_ipv6": "0"}))
		for _, a := range i.Addresses {
			err = errors.Join(err, ns.Address(bridge, a))
		}
		if i.Name == integration.Ext {
			err = errors.Join(err, ns.Address(bridge, netip.PrefixFrom(p.VIP.Addr(), p.VIP.Addr().BitLen())))
		}
	}
	return err
}

// inDirector runs a program in the director's namespace to its end.
func (l *lab) inDirector(ctx context.Context, input, name string, args ...string) error {
	var said strings.Builder
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	cmd := command(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &said, &said
	ended, err := l.world.Namespace("director").Start(cmd)
	if err == nil {
		err = <-ended
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// startNftables has the kernel translate.
func (l *lab) startNftables(ctx context.Context) error {
	if err := l.route(); err != nil {
		return err
	}
	return l.inDirector(ctx, nftRules(l.world.Plan()), "nft", "-f", "-")
}

// nftRules send what is for the VIP to the server.
func nftRules(p *integration.Plan) string {
	family, to := "ip", p.Servers[0].Listen
	if to.Addr().Is6() {
		family = "ip6"
	}
	return fmt.Sprintf(`table %[1]s bench {
	chain in {
		type nat hook prerouting priority dstnat
		%[1]s daddr %[2]v meta l4proto { tcp, udp } th dport %[3]d dnat to %[4]v
	}
}
`, family, p.VIP.Addr(), p.VIP.Port(), to)
}

// startHAProxy starts it and waits until it listens.
func (l *lab) startHAProxy(ctx context.Context) error {
	if err := l.route(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tapdirector-bench-")
	if err != nil {
		return err
	}
	l.dir = dir
	file, p := filepath.Join(dir, "haproxy.cfg"), l.world.Plan()
	if err := os.WriteFile(file, []byte(haproxyConfig(p)), 0o600); err != nil {
		return err
	}
	path, err := exec.LookPath("haproxy")
	if err != nil {
		return err
	}
	if l.peer, err = startSilent(ctx, l.world.Namespace("director").Start, path, "-db", "-f", file); err != nil {
		return err
	}
	return l.awaitListener(ctx)
}

// awaitListener waits until the VIP takes connections in the director's namespace.
func (l *lab) awaitListener(ctx context.Context) error {
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(10 * time.Millisecond) {
		c, err := l.world.Namespace("director").Dial(ctx, "tcp", l.world.Plan().VIP.String())
		if err == nil {
			return c.Close()
		}
		if e := l.peer.ended(); e != nil {
			return e
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen: %w", l.peer.name, err)
		}
	}
}

func haproxyConfig(p *integration.Plan) string {
	return fmt.Sprintf(`global
	maxconn 2000
defaults
	mode tcp
	option splice-auto
	timeout connect 10s
	timeout client 1m
	timeout server 1m
listen web
	bind %v
	server s1 %v
`, p.VIP, p.Servers[0].Listen)
}

// startLVS boots a guest with ip_vs and gives it the director's addresses and services.
func (l *lab) startLVS(peer peer) (err error) {
	p, w := l.world.Plan(), l.world
	var taps []string
	for i, lan := range p.LANs {
		name := fmt.Sprintf("tap%d", i)
		if err := w.AddTAP(name, lan); err != nil {
			return err
		}
		taps = append(taps, name)
	}
	l.guest, err = uml.Boot(w.Namespace("director"), uml.Options{Name: peer.Key, TAPs: taps, Modules: []string{"ip_vs", "ip_vs_rr"}, Large: true})
	if err != nil {
		return err
	}
	for _, line := range lvsOrders(p) {
		if _, err := l.guest.Run(line); err != nil {
			return err
		}
	}
	return nil
}

// lvsOrders are the guest's addresses, settings and services.
func lvsOrders(p *integration.Plan) []string {
	orders := []string{"ip link set lo up", "echo 1 > /proc/sys/net/ipv4/ip_forward", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
		"echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad", "echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects"}
	for i, at := range p.Interfaces {
		orders = append(orders, fmt.Sprintf("ip link set vec%d address %x:%x:%x:%x:%x:%x", i, at.MAC[0], at.MAC[1], at.MAC[2], at.MAC[3], at.MAC[4], at.MAC[5]),
			fmt.Sprintf("echo 0 > /proc/sys/net/ipv4/conf/vec%d/send_redirects", i), fmt.Sprintf("ip link set vec%d up", i))
		for _, a := range at.Addresses {
			orders = append(orders, fmt.Sprintf("ip addr add %v dev vec%d%s", a, i, nodad(a.Addr().Is6())))
		}
	}
	orders = append(orders, fmt.Sprintf("ip addr add %v/%d dev vec0%s", p.VIP.Addr(), p.VIP.Addr().BitLen(), nodad(p.VIP.Addr().Is6())))
	method := map[string]string{"nat": "-m", "dr": "-g"}[p.Spec.Method]
	for _, proto := range []string{"-t", "-u"} {
		orders = append(orders, fmt.Sprintf("ipvsadm -A %s %v -s rr", proto, p.VIP),
			fmt.Sprintf("ipvsadm -a %s %v -r %v:%d %s", proto, p.VIP, bracketed(p), p.Servers[0].Listen.Port(), method))
	}
	return orders
}

// bracketed is the RIP as ipvsadm wants it before a port.
func bracketed(p *integration.Plan) string {
	if rip := p.Servers[0].Addr(); rip.Is6() {
		return "[" + rip.String() + "]"
	}
	return p.Servers[0].Addr().String()
}

func nodad(is6 bool) string {
	if is6 {
		return " nodad"
	}
	return ""
}
