package integration_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tapdirector/conf"
	"tapdirector/director"
	"tapdirector/integration/memlan"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// The world that FuzzForward throws frames at: one director with services of every kind, on three devices that differ in offload and MTU, so that what
// comes in must be carried on whole, cut, fragmented or refused. It lives as long as the process: connections and neighbours of earlier frames are there for later
// ones. Servers have fixed MACs; whoever else the director asks for, answers at once.
const fuzzConfig = `
[[interface]]
name = "ext"
tap = "tap0"
mac = "02:00:00:00:aa:00"
addresses = ["10.77.1.1/24", "2001:db8:77:1::1/64"]
forward = true
[[interface]]
name = "int"
tap = "tap1"
mac = "02:00:00:00:aa:01"
addresses = ["10.77.2.1/24", "2001:db8:77:2::1/64"]
forward = true
[[interface]]
name = "wan"
tap = "tap2"
mac = "02:00:00:00:aa:02"
addresses = ["10.77.3.1/24", "2001:db8:77:3::1/64"]
forward = true
masquerade = true
[[interface]]
name = "red"
tap = "tap3"
mac = "02:00:00:00:aa:03"
addresses = ["10.77.4.1/24", "2001:db8:77:4::1/64"]
vlan = 100
[[interface]]
name = "blue"
tap = "tap3"
mac = "02:00:00:00:aa:04"
addresses = ["10.77.5.1/24", "2001:db8:77:5::1/64"]
vlan = 200
[[route]]
to = "0.0.0.0/0"
via = "10.77.3.254"
[[route]]
to = "::/0"
via = "2001:db8:77:3::fe"
[limits]
connections = 65536
icmp_rate = 1000000
host_rate = 1000
[timeouts]
tcp = 2
`

// fuzzTrunk is the device of the last two interfaces, and their VLANs.
const fuzzTrunk = 3

var fuzzVLANs = []uint16{100, 200}

// fuzzDevices are the devices of fuzzConfig in order.
var fuzzDevices = []tap.MemoryOptions{
	{Name: "tap0", MTU: 1500, Offload: tap.Offload{Csum: true, TSO4: true, TSO6: true, USO: true}},
	{Name: "tap1", MTU: 1400},
	{Name: "tap2", MTU: 1300, Offload: tap.Offload{Csum: true, TSO4: true}},
	{Name: "tap3", MTU: 1450, Offload: tap.Offload{Csum: true, TSO4: true, TSO6: true, USO: true}},
}

