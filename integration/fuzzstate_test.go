package integration_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// fuzzStateSeeds are packets to each of statefulServices, in the order that a connection has, and answers; with tags where they pass the trunk.
func fuzzStateSeeds() (seeds []fuzzSeed) {
	add := func(name string, subnet int, s packettest.Spec) {
		iface, vlan := subnet-1, uint16(0)
		s.SrcMAC, s.DstMAC = stack.MAC{2, 0, 0, 0, 0xcc, byte(iface)}, stack.MAC{2, 0, 0, 0, 0xaa, byte(iface)}
		f := s.Frame()
		if iface >= fuzzTrunk {
			iface, vlan = fuzzTrunk, fuzzVLANs[iface-fuzzTrunk]
		}
		seeds = append(seeds, fuzzSeed{name, uint8(iface), true, *tagged(&f, vlan)})
	}
	for i, net := range []string{"10.77.%d.%d:%d", "[2001:db8:77:%d::%d]:%d"} {
		family := []string{"4", "6"}[i]
		at := func(subnet, host int, port uint16) netip.AddrPort {
			return netip.MustParseAddrPort(fmt.Sprintf(net, subnet, host, port))
		}
		for _, end := range []struct {
			subnet int
			ports  []uint16
			server int
		}{
			{1, []uint16{90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 102, 6000, 6009, 6010, 6100}, 2},
			{1, []uint16{101, 103}, 4},
			{4, []uint16{1, 65535}, 5},
			{5, []uint16{80, 81, 82}, 4},
		} {
			for _, port := range end.ports {
				client, vip, server := at(end.subnet, 70, 41000), at(end.subnet, 100, port), at(end.server, 11, port)
				name := fmt.Sprintf("%s-%d-%d", family, end.subnet, port)
				add("state-syn"+name, end.subnet, packettest.Spec{Src: client, Dst: vip, Flags: stack.SYN, TCPOptions: []byte{2, 4, 5, 0xb4}})
				add("state-synack"+name, end.server, packettest.Spec{Src: server, Dst: client, Flags: stack.SYN | stack.ACK, Seq: 1000, Ack: 1})
				add("state-data"+name, end.subnet, packettest.Spec{Src: client, Dst: vip, Flags: stack.ACK, Seq: 1, Ack: 1001, Payload: []byte("hello")})
				add("state-udp"+name, end.subnet, packettest.Spec{Src: client, Dst: vip, Proto: packettest.UDP, Payload: []byte("hello")})
			}
		}
		super := packettest.Spec{Src: at(4, 70, 41001), Dst: at(4, 100, 443), Flags: stack.ACK, Payload: make([]byte, 4000), Partial: true, GSOSize: 1200}
		add("trunk-super"+family, 4, super)
		super.Src, super.Dst = at(1, 70, 41001), at(1, 100, 101)
		add("to-trunk-super"+family, 1, super)
		add("trunk-partial"+family, 5, packettest.Spec{Src: at(5, 70, 41001), Dst: at(5, 100, 80), Proto: packettest.UDP, Payload: []byte("hello"), Partial: true})
		add("trunk-to-world"+family, 5, packettest.Spec{Src: at(5, 11, 41001), Dst: at(9, 9, 53), Proto: packettest.UDP, Payload: []byte("hello")})
	}
	untagged := packettest.Spec{Src: netip.MustParseAddrPort("10.77.4.70:41000"), Dst: netip.MustParseAddrPort("10.77.4.100:80"),
		SrcMAC: stack.MAC{2, 0, 0, 0, 0xcc, 3}, DstMAC: stack.MAC{2, 0, 0, 0, 0xaa, 3}, Flags: stack.SYN}
	for name, vlan := range map[string]uint16{"untagged": 0, "other-vlan": 300, "wrong-vlan": 200} {
		f := untagged.Frame()
		seeds = append(seeds, fuzzSeed{"trunk-" + name, fuzzTrunk, true, *tagged(&f, vlan)})
	}
	f := untagged.Frame()
	tagged(&f, 100)
	b := f.Bytes()
	b[14], b[15] = 0, 0
	return append(seeds, fuzzSeed{"trunk-priority-only", fuzzTrunk, true, tap.NewFrame(tap.Header{}, b)})
}

// TestFuzzWorldMeetsEveryState: the seeds, in their order, reach what they are for.
func TestFuzzWorldMeetsEveryState(t *testing.T) {
	w := newFuzzWorld(t, fuzzDevices)
	defer w.close(t)
	mixed := 0 // packets of connections that have another family at the server's end
	for range 2 {
		for _, s := range fuzzSeeds() {
			f := s.frame.Clone()
			if s.mend {
				mendChecksums(&f)
			}
			right := judge(int(s.iface), &f, 0) == nil
			out := w.exec(t, int(s.iface), &f)
			if right {
				w.check(t, out, int(s.iface), &f)
			}
			if strings.HasPrefix(s.name, "state-data") && slices.ContainsFunc(out, func(o fuzzOutput) bool { return crossed(&s.frame, &o) }) {
				mixed++
			}
		}
	}
	if mixed != 2*2*2 { // families, services, rounds
		t.Errorf("%d packets changed their family, want 8", mixed)
	}
	v := w.d.Verdicts()
	for _, name := range []string{"forwarded-nat", "replied-nat", "forwarded-dr", "forwarded-tun", "forwarded-fullnat", "masqueraded",
		"relayed-icmp", "sent-reset", "sent-too-big", "drop-denied", "drop-vlan"} {
		if v[name] == 0 {
			t.Errorf("no frame was %s: %v", name, v)
		}
	}
}

// crossed reports whether what left is IPv6 and what came in IPv4, or the other way round, and it left for a server.
func crossed(in *tap.Frame, o *fuzzOutput) bool {
	g := o.frame.Clone()
	stack.PopTag(&g)
	a, b := in.Bytes()[12:14], g.Bytes()[12:14]
	return !isNeighbour(*o) && (a[0] == 0x08 && b[0] == 0x86 || a[0] == 0x86 && b[0] == 0x08 && b[1] == 0) && stack.DstMAC(g.Bytes())[4] == 0x55
}
