package stack

// Reason says why Parse refuses a frame. The zero value, ReasonNone, means that it does not.
type Reason uint8

// The reasons, in the order in which Parse finds them.
const (
	ReasonNone          Reason = iota
	ReasonShort                // no room for an Ethernet header
	ReasonSourceMAC            // a group address as the sender's hardware address
	ReasonVLAN                 // an 802.1Q or 802.1ad tag
	ReasonTruncated            // the IP header promises more bytes than there are
	ReasonIPv4Header           // version, header length or total length
	ReasonIPv4Checksum         // the header checksum is wrong (RFC 1812 section 5.2.2)
	ReasonIPv4Options          // options whose lengths lie
	ReasonIPv6Header           // version
	ReasonIPv6Extension        // an extension header in a wrong place, too many of them, or lengths that lie
	ReasonJumbogram            // RFC 2675: payload length 0 with a hop-by-hop header
	ReasonSourceRoute          // IPv4 source route, IPv6 routing header with segments left
	ReasonMartianSource        // a source address that no packet on a wire may have
	ReasonMartianDest          // a destination address that no packet on a wire may have
	ReasonLand                 // source and destination address are the same
	ReasonFragment             // reaches beyond 65,535 bytes, or is no multiple of 8 bytes although more follow
	ReasonTinyFragment         // a first fragment without its whole L4 header, or one made to overlay that header (RFC 1858)
	ReasonTCPHeader            // shorter than 20 bytes, or a data offset that lies
	ReasonUDPLength            // shorter than 8 bytes, or a length that lies
	ReasonICMPHeader           // shorter than 8 bytes
	ReasonSCTPHeader           // no room for the header and a chunk
	ReasonPartial              // a partial checksum that is not this packet's L4 checksum
	ReasonGSO                  // segmentation offload that does not fit this packet
	numReasons
)

// NumReasons is how many reasons there are, ReasonNone included: the size of an array of counters.
const NumReasons = int(numReasons)

var reasonNames = [NumReasons]string{
	ReasonNone:          "none",
	ReasonShort:         "frame too short",
	ReasonSourceMAC:     "multicast source MAC",
	ReasonVLAN:          "802.1Q tag",
	ReasonTruncated:     "truncated",
	ReasonIPv4Header:    "bad IPv4 header",
	ReasonIPv4Checksum:  "bad IPv4 checksum",
	ReasonIPv4Options:   "bad IPv4 options",
	ReasonIPv6Header:    "bad IPv6 header",
	ReasonIPv6Extension: "bad IPv6 extension header",
	ReasonJumbogram:     "IPv6 jumbogram",
	ReasonSourceRoute:   "source route",
	ReasonMartianSource: "martian source",
	ReasonMartianDest:   "martian destination",
	ReasonLand:          "source is destination",
	ReasonFragment:      "bad fragment",
	ReasonTinyFragment:  "tiny fragment",
	ReasonTCPHeader:     "bad TCP header",
	ReasonUDPLength:     "bad UDP length",
	ReasonICMPHeader:    "bad ICMP header",
	ReasonSCTPHeader:    "bad SCTP header",
	ReasonPartial:       "bad partial checksum",
	ReasonGSO:           "bad segmentation offload",
}

// String returns the reason in words, as counters and logs have it.
func (r Reason) String() string {
	if int(r) < NumReasons {
		return reasonNames[r]
	}
	return "unknown reason"
}