// fuzzServices renders a service of each method, family and protocol, on ports 80 (nat), 81 (dr), 82 (nat, no server), 83 (dr, no server, silent), 85 (fullnat),
// 86 (fullnat, with toa), 87 to 89 (tun: ipip; gue to a server of the other family; gre, fragmented outside), 70 and 71 (fullnat to a server of the other
// family, without and with toa); on 84 is none.
func fuzzServices() string {
	var b strings.Builder
	nets := []string{"10.77.%d.%d", "[2001:db8:77:%d::%d]"}
	tunnels := []string{"", "tunnel = \"gue\"\ntunnel_csum = true\nmss_clamp = 1000\n", "tunnel = \"gre\"\ntunnel_csum = true\npmtu_disc = false\ntunnel_ttl = 0\n"}
	for family, net := range nets {
		for _, protocol := range []string{"tcp", "udp", "sctp"} {
			for i, kind := range [][3]string{{"nat", "1", "reject"}, {"dr", "1", "reject"}, {"nat", "0", "reject"}, {"dr", "0", "drop"},
				{"fullnat", "1", "reject"}, {"fullnat", "1", "drop"}} {
				port := 80 + i
				if port > 83 {
					port++
				}
				extra := ""
				if port == 86 && protocol == "tcp" {
					extra = "toa = true\n"
				}
				fmt.Fprintf(&b, "[[service]]\nname = \"%s-%d-%d\"\nlisten = \"%s:%d\"\nprotocol = %q\nmethod = %q\non_no_server = %q\nscheduler = \"rr\"\n%s",
					protocol, port, len(net), fmt.Sprintf(net, 1, 100), port, protocol, kind[0], kind[2], extra)
				fmt.Fprintf(&b, "[[service.server]]\naddress = \"%s\"\nweight = %s\nmac = \"02:00:00:00:55:01\"\n", fmt.Sprintf(net, 2, 11), kind[1])
			}
			for port := 70; port <= 71; port++ {
				extra := ""
				if port == 71 && protocol == "tcp" {
					extra = "toa = true\n"
				}
				fmt.Fprintf(&b, "[[service]]\nname = \"%s-%d-%d\"\nlisten = \"%s:%d\"\nprotocol = %q\nmethod = \"fullnat\"\nscheduler = \"rr\"\n%s",
					protocol, port, len(net), fmt.Sprintf(net, 1, 100), port, protocol, extra)
				fmt.Fprintf(&b, "[[service.server]]\naddress = \"%s\"\nmac = \"02:00:00:00:55:01\"\n", fmt.Sprintf(nets[1-family], 2, 11))
			}
			for i, tunnel := range tunnels {
				port := 87 + i
				fmt.Fprintf(&b, "[[service]]\nname = \"%s-%d-%d\"\nlisten = \"%s:%d\"\nprotocol = %q\nmethod = \"tun\"\nscheduler = \"rr\"\n%s",
					protocol, port, len(net), fmt.Sprintf(net, 1, 100), port, protocol, tunnel)
				fmt.Fprintf(&b, "[[service.server]]\naddress = \"%s\"\nmac = \"02:00:00:00:55:01\"\n", fmt.Sprintf(nets[(family+i)%2], 2, 11))
			}
			for _, s := range statefulServices {
				if s.protocol == "" || s.protocol == protocol {
					s.render(&b, net, nets[1-family], protocol)
				}
			}
		}
	}
	return b.String()
}

// statefulService is a service that remembers or refuses more than others.
type statefulService struct {
	protocol string // "": all
	subnet   int    // of its VIP; 0: 1
	ports    string
	method   string
	server   int  // subnet of its servers; 0: 2
	other    bool // servers are of the other family
	keys     string
	srvKeys  string // of each server
}

// statefulServices are on ports 90 to 103 and in ranges of 10.77.1.100 and its IPv6 twin, and in the VLANs.
var statefulServices = []statefulService{
	{ports: "90 91", method: "nat", keys: "scheduler = \"rr\"\npersistence_timeout = \"1m\"\npersistence_prefix4 = 28\npersistence_prefix6 = 64"},
	{ports: "92", method: "dr", keys: "persistence_timeout = \"1m\"\nexpire_quiescent_template = true"},
	{protocol: "udp", ports: "93", method: "nat", keys: "one_packet = true"},
	{protocol: "udp", ports: "94", method: "tun", keys: "one_packet = true\ntunnel = \"gue\""},
	{protocol: "tcp", ports: "93", method: "nat", keys: "scheduler = \"mh\"\npickup = true"},
	{protocol: "tcp", ports: "94", method: "dr", keys: "scheduler = \"sh\"\npickup = true\nidle = \"reset\""},
	{protocol: "tcp", ports: "95", method: "nat", keys: "idle = \"reset\""},
	{protocol: "tcp", ports: "96", method: "fullnat", keys: "idle = \"reset\"\ntoa = true"},
	{protocol: "tcp", ports: "97", method: "tun", keys: "idle = \"reset\"\ntunnel = \"gre\""},
	{protocol: "sctp", ports: "93", method: "nat", keys: "scheduler = \"mh\"\npickup = true"},
	{protocol: "sctp", ports: "94", method: "dr", keys: "scheduler = \"sh\"\npickup = true"},
	{ports: "98", method: "nat", keys: "scheduler = \"rr\"", srvKeys: "u_threshold = 3\nl_threshold = 2\n"},
	{ports: "99", method: "fullnat", keys: "deny = [\"10.77.1.0/26\", \"2001:db8:77:1::/120\"]\nallow = [\"0.0.0.0/0\", \"::/0\"]"},
	{ports: "100", method: "dr", keys: "rate_per_source = 50\nburst_per_source = 5"},
	{ports: "101", method: "nat", server: 4}, // untagged in, tagged out
	{ports: "102", method: "fullnat", other: true},
	{ports: "103", method: "fullnat", other: true, server: 4, keys: "idle = \"reset\"\npersistence_timeout = \"1m\""},
	{ports: "6000-6009", method: "nat"},
	{ports: "6100-6109", method: "fullnat"},
	{subnet: 4, ports: "0", method: "nat", server: 5}, // one tag in, another out
	{subnet: 5, ports: "80", method: "dr", server: 4, keys: "idle = \"reset\""},
	{subnet: 5, ports: "81", method: "tun", server: 5, keys: "tunnel = \"ipip\""},
	{subnet: 5, ports: "82", method: "fullnat", server: 2},
}

