package tap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Attaching a descriptor to an interface
//
//	open /dev/net/tun          which binds it to the calling thread's network namespace for good
//	TUNSETIFF name, flags      makes the interface, or attaches to the one there is
//	TUNGETIFF                  what we really got
//	TUNSETVNETHDRSZ, -LE       the virtio header's form
//	TUNSETOFFLOAD              what the kernel may hand us unfinished
//
// Why each answer is checked: the first descriptor on an idle interface replaces its flags, a later one is given the flags of the first and
// no error. The header's size, its byte order and the offloads stay with a persistent interface, so they are those of the last program that
// used it (QEMU leaves 12 bytes and all offloads). A descriptor whose interface was deleted can be attached again, which
// keeps its number and its namespace: that is how a lost interface is taken up again without a race against Write.

const (
	tunPath  = "/dev/net/tun"
	tapFlags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR
)

// openClone opens the character device that descriptors come from.
func (p *port) openClone() (int, error) {
	path := tunPath
	if p.o.Path != "" {
		path = p.o.Path
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	if p.o.Path != "" {
		return -1, explainMacvtapOpen(path, err)
	}
	return -1, explainTunOpen(err)
}

func explainTunOpen(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return errors.New(tunPath + " is missing: load the tun module, or run the container with --device " + tunPath)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return errors.New(tunPath + " is there but the kernel has no tun driver: load the tun module (modprobe tun)")
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("user %d may not open %s: run as root, or let an administrator run \"chmod 0666 %s\"", os.Geteuid(), tunPath, tunPath)
	case errors.Is(err, unix.EPERM):
		return errors.New("this container may not open " + tunPath + ": run it with --device " + tunPath)
	}
	return fmt.Errorf("cannot open %s: %w", tunPath, err)
}

func explainMacvtapOpen(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s is missing: make a macvtap (\"ip link add link eth0 name macvtap0 type macvtap mode bridge\") and use /dev/tap and its index, "+
			"or run the container with --device %s", path, path)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%s belongs to no macvtap any more: make it again", path)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("user %d may not open %s: run as root, or let an administrator run \"chown %d %s\"", os.Geteuid(), path, os.Geteuid(), path)
	}
	return fmt.Errorf("cannot open %s: %w", path, err)
}

// attachFirst attaches the first descriptor and returns how many queues there can be: as many as wanted, or one when the interface
// was made with a single one.
func (p *port) attachFirst(fd, want int) (int, error) {
	p.flags = tapFlags
	if want > 1 {
		p.flags |= unix.IFF_MULTI_QUEUE
	}
	err := p.attach(fd)
	if errors.Is(err, unix.EINVAL) { // it was made with the other kind of queues
		p.flags ^= unix.IFF_MULTI_QUEUE
		err = p.attach(fd)
	}
	switch {
	case err != nil:
		return 0, p.explainAttach(err)
	case p.flags&unix.IFF_MULTI_QUEUE == 0:
		return 1, nil
	}
	return want, nil
}

// attach gives the descriptor its interface and checks what came of it. Errors of TUNSETIFF are returned as they are.
func (p *port) attach(fd int) error {
	ifr, err := unix.NewIfreq(p.name)
	if err != nil {
		return err
	}
	ifr.SetUint16(p.flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return err
	}
	name, flags, err := attached(fd)
	switch {
	case err != nil:
		return fmt.Errorf("the kernel does not say what was opened: %w", err)
	case flags&unix.IFF_TAP == 0:
		return fmt.Errorf("it has the flags %#x: another program holds it with other ones", flags)
	}
	if p.name == "" { // the kernel chose it; later the queues read it, so it is not written again
		p.name = name
	}
	p.vnet = flags&unix.IFF_VNET_HDR != 0
	return p.setForm(fd)
}

// attached returns the name and flags of the interface that fd is attached to, an error when there is none (any more). IFF_NO_PI is not to be
// trusted: the kernel sets the same bit to say that the descriptor has no filter.
func attached(fd int) (string, uint16, error) {
	ifr, _ := unix.NewIfreq("")
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return "", 0, err
	}
	return ifr.Name(), ifr.Uint16(), nil
}

// setForm makes the virtio header HeaderLen bytes in little-endian order, whoever had the interface before.
func (p *port) setForm(fd int) error {
	if !p.vnet {
		return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0) // without a header an unfinished frame could not say that it is one
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderLen); err != nil {
		return fmt.Errorf("the kernel refuses a virtio header of %d bytes: %w", HeaderLen, err)
	}
	err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETLE, 1)
	if err != nil && binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return fmt.Errorf("the kernel refuses a little-endian virtio header: %w", err)
	}
	return nil
}

// offload offers to take unfinished frames, each kind unless the kernel refuses it, and returns what both sides now know. Kernels before 6.2
// have no USO.
func (p *port) offload(fd int) Offload {
	var o Offload
	if !p.vnet {
		return o
	}
	accepted := 0
	try := func(flags int) bool {
		if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, accepted|flags) != nil {
			return false
		}
		accepted |= flags
		return true
	}
	o.Csum = try(unix.TUN_F_CSUM)
	if !o.Csum {
		return o // the others build on it
	}
	o.TSO4 = try(unix.TUN_F_TSO4)
	o.TSO6 = try(unix.TUN_F_TSO6)
	o.USO = try(unix.TUN_F_USO4 | unix.TUN_F_USO6)
	return o
}

// errBusy is for an interface that another program has open. For one with a single queue the kernel says so itself.
var errBusy = errors.New("it is in use by another program: stop that, or choose another interface")

// alone refuses a multi_queue interface that has more queues than the own ones: the kernel lets any program add some, and spreads the flows
// over all of them. Kernels before 4.18 do not tell.
func alone(link netlink.Link, own int) error {
	if t, ok := link.(*netlink.Tuntap); ok && t.Queues+t.DisabledQueues > own {
		return errBusy
	}
	return nil
}

// explainAttach says what a refused TUNSETIFF means.
func (p *port) explainAttach(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return errBusy
	case errors.Is(err, unix.EPERM) && p.before != nil:
		return fmt.Errorf("it %s and this process runs as user %d without CAP_NET_ADMIN: make it with \"ip tuntap add %s mode tap user %d\", or run with CAP_NET_ADMIN",
			p.owner(), os.Geteuid(), p.name, os.Geteuid())
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("it does not exist and making it needs CAP_NET_ADMIN: run with it, or let an administrator run \"ip tuntap add %s mode tap vnet_hdr multi_queue user %d\" first",
			p.name, os.Geteuid())
	case errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("%s is no macvtap device", p.o.Path)
	case errors.Is(err, unix.EINVAL):
		return errors.New("the kernel refuses it (EINVAL): it is no TAP, or was made with flags that exclude ours")
	}
	return fmt.Errorf("cannot attach: %w", err)
}

// owner says in words whose interface it was before us.
func (p *port) owner() string {
	if p.before.Owner == ^uint32(0) || p.before.Owner == 0 {
		return "is not owned by any ordinary user"
	}
	return fmt.Sprintf("belongs to user %d", p.before.Owner)
}
