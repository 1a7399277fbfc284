package director

import (
	"tapdirector/conf"
	"tapdirector/stack"
	"tapdirector/tap"
)

// Several interfaces on one device, told apart by VLAN
//
// A device is opened once, and each of its queues has one worker, as ever. Which interface a frame came in on follows from its tag, which is taken off
// when it is looked at, and put on when a batch is written (flush): between the two nothing knows of VLANs. So each VLAN is an interface with
// its own MAC, addresses, ARP and routes, and the tag does not count against the MTU.
//
// Devices without a VLAN have no trunk; their workers never look for tags, and Parse refuses those that come.

// trunk is a device's interfaces by VLAN; at 0 the one for frames without a tag. noIface where there is none.
type trunk [4096]uint16

const noIface = ^uint16(0)

// newTrunk returns the trunk of interface i's device, nil when no interface on it has a VLAN.
func newTrunk(c *conf.Config, i int) *trunk {
	t, tagged := new(trunk), false
	for vlan := range t {
		t[vlan] = noIface
	}
	for j := range c.Interfaces {
		if c.SharesWith(j) == i {
			t[c.Interfaces[j].VLAN] = uint16(j)
			tagged = tagged || c.Interfaces[j].VLAN != 0
		}
	}
	if !tagged {
		return nil
	}
	return t
}

// untag takes the tag off a frame that is looked at, and says whose interface it came in on; false when it is nobody's.
func (w *worker) untag(f *tap.Frame, l *look) bool {
	vlan, ok := stack.PopTag(f)
	if !ok || w.trunk[vlan] == noIface {
		return false
	}
	l.in = w.trunk[vlan]
	return true
}

// tag puts the interface's tag on what is about to be written.
func (o *out) tag() {
	kept := o.batch[:0]
	for _, f := range o.batch {
		if stack.PushTag(f, o.vlan) { // always: frames have headroom. One without must not leave, for it would be another network's.
			kept = append(kept, f)
		}
	}
	o.batch = kept
}

// tagged returns write for frames of a VLAN; 0: write itself. The frame that it is given stays as it is.
func tagged(vlan uint16, write func(*tap.Frame)) func(*tap.Frame) {
	if vlan == 0 {
		return write
	}
	return func(f *tap.Frame) {
		if g := f.Clone(); stack.PushTag(&g, vlan) {
			write(&g)
		}
	}
}
