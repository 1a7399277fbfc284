package tap

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// The bridge
//
// An interface with Options.Bridge is put in the bridge of that name when it is opened. From then on the watcher looks, after every link message,
// what master the interface has:
//
//	the bridge, or one made again under its name    all is well, whoever did it
//	none, and the bridge is gone                    wait for one of its name, look every second
//	none, and another bridge has the name           join it
//	none, and the bridge is still there             somebody took the interface out: leave it out
//	something else                                  somebody put it there: leave it there
//
// So a bridge that is deleted and made again is followed, and what an administrator did to the interface itself is not undone, no more than
// when it is taken down: a director that was taken off the LAN by hand has to stay off. Either is logged and counted. A bridge that
// is made again has another index, one that is renamed keeps it.

// findBridge looks up the bridge that the interface belongs in.
func (p *port) findBridge() (netlink.Link, error) {
	bridge, err := p.nl.LinkByName(p.o.Bridge)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		p.bridge = 0 // what bears the name next is another, should it even get the same index
		return nil, fmt.Errorf("bridge %q does not exist: make it with \"ip link add %s type bridge\" and \"ip link set %s up\"", p.o.Bridge, p.o.Bridge, p.o.Bridge)
	case err != nil:
		return nil, fmt.Errorf("cannot look bridge %q up: %w", p.o.Bridge, err)
	case bridge.Type() != "bridge":
		return nil, fmt.Errorf("%q is no bridge but a %s", p.o.Bridge, bridge.Type())
	}
	return bridge, nil
}

// joinBridge puts the interface in its bridge, whatever it is in.
func (p *port) joinBridge(link netlink.Link) error {
	if p.o.Bridge == "" {
		return nil
	}
	bridge, err := p.findBridge()
	if err != nil {
		return err
	}
	if link.Attrs().MasterIndex != bridge.Attrs().Index {
		err = p.denied(p.nl.LinkSetMaster(link, bridge), fmt.Sprintf("putting it in bridge %q", p.o.Bridge),
			fmt.Sprintf("ip link set %s master %s", p.name, p.o.Bridge))
	}
	if err == nil {
		p.bridge = bridge.Attrs().Index
	}
	return err
}

// followBridge sees after an interface that may have left its bridge, nil when it left the network namespace. It returns when to look again, zero when it is where it
// belongs.
func (w *watcher) followBridge(link netlink.Link, now time.Time) (next time.Time) {
	if link != nil && w.p.inBridge(link) {
		w.setOutside(false)
		return time.Time{}
	}
	w.setOutside(true)
	if next, soon := w.tooSoon(now); soon {
		return next
	}
	if err := w.p.rejoin(link); err != nil {
		tell, pause := w.outside.failed(err)
		if tell {
			w.p.log.Warn("tap not back in its bridge yet, looking every second", "tap", w.p.name, "bridge", w.p.o.Bridge, "error", err)
		}
		return now.Add(pause)
	}
	w.setOutside(false)
	return time.Time{}
}

func (w *watcher) setOutside(outside bool) {
	switch news := w.p.health.setOutside(outside); {
	case news && outside:
		w.outside = reasons{}
		w.p.log.Warn("tap left its bridge", "tap", w.p.name, "bridge", w.p.o.Bridge)
	case news:
		w.p.log.Info("tap back in its bridge", "tap", w.p.name, "bridge", w.p.o.Bridge)
	}
}

// inBridge reports whether the interface is where it belongs.
func (p *port) inBridge(link netlink.Link) bool {
	master := link.Attrs().MasterIndex
	if master == 0 || master == p.bridge {
		return master != 0
	}
	bridge, err := p.findBridge()
	if err != nil || bridge.Attrs().Index != master {
		return false
	}
	p.bridge = master
	return true
}

// rejoin puts an interface that is outside its bridge back in, unless it is by somebody's will where it is.
func (p *port) rejoin(link netlink.Link) error {
	if link == nil {
		return errors.New("it was moved to another network namespace")
	}
	if master := link.Attrs().MasterIndex; master != 0 {
		return fmt.Errorf("somebody put it in %s: it is left there", p.linkName(master))
	}
	bridge, err := p.findBridge()
	switch {
	case err != nil:
		return err
	case bridge.Attrs().Index == p.bridge:
		return fmt.Errorf("somebody took it out: it is left out until \"ip link set %s master %s\"", p.name, p.o.Bridge)
	}
	return p.joinBridge(link)
}

// linkName is an interface's name for people.
func (p *port) linkName(index int) string {
	link, err := p.nl.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("interface %d", index)
	}
	return link.Attrs().Name
}
