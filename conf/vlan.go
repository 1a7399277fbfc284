package conf

// Several interfaces on one TAP: each has a VLAN of its own, at most one has none. What belongs to the TAP itself (driver, bridge, queues, mtu) is said at the
// first of them; the others leave it out or say the same.

// port is a TAP or device with a VLAN: what at most one interface can have.
type port struct {
	name string
	vlan int
}

// checkDevice looks for another interface on the same TAP, or device, and VLAN.
func (d *draft) checkDevice(i int, ports firsts[port]) {
	f, at := &d.c.Interfaces[i], d.interfaceAt(i)
	for _, device := range []struct{ key, name string }{{"tap", f.Tap}, {"device", f.Device}} {
		if device.name == "" {
			continue
		}
		first := ports.taken(port{device.name, f.VLAN}, at.text)
		switch {
		case first == "":
		case f.VLAN == 0:
			d.add(at, "%s %q: also the %s of %s", device.key, device.name, device.key, first)
		default:
			d.add(at, "vlan %d: also the vlan of %s on %s %q", f.VLAN, first, device.key, device.name)
		}
	}
}

// shareTaps gives every interface what the first on its TAP says of it, where it says nothing itself.
func (d *draft) shareTaps() {
	for i := range d.c.Interfaces {
		f, first := &d.c.Interfaces[i], &d.c.Interfaces[d.c.SharesWith(i)]
		if f.Tap+f.Device == "" {
			continue
		}
		inherit(&f.Bridge, first.Bridge, "")
		inherit(&f.Driver, first.Driver, drivers[0])
		inherit(&f.Queues, first.Queues, 0)
		inherit(&f.MTU, first.MTU, 0)
	}
}

// inherit sets a value that is the default.
func inherit[T comparable](value *T, from, def T) {
	if *value == def {
		*value = from
	}
}

// checkTrunks looks for interfaces that say of their TAP what the first on it does not. Without a TAP, which is a mistake of its own, nothing is shared.
func (d *draft) checkTrunks() {
	for i := range d.c.Interfaces {
		f, j := &d.c.Interfaces[i], d.c.SharesWith(i)
		first, at := &d.c.Interfaces[j], d.interfaceAt(i)
		if i == j || f.Tap+f.Device == "" {
			continue
		}
		const format = "%s %v: belongs to the tap, which it shares with %s: say it there only"
		name := d.interfaceAt(j).text
		if f.Bridge != first.Bridge {
			d.add(at, format, "bridge", show(f.Bridge), name)
		}
		if f.Driver != first.Driver {
			d.add(at, format, "driver", show(f.Driver), name)
		}
		if f.Queues != first.Queues {
			d.add(at, format, "queues", f.Queues, name)
		}
		if f.MTU != first.MTU {
			d.add(at, format, "mtu", f.MTU, name)
		}
	}
}
