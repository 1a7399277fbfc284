//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tapdirector/integration"
	"tapdirector/tap"
)

// What a World is as an integration.Lab, beyond the plan that it was built from.

// errOther is what cannot be done with a director that is another process.
var errOther = errors.New("the director is another process")

// Serve lets a server answer at an address.
func (w *World) Serve(i int, at netip.AddrPort) error {
	h, s := w.hosts[1+i], w.servers[i]
	l, err := h.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	w.serving.Go(func() { w.note(s.Serve(w.ctx, l)) })
	p, err := h.ListenPacket("udp", at.String())
	if err != nil {
		return err
	}
	w.serving.Go(func() { w.note(s.ServePacket(w.ctx, p)) })
	return nil
}

// DialFrom connects a host to an address, from one of its own if that is valid.
func (w *World) DialFrom(ctx context.Context, host, network string, from, to netip.AddrPort) (net.Conn, error) {
	ns := w.Namespace(host)
	if ns == nil {
		return nil, fmt.Errorf("there is no host %s", host)
	}
	return ns.DialFrom(ctx, network, from, to)
}

// DialFrom is Dial from an address and port, if that is valid. The port may be that of a connection that is over.
func (n *Namespace) DialFrom(ctx context.Context, network string, from, to netip.AddrPort) (c net.Conn, err error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return err
	}}
	switch {
	case from.IsValid() && network == "udp":
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	case from.IsValid():
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	err = n.Do(func() error {
		c, err = d.DialContext(ctx, network, to.String())
		return err
	})
	return c, err
}

// AddAddress gives a host another address on its first leg.
func (w *World) AddAddress(host string, p netip.Prefix) error {
	ns := w.Namespace(host)
	if ns == nil {
		return fmt.Errorf("there is no host %s", host)
	}
	if err := ns.address(legName(0), p); err != nil {
		return err
	}
	if err := waitFor(readyLimit, func() bool { return ns.listens(p.Addr()) }); err != nil {
		return fmt.Errorf("address %v of %s is not ready: %w", p, host, err)
	}
	return nil
}

// listens reports whether the kernel hears neighbour solicitations for an address: it joins their group a little later than it takes the address for its own.
func (n *Namespace) listens(a netip.Addr) (yes bool) {
	if a.Is4() {
		return true
	}
	b := a.As16()
	group := fmt.Sprintf("ff0200000000000000000001ff%x", b[13:])
	n.Do(func() error {
		groups, err := os.ReadFile("/proc/thread-self/net/igmp6")
		yes = strings.Contains(string(groups), group)
		return err
	})
	return yes
}

// Restart ends the director and starts one on the same TAPs, which the kernel makes anew.
func (w *World) Restart() error {
	if err := w.running.stop(); err != nil {
		return err
	}
	return w.startDirector()
}

// Reload makes what edit makes of the lb.toml in force the one in force, or tells the director's process to.
func (w *World) Reload(edit func(text string) string) error {
	text := edit(w.config)
	if err := w.running.reload(text); err != nil {
		return err
	}
	w.config = text
	return nil
}

// SetWeight changes a server's weight.
func (w *World) SetWeight(service string, server netip.AddrPort, weight int) error {
	h, ok := w.running.(*here)
	if !ok {
		return errOther
	}
	return h.Director.SetWeight(service, server, weight)
}

// Inject sends a frame out of the client's link; its virtio header is not looked at.
func (w *World) Inject(f *tap.Frame) error {
	if w.hand == nil {
		file, err := openRaw(w.Namespace("client"), w.LinkName("client", integration.Ext))
		if err != nil {
			return err
		}
		w.hand = file
	}
	_, err := w.hand.Write(f.Bytes())
	return err
}

// SetLinks takes the bridges' ends of a host's cables down, or brings them up: the host has no carrier, and keeps its addresses.
func (w *World) SetLinks(host string, up bool) error {
	for _, h := range w.hosts {
		if h.Name != host {
			continue
		}
		for _, leg := range h.plan.Legs {
			if err := w.director.setLink(portName(host, leg.LAN), up); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("there is no host %s", host)
}

// openRaw opens a packet socket that only sends.
func openRaw(ns *Namespace, link string) (f *os.File, err error) {
	l, err := ns.link(link)
	if err != nil {
		return nil, err
	}
	err = ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "packet:"+link)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index})
	})
	if err != nil && f != nil {
		f.Close()
	}
	return f, err
}

// Retransmitted counts the SYNs that the client's kernel sent again.
func (w *World) Retransmitted() uint64 {
	counters, err := w.Namespace("client").Counters()
	w.note(err)
	return counters["TcpExt.TCPSynRetrans"]
}
