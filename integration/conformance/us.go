package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tapdirector/conf"
	"tapdirector/director"
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// us is tapdirector as a side: a fresh director for each case.
type us struct {
	departures chan departure
	director   *director.Director
	memory     [numLinks]*tap.Memory
	c          *testCase
	sent       uint64
	stop       func() error
}

func newUs() *us { return &us{departures: make(chan departure, 4096)} }

func (u *us) Departures() <-chan departure { return u.departures }

// Begin starts a director with the services of c.
func (u *us) Begin(c *testCase) error {
	if err := u.Close(); err != nil {
		return err
	}
	config, err := conf.Parse(strings.NewReader(toml(c)), "lb.toml")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, toml(c))
	}
	var devices []*tap.Device
	for l := range link(numLinks) {
		d, m := tap.NewMemory(tap.MemoryOptions{Name: l.String(), MTU: mtuOf(c, l)})
		m.OnWrite(func(_ int, f *tap.Frame) { u.departures <- departure{l, slices.Clone(f.Bytes())} })
		devices, u.memory[l] = append(devices, d), m
	}
	u.c, u.sent = c, 0
	u.director, err = director.New(director.Options{Config: config, Devices: devices, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.director.Run(ctx) }()
	u.stop = func() error {
		cancel()
		for _, d := range devices {
			d.Close()
		}
		return <-done
	}
	return nil
}

func mtuOf(c *testCase, l link) int {
	if c.mtu[l] > 0 {
		return c.mtu[l]
	}
	return 1500
}

// Close ends the director of the last case.
func (u *us) Close() error {
	if u.stop == nil {
		return nil
	}
	err := u.stop()
	u.stop = nil
	for len(u.departures) > 0 {
		<-u.departures
	}
	return err
}

// readLimit is how long the director may take to read a frame.
const readLimit = 5 * time.Second

// Send hands a frame over and waits until it was carried: what leaves on its way leaves before that.
func (u *us) Send(l link, b []byte) error {
	f := tap.NewFrame(tap.Header{}, b)
	if !u.memory[l].Send(0, &f) {
		return errors.New("the device in memory did not take the frame")
	}
	u.sent++
	for limit := time.Now().Add(readLimit); u.director.FramesRead() < u.sent; time.Sleep(20 * time.Microsecond) {
		if time.Now().After(limit) {
			return errors.New("the director does not read")
		}
	}
	return nil
}

// Busy reports whether frames wait for a MAC.
func (u *us) Busy() bool {
	var parked, gone uint64
	for _, c := range u.director.Counters() {
		switch c.Name {
		case "neighbours_parked":
			parked += c.Value
		case "neighbours_parked_sent", "neighbours_park_dropped":
			gone += c.Value
		}
	}
	return parked > gone
}

// protocolNames are LVS's.
var protocolNames = map[uint8]string{stack.ProtoTCP: "TCP", stack.ProtoUDP: "UDP", stack.ProtoSCTP: "SCTP"}

func (u *us) Conns() (list []connection, err error) {
	u.director.Connections(func(c *flow.Conn, left time.Duration) bool {
		conn := connection{state: c.State.String(), expires: left, proto: protocolNames[c.Proto]}
		conn.client = addrPort(c.Client, c.ClientPort)
		conn.virtual = addrPort(c.Virtual, c.VirtualPort)
		conn.real = addrPort(c.Server, c.ServerPort)
		list = append(list, conn)
		return true
	})
	u.director.Templates(func(t director.Template) bool {
		list = append(list, u.template(t))
		return true
	})
	return list, nil
}

// template writes a template as LVS lists it: as a connection from port 0, to where the service listens, or to a firewall mark where that is several.
func (u *us) template(t director.Template) connection {
	var n int
	fmt.Sscanf(t.Service, "s%d", &n)
	v := u.c.services[n]
	c := connection{proto: strings.ToUpper(v.proto), state: "NONE", client: netip.AddrPortFrom(t.Clients.Addr(), 0), virtual: v.ends()[0], real: t.Server, expires: t.Expires}
	if t.Assured {
		c.state = "ASSURED"
	}
	if len(v.listen) > 1 {
		c.proto, c.virtual = "IP", v.markEnd()
	}
	return c
}

func (u *us) Counts() (lines []string, err error) {
	type counts struct{ weight, active, inactive uint64 }
	servers := map[string]*counts{}
	for _, c := range u.director.Counters() {
		if len(c.Labels) != 2 || !strings.HasPrefix(c.Labels[1], "server=") {
			continue
		}
		who := strings.Join(c.Labels, " ")
		if servers[who] == nil {
			servers[who] = &counts{}
		}
		switch c.Name {
		case "server_weight":
			servers[who].weight = c.Value
		case "server_active_connections":
			servers[who].active = c.Value
		case "server_inactive_connections":
			servers[who].inactive = c.Value
		}
	}
	for who, c := range servers {
		_, address, _ := strings.Cut(who, "server=")
		ap, err := endpoint(address, u.c.family)
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("%s weight %d active %d inactive %d", named(ap), c.weight, c.active, c.inactive))
	}
	slices.Sort(lines)
	return lines, nil
}

// Change has the director reload an lb.toml with all; a weight alone goes without.
func (u *us) Change(verb string, r realServer, all []realServer) error {
	if verb == "weight" {
		return u.director.SetWeight("s0", r.end(), r.weight)
	}
	c, v := *u.c, *u.c.services[0]
	v.servers = all
	c.services = append([]*virtualService{&v}, u.c.services[1:]...)
	config, err := conf.Parse(strings.NewReader(toml(&c)), "lb.toml")
	if err != nil {
		return err
	}
	return u.director.Reload(config)
}

// toml writes the lb.toml of a case.
func toml(c *testCase) string {
	var b strings.Builder
	for l := range link(numLinks) {
		dip := [...]string{"dip", "indip"}[l]
		four, _ := hostNamed(dip, 4)
		six, _ := hostNamed(dip, 6)
		fmt.Fprintf(&b, "[[interface]]\nname = %q\ntap = \"tap%d\"\nmac = %q\naddresses = [\"%v/24\", \"%v/64\"]\nforward = true\n%s\n", l.String(), l,
			net.HardwareAddr(ourMAC[l][:]), four.addr, six.addr, c.ifaces[l])
	}
	for _, family := range []int{4, 6} {
		gw, _ := hostNamed("gw", family)
		fmt.Fprintf(&b, "[[route]]\nto = %q\nvia = \"%v\"\n\n", map[int]string{4: "0.0.0.0/0", 6: "::/0"}[family], gw.addr)
	}
	for i, v := range c.services {
		v.toml(&b, i)
	}
	timeouts := []string{"tcp", "tcpfin", "udp"}
	b.WriteString("[timeouts]\n")
	for i, n := range c.timeouts {
		if n > 0 {
			fmt.Fprintf(&b, "%s = %d\n", timeouts[i], n)
		}
	}
	b.WriteString(strings.Join(c.config, "\n") + "\n")
	return b.String()
}

func addrPort(a stack.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Netip(), port) }
