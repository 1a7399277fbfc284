package director

import "tapdirector/stack"

// Verdict is what became of one frame that was read. Every frame gets exactly one, so their sum is the number of frames read.
type Verdict uint8

// The verdicts. Those from verdictParse on are the refusals of stack.Parse, one for each stack.Reason.
const (
	ForwardedNAT     Verdict = iota // client -> server, destination rewritten
	RepliedNAT                      // server -> client, source rewritten
	ForwardedDR                     // client -> server, MAC rewritten
	ForwardedTUN                    // client -> server, put into a tunnel
	ForwardedFullNAT                // client -> server, both ends rewritten
	RepliedFullNAT                  // server -> client, both ends rewritten
	Routed                          // not load-balanced, passed on to its next hop
	Masqueraded                     // routed, and its source became ours
	Demasqueraded                   // the answer to it
	RelayedICMP                     // an ICMP error about a connection's packet, translated
	Parked                          // waits for its next hop's MAC
	ToHost                          // copied to the director's own IP host
	HeldFragment                    // waits for the first fragment of its datagram
	Neighbour                       // ARP or ND, learned from or ignored; not for the host
	// Up to here the frame itself goes on. What follows answers it or drops it.
	SentReset        // answered with a TCP reset
	SentAbort        // answered with an SCTP ABORT, or the SHUTDOWN COMPLETE that its sender waits for
	SentUnreachable  // answered with ICMP unreachable: no service or server, or no route
	SentTimeExceeded // TTL ran out here, answered with ICMP time exceeded
	SentTooBig       // too large for the way out, answered with fragmentation needed / packet too big
	TunnelError      // an ICMP error about a packet of a tunnel: learned from, but there is no client to tell

	DropOtherHost      // not to our MAC: a bridge flooded it
	DropVLAN           // on a trunk: a tag, or none, that is no interface's; or a tag of priority only
	DropMulticast      // multicast or broadcast that nobody here wants
	DropEtherType      // neither IP nor ARP
	DropMartian        // its source is an address of ours
	DropNotOurs        // its destination is not ours and this interface does not forward
	DropDenied         // the service is not for its source
	DropSourceRate     // its source opens connections too fast
	DropNoServer       // no server can take it and the service says drop
	DropNoNeighbour    // the next hop's MAC is unknown and no more frames can be parked
	DropFragment       // a fragment of a datagram whose first one did not go on, or whose fragments contradict each other
	DropSCTPFragment   // the first fragment of an SCTP packet whose ports would change: its checksum could not be edited
	DropFragmentsFull  // no room for a fragment that should wait for its datagram's first
	DropBadICMP        // an ICMP error about a connection's packet, its checksum wrong
	DropRedirect       // an ICMP redirect about a connection's packet: no business of the other end
	DropStray          // a TCP reset that belongs to no connection; of SCTP an ABORT, and what else is never answered (RFC 9260 8.4)
	DropNoAnswer       // an answer was due, but none may be sent: about an ICMP error, a later fragment, a broadcast (RFC 1122 3.2.2)
	DropTableFull      // the connection table is full
	DropClash          // another service's connection has the same client and server ports
	DropHairpin        // by nat to the server that it came from, which would see itself as the sender; fullnat serves such clients
	DropUntranslatable // between IPv4 and IPv6: what RFC 7915 does not let pass
	DropNoChecksum     // the first fragment of a UDP datagram without checksum, on its way from IPv4 to IPv6, which demands one
	DropNoPort         // to leave from an address of ours, but it has no port to tell it by, or all are in use, or we have no address of its family
	DropHostFull       // the host's queue or rate is exhausted
	DropRateLimit      // an answer of ours was due, but too many were sent
	DropFTP            // of an FTP control connection, to be sent again: ahead of what is missing, or behind edits not yet acknowledged
	DropNoRoom         // cut for a way out without offload, it did not fit our buffers
	DropPanic          // a bug of ours: the frame made the worker panic

	verdictParse
	numVerdicts = int(verdictParse) + stack.NumReasons
)

var verdictNames = [verdictParse]string{
	ForwardedNAT:       "forwarded-nat",
	RepliedNAT:         "replied-nat",
	ForwardedDR:        "forwarded-dr",
	ForwardedTUN:       "forwarded-tun",
	ForwardedFullNAT:   "forwarded-fullnat",
	RepliedFullNAT:     "replied-fullnat",
	Routed:             "routed",
	Masqueraded:        "masqueraded",
	Demasqueraded:      "demasqueraded",
	RelayedICMP:        "relayed-icmp",
	Parked:             "parked",
	ToHost:             "to-host",
	HeldFragment:       "held-fragment",
	Neighbour:          "neighbour",
	SentReset:          "sent-reset",
	SentAbort:          "sent-abort",
	SentUnreachable:    "sent-unreachable",
	SentTimeExceeded:   "sent-time-exceeded",
	SentTooBig:         "sent-too-big",
	TunnelError:        "tunnel-error",
	DropOtherHost:      "drop-other-host",
	DropVLAN:           "drop-vlan",
	DropMulticast:      "drop-multicast",
	DropEtherType:      "drop-ethertype",
	DropMartian:        "drop-martian",
	DropNotOurs:        "drop-not-ours",
	DropDenied:         "drop-denied",
	DropSourceRate:     "drop-source-rate",
	DropNoServer:       "drop-no-server",
	DropNoNeighbour:    "drop-no-neighbour",
	DropFragment:       "drop-fragment",
	DropSCTPFragment:   "drop-sctp-fragment",
	DropFragmentsFull:  "drop-fragments-full",
	DropBadICMP:        "drop-bad-icmp",
	DropRedirect:       "drop-redirect",
	DropStray:          "drop-stray",
	DropNoAnswer:       "drop-no-answer",
	DropTableFull:      "drop-table-full",
	DropClash:          "drop-clash",
	DropHairpin:        "drop-hairpin",
	DropUntranslatable: "drop-untranslatable",
	DropNoChecksum:     "drop-no-checksum",
	DropNoPort:         "drop-no-port",
	DropHostFull:       "drop-host-full",
	DropRateLimit:      "drop-rate-limit",
	DropFTP:            "drop-ftp",
	DropNoRoom:         "drop-no-room",
	DropPanic:          "drop-panic",
}

// String gives the verdict's name in counters and logs; a refusal of Parse is "drop: " and its reason.
func (v Verdict) String() string {
	if v < verdictParse {
		return verdictNames[v]
	}
	return "drop: " + stack.Reason(v-verdictParse).String()
}

// passed reports whether the frame itself went on; the verdicts are in that order.
func (v Verdict) passed() bool { return v < SentReset }

// refused is the verdict on a frame that Parse refused.
func refused(r stack.Reason) Verdict { return verdictParse + Verdict(r) }
