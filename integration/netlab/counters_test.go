//go:build linux

package netlab

import (
	"bufio"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCounterFiles(t *testing.T) {
	got := map[string]uint64{}
	snmpLines(bufio.NewScanner(strings.NewReader("Tcp: MaxConn InErrs InCsumErrors\nTcp: -1 3 4\nUdp: InErrors\nUdp: 5\nUdp: InErrors\n")), got)
	snmp6Lines(bufio.NewScanner(strings.NewReader("Udp6InErrors \t 6\nnonsense\nIp6X y\n")), got)
	want := map[string]uint64{"Tcp.InErrs": 3, "Tcp.InCsumErrors": 4, "Udp.InErrors": 5, "Udp6InErrors": 6}
	if len(got) != len(want) {
		t.Errorf("counters %v, want %v", got, want)
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %d, want %d", name, got[name], v)
		}
	}
}

// What another kernel's files say, only what is against frames, and no datagram that a full buffer lost.
func TestErrorsIn(t *testing.T) {
	got := ErrorsIn("Tcp: InSegs InCsumErrors\nTcp: 10 2\nUdp: InErrors RcvbufErrors\nUdp: 5 5\n", "Udp6InErrors 3\nUdp6RcvbufErrors 1\n")
	if want := map[string]uint64{"Tcp.InCsumErrors": 2, "Udp6InErrors": 2}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A datagram with a wrong checksum is a fault of the host that got it.
func TestErrorsSeesABadChecksum(t *testing.T) {
	a, b, _ := lan(t, "10.0.0.1/24", "10.0.0.2/24")
	if broken, err := b.Errors(); err != nil || len(broken) != 0 {
		t.Fatalf("a fresh host has errors %v (%v)", broken, err)
	}
	eventually(t, "the neighbour is known", func() bool { return a.ask("eth0", netip.MustParseAddr("10.0.0.2")) != nil })
	packet := []byte{
		0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // the kernel fills in the IP checksum
		0, 9, 0, 9, 0, 9, 0xde, 0xad, 'x', // the UDP checksum is wrong
	}
	// UDP looks at a checksum only for a socket that is there.
	c, err := b.ListenPacket("udp", "10.0.0.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "the bad checksum is counted", func() bool {
		a.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 0, 0, 2}})
		})
		broken, err := b.Errors()
		return err == nil && broken["Udp.InCsumErrors"] > 0 && broken["Udp.InErrors"] > 0
	})
}