// render writes the service and its two servers into lb.toml.
func (s statefulService) render(b *strings.Builder, net, other, protocol string) {
	servers := net
	if s.other {
		servers = other
	}
	var listen []string
	vip, ports := max(s.subnet, 1), strings.Fields(s.ports)
	for _, port := range ports {
		listen = append(listen, fmt.Sprintf("%q", fmt.Sprintf(net, vip, 100)+":"+port))
	}
	keys := s.keys
	if protocol != "tcp" { // these are keys of tcp only
		for _, key := range []string{"idle = \"reset\"", "toa = true"} {
			keys = strings.ReplaceAll(keys, key, "")
		}
	}
	fmt.Fprintf(b, "[[service]]\nname = \"%s-%d-%s-%d\"\nlisten = [%s]\nprotocol = %q\nmethod = %q\n%s\n", protocol, vip, ports[0], len(net),
		strings.Join(listen, ", "), protocol, s.method, keys)
	for host := 11; host <= 12; host++ {
		fmt.Fprintf(b, "[[service.server]]\naddress = \"%s\"\nmac = \"02:00:00:00:55:%02x\"\n%s", fmt.Sprintf(servers, max(s.server, 2), host), host-10, s.srvKeys)
	}
}

// fuzzWorld is that world, running.
type fuzzWorld struct {
	d      *director.Director
	devs   []tap.MemoryOptions
	opened []*tap.Device
	memory []*tap.Memory
	sent   atomic.Uint64 // frames that a device took to be read
	cancel context.CancelFunc
	done   chan error

	echoed int // packets that came back from a server of the other family as they were

	mu  sync.Mutex
	out []fuzzOutput // what left since it was last taken
}

type fuzzOutput struct {
	iface int
	frame tap.Frame
}

func newFuzzWorld(tb testing.TB, devs []tap.MemoryOptions) *fuzzWorld {
	tb.Helper()
	c, err := conf.Parse(strings.NewReader(fuzzConfig+fuzzServices()), "fuzz.toml")
	if err != nil {
		tb.Fatal(err)
	}
	w := &fuzzWorld{devs: devs, done: make(chan error, 1)}
	for i, o := range devs {
		dev, m := tap.NewMemory(o)
		m.OnWrite(func(_ int, f *tap.Frame) { w.left(i, f) })
		w.memory, w.opened = append(w.memory, m), append(w.opened, dev)
	}
	w.opened = append(w.opened, w.opened[fuzzTrunk])
	if w.d, err = director.New(director.Options{Config: c, Devices: w.opened, Log: slog.New(slog.DiscardHandler)}); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() { w.done <- w.d.Run(ctx) }()
	return w
}

// close ends the director and waits for it.
func (w *fuzzWorld) close(tb testing.TB) {
	w.cancel()
	for _, m := range w.memory {
		m.Close()
	}
	select {
	case err := <-w.done:
		if err != nil {
			tb.Errorf("run: %v", err)
		}
	case <-time.After(10 * time.Second):
		tb.Error("the director does not end")
	}
}

