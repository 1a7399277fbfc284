package tap

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeOut gives the interface 10.0.0.1/24 and a neighbour 10.0.0.2, and returns a function that sends it a datagram: to a port, cut by the kernel or
// the device into segments of gso bytes unless that is 0.
func routeOut(t testing.TB, name string) func(port, gso int, b []byte) {
	t.Helper()
	address(t, name, "10.0.0.1/24")
	must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: link(t, name).Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: net.IPv4(10, 0, 0, 2), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}}))
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(s) })
	return func(port, gso int, b []byte) {
		t.Helper()
		must(t, unix.SetsockoptInt(s, unix.SOL_UDP, unix.UDP_SEGMENT, gso))
		must(t, unix.Sendto(s, b, 0, &unix.SockaddrInet4{Port: port, Addr: [4]byte{10, 0, 0, 2}}))
	}
}

func address(t testing.TB, name, prefix string) {
	t.Helper()
	a, err := netlink.ParseAddr(prefix)
	must(t, err)
	a.Flags = unix.IFA_F_NODAD
	must(t, netlink.AddrAdd(link(t, name), a))
}

// TestUDPSuperpacket: what a kernel socket sends in one go arrives in one piece where USO is agreed on.
func TestUDPSuperpacket(t *testing.T) {
	newNetns(t)
	d, _ := open(t, Options{Name: "tap0", Queues: 1})
	if !d.Offload.USO {
		t.Skip("this kernel's TAPs have no USO")
	}
	send := routeOut(t, "tap0")
	send(7, 1000, make([]byte, 10500))
	f := readUntil(t, d.Queues[0], func(f *Frame) bool { return f.Header.Super() })
	h := f.Header
	if h.GSOType != GSOUDPL4 || h.GSOSize != 1000 || !h.Partial() || f.Len() != EthernetLen+20+8+10500 {
		t.Errorf("header %+v, %d bytes", h, f.Len())
	}
	if h.CsumStart != EthernetLen+20 || h.CsumOffset != 6 {
		t.Errorf("checksum at %d + %d", h.CsumStart, h.CsumOffset)
	}
}

// TestWaterGetsWholeFrames: without a virtio header the kernel finishes frames first, even on an interface whose last user had offloads on.
func TestWaterGetsWholeFrames(t *testing.T) {
	newNetns(t)
	premade(t, "tap0", netlink.TUNTAP_VNET_HDR)
	d, _ := open(t, Options{Name: "tap0"})
	must(t, d.Close())
	d, _ = open(t, Options{Name: "tap0", Driver: "water"})
	send := routeOut(t, "tap0")
	send(7, 1000, make([]byte, 2500))
	var got []int
	until(t, "three datagrams", func() bool {
		frames, err := d.Queues[0].Read(time.Second)
		must(t, err)
		for _, f := range frames {
			if f.Bytes()[12] == 8 && f.Bytes()[13] == 0 {
				got = append(got, f.Len()-EthernetLen-20-8)
			}
			if f.Header != (Header{}) {
				t.Errorf("header %+v", f.Header)
			}
		}
		return len(got) >= 3
	})
	if !slices.Equal(got, []int{1000, 1000, 500}) {
		t.Errorf("datagrams of %v bytes", got)
	}
}

// TestWire copies frames between two TAPs, the kernel of one namespace at each, and sends bulk TCP through: every frame is read and written
// by the code under test, most of them superpackets.
func TestWire(t *testing.T) {
	tests := []struct {
		name, client, server string
		driver               string
		super                bool
	}{
		{"IPv4", "10.0.0.1/24", "10.0.0.2/24", "linux", true},
		{"IPv6", "fd00::1/64", "fd00::2/64", "linux", true},
		{"IPv4 under water", "10.0.0.1/24", "10.0.0.2/24", "water", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newNetns(t)
			in := otherNetns(t)
			a, _ := open(t, Options{Name: "tap0", Queues: 1, Driver: tt.driver})
			address(t, "tap0", tt.client)
			var b *Device
			var l net.Listener
			addr := netip.AddrPortFrom(netip.MustParsePrefix(tt.server).Addr(), 80)
			in(func() {
				b, _ = open(t, Options{Name: "tap0", Queues: 1, Driver: tt.driver})
				address(t, "tap0", tt.server)
				var err error
				l, err = net.Listen("tcp", addr.String())
				must(t, err)
			})
			defer l.Close()
			var supers atomic.Int64
			go splice(a.Queues[0], b.Queues[0], &supers)
			go splice(b.Queues[0], a.Queues[0], &supers)
			data := bytes.Repeat([]byte("tapdirector"), 1<<20)
			sum := serveSum(l)
			c, err := net.DialTimeout("tcp", addr.String(), patience)
			must(t, err)
			defer c.Close()
			c.SetDeadline(time.Now().Add(3 * patience))
			_, err = c.Write(data)
			must(t, err)
			c.(*net.TCPConn).CloseWrite()
			if got := <-sum; got != sha256.Sum256(data) {
				t.Error("other bytes arrived than were sent")
			}
			if (supers.Load() > 0) != tt.super {
				t.Errorf("%d superpackets", supers.Load())
			}
			if s := b.Stats(); s.TxInvalid+s.TxDown+s.TxFull+s.RxErrors+s.RxTruncated != 0 {
				t.Errorf("losses: %+v", s)
			}
		})
	}
}

// splice is the shortest director: everything goes over.
func splice(from, to Queue, supers *atomic.Int64) {
	out := make([]*Frame, 0, Batch)
	for {
		frames, err := from.Read(time.Second)
		if err != nil {
			return
		}
		out = out[:0]
		for i := range frames {
			if frames[i].Header.Super() {
				supers.Add(1)
			}
			out = append(out, &frames[i])
		}
		to.Write(out)
	}
}

// serveSum accepts one connection and sends the hash of what it brings; a hash of nothing when it breaks.
func serveSum(l net.Listener) <-chan [32]byte {
	sum := make(chan [32]byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			sum <- [32]byte{}
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * patience))
		h := sha256.New()
		io.Copy(h, c)
		sum <- [32]byte(h.Sum(nil))
	}()
	return sum
}

// TestBatch: what waits is drained in one Read, in order, at most a batch at once.
func TestBatch(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			newNetns(t)
			d, _ := open(t, Options{Name: "tap0", Queues: 1, Driver: driver})
			send := routeOut(t, "tap0")
			const total = Batch + 10
			for i := range total {
				send(7, 0, []byte("number "+strconv.Itoa(i)+"."))
			}
			next := 0
			for next < total {
				frames, err := d.Queues[0].Read(patience)
				must(t, err)
				if len(frames) == 0 || len(frames) > Batch {
					t.Fatalf("%d frames", len(frames))
				}
				for _, f := range frames {
					if bytes.Contains(f.Bytes(), []byte("number ")) {
						if !bytes.Contains(f.Bytes(), []byte("number "+strconv.Itoa(next)+".")) {
							t.Fatalf("frame %d is %q", next, f.Bytes())
						}
						next++
					}
				}
			}
		})
	}
}
