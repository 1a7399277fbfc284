package neigh

import (
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// lan is what a resolver under test sees: a clock that stands still, and a wire that keeps what is sent.
type lan struct {
	*Resolver
	t   *testing.T
	mu  sync.Mutex
	at  time.Time
	out []sent
}

// sent is one frame that left.
type sent struct {
	iface int
	frame tap.Frame
}

var (
	ownMAC   = stack.MAC{2, 0, 0, 0, 0xaa, 1}
	ownMAC2  = stack.MAC{2, 0, 0, 0, 0xaa, 2}
	server1  = stack.MAC{2, 0, 0, 0, 0, 0x11}
	server2  = stack.MAC{2, 0, 0, 0, 0, 0x12}
	everyone = stack.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// families are the addresses that every table runs over.
var families = []struct {
	name                 string
	dip, target, other   netip.Addr
	group                stack.MAC // where a question for target goes
	link2Dip, link2Other netip.Addr
}{
	{
		name: "IPv4",
		dip:  netip.MustParseAddr("10.77.1.1"), target: netip.MustParseAddr("10.77.1.12"), other: netip.MustParseAddr("10.77.1.13"),
		group:    everyone,
		link2Dip: netip.MustParseAddr("10.77.2.1"), link2Other: netip.MustParseAddr("10.77.2.9"),
	},
	{
		name: "IPv6",
		dip:  netip.MustParseAddr("2001:db8:1::1"), target: netip.MustParseAddr("2001:db8:1::12"), other: netip.MustParseAddr("2001:db8:1::13"),
		group:    stack.MAC{0x33, 0x33, 0xff, 0, 0, 0x12},
		link2Dip: netip.MustParseAddr("2001:db8:2::1"), link2Other: netip.MustParseAddr("2001:db8:2::9"),
	},
}

// newLAN returns a resolver on two links with a DIP of each family; change may alter its options.
func newLAN(t *testing.T, change func(*Options)) *lan {
	l := &lan{t: t, at: time.Unix(1e9, 0)}
	o := Options{
		Links: []Link{
			{Name: "ext", MAC: ownMAC, Addresses: prefixes("10.77.1.1/24", "2001:db8:1::1/64"), Send: l.sender(0)},
			{Name: "int", MAC: ownMAC2, Addresses: prefixes("10.77.2.1/24", "2001:db8:2::1/64"), Send: l.sender(1)},
		},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Now: l.clock,
	}
	if change != nil {
		change(&o)
	}
	l.Resolver = New(o)
	return l
}

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func (l *lan) sender(iface int) func(*tap.Frame) {
	return func(f *tap.Frame) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.out = append(l.out, sent{iface, f.Clone()})
	}
}

func (l *lan) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

// pass moves the clock on, tick by tick, and returns what left meanwhile.
func (l *lan) pass(d time.Duration) []sent {
	for ; d > 0; d -= period {
		l.mu.Lock()
		l.at = l.at.Add(min(d, period))
		l.mu.Unlock()
		l.tick()
	}
	return l.take()
}

// take returns what left since it was last called.
func (l *lan) take() []sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.out
	l.out = nil
	return out
}

// snoop lets the resolver see a frame as a worker would.
func (l *lan) snoop(iface int, f tap.Frame) {
	l.t.Helper()
	var p stack.Packet
	if r := stack.Parse(&f, &p); r != stack.ReasonNone {
		l.t.Fatalf("the test's own frame is refused: %v", r)
	}
	l.Snoop(iface, f.Bytes(), &p)
}

// answer says that addr is at mac, in answer to a question of ours.
func (l *lan) answer(iface int, addr netip.Addr, mac stack.MAC) {
	l.t.Helper()
	if addr.Is4() {
		l.snoop(iface, packettest.ARP(2, mac, ownMAC, addr, netip.MustParseAddr("10.77.1.1")))
		return
	}
	l.snoop(iface, advert(addr, netip.MustParseAddr("2001:db8:1::1"), mac, naSolicit|naOverride))
}

// wantMAC checks what the path would be told.
func (l *lan) wantMAC(s Slot, want stack.MAC) {
	l.t.Helper()
	if got, ok := l.MAC(s); got.MAC() != want || ok != (want != stack.MAC{}) {
		l.t.Fatalf("MAC(%d) = %x, %v; want %x", s, got, ok, want)
	}
}

// wantState checks a slot's state in the listing.
func (l *lan) wantState(s Slot, want string) {
	l.t.Helper()
	for _, e := range l.Entries() {
		if e.Slot == s && e.State == want {
			return
		}
	}
	l.t.Fatalf("slot %d is not %q: %+v", s, want, l.Entries())
}

// packet is a frame of the path for addr, as Park gets it.
func packet(src, dst netip.Addr) tap.Frame {
	return packettest.Spec{
		SrcMAC: ownMAC, Src: netip.AddrPortFrom(src, 1234), Dst: netip.AddrPortFrom(dst, 80), Flags: stack.SYN,
	}.Frame()
}

// nd builds an ND message: four bytes behind the checksum, then body.
func nd(kind uint8, src, dst netip.Addr, word uint32, body []byte) packettest.Spec {
	return packettest.Spec{
		Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0), Proto: packettest.ICMPv6, TTL: 255,
		ICMPType: kind, ICMPID: uint16(word >> 16), ICMPSeq: uint16(word), Payload: body,
	}
}

// option is a link-layer address option: kind 1 is the source's, 2 the target's.
func option(kind byte, m stack.MAC) []byte { return append([]byte{kind, 1}, m[:]...) }

func body(target netip.Addr, options ...byte) []byte { return append(target.AsSlice(), options...) }

// advert is the neighbour advertisement "target is at mac" with these flags, sent to dst.
func advert(target, dst netip.Addr, mac stack.MAC, flags uint32) tap.Frame {
	return nd(136, target, dst, flags<<24, body(target, option(2, mac)...)).Frame()
}