// left keeps what left, and answers when it asks for a neighbour.
func (w *fuzzWorld) left(iface int, f *tap.Frame) {
	g := f.Clone()
	w.mu.Lock()
	w.out = append(w.out, fuzzOutput{iface, g})
	w.mu.Unlock()
	vlan := uint16(0)
	if iface == fuzzTrunk {
		g = f.Clone()
		vlan, _ = stack.PopTag(&g)
	}
	if b := g.Bytes(); len(b) >= 42 && b[12] == 8 && b[13] == 6 && b[21] == 1 && !bytes.Equal(b[28:32], b[38:42]) {
		answer := packettest.ARP(2, strangerMAC, stack.SrcMAC(b), netip.AddrFrom4([4]byte(b[38:42])), netip.AddrFrom4([4]byte(b[28:32])))
		w.send(iface, tagged(&answer, vlan))
	} else if len(b) >= 78 && b[12] == 0x86 && b[20] == packettest.ICMPv6 && b[54] == 135 {
		answer := fuzzAdvertisement(b).Frame()
		w.send(iface, tagged(&answer, vlan))
	}
}

// tagged puts a tag on f, if vlan is not 0.
func tagged(f *tap.Frame, vlan uint16) *tap.Frame {
	if vlan != 0 {
		stack.PushTag(f, vlan)
	}
	return f
}

// judge is memlan.Check of a frame on a device: on the trunk, of what the tag is on.
func judge(iface int, f *tap.Frame, mtu int) error {
	g := f.Clone()
	vlan, ok := stack.PopTag(&g)
	if onTrunk := slices.Contains(fuzzVLANs, vlan); !ok || onTrunk != (iface == fuzzTrunk) {
		return fmt.Errorf("VLAN %d on device %d", vlan, iface)
	}
	return memlan.Check(&g, mtu)
}

// strangerMAC is whoever the director asks for.
var strangerMAC = stack.MAC{2, 0, 0, 0, 0x77, 1}

// fuzzAdvertisement answers a neighbour solicitation.
func fuzzAdvertisement(b []byte) packettest.Spec {
	target := netip.AddrFrom16([16]byte(b[62:78]))
	option := append([]byte{2, 1}, strangerMAC[:]...)
	return packettest.Spec{SrcMAC: strangerMAC, DstMAC: stack.SrcMAC(b), TTL: 255, Proto: packettest.ICMPv6, ICMPType: 136, ICMPID: 0x6000,
		Src: netip.AddrPortFrom(target, 0), Dst: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[22:38])), 0), Payload: append(target.AsSlice(), option...)}
}

// send gives a frame to a device and reports whether it took it.
func (w *fuzzWorld) send(iface int, f *tap.Frame) bool {
	// Counted before it is read, or the sum of verdicts could run ahead; taken back when it is refused.
	w.sent.Add(1)
	ok := w.memory[iface].Send(0, f)
	if !ok {
		w.sent.Add(^uint64(0))
	}
	return ok
}

// settle waits until every frame that was sent is read and has a verdict, and returns what left.
func (w *fuzzWorld) settle(tb testing.TB) []fuzzOutput {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !w.settled(); runtime.Gosched() {
		if time.Now().After(end) {
			tb.Fatalf("%d frames sent, %d read, %d verdicts: %v", w.sent.Load(), w.d.FramesRead(), w.judged(), w.d.Verdicts())
		}
	}
	return w.take()
}

func (w *fuzzWorld) settled() bool {
	sent := w.sent.Load()
	return w.d.FramesRead() == sent && w.judged() == sent
}

// refused counts frames that a device would not take: a kernel would have lost them.
func (w *fuzzWorld) refused() (n uint64) {
	for _, d := range w.opened[:len(fuzzDevices)] {
		n += d.Stats().TxInvalid
	}
	return n
}

func (w *fuzzWorld) take() []fuzzOutput {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.out
	w.out = nil
	return out
}

// judged is the sum of all verdicts.
func (w *fuzzWorld) judged() (sum uint64) {
	for _, n := range w.d.Verdicts() {
		sum += n
	}
	return sum
}

