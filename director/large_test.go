package director

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sort"
	"strings"
	"testing"
	"time"

	"tapdirector/conf"
	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// Large configurations: n services, each with a VIP and a server of its own, all on two /16 networks.

// largeToml is such a file; edit changes the weights of its servers.
func largeToml(n, weight int) string {
	var b strings.Builder
	b.WriteString("[[interface]]\nname = \"ext\"\ntap = \"tap0\"\nmac = \"02:00:00:00:aa:01\"\naddresses = [\"10.1.0.1/16\"]\n")
	b.WriteString("[[interface]]\nname = \"in\"\ntap = \"tap1\"\nmac = \"02:00:00:00:aa:02\"\naddresses = [\"10.2.0.1/16\"]\n")
	for i := range n {
		fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\nlisten = \"%v:80\"\n[[service.server]]\naddress = \"%v:8000\"\nweight = %d\n",
			i, largeVIP(i), largeRIP(i), weight)
	}
	return b.String()
}

func largeVIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, byte(1 + i/250), byte(1 + i%250)})
}
func largeRIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 2, byte(1 + i/250), byte(1 + i%250)})
}

func largeConf(tb testing.TB, n, weight int) *conf.Config {
	tb.Helper()
	c, err := conf.Parse(strings.NewReader(largeToml(n, weight)), "lb.toml")
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func newLarge(tb testing.TB, c *conf.Config) *Director {
	tb.Helper()
	var devices []*tap.Device
	for _, name := range []string{"tap0", "tap1"} {
		dev, _ := tap.NewMemory(tap.MemoryOptions{Name: name, Queues: 1, MTU: 1500, Offload: tap.Offload{Csum: true, TSO4: true, TSO6: true, USO: true}})
		devices = append(devices, dev)
	}
	d, err := New(Options{Config: c, Devices: devices, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		d.host.Close()
		for _, dev := range devices {
			dev.Close()
		}
	})
	return d
}

// BenchmarkParse and BenchmarkNew are what a start costs beside devices; BenchmarkReload what a changed file does: one server in a hundred with another weight,
// which is the same work as any change.
func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10000} {
		text := largeToml(n, 1)
		b.Run(fmt.Sprint(n, "services"), func(b *testing.B) {
			for b.Loop() {
				if _, err := conf.Parse(strings.NewReader(text), "lb.toml"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10000} {
		c := largeConf(b, n, 1)
		b.Run(fmt.Sprint(n, "services"), func(b *testing.B) {
			for b.Loop() {
				newLarge(b, c)
			}
		})
	}
}

func BenchmarkReload(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10000} {
		cs := [2]*conf.Config{largeConf(b, n, 1), largeConf(b, n, 2)}
		d := newLarge(b, cs[0])
		b.Run(fmt.Sprint(n, "services"), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := d.Reload(cs[(i+1)%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkManyServices is a packet of a known connection, and one that makes a connection, with so many services and servers: both must stay flat.
func BenchmarkManyServices(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10000} {
		d := newLarge(b, largeConf(b, n, 1))
		for i := range n {
			d.neigh.Snoop(in, arp(i).Bytes(), arpPacket(i))
		}
		b.Run(fmt.Sprint(n, "services"), func(b *testing.B) { benchKnown(b, d, n) })
	}
}

func arp(i int) *tap.Frame {
	f := packettest.ARP(2, serverMAC(0), inMAC, largeRIP(i), netip.MustParseAddr("10.2.0.1"))
	return &f
}

func arpPacket(i int) *stack.Packet {
	var p stack.Packet
	stack.Parse(arp(i), &p)
	return &p
}

// benchKnown carries packets of connections, all of them in turn, in batches.
func benchKnown(b *testing.B, d *Director, n int) {
	k, frames := knownOfMany(b, d, n)
	saved := make([][]byte, len(frames))
	for i := range frames {
		saved[i] = append([]byte(nil), frames[i].Bytes()...)
	}
	var spent time.Duration
	at := 0
	b.ReportAllocs()
	for b.Loop() {
		batch := frames[at:][:tap.Batch]
		for i := range batch {
			copy(batch[i].Bytes(), saved[at+i])
		}
		start := time.Now()
		k.open(k.view, k.now)
		k.carryAll(batch)
		k.settle()
		spent += time.Since(start)
		k.outs[in].batch = k.outs[in].batch[:0]
		at = (at + tap.Batch) % len(frames)
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*tap.Batch), "ns/frame")
}

// knownOfMany makes connections to some of n services, and returns the worker and a packet of each.
func knownOfMany(b *testing.B, d *Director, n int) (k *worker, frames []tap.Frame) {
	k = d.workers[ext]
	k.open(d.view.Load(), d.clock())
	for i := range 512 {
		s := packettest.Spec{SrcMAC: clientMAC, DstMAC: extMAC, Src: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 200, byte(1 + i%250)}), uint16(1000+i)),
			Dst: netip.AddrPortFrom(largeVIP(i*7919%n), 80), Proto: stack.ProtoTCP, DF: true, Flags: stack.SYN}
		f := s.Frame()
		if v := k.one(&f); v != ForwardedNAT {
			b.Fatal(v)
		}
		k.outs[in].batch = k.outs[in].batch[:0]
		s.Flags = stack.ACK
		frames = append(frames, s.Frame())
	}
	return k, frames
}

// BenchmarkRouteTo is the way to a destination behind the last of so many routes. Only what is routed and not balanced asks, and replies where an
// interface says reply = "route".
func BenchmarkRouteTo(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		v := &view{}
		for i := range n {
			v.routes = append(v.routes, route{to: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + i>>8), byte(i), 0}), 24)})
		}
		v.indexRoutes()
		last := stack.AddrFrom(v.routes[n-1].to.Addr().Next())
		b.Run(fmt.Sprint(n, "routes"), func(b *testing.B) {
			for b.Loop() {
				v.routeTo(last)
			}
		})
	}
}

// Many routes, in both families, lead where a walk over all prefixes says.
func TestRouteByLength(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	addr := func(is4 bool) netip.Addr {
		if is4 {
			return netip.AddrFrom4([4]byte{10, byte(rng.IntN(4)), byte(rng.IntN(8)), byte(rng.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0x20, 1, 4: byte(rng.IntN(4)), 6: byte(rng.IntN(8)), 15: byte(rng.IntN(256))})
	}
	for range 20 {
		v := &view{}
		for range fewRoutes + 1 + rng.IntN(200) {
			a := addr(rng.IntN(2) == 0)
			v.routes = append(v.routes, route{to: netip.PrefixFrom(a, rng.IntN(a.BitLen()+1)).Masked()})
		}
		sort.SliceStable(v.routes, func(i, j int) bool { return v.routes[i].to.Bits() > v.routes[j].to.Bits() })
		walk := *v
		v.indexRoutes()
		if len(v.lengths) == 0 {
			t.Fatal("not indexed")
		}
		for range 500 {
			a := stack.AddrFrom(addr(rng.IntN(2) == 0))
			if got, want := v.routeTo(a), walk.routeTo(a); got != want {
				t.Fatalf("%v goes by %+v, want %+v", a.Netip(), got, want)
			}
		}
	}
}
