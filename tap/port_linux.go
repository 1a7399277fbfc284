package tap

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// port is the interface behind a device as the kernel's control plane (netlink and the ioctls of the tun driver) knows it: what
// both Linux drivers share. Its sockets are made by the goroutine that calls Open, so they stay in that thread's network
// namespace wherever they are used later. After Open only the watcher uses it.
type port struct {
	o      Options
	log    *slog.Logger
	nl     *netlink.Handle
	events *os.File // link messages of the kernel

	name   string
	before *netlink.Tuntap // the interface as it was before us; nil: there was none, we make it
	vnet   bool            // frames carry a virtio header: confirmed by TUNGETIFF
	flags  uint16          // what TUNSETIFF is asked for
	attrs  netlink.LinkAttrs
	bridge int // index of the bridge we are in, or were in last; 0: none, or it is deleted

	health health
	each   func(do func(fd int) error) error // runs do for the descriptor of each queue
}

// newPort looks at what bears the name that o asks for.
func newPort(o Options) (*port, error) {
	p := &port{o: o, log: o.Log, name: o.Name}
	if p.log == nil {
		p.log = slog.Default()
	}
	var err error
	if p.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("no netlink socket: %w", err)
	}
	if p.events, err = linkEvents(); err != nil {
		p.nl.Close()
		return nil, fmt.Errorf("no netlink socket for link messages: %w", err)
	}
	switch {
	case o.Path != "":
		p.name = "" // the device knows it
	case o.Name != "":
		err = p.inspect()
	}
	if err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// linkEvents subscribes to the kernel's link messages in the namespace of the calling thread.
func linkEvents() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// forgetEvents drops the messages about what we did ourselves: the look at the interface that follows is younger than they are.
func (p *port) forgetEvents() {
	raw, err := p.events.SyscallConn()
	if err != nil {
		return
	}
	var buf [4096]byte
	p.events.SetReadDeadline(time.Time{})
	raw.Read(func(fd uintptr) bool {
		for {
			_, err := unix.Read(int(fd), buf[:])
			if err != nil && err != unix.ENOBUFS && err != unix.EINTR {
				return true
			}
		}
	})
}

func (p *port) release() {
	p.events.Close()
	p.nl.Close()
}

// inspect says whether the name is free or an idle TAP's.
func (p *port) inspect() error {
	if err := validName(p.name); err != nil {
		return err
	}
	t, err := p.find()
	if err != nil || t == nil {
		return err
	}
	p.before = t
	return alone(t, 0)
}

// find returns the TAP of our name, nil when there is no interface; any other is an error that TUNSETIFF would only call EINVAL.
func (p *port) find() (*netlink.Tuntap, error) {
	link, err := p.nl.LinkByName(p.name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look the interface up: %w", err)
	}
	t, ok := link.(*netlink.Tuntap)
	switch {
	case !ok && strings.HasPrefix(link.Type(), "macvtap"):
		return nil, fmt.Errorf("it is a macvtap: open its character device instead, device = \"/dev/tap%d\"", link.Attrs().Index)
	case !ok:
		return nil, fmt.Errorf("there is an interface of this name that is no TAP but a %s: choose another name or remove it", link.Type())
	case t.Mode == netlink.TUNTAP_MODE_TUN:
		return nil, fmt.Errorf("it is a TUN device, without Ethernet: make it again with \"ip tuntap add %s mode tap\"", p.name)
	}
	return t, nil
}

// validName holds a name against the kernel's rules, which TUNSETIFF would cut or expand instead of refusing.
func validName(name string) error {
	switch {
	case len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("the name has %d bytes: the kernel takes at most %d", len(name), unix.IFNAMSIZ-1)
	case name == "." || name == ".." || strings.ContainsAny(name, "/:% \t\n\v\f\r\x00"):
		return errors.New("the name may not be . or .., nor hold blanks or any of / : %")
	}
	return nil
}

// configure gives the interface the MTU, bridge and state that were asked for. What is already so needs no rights.
func (p *port) configure() error {
	link, err := p.nl.LinkByName(p.name)
	if err != nil {
		return fmt.Errorf("cannot look the interface up: %w", err)
	}
	for _, step := range []func(netlink.Link) error{checkFraming, p.checkAlone, p.restoreMAC, p.setMTU, p.joinBridge, p.setUp} {
		if err := step(link); err != nil {
			return err
		}
	}
	p.passQueueing(link)
	p.forgetEvents()
	if link, err = p.nl.LinkByName(p.name); err != nil {
		return fmt.Errorf("cannot look the interface up: %w", err)
	}
	p.attrs = *link.Attrs()
	return nil
}

