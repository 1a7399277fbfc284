package ftp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tapdirector/director/flow"
	"tapdirector/stack"
)

var (
	client = stack.AddrFrom(netip.MustParseAddr("10.77.1.2"))
	vip    = stack.AddrFrom(netip.MustParseAddr("10.77.1.100"))
	server = stack.AddrFrom(netip.MustParseAddr("10.77.2.11"))
)

// controlFrom is the control connection from a port of the client.
func controlFrom(port uint16) *flow.Conn {
	return &flow.Conn{Client: client, ClientPort: port, Virtual: vip, VirtualPort: 21, Local: client, LocalPort: port, Server: server, ServerPort: 21,
		Proto: stack.ProtoTCP, Method: flow.NATFTP, State: flow.Established, Marks: flow.Control}
}

func newTable() *Table {
	return New(Options{Max: 100, Life: time.Minute, Taken: func(_ stack.Addr, port uint16) bool { return port < 1024 || port == 8080 }})
}

// end is a TCP that sends a stream, which its peer receives through a table: pieces are cut, lost, repeated and mixed, and acknowledged.
type end struct {
	t     *testing.T
	table *Table
	conn  *flow.Conn
	old   []byte // to send
	isn   uint32 // of the first byte, for its sender and its receiver alike
	want  []byte // to be received
	una   int    // acknowledged
	max   int    // sent
	got   []bool // of want
	ack   int    // received without a gap
}

// send sends old[from:to].
func (e *end) send(from, to int, lost bool) {
	e.t.Helper()
	g := Segment{Seq: e.isn + uint32(from), Ack: 77, Flags: stack.ACK, Payload: e.old[from:to]}
	if to == len(e.old) {
		g.Flags |= stack.FIN
	}
	e.max = max(e.max, to)
	payload := bytes.Clone(g.Payload)
	fate := e.table.Carry(e.conn, flow.Reply, &g, 0, make([]byte, Room(&g)))
	if !bytes.Equal(payload, e.old[from:to]) {
		e.t.Fatal("the segment itself was written to")
	}
	if fate == Waits || lost {
		return
	}
	if g.Held {
		if ack := int(int32(g.HeldAck - e.isn)); ack > e.max || ack < e.una || g.HeldWindow != 500 {
			e.t.Fatalf("%q, sent as %d, is acknowledged up to %d, window %d; sent is up to %d, acknowledged %d", e.old[from:to], from, ack, g.HeldWindow, e.max, e.una)
		} else {
			e.una = ack
		}
	}
	at := int(int32(g.Seq - e.isn))
	for i, c := range g.Payload {
		if p := at + i; p >= e.ack && (p >= len(e.want) || c != e.want[p]) {
			e.t.Fatalf("%q, sent as %d, is received as %q at %d: wanted is %q", e.old[from:to], from, g.Payload, at, e.want)
		} else if p >= 0 && p < len(e.want) {
			e.got[p] = true
		}
	}
	for e.ack < len(e.got) && e.got[e.ack] {
		e.ack++
	}
}

// acknowledge has the receiver say what it has.
func (e *end) acknowledge() {
	e.t.Helper()
	g := Segment{Seq: 77, Ack: e.isn + uint32(e.ack), Flags: stack.ACK, Window: 500}
	start := e.ack
	for start < len(e.got) && !e.got[start] {
		start++
	}
	end := start
	for end < len(e.got) && e.got[end] {
		end++
	}
	g.SACKs = []uint32{e.isn + uint32(start), e.isn + uint32(end)}
	e.table.Carry(e.conn, flow.Forward, &g, 0, make([]byte, Room(&g)))
	ack, l, r := int(int32(g.Ack-e.isn)), int(int32(g.SACKs[0]-e.isn)), int(int32(g.SACKs[1]-e.isn))
	if ack > e.max || l > r || start < end && r > e.max {
		e.t.Fatalf("%d is acknowledged as %d, %d to %d as %d to %d; sent is up to %d", e.ack, ack, start, end, l, r, e.max)
	}
	e.una = max(e.una, ack)
}

