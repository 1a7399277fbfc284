package host

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"tapdirector/stack"
	"tapdirector/tap"
)

// TestSockets moves a megabyte between two hosts, whose links are each other's LAN, with and without offload: frames on the
// way must be right, and superpackets there if and only if both sides can.
func TestSockets(t *testing.T) {
	for _, f := range families {
		for _, offload := range []bool{false, true} {
			t.Run(f.name+map[bool]string{true: " offload"}[offload], func(t *testing.T) {
				lan := newPair(t, offload)
				l, err := gonet.ListenTCP(lan.hosts[0].Stack(), tcpip.FullAddress{NIC: 1, Addr: address(f.dip), Port: 80}, protocolOf(f.dip))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				want := make([]byte, 1<<20)
				for i := range want {
					want[i] = byte(rand.Uint32())
				}
				go func() {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.SetDeadline(time.Now().Add(30 * time.Second))
					c.Write(want)
					c.Close()
				}()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				c, err := gonet.DialContextTCP(ctx, lan.hosts[1].Stack(), tcpip.FullAddress{Addr: address(f.dip), Port: 80}, protocolOf(f.dip))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(30 * time.Second))
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d of %d bytes came, %v", len(got), len(want), err)
				}
				if supers := lan.supers.Load(); (supers > 0) != offload {
					t.Errorf("%d superpackets", supers)
				}
			})
		}
	}
}

// pair is two hosts on one LAN: the plan's link 0, and a client with the addresses of the plan's client.
type pair struct {
	hosts  [2]*Host
	supers atomic.Int64
}

func newPair(t *testing.T, offload bool) *pair {
	p := &pair{}
	can := tap.Offload{Csum: offload, TSO4: offload, TSO6: offload}
	us, client := plan(), plan()
	us.Links, us.Routes = us.Links[:1], nil
	client.Links, client.Routes = client.Links[:1], nil
	client.Links[0].MAC, client.Links[0].VIPs, client.Links[0].Addresses = clientMAC, nil, nil
	for _, f := range families {
		prefix, _ := f.client.Prefix(map[bool]int{true: 24, false: 64}[f.client.Is4()])
		client.Links[0].Addresses = append(client.Links[0].Addresses, prefixOf(f.client.String(), prefix.Bits()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	for i, o := range []*Options{&us, &client} {
		o.Rate = 1 << 30
		o.Links[0].Offload = can
		o.Links[0].Send = p.sender(t, 1-i)
	}
	for i, o := range []Options{us, client} {
		h, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		p.hosts[i] = h
	}
	for _, h := range p.hosts {
		go h.Run(ctx)
	}
	t.Cleanup(func() {
		cancel()
		for _, h := range p.hosts {
			h.Close()
		}
	})
	return p
}

// sender checks what one host sends and queues it at the other: Deliver is the queue that keeps two netstacks from locking each
// other up.
func (p *pair) sender(t *testing.T, to int) func(*tap.Frame) {
	return func(f *tap.Frame) {
		var pkt stack.Packet
		if r := stack.Parse(f, &pkt); r != stack.ReasonNone || !stack.ChecksumOK(f, &pkt) {
			t.Errorf("a socket sent a bad frame: %v: %s", r, stack.Describe(f.Bytes()))
		}
		if f.Header.Super() {
			p.supers.Add(1)
		}
		if h := p.hosts[to]; h != nil {
			h.Deliver(0, f, &pkt)
		}
	}
}
