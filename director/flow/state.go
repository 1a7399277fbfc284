package flow

import (
	"fmt"
	"time"

	"tapdirector/stack"
)

// State is a connection's state. Its name is the one that ipvsadm prints; those of TCP and SCTP share two.
type State uint8

// The states. Those of TCP, and those of SCTP, are in the order of the columns of their transition tables.
const (
	None State = iota
	Established
	SynSent
	SynRecv
	FinWait
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	SynAck
	UDP  // the one state of UDP, and of every protocol that the director does not follow
	ICMP // the one state of a masqueraded echo
	SCTPNone
	SCTPInit1
	SCTPInit
	SCTPCookieSent
	SCTPCookieReplied
	SCTPCookieWait
	SCTPCookie
	SCTPCookieEchoed
	SCTPEstablished
	SCTPShutdownSent
	SCTPShutdownReceived
	SCTPShutdownAckSent
	SCTPRejected
	SCTPClosed
	NumStates

	numTCP  = UDP                  // the states before it are TCP's
	numSCTP = NumStates - SCTPNone // the states from SCTPNone on are SCTP's
)

// stateMask keeps an index by state within a table of so many places that no check is needed.
const stateMask = 31

var stateNames = [NumStates]string{
	"NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "SYNACK",
	"UDP", "ICMP",
	"NONE", "INIT1", "INIT", "C-SENT", "C-REPLIED", "C-WAIT", "COOKIE", "C-ECHOED", "ESTABLISHED", "S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED",
	"CLOSED",
}

func (s State) String() string {
	if s < NumStates {
		return stateNames[s]
	}
	return fmt.Sprintf("STATE_%d", uint8(s))
}

// activeStates has a bit for each state that counts as active for the schedulers; UDP and ICMP are always inactive.
const activeStates = 1<<Established | 1<<SynSent | 1<<SynRecv | 1<<SynAck | 1<<SCTPEstablished

// Active reports whether connections in state s count as active ones of their server.
func (s State) Active() bool { return activeStates>>s&1 != 0 }

// established reports whether both ends have shown that they are there.
func (s State) established() bool { return s == Established || s == SCTPEstablished }

// over reports whether both ends have said good-bye: the client may begin anew.
func (s State) over() bool { return s == TimeWait || s == Close || s == SCTPClosed }

// Timeouts says how long a connection lives in each state without a packet.
type Timeouts [NumStates]time.Duration

// DefaultTimeouts returns those of Linux's IPVS; for ICMP, which IPVS does not masquerade, those of Linux's conntrack.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		None:        2 * time.Second,
		Established: 900 * time.Second,
		SynSent:     120 * time.Second,
		SynRecv:     60 * time.Second,
		FinWait:     120 * time.Second,
		TimeWait:    120 * time.Second,
		Close:       10 * time.Second,
		CloseWait:   60 * time.Second,
		LastAck:     30 * time.Second,
		Listen:      120 * time.Second,
		SynAck:      120 * time.Second,
		UDP:         300 * time.Second,
		ICMP:        30 * time.Second,

		SCTPNone:             2 * time.Second,
		SCTPInit1:            4 * time.Second,
		SCTPInit:             sctpWait,
		SCTPCookieSent:       sctpWait,
		SCTPCookieReplied:    sctpWait,
		SCTPCookieWait:       sctpWait,
		SCTPCookie:           sctpWait,
		SCTPCookieEchoed:     sctpWait,
		SCTPEstablished:      900 * time.Second,
		SCTPShutdownSent:     sctpWait,
		SCTPShutdownReceived: sctpWait,
		SCTPShutdownAckSent:  sctpWait,
		SCTPRejected:         4 * time.Second,
		SCTPClosed:           sctpWait,
	}
}

// sctpWait is a second more than RTO.Max, the longest that an end waits before it sends again (RFC 9260 section 16).
const sctpWait = 61 * time.Second

// view is whose packets a transition table describes.
type view uint8

const (
	input     view = iota // the client's, where the server's are seen too
	output                // the server's
	inputOnly             // the client's, where the server's never pass here
	numViews
)

// viewOf returns the table that holds for a packet in direction d.
func viewOf(d Direction, m Marks) view {
	switch {
	case d == Reply:
		return output
	case m&NoOutput != 0:
		return inputOnly
	}
	return input
}

// Settled reports whether a packet with this event in direction d, would change nothing of c, of which Touch has just told.
func (c *Conn) Settled(d Direction, event uint8) bool {
	return c.State.next(c.Proto, viewOf(d, c.Marks), event) == c.State && !(d == Forward && c.State.reopens(c.Proto, event))
}

// first returns the state that a connection of protocol proto has before its first packet.
func first(proto uint8) State {
	if proto == stack.ProtoSCTP {
		return SCTPNone
	}
	return None
}

// next returns the state after a packet of protocol proto with this event (stack.Packet) in view v.
func (s State) next(proto uint8, v view, event uint8) State {
	switch proto {
	case stack.ProtoTCP:
		return tcpNext[v][tcpEvents[event&tcpFlagMask]][s&15]
	case stack.ProtoSCTP:
		return sctpNext[v][sctpEvents[event]][(s-SCTPNone)&15]
	case stack.ProtoICMP, stack.ProtoICMPv6:
		return ICMP
	}
	return UDP
}
