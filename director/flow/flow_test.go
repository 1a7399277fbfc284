package flow

import (
	"fmt"
	"testing"
	"time"

	"tapdirector/stack"
)

// family makes the addresses of tests in IPv4 or IPv6.
type family int

func (f family) String() string { return fmt.Sprintf("IPv%d", int(f)) }

var families = []family{4, 6}

// addr is the n-th address of a network.
func (f family) addr(network, n int) stack.Addr {
	if f == 4 {
		return stack.AddrFrom4([]byte{10, byte(network), byte(n >> 8), byte(n)})
	}
	return stack.AddrFrom16([]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, byte(network), 0, 0, 0, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)})
}

// The networks of tests.
const (
	clients = 77
	vips    = 1
	servers = 2
	worlds  = 8 // what servers reach by masquerading
)

var aHop = HopTo(3, stack.WordOf(stack.MAC{2, 0, 0, 0, 0, 9}))

// conn is a connection of client n to a service on port 80 at server 0, ready for Insert.
func (f family) conn(m Method, proto uint8, n int) Conn {
	client, port := f.addr(clients, n%5000), uint16(1024+n/5000)
	c := Conn{
		Client: client, ClientPort: port, Local: client, LocalPort: port,
		Virtual: f.addr(vips, 0), VirtualPort: 80, Server: f.addr(servers, 0), ServerPort: 8000,
		Proto: proto, Method: m, Hop: aHop,
	}
	if m == DR {
		c.ServerPort = c.VirtualPort
	}
	return c
}

// outward is server n's own connection to the world, ready for InsertLocal.
func (f family) outward(proto uint8, n, port int) Conn {
	c := Conn{
		Client: f.addr(servers, n), ClientPort: uint16(port), Local: f.addr(vips, 9),
		Virtual: f.addr(worlds, 0), VirtualPort: 443,
		Proto: proto, Method: Masquerade, ServerID: NoServer, Hop: aHop,
	}
	if proto == stack.ProtoICMP || proto == stack.ProtoICMPv6 {
		c.VirtualPort = c.ClientPort
	}
	c.Server, c.ServerPort = c.Virtual, c.VirtualPort
	return c
}

// eachFamily runs f for both.
func eachFamily(t *testing.T, f func(t *testing.T, ip family)) {
	for _, ip := range families {
		t.Run(ip.String(), func(t *testing.T) { f(t, ip) })
	}
}

// mustInsert inserts c and fails unless it is new.
func mustInsert(t testing.TB, table *Table, c Conn, flags uint8) Conn {
	t.Helper()
	var out Conn
	if r := table.Insert(&c, flags, 0, &out); r != Inserted {
		t.Fatalf("insert %+v: %v", c, r)
	}
	return out
}

// wantLen fails unless every way of counting gives n.
func wantLen(t testing.TB, table *Table, n int) {
	t.Helper()
	st := table.Stats()
	sum := 0
	for _, k := range st.States {
		sum += k
	}
	if table.Len() != n || st.Len != n || sum != n {
		t.Fatalf("Len %d, Stats.Len %d, sum of states %d; want %d", table.Len(), st.Len, sum, n)
	}
	if gone := st.Expired + st.Reopened + st.Removed + st.Evicted; st.Inserted-gone != uint64(n) {
		t.Fatalf("inserted %d, gone %d; want %d left", st.Inserted, gone, n)
	}
}

// touchTuple is Touch of a tuple that was not prepared.
func (t *Table) touchTuple(tuple *stack.Tuple, d Direction, event uint8, hop Hop, now time.Duration, out *Conn) Result {
	var k Key
	t.Prepare(&k, tuple, d)
	return t.Touch(&k, event, hop, now, out)
}
