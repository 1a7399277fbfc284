package director

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tapdirector/conf"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// The world of this package's tests: two interfaces over tap.Memory, servers with known MACs, and no goroutine: tests call a worker's steps.

const (
	ext = 0 // interface 0, towards the clients
	in  = 1 // interface 1, towards the servers
)

var (
	extMAC    = stack.MAC{2, 0, 0, 0, 0xaa, 1}
	inMAC     = stack.MAC{2, 0, 0, 0, 0xaa, 2}
	clientMAC = stack.MAC{2, 0, 0, 0, 0xcc, 1}
)

func serverMAC(i int) stack.MAC { return stack.MAC{2, 0, 0, 0, 0x55, byte(i + 1)} }

// worldSpec says which world: zero values are nat, IPv4, TCP, three servers, offload, MTU 1500.
type worldSpec struct {
	family  int
	outer   int // the servers' family, where it is another
	method  string
	proto   string
	servers int
	mtu     int
	plain   bool   // no offload on the inner interface
	ext, in string // more lines for each [[interface]]
	sched   string // rr
	service string // more lines for the [[service]]
	tail    string // more tables
	listen  string // of the [[service]], in TOML; empty: its VIP and port 80
	noPort  bool   // servers' ports are not in the config
	unknown bool   // servers' MACs are not in the config
	dips    int    // of the inner interface; 0: one
	queues  int    // of each interface; 0: one
}

type world struct {
	tb   testing.TB
	spec worldSpec
	*Director
	memory [2]*tap.Memory
	later  time.Duration // how far the world's time is ahead of the clock
}

func (s *worldSpec) setDefaults() {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&s.method, "nat")
	set(&s.proto, "tcp")
	set(&s.sched, "rr")
	if s.family == 0 {
		s.family = 4
	}
	if s.outer == 0 {
		s.outer = s.family
	}
	if s.servers == 0 {
		s.servers = 3
	}
	if s.mtu == 0 {
		s.mtu = 1500
	}
}

// addr returns host h of subnet n in the world's family.
func (s *worldSpec) addr(n, h int) netip.Addr {
	if s.family == 6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:77:%d::%x", n, h))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.77.%d.%d", n, h))
}

func (s *worldSpec) vip() netip.AddrPort    { return netip.AddrPortFrom(s.addr(1, 100), 80) }
func (s *worldSpec) client() netip.AddrPort { return netip.AddrPortFrom(s.addr(1, 2), 40000) }
func (s *worldSpec) server(i int) netip.AddrPort {
	switch s.method {
	case "dr":
		return netip.AddrPortFrom(s.addr(2, 11+i), 80)
	case "tun", "fullnat":
		port := map[string]uint16{"tun": 80, "fullnat": 8000}[s.method]
		o := worldSpec{family: s.outer}
		return netip.AddrPortFrom(o.addr(2, 11+i), port)
	}
	return netip.AddrPortFrom(s.addr(2, 11+i), 8000)
}

// toml writes the world's lb.toml.
func (s *worldSpec) toml() string {
	bits := 24
	if s.family == 6 {
		bits = 64
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[[interface]]\nname = \"ext\"\ntap = \"tap0\"\nmac = %q\naddresses = [\"%v/%d\"]\n%s\n", mac(extMAC), s.addr(1, 1), bits, s.ext)
	fmt.Fprintf(&b, "[[interface]]\nname = \"in\"\ntap = \"tap1\"\nmac = %q\naddresses = [%s]\n%s\n", mac(inMAC), s.innerDIPs(bits), s.in)
	listen, scheduler := s.listen, fmt.Sprintf("scheduler = %q", s.sched)
	if listen == "" {
		listen = fmt.Sprintf("%q", s.vip())
	}
	if strings.Contains(s.service, "scheduler =") {
		scheduler = ""
	}
	fmt.Fprintf(&b, "[[service]]\nname = \"web\"\nlisten = %s\nprotocol = %q\nmethod = %q\n%s\n%s\n", listen, s.proto, s.method, scheduler, s.service)
	for i := range s.servers {
		address := s.server(i).String()
		if s.noPort {
			address = s.server(i).Addr().String()
		}
		fmt.Fprintf(&b, "[[service.server]]\naddress = %q\n", address)
		if !s.unknown {
			fmt.Fprintf(&b, "mac = %q\n", mac(serverMAC(i)))
		}
	}
	return b.String() + s.tail
}

// innerDIPs are one, or as many as the world wants; and one of the servers' family where that is another.
func (s *worldSpec) innerDIPs(bits int) string {
	var dips []string
	for i := range max(s.dips, 1) {
		dips = append(dips, fmt.Sprintf("\"%v/%d\"", s.addr(2, 1+i), bits))
	}
	if s.outer != s.family {
		dips = append(dips, fmt.Sprintf("\"%v/%d\"", (&worldSpec{family: s.outer}).addr(2, 1), map[int]int{4: 24, 6: 64}[s.outer]))
	}
	return strings.Join(dips, ", ")
}