// checkFraming refuses an interface whose first user had no IFF_NO_PI: four bytes would come before every frame. Only netlink
// tells, and not on kernels before 4.18, which leave the mode empty.
func checkFraming(link netlink.Link) error {
	t, ok := link.(*netlink.Tuntap)
	if ok && t.Mode == netlink.TUNTAP_MODE_TAP && t.Flags&netlink.TUNTAP_NO_PI == 0 {
		return errors.New("another program holds it with packet information: stop that, or choose another interface")
	}
	return nil
}

// checkAlone refuses an interface that another program opened at the same moment as we.
func (p *port) checkAlone(link netlink.Link) error {
	_, own := p.descriptors()
	return alone(link, own)
}

// descriptors counts our queues, and those of them that have their interface.
func (p *port) descriptors() (all, have int) {
	p.each(func(fd int) error {
		all++
		if _, _, err := attached(fd); err == nil {
			have++
		}
		return nil
	})
	return all, have
}

// restoreMAC keeps the kernel's address when an interface of ours is made again: neighbours and the director know it.
func (p *port) restoreMAC(link netlink.Link) error {
	known := p.attrs.HardwareAddr
	if !p.created() || known == nil || known.String() == link.Attrs().HardwareAddr.String() {
		return nil
	}
	return p.denied(p.nl.LinkSetHardwareAddr(link, known), "giving it its address back", "")
}

func (p *port) setMTU(link netlink.Link) error {
	if p.o.MTU == 0 || link.Attrs().MTU == p.o.MTU {
		return nil
	}
	what := fmt.Sprintf("setting its MTU of %d to %d", link.Attrs().MTU, p.o.MTU)
	return p.denied(p.nl.LinkSetMTU(link, p.o.MTU), what, fmt.Sprintf("ip link set %s mtu %d", p.name, p.o.MTU))
}

// passQueueing takes the queueing discipline away from an interface of ours. The kernel's senders pay for it with each frame, and it holds none: a TAP
// never says that it is full but drops. What somebody else made keeps what it has. Without it all works as well, only slower.
func (p *port) passQueueing(link netlink.Link) {
	if !p.created() {
		return
	}
	none := &netlink.GenericQdisc{QdiscType: "noqueue", QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT}}
	if err := p.nl.QdiscReplace(none); err != nil {
		p.log.Info("tap keeps its queueing discipline", "tap", p.name, "error", err)
	}
}

func (p *port) setUp(link netlink.Link) error {
	if link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	err := p.nl.LinkSetUp(link)
	if errors.Is(err, unix.ENETDOWN) {
		return errors.New("it is down and cannot be brought up while the interface below it is down: bring that up first")
	}
	return p.denied(err, "it is down, and bringing it up", fmt.Sprintf("ip link set %s up", p.name))
}

// denied explains why a change was refused; command is what an administrator can do instead.
func (p *port) denied(err error, what, command string) error {
	switch {
	case err == nil:
		return nil
	case (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) && command != "":
		return fmt.Errorf("%s needs CAP_NET_ADMIN: run with it, or let an administrator run \"%s\" first", what, command)
	}
	return fmt.Errorf("%s failed: %w", what, err)
}

// created reports whether the interface is ours: it goes with our last descriptor.
func (p *port) created() bool { return p.before == nil && p.o.Path == "" }

// running is what we call up: brought up by somebody, and the kernel sees a carrier.
func running(flags uint32) bool { return flags&unix.IFF_UP != 0 && flags&unix.IFF_LOWER_UP != 0 }

// describe fills in what the port knows of the device.
func (p *port) describe(d *Device) {
	d.Name = p.name
	copy(d.KernelMAC[:], p.attrs.HardwareAddr)
	d.MACBound = p.o.Path != ""
	d.MTU = p.attrs.MTU
	d.Index = p.attrs.Index
	d.Created = p.created()
	d.Bridge = p.o.Bridge
	d.VnetHdr = p.vnet
}
