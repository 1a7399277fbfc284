package main

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tapdirector/stack/packettest"
)

// Each kind of tunnel is written with its outer packet and the one inside.
func TestTunnelTraces(t *testing.T) {
	for _, family := range []string{"4", "6"} {
		tc := caseFor(t, family, "tcp")
		_, b, err := buildFrame(tc, &memory{}, &step{verb: ">", args: []string{"SYN"}})
		if err != nil {
			t.Fatal(err)
		}
		inside, protocol, ethertype := "[ client:40000 > vip:80 TCP SYN seq 1000 ack 2000 win 65000 ttl 64", byte(4), uint16(0x0800)
		if family == "6" {
			protocol, ethertype = 41, 0x86dd
		}
		gre := binary.BigEndian.AppendUint16([]byte{0x80, 0}, ethertype)
		gre = append(gre, 0, 0, 0, 0)
		gre = append(gre, b[ethLen:]...)
		binary.BigEndian.PutUint16(gre[4:], ^checksum.Checksum(gre, 0))
		for want, spec := range map[string]packettest.Spec{
			"indip > server IPIP " + inside:                        {Proto: protocol, Payload: b[ethLen:]},
			"indip > server GRE flags 0000 " + inside:              {Proto: 47, Payload: slices.Concat(binary.BigEndian.AppendUint16([]byte{0, 0}, ethertype), b[ethLen:])},
			"indip > server GRE flags 8000 " + inside:              {Proto: 47, Payload: gre},
			"indip > server GUE to port 6080 flags 0000 " + inside: {Proto: packettest.UDP, Payload: slices.Concat([]byte{0, protocol, 0, 0}, b[ethLen:])},
		} {
			spec.Src, _ = endpoint("indip:50000", 4)
			spec.Dst, _ = endpoint("server:6080", 4)
			spec.DF = true
			if got := describe(in, spec.Bytes(), map[uint16]bool{usualID: true}); !strings.Contains(got, want) || !strings.HasSuffix(got, "df id own") || strings.Contains(got, "WRONG") {
				t.Errorf("%s\nwant %s", got, want)
			}
		}
		gre[4] ^= 1
		spec := packettest.Spec{Proto: 47, Payload: gre}
		spec.Src, _ = endpoint("indip", 4)
		spec.Dst, _ = endpoint("server", 4)
		if got := describe(in, spec.Bytes(), nil); !strings.Contains(got, "WRONG GRE CHECKSUM") {
			t.Errorf("a wrong checksum goes unnoticed: %s", got)
		}
	}
}
