package cli

import (
	"log/slog"
	"strings"
	"testing"

	"tapdirector/tap"
)

// TestTrunkIsOpenedOnce: interfaces that share a tap get one device, which is closed once.
func TestTrunkIsOpenedOnce(t *testing.T) {
	c := parseConf(t, strings.Replace(twoArms, `tap       = "tap9"`, "device = \"/dev/tapdirector-no-such-device\"\nvlan = 7", 1))
	if c.SharesWith(1) != 0 {
		t.Fatalf("no trunk: %+v", c.Interfaces)
	}
	var opened []tap.Options
	devices, err := openDevices(c, environment{log: slog.New(slog.DiscardHandler), open: func(o tap.Options) (*tap.Device, error) {
		opened = append(opened, o)
		d, _ := tap.NewMemory(tap.MemoryOptions{Name: o.Name})
		return d, nil
	}})
	if err != nil || len(devices) != 2 || devices[0] != devices[1] || len(opened) != 1 || opened[0].Path != c.Interfaces[0].Device {
		t.Fatalf("%d devices, opened %v, %v", len(devices), opened, err)
	}
	if err := closeDevices(devices); err != nil {
		t.Error(err)
	}
}
