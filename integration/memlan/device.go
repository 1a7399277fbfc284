package memlan

import (
	"tapdirector/integration"
	"tapdirector/tap"
)

// device is one of the director's interfaces: a tap.Memory whose far side is a port of the switch.
type device struct {
	dev  *tap.Device
	mem  *tap.Memory
	port *Port
	plan integration.Interface
}

// newDevice makes a device and plugs it in.
func newDevice(w *World, i integration.Interface) *device {
	d := &device{plan: i}
	on := w.Plan.Offload(i.Name)
	d.dev, d.mem = tap.NewMemory(tap.MemoryOptions{
		Name:      "tap-" + i.Name,
		Queues:    w.Plan.Spec.Queues,
		MTU:       w.Plan.MTU(i.Name),
		Offload:   tap.Offload{Csum: on, TSO4: on, TSO6: on, USO: on},
		KernelMAC: tap.MAC{0x02, 0, 0, 0, 0xbb, i.MAC[5]},
	})
	d.port = w.switches[i.Name].Plug("director/"+i.Name, func(f *tap.Frame) { d.mem.Send(queueOf(f.Bytes()), f) })
	d.mem.OnWrite(func(_ int, f *tap.Frame) {
		w.faults.judge(d.port.Name, f, w.Plan.MTU(i.Name), on)
		d.port.Send(f)
	})
	w.ports = append(w.ports, d.port)
	return d
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