// run sends everything, by choices of pick(n), which are below n.
func (e *end) run(pick func(n int) int) {
	e.t.Helper()
	nagle := pick(2) == 0
	for range 200 * (len(e.old) + 10) {
		switch pick(8) {
		case 0: // again something old, anywhere
			if e.max > 0 {
				from := pick(e.max)
				e.send(from, from+1+pick(e.max-from), pick(4) == 0)
			}
		case 1:
			e.acknowledge()
		case 2: // what is not acknowledged yet, cut anew
			if e.una < e.max {
				e.send(e.una, e.una+1+pick(e.max-e.una), pick(4) == 0)
			}
		default:
			if nagle && e.una < e.max {
				e.acknowledge()
				continue
			}
			if from := min(e.max, e.una+1000); from < len(e.old) {
				e.send(from, from+1+pick(min(len(e.old)-from, 1+pick(60))), pick(6) == 0)
			}
		}
		if e.una == len(e.old) && e.ack == len(e.want) {
			return
		}
	}
	e.t.Fatalf("acknowledged are %d of %d bytes, received %d of %d; %q", e.una, len(e.old), e.ack, len(e.want), e.want[:e.ack])
}

// answers are lines of a server, and what becomes of them.
func answers(pick func(n int) int) (old, want string) {
	for range 1 + pick(12) {
		p := 1024 + pick(60000)
		from := fmt.Sprintf("10,77,2,11,%d,%d", p>>8, p&255)
		to := fmt.Sprintf("10,77,1,100,%d,%d", p>>8, p&255)
		line := [...]string{
			"227 Entering Passive Mode (%s).\r\n", "227 %s\n", "227 Entering Passive Mode (%s)\r\n", "226 Transfer complete (%s)\r\n",
			"220-%s\r\n 227 (%[1]s)\r\n", "%.0s\r\n", "%.0s2\n", "227 no port at all%.0s\r\n", "229 Entering Extended Passive Mode (|||50000|)%.0s\r\n",
			"227 " + strings.Repeat("long ", 30) + "%s\r\n", strings.Repeat("long ", 50) + "%s\r\n",
		}[pick(11)]
		o, w := fmt.Sprintf(line, from), fmt.Sprintf(line, from)
		if strings.HasPrefix(line, "227 ") && len(o) <= maxLine {
			w = fmt.Sprintf(line, to)
		}
		old, want = old+o, want+w
	}
	return old, want
}

// converse sends answers to commands through a table.
func converse(t *testing.T, pick func(n int) int) {
	table, c := newTable(), controlFrom(40000)
	isn := uint32(pick(3)*7) - 10
	hello := Segment{Flags: stack.ACK, Payload: []byte("220 hello\r\n")}
	hello.Seq = isn - uint32(len(hello.Payload))
	ask := Segment{Seq: 1, Ack: hello.Seq, Flags: stack.ACK, Window: 500, Payload: []byte(strings.Repeat("PASV\r\n", 40))}
	if f := table.Carry(c, flow.Forward, &ask, 0, make([]byte, Room(&ask))); f != Passes {
		t.Fatal(f)
	}
	table.Carry(c, flow.Reply, &hello, 0, make([]byte, Room(&hello)))
	old, want := answers(pick)
	e := end{t: t, table: table, conn: c, old: []byte(old), want: []byte(want), got: make([]bool, len(want)), isn: isn}
	e.run(pick)
	table.Ended(&stack.Tuple{Src: client, Dst: vip, SrcPort: 40000, DstPort: 21, Proto: stack.ProtoTCP})
	if s := table.Stats(); s.Sessions != 0 || s.Expectations != 0 || table.Waiting() || s.PassiveExpected != s.Expired {
		t.Fatalf("left behind: %+v", s)
	}
}

// However a server's stream is cut, lost, repeated and mixed: the client gets what it should, once, and the server learns that it did.
func TestAnswersArrive(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 7))
		t.Run(fmt.Sprint(seed), func(t *testing.T) { converse(t, func(n int) int { return r.IntN(n) }) })
	}
}

// FuzzAnswers is the same with the fuzzer's choices, 500 at most, and a fair coin's when those are used up: only those come to an end for sure.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte("\x03\x05\x01\x00\x07\x07\x07\x07\x02\x02\x01"))
	f.Add(bytes.Repeat([]byte{5, 0, 3}, 30))
	f.Fuzz(func(t *testing.T, choices []byte) {
		r := rand.New(rand.NewPCG(1, uint64(len(choices))))
		choices = choices[:min(len(choices), 500)]
		converse(t, func(n int) int {
			if len(choices) == 0 {
				return r.IntN(n)
			}
			c := int(choices[0])
			choices = choices[1:]
			return c % n
		})
	})
}
