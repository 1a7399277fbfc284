package flow

import (
	"encoding/binary"

	"tapdirector/stack"
)

// How a connection lies in memory.
//
// A connection is one entry of 64 bytes, a cache line, that holds everything an IPv4 packet asks for; with an IPv6 address in it, its
// addresses are in a second line of their own (wide), which only the last comparison and the copy to the caller touch. So a lookup costs
// a line of the index and a line of the entry. Measured, all told: 78-80 bytes for IPv4, 143-145 for IPv6 (at 10
// and at 1 million), and 13 more with a second reference (hash.go).
//
// An entry has two pairs of ends, by direction: [Forward] is (Client, Virtual) and [Reply] is (Local, Server). The client's end comes first
// in both.

// entry is a connection in the table.
type entry struct {
	addrs    [2][8]byte // by Direction, the IPv4 addresses in wire order: client's end, other end
	hop      Hop
	ports    [2]uint32 // by Direction, client's end << 16 | other end
	hash     [2]uint32 // of its references in the index, by their Direction; 0 for Reply: the one for Forward is found by replies as well
	wide     uint32    // cell of the wide addresses; 0 = IPv4
	server   uint32
	deadline uint32 // tick at which it ends
	next     uint32 // the wheel's list, or the shard's free list
	prev     uint32 // the wheel's list
	proto    uint8
	method   Method
	state    State
	marks    Marks
}

// wideEnds are two addresses, the client's end first.
type wideEnds struct{ client, other stack.Addr }

// wideAddrs are the addresses of an entry that has others than IPv4, by Direction.
type wideAddrs [2]wideEnds

func packPorts(client, other uint16) uint32 { return uint32(client)<<16 | uint32(other) }

// packAddrs keeps the IPv4 address that each Addr ends with: what the eight bytes in an entry read as.
func packAddrs(client, other stack.Addr) uint64 {
	_, c := client.Words()
	_, o := other.Words()
	return c<<32 | o&(1<<32-1)
}

// kind says how an entry is made.
type kind uint8

const (
	narrow kind = iota // all addresses are in the entry
	wide               // it has a second cell for them
	numKinds
)

// kind returns narrow where all addresses of c are IPv4.
func (c *Conn) kind() kind {
	if c.Client.Is4() && c.Virtual.Is4() && c.Local.Is4() && c.Server.Is4() {
		return narrow
	}
	return wide
}

func (e *entry) kind() kind {
	if e.wide == 0 {
		return narrow
	}
	return wide
}

// matches reports whether e is the connection that k asks for.
func (t *Table) matches(e *entry, k *key) bool {
	d := k.dir & 1
	if e.ports[d] != k.ports || e.proto != k.proto || d == Reply && !e.method.replies() {
		return false
	}
	if e.wide == 0 {
		return k.narrow && binary.BigEndian.Uint64(e.addrs[d][:]) == k.addrs
	}
	return t.wides.at(e.wide)[d] == k.wideEnds
}

// refs is how many references the index has to e.
func (e *entry) refs() int64 {
	if e.hash[Reply] != 0 {
		return 2
	}
	return 1
}

// store writes c into a new entry; e.wide says already which kind it is.
func (t *Table) store(e *entry, c *Conn) {
	if e.wide == 0 {
		binary.BigEndian.PutUint64(e.addrs[Forward][:], packAddrs(c.Client, c.Virtual))
		binary.BigEndian.PutUint64(e.addrs[Reply][:], packAddrs(c.Local, c.Server))
	} else {
		*t.wides.at(e.wide) = wideAddrs{{c.Client, c.Virtual}, {c.Local, c.Server}}
	}
	e.ports = [2]uint32{packPorts(c.ClientPort, c.VirtualPort), packPorts(c.LocalPort, c.ServerPort)}
	e.server, e.hop = c.ServerID, c.Hop
	e.proto, e.method, e.state, e.marks = c.Proto, c.Method, c.State, c.Marks
}

// load copies e out.
func (t *Table) load(e *entry, c *Conn) {
	if e.wide == 0 {
		f, r := &e.addrs[Forward], &e.addrs[Reply]
		c.Client, c.Virtual = stack.AddrFrom4(f[:4]), stack.AddrFrom4(f[4:])
		c.Local, c.Server = stack.AddrFrom4(r[:4]), stack.AddrFrom4(r[4:])
	} else {
		w := t.wides.at(e.wide)
		c.Client, c.Virtual = w[Forward].client, w[Forward].other
		c.Local, c.Server = w[Reply].client, w[Reply].other
	}
	c.ClientPort, c.VirtualPort = uint16(e.ports[Forward]>>16), uint16(e.ports[Forward])
	c.LocalPort, c.ServerPort = uint16(e.ports[Reply]>>16), uint16(e.ports[Reply])
	c.ServerID, c.Hop = e.server, e.hop
	c.Proto, c.Method, c.State, c.Marks = e.proto, e.method, e.state, e.marks
}
