package host

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
)

func TestAnnounce(t *testing.T) {
	w := newWire(t, nil)
	w.Announce(0)
	out := w.take()
	var got []netip.Addr
	for i := range out {
		s := &out[i]
		b := s.frame.Bytes()
		if s.link != 0 || stack.SrcMAC(b) != ownMAC {
			t.Errorf("announced on link %d: %s", s.link, stack.Describe(b))
		}
		if s.pkt.Kind == stack.KindARP {
			a := header.ARP(b[14:])
			got = append(got, netip.AddrFrom4([4]byte(a.ProtocolAddressSender())))
			if !a.IsValid() || a.Op() != header.ARPRequest || string(a.ProtocolAddressSender()) != string(a.ProtocolAddressTarget()) ||
				stack.MAC(a.HardwareAddressSender()) != ownMAC || stack.DstMAC(b) != everyone {
				t.Errorf("no gratuitous ARP: %x", b)
			}
			continue
		}
		got = append(got, s.pkt.Src.Netip())
		wantAdvert(t, s, ip("ff02::1"))
		if target := netip.AddrFrom16([16]byte(b[62:])); target != s.pkt.Src.Netip() || stack.DstMAC(b) != (stack.MAC{0x33, 0x33, 0, 0, 0, 1}) {
			t.Errorf("%v is announced as %v: %x", s.pkt.Src, target, b)
		}
	}
	want := []netip.Addr{families[0].vip, families[1].vip, families[0].dip, families[1].dip}
	if !slices.Equal(got, want) || w.Stats().Announced != 4 {
		t.Errorf("announced %v, want %v", got, want)
	}
}

func TestAnnounceAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type said struct {
			at    time.Duration
			link  string
			addrs int
		}
		var got []said
		start := time.Now()
		var links []*link
		for _, l := range plan().Links {
			links = append(links, &link{Link: l})
		}
		announceAll(t.Context(), links, func(l *link, addrs []netip.Addr) {
			got = append(got, said{time.Since(start), l.Name, len(addrs)})
		})
		want := []said{{0, "ext", 4}, {0, "int", 4}, {time.Second, "ext", 4}, {time.Second, "int", 4}, {5 * time.Second, "ext", 2}, {5 * time.Second, "int", 2}}
		if !slices.Equal(got, want) {
			t.Errorf("announced %v, want %v", got, want)
		}

		got = nil
		ctx, cancel := context.WithCancel(t.Context())
		announceAll(ctx, links, func(*link, []netip.Addr) {
			got = append(got, said{})
			cancel()
		})
		if len(got) != 2 {
			t.Errorf("%d rounds after cancel", len(got))
		}
	})
}