func mac(m stack.MAC) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// newWorld builds a world; nothing runs in it but what the test calls.
func newWorld(tb testing.TB, s worldSpec) *world {
	tb.Helper()
	s.setDefaults()
	c, err := conf.Parse(strings.NewReader(s.toml()), "lb.toml")
	if err != nil {
		tb.Fatalf("%v\n%s", err, s.toml())
	}
	w := &world{tb: tb, spec: s}
	all := tap.Offload{Csum: true, TSO4: true, TSO6: true, USO: true}
	var devices []*tap.Device
	for i, name := range []string{"tap0", "tap1"} {
		o := tap.MemoryOptions{Name: name, Queues: s.queues, MTU: s.mtu, Offload: all}
		if i == in && s.plain {
			o.Offload = tap.Offload{}
		}
		dev, m := tap.NewMemory(o)
		w.memory[i], devices = m, append(devices, dev)
	}
	w.Director, err = New(Options{Config: c, Devices: devices, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		w.host.Close()
		for _, d := range devices {
			d.Close()
		}
	})
	return w
}

// worker returns the worker of an interface, ready for a step.
func (w *world) worker(iface int) *worker {
	k := w.workers[iface*max(w.spec.queues, 1)]
	k.open(w.view.Load(), w.clock()+w.later)
	return k
}

// sent is a frame that left, and where.
type sent struct {
	iface int
	frame tap.Frame
}

// step carries one frame that came in on an interface and returns the verdict and what left.
func (w *world) step(iface int, f tap.Frame) (Verdict, []sent) {
	w.tb.Helper()
	k := w.worker(iface)
	v := k.one(&f)
	var left []sent
	for i := range k.outs {
		for _, g := range k.outs[i].batch {
			left = append(left, sent{i, g.Clone()})
		}
		k.outs[i].batch = k.outs[i].batch[:0]
	}
	k.flush()
	k.settle()
	for _, l := range left {
		w.checkFrame(&l.frame)
	}
	return v, left
}

// one carries a frame alone.
func (w *worker) one(f *tap.Frame) Verdict {
	frames := [1]tap.Frame{*f}
	w.looked = 0
	w.lookAll(frames[:])
	*f = frames[0]
	return w.step(f, &w.looks[0])
}

// checkFrame fails the test when a frame that left is not right in itself.
func (w *world) checkFrame(f *tap.Frame) {
	w.tb.Helper()
	g, p := f.Clone(), stack.Packet{}
	if r := stack.Parse(&g, &p); r != stack.ReasonNone {
		w.tb.Fatalf("a frame left that does not parse: %v: %s", r, stack.Describe(f.Bytes()))
	}
	if w.spec.method == "tun" && p.Dst.Netip() == w.spec.server(0).Addr() {
		return // the tests of tunnels look inside
	}
	if !stack.ChecksumOK(&g, &p) {
		w.tb.Fatalf("a frame left with a wrong checksum: %s", stack.Describe(f.Bytes()))
	}
}

func (w *world) proto() uint8 {
	return protocols[w.spec.proto]
}

// base is a packet that came in on an interface.
func (w *world) base(iface int, src, dst netip.AddrPort) packettest.Spec {
	s := packettest.Spec{SrcMAC: clientMAC, DstMAC: extMAC, Src: src, Dst: dst, Proto: w.proto(), DF: true}
	if iface == in {
		s.SrcMAC, s.DstMAC = serverMAC(0), inMAC
	}
	return s
}

// toVIP is a client's packet to the service.
func (w *world) toVIP(flags uint8) tap.Frame { return w.toVIPSpec(flags).Frame() }

func (w *world) toVIPSpec(flags uint8) packettest.Spec {
	s := w.base(ext, w.spec.client(), w.spec.vip())
	s.Flags, s.Payload = flags, []byte("hello")
	return s
}

// fromServer is server i's packet to the client.
func (w *world) fromServer(i int, flags uint8) tap.Frame { return w.fromServerSpec(i, flags).Frame() }

func (w *world) fromServerSpec(i int, flags uint8) packettest.Spec {
	s := w.base(in, w.spec.server(i), w.spec.client())
	s.SrcMAC, s.Flags, s.Payload = serverMAC(i), flags, []byte("hello back")
	return s
}

// pass lets time go by: d, in steps in which the janitor does its work.
func (w *world) pass(d time.Duration) {
	for range 100 {
		w.later += d / 100
		w.tidy(w.clock() + w.later)
	}
}

// fromPort is a client's packet to the service from a port of its own.
func (w *world) fromPort(port uint16, flags uint8) packettest.Spec {
	s := w.toVIPSpec(flags)
	s.Src = netip.AddrPortFrom(s.Src.Addr(), port)
	return s
}

// reaches returns which server a client's packet goes to; it fails the test when it goes to none.
func (w *world) reaches(s packettest.Spec) int {
	w.tb.Helper()
	v, left := w.step(ext, s.Frame())
	if len(left) != 1 || left[0].iface != in {
		w.tb.Fatalf("verdict %v with %d frames, want one to a server", v, len(left))
	}
	for i := range w.spec.servers {
		if stack.DstMAC(left[0].frame.Bytes()) == serverMAC(i) {
			return i
		}
	}
	w.tb.Fatalf("to no server: %s", stack.Describe(left[0].frame.Bytes()))
	return -1
}

// answerTo is what the server says to whoever sent it the frame.
func (w *world) answerTo(f *tap.Frame, flags uint8) packettest.Spec {
	w.tb.Helper()
	g, p := f.Clone(), stack.Packet{}
	if r := stack.Parse(&g, &p); r != stack.ReasonNone {
		w.tb.Fatal(r)
	}
	s := w.base(in, endpoint(p.Dst, p.DstPort), endpoint(p.Src, p.SrcPort))
	s.SrcMAC, s.Flags, s.Payload = stack.DstMAC(g.Bytes()), flags, []byte("hello back")
	return s
}