// check wants every frame that left to be right in itself and fit for its device, and from someone who may be seen there.
func (w *fuzzWorld) check(tb testing.TB, out []fuzzOutput, iface int, in *tap.Frame) {
	tb.Helper()
	var known netip.Addr
	if iface == fuzzMasked {
		known = sender(in.Clone())
	}
	for _, o := range out {
		err := judge(o.iface, &o.frame, w.devs[o.iface].MTU)
		if err == nil && !w.devs[o.iface].Offload.Carries(o.frame.Header) {
			err = fmt.Errorf("the device does not carry %+v", o.frame.Header)
		}
		if err == nil {
			err = checkSender(&o, known)
		}
		if err != nil {
			tb.Fatalf("%v\nin:  %+v %s\n%x\nout of %d: %+v %s\n%x", err, in.Header, stack.Describe(in.Bytes()), clip(in.Bytes()),
				o.iface, o.frame.Header, stack.Describe(o.frame.Bytes()), clip(o.frame.Bytes()))
		}
	}
}

// checkSender wants our MAC, of the interface that the frame left by, as its source. No address may be seen beyond masquerading but ours and the one that
// is known there, since the frame that this came of was sent from there; and none anywhere that cannot be a sender.
func checkSender(o *fuzzOutput, known netip.Addr) error {
	g, own := o.frame.Clone(), o.iface
	if vlan, _ := stack.PopTag(&g); vlan != 0 {
		own += slices.Index(fuzzVLANs, vlan)
	}
	if stack.SrcMAC(g.Bytes()) != (stack.MAC{2, 0, 0, 0, 0xaa, byte(own)}) {
		return fmt.Errorf("not from our MAC")
	}
	src := sender(g)
	switch {
	case !src.IsValid():
		return nil
	case src.IsMulticast(), src.IsLoopback(), src == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("from %v, which is nobody's address", src)
	case o.iface == fuzzMasked && src != known && !ours(src):
		return fmt.Errorf("%v is seen beyond masquerading", src)
	}
	return nil
}

// sender is the source of an IP packet, invalid when the frame is none. It may change the frame.
func sender(f tap.Frame) netip.Addr {
	var p stack.Packet
	if stack.Parse(&f, &p) != stack.ReasonNone || p.Kind != stack.KindIPv4 && p.Kind != stack.KindIPv6 {
		return netip.Addr{}
	}
	return p.Src.Netip()
}

// fuzzMasked is the interface that masquerades.
const fuzzMasked = 2

// ours reports whether an address is one of fuzzConfig's DIPs or VIPs, or of our link or of nobody yet.
func ours(a netip.Addr) bool {
	if a.IsLinkLocalUnicast() || a.IsUnspecified() {
		return true
	}
	b := a.AsSlice()
	host := b[len(b)-1]
	if a.Is6() {
		return (host == 1 || b[14] == 1 && host == 0) && bytes.HasPrefix(b, []byte{0x20, 1, 0x0d, 0xb8, 0, 0x77})
	}
	return (host == 1 || host == 100) && b[0] == 10 && b[1] == 77
}

func clip(b []byte) []byte { return b[:min(len(b), 160)] }

// The neighbour is a known datagram that is read right behind each fuzzed frame: whatever becomes of that, this one must come out as it should.
var neighbourText = []byte("what lies next to a fuzzed frame in the queue's memory must not change, not by a single bit: 0123456789")

func neighbourFrame() packettest.Spec {
	return packettest.Spec{SrcMAC: stack.MAC{2, 0, 0, 0, 0xcc, 9}, DstMAC: stack.MAC{2, 0, 0, 0, 0xaa, 0}, Proto: packettest.UDP, TTL: 77,
		Src: netip.MustParseAddrPort("10.77.1.250:50505"), Dst: netip.MustParseAddrPort("10.77.1.100:80"), Payload: neighbourText}
}

// isNeighbour reports whether a frame that left is that datagram, as nat should have it.
func isNeighbour(o fuzzOutput) bool {
	b := o.frame.Bytes()
	return o.iface == 1 && len(b) == 42+len(neighbourText) && bytes.Equal(b[42:], neighbourText) && b[22] == 76 &&
		binary.BigEndian.Uint16(b[34:]) == 50505 && binary.BigEndian.Uint16(b[36:]) == 80 && slices.Equal(b[26:30], []byte{10, 77, 1, 250})
}
