package uml

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
)

// sctpModules: hmac signs a server's cookies.
var sctpModules = []string{"hmac", "sctp"}

// TestSCTP: both ends are kernels that speak SCTP, and check its CRC32c and its tags; every method in both families. An association is
// ESTABLISHED in the director's table while it is, then CLOSED, and carries content both ways.
func TestSCTP(t *testing.T) {
	needGuests(t)
	l := newClosedLab(t, false, sctpModules, "sctp")
	for _, c := range l.cases {
		t.Run(c.String(), func(t *testing.T) {
			release := l.hold(t, c)
			l.awaitState(t, c, flow.SCTPEstablished)
			release()
			l.awaitState(t, c, flow.SCTPClosed)
			l.talk(t, c, "sctp 1000000", "sctp 0")
			l.refused(t, c)
		})
	}
	for _, ns := range []string{"client", "server", "direct"} {
		for _, line := range do(t, l.guest, "ip netns exec "+ns+" cat /proc/net/sctp/snmp") {
			f := strings.Fields(line)
			if bad := f[0] == "SctpChecksumErrors" || f[0] == "SctpOutOfBlues"; bad && f[1] != "0" {
				t.Errorf("%s: %s", ns, line)
			}
		}
	}
	l.checkFaults(t)
	l.checkAccounts(t)
}

// hold opens an association that stays until release.
func (l *closedLab) hold(t *testing.T, c closedCase) (release func()) {
	t.Helper()
	log := "/run/hold"
	said := do(t, l.guest, fmt.Sprintf(": > %s; /usr/sbin/ip netns exec client %s hold sctp %v >> %[1]s 2>&1 & echo $!", log, endsPath, netip.AddrPortFrom(c.vip, 80)))
	ns, _, _ := c.server()
	for end := time.Now().Add(waitLimit); ; time.Sleep(20 * time.Millisecond) {
		line := read(t, l.guest, log)
		if strings.HasPrefix(line, ns+" "+c.peer().String()) || strings.HasPrefix(line, ns+" ["+c.peer().String()) {
			break
		}
		if line != "" || time.Now().After(end) {
			t.Fatalf("hold: %q", line)
		}
	}
	return func() { do(t, l.guest, "kill "+said[0]) }
}

// refused expects that the director's ABORT ends an attempt on a port without a service at once: a kernel believes only one with its own tag.
func (l *closedLab) refused(t *testing.T, c closedCase) {
	t.Helper()
	said, err := l.guest.Run(fmt.Sprintf("ip netns exec client %s hold sctp %v", endsPath, netip.AddrPortFrom(c.vip, 81)))
	if err == nil || !strings.Contains(strings.Join(said, " "), "connection refused") {
		t.Errorf("a port without a service: %q, %v, want connection refused", said, err)
	}
}

// awaitState waits until the director has the case's association in a state.
func (l *closedLab) awaitState(t *testing.T, c closedCase, want flow.State) {
	t.Helper()
	_, rip, listen := c.server()
	server := netip.AddrPortFrom(rip, listen.Port())
	var seen []string
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		seen = nil
		found := false
		l.Director().Connections(func(f *flow.Conn, _ time.Duration) bool {
			if f.Proto == stack.ProtoSCTP && f.Virtual.Netip() == c.vip {
				found = found || f.State == want && netip.AddrPortFrom(f.Server.Netip(), f.ServerPort) == server
				seen = append(seen, fmt.Sprint(f.State, " ", f.Server.Netip()))
			}
			return true
		})
		if found {
			return
		}
	}
	t.Errorf("in the table: %v, want %v and %v", seen, want, server)
}
