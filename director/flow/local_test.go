package flow

import (
	"testing"
	"time"

	"tapdirector/stack"
)

// echoProto is ICMP's number in the family.
func (f family) echoProto() uint8 {
	if f == 4 {
		return stack.ProtoICMP
	}
	return stack.ProtoICMPv6
}

// The chosen port is in the range, different for each connection to one server, and its replies find the connection.
func TestInsertLocal(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		for _, proto := range []uint8{stack.ProtoTCP, stack.ProtoUDP, ip.echoProto()} {
			table := New(Options{Max: 5000})
			used := map[uint16]bool{}
			for n := range 2000 {
				c := ip.outward(proto, n, 1000+n%3)
				var got, back Conn
				if r := table.InsertLocal(&c, 5000, 60000, stack.SYN, 0, &got); r != Inserted {
					t.Fatalf("%d: %v", n, r)
				}
				if got.LocalPort < 5000 || got.LocalPort > 60000 || used[got.LocalPort] {
					t.Fatalf("%d: port %d, taken %v", n, got.LocalPort, used[got.LocalPort])
				}
				used[got.LocalPort] = true
				k := stack.Tuple{Src: ip.addr(worlds, 0), Dst: ip.addr(vips, 9), SrcPort: 443, DstPort: got.LocalPort, Proto: proto}
				if proto == ip.echoProto() {
					k.SrcPort = got.LocalPort // an echo reply has the identifier at both ends
				}
				if r := table.touchTuple(&k, Reply, stack.SYN|stack.ACK, Hop{}, 0, &back); r != Found || back.Client != c.Client || back.ClientPort != c.ClientPort {
					t.Fatalf("%d: reply %v %+v", n, r, back)
				}
				if r := table.InsertLocal(&c, 5000, 60000, stack.SYN, 0, &got); r != Exists || got != back {
					t.Fatalf("%d again: %v", n, r)
				}
			}
		}
	})
}

// With all ports of a range taken for a server there is NoPort; another server still has them, and they come back when connections end.
func TestInsertLocalRunsOut(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip family) {
		table := New(Options{Max: 5000})
		const lo, hi = 10_000, 10_511
		used := map[uint16]bool{}
		noPort := uint64(0)
		var got Conn
		for n := 0; len(used) <= hi-lo && n < 100_000; n++ {
			c := ip.outward(stack.ProtoUDP, n%3000, 1000+n/3000)
			switch r := table.InsertLocal(&c, lo, hi, 0, 0, &got); r {
			case Inserted:
				used[got.LocalPort] = true
			case NoPort:
				noPort++
			default:
				t.Fatal(r)
			}
		}
		wantLen(t, table, hi-lo+1)
		if len(used) != hi-lo+1 || noPort == 0 || table.Stats().NoPort != noPort {
			t.Errorf("%d ports used of %d; %d times none, Stats %d", len(used), hi-lo+1, noPort, table.Stats().NoPort)
		}
		late := ip.outward(stack.ProtoUDP, 4000, 1)
		if r := table.InsertLocal(&late, lo, hi, 0, 0, &got); r != NoPort {
			t.Fatalf("every port is taken: %v", r)
		}
		late.Virtual = ip.addr(worlds, 1)
		late.Server = late.Virtual
		if r := table.InsertLocal(&late, lo, hi, 0, 0, &got); r != Inserted {
			t.Errorf("to another server: %v", r)
		}
		table.Expire(time.Hour)
		late = ip.outward(stack.ProtoUDP, 4000, 1)
		if r := table.InsertLocal(&late, lo, hi, 0, time.Hour, &got); r != Inserted {
			t.Errorf("after the others' end: %v", r)
		}
	})
}

func TestInsertLocalOddRanges(t *testing.T) {
	for _, c := range []struct {
		lo, hi uint16
		want   int // ports that can be had; over all shards
	}{{9000, 9000, 1}, {9000, 9100, 101}, {0, 255, 256}, {65535, 65535, 1}, {65000, 65535, 536}, {9001, 9000, 0}, {60000, 1000, 0}} {
		table := New(Options{Max: 5000})
		for n := range 20_000 {
			conn := families[0].outward(stack.ProtoTCP, n, 1)
			var got Conn
			if r := table.InsertLocal(&conn, c.lo, c.hi, stack.SYN, 0, &got); r == Inserted && (got.LocalPort < c.lo || got.LocalPort > c.hi) {
				t.Fatalf("%d-%d: %d", c.lo, c.hi, got.LocalPort)
			}
		}
		wantLen(t, table, c.want)
	}
}

// A port just given back is not the next one chosen.
func TestLocalPortsRotate(t *testing.T) {
	table := New(Options{Max: 10})
	c := families[0].outward(stack.ProtoTCP, 1, 1)
	last := uint16(0)
	for range 50 {
		var got Conn
		if r := table.InsertLocal(&c, 1024, 65535, stack.SYN, 0, &got); r != Inserted || got.LocalPort == last {
			t.Fatalf("%v, port %d after %d", r, got.LocalPort, last)
		}
		last = got.LocalPort
		k := c.Tuple(Forward)
		table.Remove(&k, Forward)
	}
}
