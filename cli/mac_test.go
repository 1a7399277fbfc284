package cli

import (
	"net/netip"
	"strings"
	"testing"

	"tapdirector/conf"
	"tapdirector/tap"
)

var (
	kernelMAC = tap.MAC{0x52, 0x54, 0, 1, 2, 3}
	ownMAC    = tap.MAC{2, 0, 0, 0, 0xaa, 1}
)

func TestChooseMAC(t *testing.T) {
	for _, c := range []struct {
		name  string
		conf  tap.MAC
		bound bool
		want  tap.MAC // zero: a derived one
		fails string
	}{
		{"a TAP, nothing configured", tap.MAC{}, false, tap.MAC{}, ""},
		{"a TAP, configured", ownMAC, false, ownMAC, ""},
		{"a TAP, the kernel's", kernelMAC, false, tap.MAC{}, "kernel's own address on tap0"},
		{"a macvtap, nothing configured", tap.MAC{}, true, kernelMAC, ""},
		{"a macvtap, its own", kernelMAC, true, kernelMAC, ""},
		{"a macvtap, another", ownMAC, true, tap.MAC{}, "only frames to the interface's own address 52:54:00:01:02:03"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := &conf.Interface{Name: "lan", Tap: "tap0", MAC: c.conf}
			d := &tap.Device{Name: "tap0", KernelMAC: kernelMAC, MACBound: c.bound}
			got, err := chooseMAC(i, d, "m")
			switch {
			case c.fails != "":
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v, want one with %q", err, c.fails)
				}
			case err != nil:
				t.Error(err)
			case c.want == tap.MAC{}:
				if got != deriveMAC(i, d, "m") {
					t.Errorf("%s is not the derived one", macString(got))
				}
			case got != c.want:
				t.Errorf("%s, want %s", macString(got), macString(c.want))
			}
		})
	}
}

// TestDeriveMAC: the same for the same director, another for any other, and fit to be a station's address.
func TestDeriveMAC(t *testing.T) {
	seen := map[tap.MAC]string{}
	for _, machine := range []string{"", "a", "b"} {
		for _, name := range []string{"tap0", "tap1"} {
			for _, address := range []string{"", "10.77.1.2/24", "10.77.1.3/24", "fd77:1::2/64", "fd77:1::3/64"} {
				i := &conf.Interface{Tap: name}
				if address != "" {
					i.Addresses = []netip.Prefix{netip.MustParsePrefix(address)}
				}
				d := &tap.Device{Name: name}
				who := machine + "|" + name + "|" + address
				mac := deriveMAC(i, d, machine)
				if mac != deriveMAC(i, d, machine) {
					t.Errorf("%s: not stable", who)
				}
				if other, ok := seen[mac]; ok {
					t.Errorf("%s has the MAC of %s", who, other)
				}
				seen[mac] = who
				if mac[0]&1 != 0 || mac[0]&2 == 0 {
					t.Errorf("%s: %s is not unicast and locally administered", who, macString(mac))
				}
			}
		}
	}
}

// TestDeriveMACAvoidsKernels: should the hash hit the kernel's MAC, the next one is taken.
func TestDeriveMACAvoidsKernels(t *testing.T) {
	i, d := &conf.Interface{}, &tap.Device{Name: "tap0"}
	first := deriveMAC(i, d, "m")
	d.KernelMAC = first
	if second := deriveMAC(i, d, "m"); second == first {
		t.Error("the kernel's MAC was taken")
	}
}

// TestWithMACs: the given configuration is not touched, and an error says which interface it is about.
func TestWithMACs(t *testing.T) {
	c := &conf.Config{Interfaces: []conf.Interface{{Name: "ext", MAC: ownMAC}, {Name: "int"}}}
	devices := []*tap.Device{{Name: "tap0"}, {Name: "tap1"}}
	got, err := withMACs(c, devices, "m")
	if err != nil {
		t.Fatal(err)
	}
	if got.Interfaces[0].MAC != ownMAC || got.Interfaces[1].MAC == (tap.MAC{}) {
		t.Errorf("MACs %v and %v", got.Interfaces[0].MAC, got.Interfaces[1].MAC)
	}
	if c.Interfaces[1].MAC != (tap.MAC{}) {
		t.Error("the configuration was changed")
	}
	devices[0].KernelMAC = ownMAC
	if _, err := withMACs(c, devices, "m"); err == nil || !strings.Contains(err.Error(), `interface "ext"`) {
		t.Errorf("error %v", err)
	}
}

func TestMachineIDIsStable(t *testing.T) {
	first, second := machineID(), machineID()
	if first != second || strings.TrimSpace(first) == "" {
		t.Errorf("machine %q, then %q", first, second)
	}
}
