//go:build linux

package netlab

import (
	"errors"
	"sync"
	"time"

	"tapdirector/integration"
	"tapdirector/stack"
	"tapdirector/tap"
)

// A trunk between kernels
//
// Kernels without 802.1Q and without VLAN filtering bridges are common (micro-VMs), so the VLAN switch of a trunk world is ours: a TAP in each LAN's
// bridge, and one in br-trunk, where the director's is. Between them frames are copied, with the tag put on or taken off. What the kernel makes of tagged
// frames on TAPs, superpackets and unfinished checksums among them, is all its own.

// trunkBridge is the bridge that carries tagged frames, trunkTap the switch's port on it.
const (
	trunkBridge = "br-trunk"
	trunkTap    = "tag-trunk"
)

// tagTap is the switch's port on a LAN's bridge.
func tagTap(lan string) string { return "tag-" + lan }

// tapOn is the TAP on which the director's frames of a LAN can be seen without tags.
func (w *World) tapOn(lan string) string {
	if w.plan.Spec.Trunk {
		return tagTap(lan)
	}
	return tapNames[lan]
}

// vlanSwitch is the switch at work.
type vlanSwitch struct {
	trunk   *tap.Device
	lans    map[uint16]*tap.Device
	running sync.WaitGroup
}

// startTrunk builds the switch and starts it.
func (w *World) startTrunk() error {
	if err := w.director.bridge(trunkBridge, w.plan.MTU(integration.Ext)); err != nil {
		return err
	}
	s := &vlanSwitch{lans: map[uint16]*tap.Device{}}
	w.vlans = s
	open := func(name, bridge string) (*tap.Device, error) {
		return tap.Open(tap.Options{Name: name, Bridge: bridge, Queues: 1, Log: w.plan.Spec.Log})
	}
	err := w.director.Do(func() (err error) {
		if s.trunk, err = open(trunkTap, trunkBridge); err != nil {
			return err
		}
		for _, i := range w.plan.Interfaces {
			if s.lans[i.VLAN], err = open(tagTap(i.Name), bridgeName(i.Name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.running.Go(func() { relay(s.trunk, s.untag) })
	for vlan, d := range s.lans {
		s.running.Go(func() { relay(d, func(f *tap.Frame) { s.tag(f, vlan) }) })
	}
	return nil
}

// relay hands every frame from a device on, until it is closed.
func relay(d *tap.Device, on func(f *tap.Frame)) {
	for {
		frames, err := d.Queues[0].Read(time.Second)
		if errors.Is(err, tap.ErrClosed) {
			return
		}
		for i := range frames {
			on(&frames[i])
		}
	}
}

func (s *vlanSwitch) tag(f *tap.Frame, vlan uint16) {
	if stack.PushTag(f, vlan) {
		s.trunk.Queues[0].Write([]*tap.Frame{f})
	}
}

func (s *vlanSwitch) untag(f *tap.Frame) {
	if vlan, ok := stack.PopTag(f); ok && s.lans[vlan] != nil {
		s.lans[vlan].Queues[0].Write([]*tap.Frame{f})
	}
}

// close ends the switch.
func (s *vlanSwitch) close() (err error) {
	if s == nil {
		return nil
	}
	if s.trunk != nil {
		err = s.trunk.Close()
	}
	for _, d := range s.lans {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
	}
	s.running.Wait()
	return err
}
