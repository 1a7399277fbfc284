package tap

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Taking a lost interface up again
//
//	alive       does every descriptor have its interface?
//	suits       what bears its name now: nothing (make it, or wait), another program's, of the other kind of queues, or what we need
//	attach      the same descriptors, so the queues notice nothing; a macvtap's are replaced under their numbers
//	configure   as at Open

// alive reports whether every descriptor has its interface.
func (p *port) alive() bool {
	return p.each(func(fd int) error {
		_, _, err := attached(fd)
		return err
	}) == nil
}

// takeUp attaches the same descriptors to an interface that is there again, or that we may make again.
func (p *port) takeUp() error {
	if err := p.reattach(); err != nil {
		return err
	}
	return p.configure()
}

// reattach gives the descriptors that lost their interface the one that now bears its name.
func (p *port) reattach() error {
	if p.o.Path != "" {
		return p.reopen()
	}
	if err := p.suits(); err != nil {
		return err
	}
	return p.each(func(fd int) error {
		if _, _, err := attached(fd); err == nil {
			return nil
		}
		return p.reattachFD(fd)
	})
}

// suits says whether what bears our name now can be taken up: there, nobody else's, and of the right kind.
func (p *port) suits() error {
	t, err := p.find()
	switch {
	case err != nil:
		return err
	case t == nil && !p.created():
		return errors.New("waiting for it to be made again")
	case t == nil:
		return nil
	}
	if p.before != nil {
		p.before = t
	}
	all, have := p.descriptors()
	if err := alone(t, have); err != nil {
		return err
	}
	return p.fitQueues(t, all)
}

// fitQueues makes our flags those of an interface that was made again with the other kind of queues. One descriptor suits both kinds. Several need
// multi_queue: to take up fewer would lose the frames that other devices' workers write to the rest.
func (p *port) fitQueues(t *netlink.Tuntap, queues int) error {
	switch {
	case t.Mode == 0: // kernels before 4.18 do not tell
		return nil
	case t.Flags&netlink.TUNTAP_MULTI_QUEUE != 0:
		p.flags |= unix.IFF_MULTI_QUEUE
	case queues == 1:
		p.flags &^= unix.IFF_MULTI_QUEUE
	default:
		return fmt.Errorf("it was made again for one queue and had %d: make it with multi_queue, \"ip tuntap add %s mode tap vnet_hdr multi_queue\", or restart tapdirector",
			queues, p.name)
	}
	return nil
}

func (p *port) reattachFD(fd int) error {
	vnet := p.vnet
	if err := p.attach(fd); err != nil {
		p.vnet = vnet
		return p.explainAttach(err)
	}
	if p.vnet != vnet {
		p.vnet = vnet
		return errors.New("another program holds it with another kind of virtio header")
	}
	p.offload(fd)
	return nil
}

// reopen takes up a macvtap that was made again: its descriptors are bound to the one that is no more, so new ones take their
// numbers.
func (p *port) reopen() error {
	return p.each(func(fd int) error {
		if _, _, err := attached(fd); err == nil {
			return nil
		}
		fresh, err := p.openClone()
		if err != nil {
			return err
		}
		defer unix.Close(fresh)
		if err := p.reattachFD(fresh); err != nil {
			return err
		}
		if err := unix.Dup3(fresh, fd, unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("cannot replace a descriptor: %w", err)
		}
		return nil
	})
}
