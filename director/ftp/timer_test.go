package ftp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tapdirector/director/flow"
	"tapdirector/stack"
)

// plainTCP is a TCP as simple as it may be, and its peer behind a table: what is not acknowledged is sent again only when a timer expires, and then only the first segment of it;
// what is acknowledged is never sent again; the peer answers what it must, and no more.
type plainTCP struct {
	t      *testing.T
	pick   func(n int) int
	table  *Table
	conn   *flow.Conn
	old    []byte // to send, and then FIN
	pieces []int  // where each segment ends; a last one may be FIN alone
	isn    uint32 // of the first byte, for its sender and its receiver alike
	want   []byte // to be received
	una    int    // acknowledged: FIN counts one
	max    int    // sent
	next   int    // the piece to be sent
	got    []byte // received without a gap
	ended  bool   // FIN was
	luck   int    // so many segments more may be lost
}

// lost decides about a segment.
func (p *plainTCP) lost() bool {
	if p.luck == 0 {
		return false
	}
	p.luck--
	return p.pick(3) == 0
}

// send sends old[from:to], and FIN if to is behind it.
func (p *plainTCP) send(from, to int) {
	p.t.Helper()
	g := Segment{Seq: p.isn + uint32(from), Ack: 77, Flags: stack.ACK}
	if g.Payload = p.old[from:min(to, len(p.old))]; to > len(p.old) {
		g.Flags |= stack.FIN
	}
	p.max = max(p.max, to)
	if p.lost() {
		return
	}
	fate := p.table.Carry(p.conn, flow.Reply, &g, 0, make([]byte, Room(&g)))
	if g.Held && !p.lost() {
		p.acknowledged(g.HeldAck)
	}
	if fate == Waits || p.lost() {
		return
	}
	if fate == Cut {
		g.Flags &^= stack.FIN
	}
	p.receive(&g)
}

// receive is what the peer does with a segment.
func (p *plainTCP) receive(g *Segment) {
	p.t.Helper()
	at, ends := int(int32(g.Seq-p.isn)), g.Flags&stack.FIN != 0
	end := at + len(g.Payload)
	next := len(p.got)
	if at > next { // it keeps nothing
		if len(g.Payload) > 0 || ends {
			p.answer()
		}
		return
	}
	if at == next && end == at && !ends {
		return
	}
	if end > next {
		p.got = append(p.got, g.Payload[next-at:]...)
	}
	if ends {
		if p.ended = true; end != len(p.want) {
			p.t.Fatalf("FIN is numbered %d, want %d; received was %q, sent %q", end, len(p.want), p.got, p.old)
		}
	}
	if !bytes.HasPrefix(p.want, p.got) {
		p.t.Fatalf("received is %q, want %q", p.got, p.want)
	}
	p.answer()
}

// answer has the peer say what it has.
func (p *plainTCP) answer() {
	g := Segment{Seq: 77, Ack: p.isn + uint32(len(p.got)), Flags: stack.ACK, Window: 500}
	if p.ended {
		g.Ack++
	}
	if p.lost() {
		return
	}
	p.table.Carry(p.conn, flow.Forward, &g, 0, nil)
	if !p.lost() {
		p.acknowledged(g.Ack)
	}
}

func (p *plainTCP) acknowledged(ack uint32) {
	p.t.Helper()
	n := int(int32(ack - p.isn))
	if n > p.max || n > len(p.old) && !p.ended {
		p.t.Fatalf("%d is acknowledged, sent was up to %d", n, p.max)
	}
	p.una = max(p.una, n)
}

// run sends everything, one segment at a time or as many as there are, and reports how often the timer expired in vain after the last loss.
func (p *plainTCP) run() {
	p.t.Helper()
	one := p.pick(2) == 0
	for vain := 0; p.una <= len(p.old); {
		if p.next < len(p.pieces) && (!one || p.una == p.max) {
			p.send(p.max, p.pieces[p.next])
			p.next++
			continue
		}
		before, lossy := p.una, p.luck > 0
		again := 0
		for p.pieces[again] <= p.una {
			again++
		}
		p.send(p.una, p.pieces[again])
		switch {
		case p.una > before || lossy:
			vain = 0
		default:
			if vain++; vain > 1 {
				p.t.Fatalf("%q is sent again in vain; sent was %q, %d of it acknowledged, received %q", p.old[p.una:min(p.pieces[again], len(p.old))], p.old[:min(p.max, len(p.old))], p.una, p.got)
			}
		}
	}
	if !bytes.Equal(p.got, p.want) {
		p.t.Fatalf("received is %q, want %q", p.got, p.want)
	}
}

// Whatever was lost, what is sent again by a timer, one segment at a time, is enough: no line waits for what its sender takes for received.
func TestTimersSuffice(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 11))
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			table, c := newTable(), controlFrom(40000)
			p := &plainTCP{t: t, pick: func(n int) int { return r.IntN(n) }, table: table, conn: c, isn: uint32(r.IntN(3)*7) - 10, luck: r.IntN(2) * r.IntN(60)}
			ask := Segment{Seq: 1, Ack: p.isn, Flags: stack.ACK, Window: 500, Payload: []byte(strings.Repeat("PASV\r\n", 40))}
			table.Carry(c, flow.Forward, &ask, 0, make([]byte, Room(&ask)))
			hello := Segment{Flags: stack.ACK, Payload: []byte("220 hello\r\n")}
			hello.Seq = p.isn - uint32(len(hello.Payload))
			table.Carry(c, flow.Reply, &hello, 0, make([]byte, Room(&hello)))
			old, want := answers(p.pick)
			tail := [...]string{"", "22", "227 x"}[r.IntN(3)]
			p.old, p.want = []byte(old+tail), []byte(want+tail)
			for at := 0; at < len(p.old); {
				at = min(len(p.old), at+1+r.IntN(1+r.IntN(30)))
				p.pieces = append(p.pieces, at)
			}
			if r.IntN(2) == 0 {
				p.pieces[len(p.pieces)-1]++
			} else {
				p.pieces = append(p.pieces, len(p.old)+1)
			}
			p.run()
		})
	}
}
