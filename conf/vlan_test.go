package conf

import "testing"

// vlans are slips in interfaces that share a tap.
var vlans = []spoiled{
	slip("vlan out of range", atExt, atExt+"vlan = 4095\n", `interface "ext": vlan 4095: out of range: 0 to 4094`),
	slip("vlan in words", atExt, atExt+"vlan = \"100\"\n", `interface "ext": vlan: expected a whole number, got "100"`),
	{"one vlan twice", []string{atExt, atExt + "vlan = 7\n", `tap = "tap1"`, "tap = \"tap0\"\nvlan = 7"},
		[]string{`interface "int": vlan 7: also the vlan of interface "ext" on tap "tap0"`}},
	{"none twice", []string{`tap = "tap1"`, `tap = "tap0"`}, []string{`interface "int": tap "tap0": also the tap of interface "ext"`}},
	{"a bridge at the second", []string{`tap = "tap1"`, "tap = \"tap0\"\nvlan = 7\nbridge = \"br0\""},
		[]string{`interface "int": bridge "br0": belongs to the tap, which it shares with interface "ext": say it there only`}},
	{"another mtu and queues", []string{atExt, atExt + "mtu = 9000\nqueues = 2\n", `tap = "tap1"`, "tap = \"tap0\"\nvlan = 7\nmtu = 1500\nqueues = 3"},
		[]string{`interface "int": queues 3: belongs to the tap, which it shares with interface "ext": say it there only`,
			`interface "int": mtu 1500: belongs to the tap, which it shares with interface "ext": say it there only`}},
	{"another driver", []string{atExt, atExt + "vlan = 4094\n", `tap = "tap1"`, "tap = \"tap0\"\ndriver = \"linux\""},
		[]string{`interface "int": driver "linux": belongs to the tap, which it shares with interface "ext": say it there only`}},
}

func TestVLANMistakes(t *testing.T) {
	for _, tc := range vlans {
		t.Run(tc.name, func(t *testing.T) { checkMistakes(t, tc, func(s string) string { return s }) })
	}
}

// TestSharesWith: interfaces on one tap have in common what the first says, and differ in VLAN.
func TestSharesWith(t *testing.T) {
	c := mustParse(t, edit(t, good, atExt, atExt+"mtu = 9000\nbridge = \"br0\"\nqueues = 2\n", `tap = "tap1"`, "tap = \"tap0\"\nvlan = 7\nqueues = 2"))
	f := c.Interfaces[1]
	if c.SharesWith(0) != 0 || c.SharesWith(1) != 0 || f.VLAN != 7 || f.MTU != 9000 || f.Bridge != "br0" || f.Queues != 2 || c.Interfaces[0].VLAN != 0 {
		t.Errorf("%+v", c.Interfaces)
	}
	if c := mustParse(t, good); c.SharesWith(1) != 1 {
		t.Error("two taps are one")
	}
}
