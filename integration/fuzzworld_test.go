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
`

// fuzzDevices are the interfaces of fuzzConfig in order.
var fuzzDevices = []tap.MemoryOptions{
	{Name: "tap0", MTU: 1500, Offload: tap.Offload{Csum: true, TSO4: true, TSO6: true, USO: true}},
	{Name: "tap1", MTU: 1400},
	{Name: "tap2", MTU: 1300, Offload: tap.Offload{Csum: true, TSO4: true}},
}

// fuzzServices renders a service of each method, family and protocol, on ports 80 (nat), 81 (dr), 82 (nat, no server), 83 (dr, no server, silent), 85 (fullnat),
// 86 (fullnat, with toa) and 87 to 89 (tun: ipip; gue to a server of the other family; gre, fragmented outside); on 84 is none.
func fuzzServices() string {
	var b strings.Builder
	nets := []string{"10.77.%d.%d", "[2001:db8:77:%d::%d]"}
	tunnels := []string{"", "tunnel = \"gue\"\ntunnel_csum = true\nmss_clamp = 1000\n", "tunnel = \"gre\"\ntunnel_csum = true\npmtu_disc = false\ntunnel_ttl = 0\n"}
	for family, net := range nets {
		for _, protocol := range []string{"tcp", "udp"} {
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
			for i, tunnel := range tunnels {
				port := 87 + i
				fmt.Fprintf(&b, "[[service]]\nname = \"%s-%d-%d\"\nlisten = \"%s:%d\"\nprotocol = %q\nmethod = \"tun\"\nscheduler = \"rr\"\n%s",
					protocol, port, len(net), fmt.Sprintf(net, 1, 100), port, protocol, tunnel)
				fmt.Fprintf(&b, "[[service.server]]\naddress = \"%s\"\nmac = \"02:00:00:00:55:01\"\n", fmt.Sprintf(nets[(family+i)%2], 2, 11))
			}
		}
	}
	return b.String()
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
	if b := g.Bytes(); len(b) >= 42 && b[12] == 8 && b[13] == 6 && b[21] == 1 && !bytes.Equal(b[28:32], b[38:42]) {
		answer := packettest.ARP(2, strangerMAC, stack.SrcMAC(b), netip.AddrFrom4([4]byte(b[38:42])), netip.AddrFrom4([4]byte(b[28:32])))
		w.send(iface, &answer)
	} else if len(b) >= 78 && b[12] == 0x86 && b[20] == packettest.ICMPv6 && b[54] == 135 {
		answer := fuzzAdvertisement(b).Frame()
		w.send(iface, &answer)
	}
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
	for _, d := range w.opened {
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

// check wants every frame that left to be right in itself and fit for its device.
func (w *fuzzWorld) check(tb testing.TB, out []fuzzOutput, in *tap.Frame) {
	tb.Helper()
	for _, o := range out {
		err := memlan.Check(&o.frame, w.devs[o.iface].MTU)
		if err == nil && !w.devs[o.iface].Offload.Carries(o.frame.Header) {
			err = fmt.Errorf("the device does not carry %+v", o.frame.Header)
		}
		if err == nil && stack.SrcMAC(o.frame.Bytes()) != (stack.MAC{2, 0, 0, 0, 0xaa, byte(o.iface)}) {
			err = fmt.Errorf("not from our MAC")
		}
		if err != nil {
			tb.Fatalf("%v\nin:  %+v %s\n%x\nout of %d: %+v %s\n%x", err, in.Header, stack.Describe(in.Bytes()), clip(in.Bytes()),
				o.iface, o.frame.Header, stack.Describe(o.frame.Bytes()), clip(o.frame.Bytes()))
		}
	}
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
