package host

import (
	"fmt"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// FuzzDeliver feeds any bytes as a frame, in any virtio disguise that Parse lets pass: never a panic, and whatever netstack says to it is a frame
// that Parse takes, from our MAC, with right checksums, and claims no address that is not ours on that link.
func FuzzDeliver(f *testing.F) {
	for _, fam := range families {
		f.Add(echoBytes(fam), uint8(0), uint8(0), uint16(0))
		udp := packettest.Spec{SrcMAC: routerMAC, DstMAC: ownMAC, Proto: packettest.UDP, Payload: make([]byte, 100), Partial: true, GSOSize: 40}
		udp.Src, udp.Dst = addrPort(fam.off, 1), addrPort(fam.vip, 2)
		super := udp.Frame()
		f.Add(super.Bytes(), super.Header.Flags, super.Header.GSOType, super.Header.GSOSize)
		udp.Proto = packettest.TCP
		super = udp.Frame()
		f.Add(super.Bytes(), super.Header.Flags, super.Header.GSOType, super.Header.GSOSize)
	}
	arp := packettest.ARP(1, clientMAC, everyone, families[0].client, families[0].vip)
	f.Add(arp.Bytes(), uint8(0), uint8(0), uint16(0))
	ns := solicit(families[1].client, clientMAC, families[1].vip)
	f.Add(ns.Bytes(), uint8(0), uint8(0), uint16(0))

	var faults faults
	o := plan()
	o.Rate = 1 << 30
	for i := range o.Links {
		l := &o.Links[i]
		own := map[stack.Addr]bool{stack.AddrFrom(linkLocal(l.MAC)): true}
		for _, a := range l.owned() {
			own[stack.AddrFrom(a)] = true
		}
		l.Send = func(f *tap.Frame) { faults.check(l.MAC, own, f) }
	}
	h, err := New(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(h.Close)
	f.Fuzz(func(t *testing.T, b []byte, flags, gso uint8, size uint16) {
		frame := tap.NewFrame(tap.Header{Flags: flags, GSOType: gso, GSOSize: size}, b)
		mend(frame.Bytes())
		var p stack.Packet
		frame.Header.CsumStart, frame.Header.CsumOffset = csumPlace(b)
		if stack.Parse(&frame, &p) != stack.ReasonNone {
			return
		}
		h.Deliver(0, &frame, &p)
		for h.step() {
		}
		faults.report(t)
	})
}

// faults is what was wrong with frames that the fuzzed host sent. Netstack may also send from goroutines of its own, after the case
// that made it do so: then a later case tells.
type faults struct {
	mu   sync.Mutex
	list []string
}

func (l *faults) report(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.list {
		t.Error(s)
	}
	l.list = nil
}

func (l *faults) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf(format, args...))
}

// check looks at a frame sent on the link with that MAC and those addresses.
func (l *faults) check(mac stack.MAC, own map[stack.Addr]bool, f *tap.Frame) {
	var p stack.Packet
	r := stack.Parse(f, &p)
	if r != stack.ReasonNone || !stack.ChecksumOK(f, &p) || stack.SrcMAC(f.Bytes()) != mac {
		l.add("sent a bad frame: %v: %x", r, f.Bytes())
		return
	}
	var claimed stack.Addr
	switch b := f.Bytes(); {
	case p.Kind == stack.KindARP:
		claimed = stack.AddrFrom4(header.ARP(b[14:]).ProtocolAddressSender())
		if header.ARP(b[14:]).Op() == header.ARPRequest {
			return // a question may come from the address of another link that was pinged here
		}
	case p.Proto == stack.ProtoICMPv6 && p.ICMPType == 136:
		claimed = stack.AddrFrom16(b[62:])
	default:
		return // an answer, from any address of ours
	}
	if !own[claimed] {
		l.add("claims %v: %x", claimed, f.Bytes())
	}
}

// mend makes the checksums of an IPv4 header and of an ICMP message right, or random bytes would hardly ever get further.
func mend(b []byte) {
	if len(b) < 34 {
		return
	}
	switch ip := header.IPv4(b[14:]); {
	case b[12] == 0x08 && b[13] == 0 && ip.IsValid(len(ip)) && int(ip.HeaderLength()) <= len(ip):
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		if icmp := ip[ip.HeaderLength():ip.TotalLength()]; ip.Protocol() == stack.ProtoICMP && len(icmp) >= 8 {
			header.ICMPv4(icmp).SetChecksum(header.ICMPv4Checksum(header.ICMPv4(icmp), 0))
		}
	case b[12] == 0x86:
		ip := header.IPv6(b[14:])
		if len(ip) < 48 || !ip.IsValid(len(ip)) || ip.NextHeader() != stack.ProtoICMPv6 || ip.PayloadLength() < 8 {
			return
		}
		icmp := header.ICMPv6(ip[40:][:ip.PayloadLength()])
		icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: ip.SourceAddress(), Dst: ip.DestinationAddress()}))
	}
}

// csumPlace is where a partial checksum of TCP or UDP behind plain headers lies, so that Parse gets further than the virtio header.
func csumPlace(b []byte) (start, offset uint16) {
	if len(b) < 34 {
		return 0, 0
	}
	start, proto := 34, b[23]
	if b[12] == 0x86 {
		start, proto = 54, b[20]
	}
	if proto == stack.ProtoTCP {
		return start, 16
	}
	return start, 6
}
