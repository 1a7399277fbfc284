package cli

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"tapdirector/conf"
	"tapdirector/tap"
)

// The director's own MACs
//
// On a TAP the director is a station of its own beside the kernel, which has a MAC on the same interface. A bridge delivers
// frames for the kernel's MAC to the host and never to us, so ours must differ from it. On a macvtap it is the other way
// round: only frames for the interface's own MAC come through, so ours must be that one (tap.Device.MACBound).
//
// Where the configuration names none, the MAC is derived from what makes this director this one: the machine, the TAP and the
// addresses on it. So it is the same after a restart, which spares the neighbours' caches and the switches' tables, and it
// differs between the two directors of a pair and between clones of a machine image.

// withMACs returns a copy of c in which every interface has its MAC; devices are the open devices of c.Interfaces, in order;
// machine is what tells this machine from others.
func withMACs(c *conf.Config, devices []*tap.Device, machine string) (*conf.Config, error) {
	out := *c
	out.Interfaces = slices.Clone(c.Interfaces)
	for i := range out.Interfaces {
		mac, err := chooseMAC(&out.Interfaces[i], devices[i], machine)
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", c.Interfaces[i].Name, err)
		}
		out.Interfaces[i].MAC = mac
	}
	return &out, nil
}

// chooseMAC returns the MAC the director uses on an interface: the configured one if it can work, else the default.
func chooseMAC(i *conf.Interface, d *tap.Device, machine string) (tap.MAC, error) {
	none := tap.MAC{}
	switch {
	case d.MACBound && i.MAC != none && i.MAC != d.KernelMAC:
		return none, fmt.Errorf("mac %s cannot work: on %s only frames to the interface's own address %s come through; leave mac out",
			macString(i.MAC), d.Name, macString(d.KernelMAC))
	case d.MACBound:
		return d.KernelMAC, nil
	case i.MAC == none:
		return deriveMAC(i, d, machine), nil
	case i.MAC == d.KernelMAC:
		return none, fmt.Errorf("mac %s is the kernel's own address on %s, so frames to it would reach the host and not the director; "+
			"leave mac out or choose another", macString(i.MAC), d.Name)
	}
	return i.MAC, nil
}

// deriveMAC returns the default MAC: a hash, made unicast and locally administered. It is never the kernel's.
func deriveMAC(i *conf.Interface, d *tap.Device, machine string) tap.MAC {
	addresses := joinAll(i.Addresses)
	for attempt := uint32(0); ; attempt++ {
		h := sha256.New()
		// A zero byte parts the fields: none of them holds one.
		fmt.Fprintf(h, "tapdirector\x00%s\x00%s\x00%s\x00", machine, d.Name, addresses)
		_ = binary.Write(h, binary.BigEndian, attempt)
		mac := tap.MAC(h.Sum(nil))
		mac[0] = mac[0]&^1 | 2
		if mac != d.KernelMAC {
			return mac
		}
	}
}

// machineID returns what tells this machine from others: systemd's machine id, as far as there is one, and the host name;
// both, because container and machine images are often copied with a machine id in them.
func machineID() string {
	id, _ := os.ReadFile("/etc/machine-id")
	host, _ := os.Hostname()
	return strings.TrimSpace(string(id)) + " " + host
}

func macString(m tap.MAC) string { return net.HardwareAddr(m[:]).String() }
