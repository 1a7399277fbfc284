package director

import (
	"tapdirector/stack/host"
	"tapdirector/tap"
)

// Frames for the director's own IP host are copied to it; ARP and neighbour discovery teach the resolver on the way.

// neighbour shows an ARP or ND frame to the resolver and, when it asks for us, to the host.
func (w *worker) neighbour(f *tap.Frame) Verdict {
	w.d.neigh.Snoop(int(w.in), f.Bytes(), w.p)
	return w.toHost(f)
}

// toHost copies a frame to the host.
func (w *worker) toHost(f *tap.Frame) Verdict {
	switch w.d.host.Deliver(int(w.in), f, w.p) {
	case host.Queued:
		return ToHost
	case host.Overflow:
		return DropHostFull
	}
	return Neighbour
}

// isND reports whether an ICMPv6 type is neighbour discovery's (RFC 4861: 133 to 137).
func isND(icmpType uint8) bool { return icmpType >= 133 && icmpType <= 137 }
