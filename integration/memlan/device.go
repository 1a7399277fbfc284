package memlan

import (
	"sync/atomic"

	"tapdirector/integration"
	"tapdirector/stack"
	"tapdirector/tap"
)

// device is one of the director's interfaces: a tap.Memory whose far side is a port of the switch. Those of a trunk share the tap.Memory, and behind it
// stands what a VLAN switch is: the tag says which switch a frame is for, and each switch gets it without.
type device struct {
	dev  *tap.Device
	mem  atomic.Pointer[tap.Memory] // another one after a restart of the director
	port *Port
	plan integration.Interface
}

// newDevice makes a device and plugs it in.
func newDevice(w *World, i integration.Interface) *device {
	d := &device{plan: i}
	d.open(w)
	d.port = w.switches[i.Name].Plug("director/"+i.Name, d.toDirector)
	w.ports = append(w.ports, d.port)
	return d
}

// open makes the tap.Memory of d, or takes the one of the trunk that d is part of.
func (d *device) open(w *World) {
	if d.plan.VLAN != 0 && len(w.devices) > 0 && w.devices[0] != d {
		d.dev = w.devices[0].dev
		d.mem.Store(w.devices[0].mem.Load())
		return
	}
	on := w.Plan.Offload(d.plan.Name)
	dev, mem := tap.NewMemory(tap.MemoryOptions{
		Name:      "tap-" + d.plan.Name,
		Queues:    w.Plan.Spec.Queues,
		MTU:       w.Plan.MTU(d.plan.Name),
		Offload:   tap.Offload{Csum: on, TSO4: on, TSO6: on, USO: on},
		KernelMAC: tap.MAC{0x02, 0, 0, 0, 0xbb, d.plan.MAC[5]},
	})
	mem.OnWrite(func(_ int, f *tap.Frame) { w.fromDirector(d, f) })
	d.dev = dev
	d.mem.Store(mem)
}

// toDirector delivers a frame from the interface's switch.
func (d *device) toDirector(f *tap.Frame) {
	queue := queueOf(f.Bytes())
	if d.plan.VLAN != 0 {
		g := f.Clone()
		stack.PushTag(&g, d.plan.VLAN)
		f = &g
	}
	d.mem.Load().Send(queue, f)
}

// fromDirector takes a frame that the director wrote to d, or to the trunk that d is part of.
func (w *World) fromDirector(d *device, f *tap.Frame) {
	if d.plan.VLAN != 0 {
		g := f.Clone()
		vlan, _ := stack.PopTag(&g)
		if d = w.onVLAN(vlan); d == nil {
			w.faults.add("director: a frame with an unknown VLAN", 1)
			return
		}
		f = &g
	}
	w.faults.judge(d.port.Name, f, w.Plan.MTU(d.plan.Name), w.Plan.Offload(d.plan.Name))
	d.port.Send(f)
}

// onVLAN returns the interface of a VLAN, nil when there is none.
func (w *World) onVLAN(vlan uint16) *device {
	for _, d := range w.devices {
		if d.plan.VLAN == vlan {
			return d
		}
	}
	return nil
}

// queueOf spreads flows over queues as a TAP does: frames of one flow, in one direction, always come by the same queue. (The device takes it modulo
// its queues.)
func queueOf(b []byte) int {
	ip := readIP(b)
	if ip == nil || ip.fragment || len(ip.frame) < ip.l4+4 {
		return 0
	}
	var h uint32
	for _, part := range [][]byte{ip.src.AsSlice(), ip.dst.AsSlice(), ip.frame[ip.l4 : ip.l4+4]} {
		for _, c := range part {
			h = h*31 + uint32(c)
		}
	}
	return int(h >> 1)
}
