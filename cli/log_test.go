package cli

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"tapdirector/conf"
	"tapdirector/tap"
)

// startConfig is a configuration with both families, and the devices it came to.
func startConfig() (*conf.Config, []*tap.Device) {
	c := &conf.Config{
		Interfaces: []conf.Interface{
			{Name: "ext", MAC: ownMAC, Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.1.2/24"), netip.MustParsePrefix("fd77:1::2/64")}},
			{Name: "int", MAC: kernelMAC},
		},
		Services: []conf.Service{
			{Name: "web", Listen: []conf.Listen{{Addr: netip.MustParseAddr("10.77.1.100"), Low: 80, High: 80}}, Protocol: "tcp", Method: "nat", Scheduler: "wlc", Servers: make([]conf.Server, 3)},
			{Name: "dns", Listen: []conf.Listen{{Addr: netip.MustParseAddr("fd77:1::100"), Low: 53, High: 53, Interface: 1}}, Protocol: "udp", Method: "dr", Scheduler: "rr"},
		},
	}
	return c, []*tap.Device{
		{Name: "tap0", Driver: "linux", Queues: make([]tap.Queue, 2), VnetHdr: true, Offload: tap.Offload{Csum: true, TSO4: true, TSO6: true, USO: true},
			MTU: 1500, Created: true, Bridge: "br0"},
		{Name: "tap1", Driver: "water", Queues: make([]tap.Queue, 1), MTU: 9000},
	}
}

func TestStartLines(t *testing.T) {
	var b bytes.Buffer
	c, devices := startConfig()
	logStart(newLogger(&b, "text", "info"), c, devices)
	want := []string{
		`msg=interface interface=ext tap=tap0 driver=linux queues=2 mtu=1500 mac=02:00:00:00:aa:01 addresses=10.77.1.2/24,fd77:1::2/64 offload=csum,tso4,tso6,uso created=true bridge=br0`,
		`msg=interface interface=int tap=tap1 driver=water queues=1 mtu=9000 mac=52:54:00:01:02:03 addresses="" offload=none created=false`,
		`msg=service service=web listen=10.77.1.100:80 protocol=tcp method=nat scheduler=wlc servers=3 interface=ext`,
		`msg=service service=dns listen=[fd77:1::100]:53 protocol=udp method=dr scheduler=rr servers=0 interface=int`,
	}
	got := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), b.String())
	}
	for i := range want {
		if !strings.HasSuffix(got[i], want[i]) {
			t.Errorf("line %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}

func TestStartLinesAsJSON(t *testing.T) {
	var b bytes.Buffer
	c, devices := startConfig()
	logStart(newLogger(&b, "json", "info"), c, devices)
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestLogLevel(t *testing.T) {
	for _, c := range []struct {
		level string
		lines int
	}{{"debug", 4}, {"info", 3}, {"warn", 2}, {"error", 1}, {"nonsense", 3}} {
		var b bytes.Buffer
		log := newLogger(&b, "text", c.level)
		log.Debug("d")
		log.Info("i")
		log.Warn("w")
		log.Error("e")
		if got := strings.Count(b.String(), "\n"); got != c.lines {
			t.Errorf("%s: %d lines, want %d", c.level, got, c.lines)
		}
	}
}
