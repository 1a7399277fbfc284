package director

import (
	"tapdirector/stack"
	"tapdirector/tap"
)

// cutter finishes in software what a way out cannot carry: it cuts superpackets to segments, fragments what is larger than the MTU and may be, and
// completes checksums. Segments that are themselves too large pass through scratch on their way to being fragments.
type cutter struct {
	into    *tap.Arena       // where the pieces lie
	scratch *tap.Arena       // one segment at a time
	sink    func(*tap.Frame) // takes each piece; it may reset into
	split   func(*tap.Frame) // c.fragment, bound once
	mtu     uint32
	failed  bool
}

func newCutter(into *tap.Arena, sink func(*tap.Frame)) *cutter {
	c := &cutter{into: into, scratch: tap.NewArena(tap.MaxFrameLen + tap.Headroom + 64), sink: sink}
	c.split = c.fragment
	return c
}

// run finishes f, whose packet is p, for a device without offload and with this MTU in bytes. It reports false when pieces are missing.
func (c *cutter) run(f *tap.Frame, p *stack.Packet, mtu uint32) bool {
	c.mtu, c.failed = mtu, false
	small := uint32(stack.MaxSegment(f.Header, p)) <= mtu
	switch {
	case f.Header.Super() && small:
		return stack.Segment(f, p, c.into, c.sink)
	case f.Header.Super():
		c.scratch.Reset()
		return stack.Segment(f, p, c.scratch, c.split) && !c.failed
	case small:
		stack.CompleteChecksum(f, p)
		return c.copy(f)
	default:
		return stack.FragmentIPv4(f, p, int(mtu), c.into, c.sink)
	}
}

// fragment cuts one segment in scratch to fragments.
func (c *cutter) fragment(f *tap.Frame) {
	var p stack.Packet
	c.failed = c.failed || stack.Parse(f, &p) != stack.ReasonNone || !stack.FragmentIPv4(f, &p, int(c.mtu), c.into, c.sink)
	c.scratch.Reset()
}

// copy passes on a frame that needed no cutting.
func (c *cutter) copy(f *tap.Frame) bool {
	g, ok := c.into.Frame(f.Len())
	if ok {
		copy(g.Bytes(), f.Bytes())
		g.Header = f.Header
		c.sink(&g)
	}
	return ok
}
