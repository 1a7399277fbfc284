// Package flow is the connection table.
package flow

import "tapdirector/stack"

// Method is a forwarding method, bound to a connection when it is made.
type Method uint8

// The forwarding methods.
const (
	NAT        Method = iota // destination becomes the server; the reply's source becomes the VIP
	DR                       // direct routing: only the MAC changes; replies do not pass here
	Masquerade               // a server's own connection to the world: the source becomes a DIP and a port of ours
	NumMethods
)

// Direction is which end of a connection sent a packet.
type Direction uint8

// Forward is from the client (LVS: INPUT); Reply is from the server (LVS: OUTPUT).
const (
	Forward Direction = iota
	Reply
)

// Hop is where packets to the client leave: the interface and MAC its last packet came from.
type Hop struct {
	MAC   stack.MAC
	Iface uint16
}

// Conn is one connection: the tuple as the client sends it (Client -> Virtual), and as the server gets it (Local -> Server).
// With NAT and DR Local is Client; with DR Server's port is Virtual's; with Masquerade Server is Virtual. A flat value without pointers.
type Conn struct {
	Client, Virtual, Local, Server                 stack.Addr
	ClientPort, VirtualPort, LocalPort, ServerPort uint16
	Proto                                          uint8
	Method                                         Method
	State                                          State
	NoOutput                                       bool   // no packet of the server was seen: the input-only table holds
	ServerID                                       uint32 // the director's number of the server; NoServer for Masquerade
	Hop                                            Hop
}

// NoServer is the ServerID of a connection that belongs to no real server.
const NoServer = ^uint32(0)
