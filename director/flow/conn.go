package flow

import (
	"fmt"

	"tapdirector/stack"
)

// Method is a forwarding method, bound to a connection when it is made.
type Method uint8

// The forwarding methods.
const (
	NAT        Method = iota // destination becomes the server; the reply's source becomes the VIP
	DR                       // direct routing: only the MAC changes; replies do not pass here
	TUN                      // the packet travels to the server in another one; replies do not pass here
	Masquerade               // a server's own connection to the world: the source becomes a DIP and a port of ours
	FullNAT                  // both ends change: the client's becomes a DIP and a port of ours, the destination the server
	FullNATTOA               // FullNAT while the server is to be told the client's address by a TCP option; see Rebind
	Across                   // FullNAT between families: the client's end is IPv4 and the server's IPv6, or the other way round
	AcrossTOA                // Across while the server is to be told, as FullNATTOA
	NATFTP                   // NAT of a control connection of FTP, whose addresses and numbers are edited
	FullNATFTP               // FullNAT of one
	NumMethods
)

// replies reports whether the server's packets pass the director, so that the connection is found by its reply tuple too.
func (m Method) replies() bool { return m != DR && m != TUN }

// HidesClient reports whether the server does not see the client's address.
func (m Method) HidesClient() bool {
	return m == Masquerade || m == FullNAT || m == FullNATTOA || m == FullNATFTP || m == Across || m == AcrossTOA
}

// Direction is which end of a connection sent a packet.
type Direction uint8

// Forward is from the client (LVS: INPUT); Reply is from the server (LVS: OUTPUT).
const (
	Forward Direction = iota
	Reply
)

// Hop is where packets to the client leave: the interface and MAC its last packet came from. One word, which is compared and copied as such.
type Hop struct{ word uint64 }

// HopTo returns the Hop of an interface and a MAC there.
func HopTo(iface uint16, mac stack.MACWord) Hop { return Hop{uint64(mac)<<16 | uint64(iface)} }

// MAC is the client's, or that of the last router before us.
func (h Hop) MAC() stack.MACWord { return stack.MACWord(h.word >> 16) }

// Iface is the interface.
func (h Hop) Iface() uint16 { return uint16(h.word) }

// Conn is one connection: the tuple as the client sends it (Client -> Virtual), and as the server gets it (Local -> Server).
// With NAT, DR and TUN Local is Client; with DR and TUN Server's port is Virtual's, and with TUN its family may differ; with Masquerade Server is
// Virtual; with FullNAT all four differ; with Across Client and Virtual are of one family, Local and Server of the other. A flat value without pointers.
type Conn struct {
	Client, Virtual, Local, Server                 stack.Addr
	ClientPort, VirtualPort, LocalPort, ServerPort uint16
	Proto                                          uint8
	Method                                         Method
	State                                          State
	Marks                                          Marks
	ServerID                                       uint32 // the director's number of the server; NoServer for Masquerade
	Hop                                            Hop
}

// Marks are what is special about a connection. The table sets NoOutput, who inserts a connection the others.
type Marks uint8

// The marks.
const (
	NoOutput   Marks = 1 << iota // no packet of the server was seen: the input-only table holds
	Persistent                   // it holds a persistence template: Options.Watch is told how it fares
	Unproven                     // Persistent, and nothing shows yet that its client is real; goes when Watch is told so
	Followed                     // its sequence numbers are followed (sequence.go), so that it can be reset
	Control                      // it controls others, as FTP's first connection does: kept while it is Established and Options.Watch says so
	Data                         // it was announced on another one: Options.Watch is told when it ends
)

// NoServer is the ServerID of a connection that belongs to no real server.
const NoServer = ^uint32(0)

// Tuple returns the tuple of c's packets in direction d as they reach the director: what finds c again.
func (c *Conn) Tuple(d Direction) stack.Tuple {
	if d == Forward {
		return stack.Tuple{Src: c.Client, Dst: c.Virtual, SrcPort: c.ClientPort, DstPort: c.VirtualPort, Proto: c.Proto}
	}
	return stack.Tuple{Src: c.Server, Dst: c.Local, SrcPort: c.ServerPort, DstPort: c.LocalPort, Proto: c.Proto}
}

// Result is what became of a call that looks for or makes a connection.
type Result uint8

// The results. Only the first four come from Touch.
const (
	Miss     Result = iota // no such connection
	Found                  // known, and advanced
	Follow                 // Found, forward and Followed: Table.Follow wants to know its sequence numbers
	Reopen                 // a SYN or INIT met a connection that was over, which was removed: schedule anew
	Inserted               // new, and added
	Exists                 // the forward tuple has a connection already, which is unchanged
	Clash                  // another connection's replies have the same tuple
	Full                   // Options.Max connections are there
	NoPort                 // every local port that the connection may have is taken for that server
	numResults
)

var resultNames = [numResults]string{"miss", "found", "follow", "reopen", "inserted", "exists", "clash", "full", "no port"}

func (r Result) String() string {
	if r < numResults {
		return resultNames[r]
	}
	return fmt.Sprintf("result %d", uint8(r))
}
