package tap

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openWater opens a TAP through water, which by itself would take persistence from an interface that had it, leave the descriptor
// open in child processes, and read superpackets as frames when its last user left the offloads on.
func openWater(o Options) (*Device, error) {
	if o.Path != "" {
		return nil, errors.New(`driver "water" knows no macvtap: set driver = "linux"`)
	}
	p, err := newPort(o)
	if err != nil {
		return nil, err
	}
	file, err := p.newWater()
	if err != nil {
		p.release()
		return nil, err
	}
	if err := p.tame(file); err != nil {
		file.Close()
		p.release()
		return nil, err
	}
	return p.waterDevice(file), nil
}

// newWater calls water.New. When it fails at TUNSETIFF it leaves its descriptor open, attached to nothing; most such failures were
// found by inspect before.
func (p *port) newWater() (*os.File, error) {
	params := water.PlatformSpecificParams{Name: p.name}
	if p.before != nil {
		params.Persist = !p.before.NonPersist
		params.MultiQueue = p.before.Flags&netlink.TUNTAP_MULTI_QUEUE != 0
	}
	w, err := water.New(water.Config{DeviceType: water.TAP, PlatformSpecificParams: params})
	if errors.As(err, new(*os.SyscallError)) {
		return nil, p.explainAttach(err)
	}
	if err != nil {
		return nil, explainTunOpen(err)
	}
	file, ok := w.ReadWriteCloser.(*os.File)
	if !ok {
		w.Close()
		return nil, fmt.Errorf("water's device is a %T, not a file", w.ReadWriteCloser)
	}
	p.name = w.Name()
	return file, nil
}

// tame makes the descriptor behave and brings the interface to the state that was asked for.
func (p *port) tame(file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	p.each = func(do func(fd int) error) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = do(int(fd)) }), err)
	}
	if err := p.each(p.tameFD); err != nil {
		return err
	}
	if err := p.configure(); err != nil {
		return err
	}
	p.health.up.Store(running(p.attrs.RawFlags))
	return nil
}

func (p *port) tameFD(fd int) error {
	unix.CloseOnExec(fd)
	_, flags, err := attached(fd)
	switch {
	case err != nil:
		return fmt.Errorf("the kernel does not say what was opened: %w", err)
	case flags&unix.IFF_VNET_HDR != 0:
		return fmt.Errorf("it has the flags %#x, which water cannot read: another program holds it; set driver = \"linux\"", flags)
	}
	p.flags = unix.IFF_TAP | unix.IFF_NO_PI | flags&unix.IFF_MULTI_QUEUE
	return p.setForm(fd)
}

// waterDevice starts what a device of this driver runs on.
func (p *port) waterDevice(file *os.File) *Device {
	d := &Device{Driver: "water"}
	p.describe(d) // before the watcher, whose port it is from then on
	w := watch(p)
	q := startWater(file, w.poke)
	d.Queues = []Queue{q}
	d.stats = func() (s Stats) {
		q.counters.sum(&s)
		p.health.sum(&s)
		return s
	}
	d.close = sync.OnceValue(func() error {
		q.end()
		w.stop()
		defer p.nl.Close()
		return q.close()
	})
	return d
}
