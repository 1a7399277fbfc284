package director

import (
	"tapdirector/director/flow"
	"tapdirector/stack"
	"tapdirector/tap"
)

// To an address of our own: a server's answer in a FullNAT connection, the world's answer in a masqueraded one, a client's packet where the address is a
// VIP as well, or the host's. Answers are looked for first: theirs is a whole tuple, a service only the half of one, so a port that we chose for a
// connection may be a service's port too.

// toDIP carries a packet to a DIP, which is dst to us.
func (w *worker) toDIP(f *tap.Frame, dst role) Verdict {
	p := w.p
	if w.view.tracks && (p.HasPorts || isEchoReply(p)) {
		if v, ok := w.toConnection(f); ok {
			return v
		}
	}
	if dst&roleVIP != 0 && w.view.service(p) != nil {
		w.l.passing = true // for who looks for answers first must look for them each time
		return w.fromClient(f)
	}
	return w.otherToUs(f)
}

// toConnection carries an answer to who asked by way of us; false when it is none.
func (w *worker) toConnection(f *tap.Frame) (Verdict, bool) {
	if w.touch(flow.Reply, flow.Hop{}) != flow.Found {
		return 0, false
	}
	return w.known(f, flow.Reply), true
}

func isEchoReply(p *stack.Packet) bool {
	return p.Proto == stack.ProtoICMP && p.ICMPType == 0 && p.L4Len != 0 || p.Proto == stack.ProtoICMPv6 && p.ICMPType == 129
}
