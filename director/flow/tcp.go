package flow

import "tapdirector/stack"

// TCP states, as Linux's IPVS has them.
//
// A director sees both ends' packets only with NAT, and only the client's with direct routing; it checks no sequence numbers. So its states are
// guesses good enough to choose a timeout and to count a connection as active or not. What a packet means is its first flag in
// the order RST, SYN, FIN, ACK; a packet with none of them closes the connection.

// event is what a TCP packet means to the tables: a class of flags.
type event uint8

const (
	evSyn event = iota
	evFin
	evAck
	evRst
	evNone
	numEvents
)

// tcpFlagMask keeps the flags that events are made of (and PSH, which lies among them and is ignored).
const tcpFlagMask = stack.FIN | stack.SYN | stack.RST | stack.PSH | stack.ACK

// tcpEvents gives the event of every combination of flags.
var tcpEvents = func() (events [tcpFlagMask + 1]event) {
	for flags := range events {
		events[flags] = eventOf(uint8(flags))
	}
	return events
}()

// eventOf is the rule that tcpEvents is made from.
func eventOf(flags uint8) event {
	switch {
	case flags&stack.RST != 0:
		return evRst
	case flags&stack.SYN != 0:
		return evSyn
	case flags&stack.FIN != 0:
		return evFin
	case flags&stack.ACK != 0:
		return evAck
	}
	return evNone
}

// The states by the two letters of the tables.
const (
	no = None
	es = Established
	ss = SynSent
	sr = SynRecv
	fw = FinWait
	tw = TimeWait
	cl = Close
	cw = CloseWait
	la = LastAck
	li = Listen
	sa = SynAck
)

// tcpNext is view, event, current state -> new state. Rows have 16 places so that an index of four bits needs no check; the
// places behind SynAck are never used.
var tcpNext = [numViews][numEvents][16]State{
	input: {
		//      no  es  ss  sr  fw  tw  cl  cw  la  li  sa
		evSyn:  {sr, es, es, sr, sr, sr, sr, sr, sr, sr, sr},
		evFin:  {cl, cw, ss, tw, tw, tw, cl, cw, la, li, tw},
		evAck:  {es, es, ss, es, fw, tw, cl, cw, cl, li, es},
		evRst:  {cl, cl, cl, sr, cl, cl, cl, cl, la, li, sr},
		evNone: {cl, cl, cl, cl, cl, cl, cl, cl, cl, cl, cl},
	},
	output: {
		evSyn:  {ss, es, ss, sr, ss, ss, ss, ss, ss, li, sr},
		evFin:  {tw, fw, ss, tw, fw, tw, cl, tw, la, li, tw},
		evAck:  {es, es, ss, es, fw, tw, cl, cw, la, es, es},
		evRst:  {cl, cl, ss, cl, cl, tw, cl, cl, cl, cl, cl},
		evNone: {cl, cl, cl, cl, cl, cl, cl, cl, cl, cl, cl},
	},
	inputOnly: {
		evSyn:  {sr, es, es, sr, sr, sr, sr, sr, sr, sr, sr},
		evFin:  {cl, fw, ss, tw, fw, tw, cl, cw, la, li, tw},
		evAck:  {es, es, ss, es, fw, tw, cl, cw, cl, li, es},
		evRst:  {cl, cl, cl, sr, cl, cl, cl, cl, la, li, cl},
		evNone: {cl, cl, cl, cl, cl, cl, cl, cl, cl, cl, cl},
	},
}

// reopens reports whether a client's packet with this event, met in state s, begins a new connection: a pure SYN, or an INIT, after the
// end of the old one. Without this a client that soon uses a port again would be sent to a server that may be gone, or wait.
func (s State) reopens(proto, event uint8) bool {
	const meant = stack.SYN | stack.ACK | stack.RST | stack.FIN
	if !s.over() {
		return false
	}
	return proto == stack.ProtoTCP && event&meant == stack.SYN || proto == stack.ProtoSCTP && event == stack.ChunkInit
}
