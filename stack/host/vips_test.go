package host

import (
	"context"
	"net/netip"
	"testing"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
)

// asks is client's ARP or ND question for us, in multicast.
func asks(f family, us netip.Addr) (v func(w *wire) Verdict) {
	if us.Is4() {
		return func(w *wire) Verdict { return w.offer(0, packettest.ARP(1, clientMAC, everyone, f.client, us)) }
	}
	return func(w *wire) Verdict { return w.offer(0, solicit(f.client, clientMAC, us)) }
}

// A VIP that comes is answered for, by ARP or ND and by ping, from either link; one that goes is not any more, the others are.
func TestSetVIPs(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			w.introduce(0, f.client, clientMAC, f.dip)
			fresh := f.foreign
			if v := asks(f, fresh)(w); v != Ignored {
				t.Fatalf("a question for what is not ours: %v", v)
			}
			set := func(first []netip.Addr) {
				t.Helper()
				if err := w.SetVIPs([][]netip.Addr{first, {f.vip2}}); err != nil {
					t.Fatal(err)
				}
				w.take()
			}
			for range 3 { // again and again
				set([]netip.Addr{fresh})
				w.introduce(0, f.client, clientMAC, fresh)
				w.wantEchoReply(w.only(0, echo(clientMAC, f.client, fresh, 7)), fresh, f.client, clientMAC)
				if v := asks(f, f.vip)(w); v != Ignored {
					t.Errorf("a question for a VIP that is no more: %v", v)
				}
				if v, out := w.deliver(0, echo(clientMAC, f.client, f.vip, 8)); v != Ignored || len(out) != 0 {
					t.Errorf("a ping to a VIP that is no more: %v, %d answers", v, len(out))
				}
				w.wantEchoReply(w.only(0, echo(clientMAC, f.client, f.vip2, 9)), f.vip2, f.client, clientMAC)
				set([]netip.Addr{f.vip, f.dip})
				w.introduce(0, f.client, clientMAC, f.vip)
				w.wantEchoReply(w.only(0, echo(clientMAC, f.client, f.vip, 7)), f.vip, f.client, clientMAC)
				w.wantEchoReply(w.only(0, echo(clientMAC, f.client, f.dip, 7)), f.dip, f.client, clientMAC)
			}
		})
	}
}

// The link-local address is there exactly while a link has another one of IPv6.
func TestSetVIPsLinkLocal(t *testing.T) {
	w := newWire(t, func(o *Options) {
		o.Links = o.Links[:1]
		o.Links[0].Addresses, o.Links[0].VIPs, o.Routes = o.Links[0].Addresses[:1], nil, nil
	})
	ll := linkLocal(ownMAC)
	for _, vips := range [][]netip.Addr{{families[1].vip}, nil, {families[1].vip, families[0].vip}} {
		if err := w.SetVIPs([][]netip.Addr{vips}); err != nil {
			t.Fatal(err)
		}
		l := w.links[0]
		has := w.netstack.CheckLocalAddress(l.id, protocolOf(ll), address(ll)) == l.id
		if want := len(vips) > 0; l.own.has(stack.AddrFrom(ll)) != want || has != want {
			t.Errorf("VIPs %v: %v answered for: %v, on the NIC: %v", vips, ll, l.own.has(stack.AddrFrom(ll)), has)
		}
	}
}

// Only new VIPs are announced, and only while Run runs; nothing is left when it ends.
func TestSetVIPsAnnounces(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			if err := w.SetVIPs([][]netip.Addr{{f.vip}, {f.vip2}}); err != nil || len(w.take()) != 0 {
				t.Fatalf("announced before Run, or %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- w.Run(ctx) }()
			says := func(a netip.Addr) func(*sent) bool {
				return func(s *sent) bool {
					if a.Is4() {
						return isARPOrNS(a)(s)
					}
					return s.pkt.Src.Netip() == a
				}
			}
			w.wait("announcement of a VIP", says(f.vip))
			if err := w.SetVIPs([][]netip.Addr{{f.vip, f.foreign}, {f.vip2}}); err != nil {
				t.Fatal(err)
			}
			w.wait("announcement of the new VIP", says(f.foreign))
			cancel()
			<-done
			w.Close()
		})
	}
}

// A route that comes leads to its gateway; one that is none is refused and changes nothing.
func TestSetRoutes(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWire(t, nil)
			before := *w.routes.Load()
			bad := []Route{{To: before[0].To, Via: before[0].Via, Link: 9}}
			if err := w.SetRoutes(bad); err == nil || len(*w.routes.Load()) != len(before) {
				t.Errorf("a route by link 9: %v", err)
			}
			if !w.placed(0, f.routed) {
				t.Error("the route of the start is not there")
			}
			if err := w.SetRoutes(nil); err != nil || w.placed(0, f.routed) {
				t.Errorf("a removed route is still there, or %v", err)
			}
			if err := w.SetRoutes(before); err != nil || !w.placed(0, f.routed) {
				t.Errorf("a route that came back is not there, or %v", err)
			}
		})
	}
}

// SetRate holds at once, for both queues.
func TestSetRate(t *testing.T) {
	w := newWire(t, nil)
	for set, want := range map[int]float64{7: 7, 0: defaultRate} {
		w.SetRate(set)
		if w.control.rate != want || w.other.rate != want {
			t.Errorf("rates %v and %v, want %v", w.control.rate, w.other.rate, want)
		}
	}
}
