package memlan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"tapdirector/conf"
	"tapdirector/integration"
	"tapdirector/tap"
)

// What a World is as an integration.Lab, beyond the plan that it was built from.

// running is a director's task.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// DialFrom connects a host to an address, from one of its own if that is valid.
func (w *World) DialFrom(ctx context.Context, host, network string, from, to netip.AddrPort) (net.Conn, error) {
	for _, h := range w.everyHost() {
		if h.Name == host {
			return h.dialFrom(ctx, network, from, to)
		}
	}
	return nil, fmt.Errorf("there is no host %s", host)
}

func (h *Host) dialFrom(ctx context.Context, network string, from, to netip.AddrPort) (net.Conn, error) {
	if !from.IsValid() {
		return h.Dial(ctx, network, to)
	}
	local, remote := fullAddress(from), fullAddress(to)
	if network == "udp" {
		return gonet.DialUDP(h.stack, &local, &remote, protocol(to.Addr()))
	}
	return gonet.DialTCPWithBind(ctx, h.stack, local, remote, protocol(to.Addr()))
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{Addr: address(a.Addr()), Port: a.Port()}
}

// AddAddress gives a host another address on its first leg.
func (w *World) AddAddress(host string, p netip.Prefix) error {
	for _, h := range w.everyHost() {
		if h.Name == host {
			return h.addAddress(1, p)
		}
	}
	return fmt.Errorf("there is no host %s", host)
}

// Restart ends the director and starts one on new devices in the places of the old ones.
func (w *World) Restart() error {
	w.running.cancel()
	if err := w.closeDevices(); err != nil {
		return err
	}
	<-w.running.done
	for _, d := range w.devices {
		d.open(w)
	}
	return w.startDirector()
}

// Reload is director.Reload.
func (w *World) Reload(edit func(text string) string) error {
	text := edit(w.Config)
	config, err := conf.Parse(strings.NewReader(text), "lb.toml")
	if err != nil {
		return err
	}
	if err := w.director.Reload(config); err != nil {
		return err
	}
	w.Config = text
	return nil
}

// closeDevices closes the devices; those of a trunk share one, which may be closed twice.
func (w *World) closeDevices() error {
	var failures []error
	for _, d := range w.devices {
		failures = append(failures, d.dev.Close())
	}
	return errors.Join(failures...)
}

// SetWeight changes a server's weight.
func (w *World) SetWeight(service string, server netip.AddrPort, weight int) error {
	return w.director.SetWeight(service, server, weight)
}

// Inject sends a frame from a port of its own on the client's LAN.
func (w *World) Inject(f *tap.Frame) error {
	if w.injector == nil {
		w.injector = w.Plug(integration.Ext, "injector/ext", func(*tap.Frame) {})
	}
	w.injector.Send(f)
	return nil
}

// SetLinks takes a host's links down, or brings them up.
func (w *World) SetLinks(host string, up bool) error {
	for _, h := range w.everyHost() {
		if h.Name == host {
			for _, l := range h.links {
				l.down.Store(!up)
			}
			return nil
		}
	}
	return fmt.Errorf("there is no host %s", host)
}

// Retransmitted counts segments of any kind that the client sent again.
func (w *World) Retransmitted() uint64 { return w.client.stack.Stats().TCP.Retransmits.Value() }
