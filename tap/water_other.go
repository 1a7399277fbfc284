//go:build !linux

package tap

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/songgao/water"
)

// openWater opens the platform's TAP through water: tuntaposx on macOS, OpenVPN's tap-windows6 on Windows. The interface is
// managed by the platform's own tools; we only use it.
func openWater(o Options) (*Device, error) {
	switch {
	case o.Path != "":
		return nil, errors.New("macvtap is for Linux only")
	case o.Bridge != "":
		return nil, fmt.Errorf("bridge %q: bridges are set up for Linux only: do it by hand and leave bridge out", o.Bridge)
	}
	w, err := water.New(water.Config{DeviceType: water.TAP, PlatformSpecificParams: waterParams(o)})
	if err != nil {
		return nil, fmt.Errorf("%w: is a TAP driver installed? (%s)", err, waterHint)
	}
	q := startWater(w, func() {})
	d := &Device{Name: w.Name(), Driver: "water", Queues: []Queue{q}, MTU: 1500}
	if ifi, err := net.InterfaceByName(d.Name); err == nil {
		d.MTU, d.Index = ifi.MTU, ifi.Index
		copy(d.KernelMAC[:], ifi.HardwareAddr)
	}
	if o.MTU != 0 && o.MTU != d.MTU {
		q.close()
		return nil, fmt.Errorf("its MTU is %d, not %d: set it by hand, or leave mtu out", d.MTU, o.MTU)
	}
	d.stats = func() (s Stats) { q.counters.sum(&s); return s }
	d.close = sync.OnceValue(q.close)
	return d, nil
}
