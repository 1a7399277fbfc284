package frag

import (
	"time"

	"tapdirector/stack"
)

// state is what is known of a datagram.
type state uint8

const (
	waiting state = iota // its first fragment was not seen, or is being decided about
	known                // it has a fate
	refused              // its first fragment did not go on
	killed               // its fragments contradict each other
)

// entry is a datagram. It has no pointers but those of what is held.
type entry[V any] struct {
	key      Key
	fate     V
	deadline time.Duration
	prev     uint32 // in its list
	next     uint32
	held     []Held

	state state
	n     uint8  // pieces
	bytes uint16 // in all pieces
	end   uint16 // of the piece that reaches farthest
	total uint16 // where the last piece ends; 0: it was not seen
	at    [maxPieces]span
}

// span is the bytes of a piece, from off up to but not including end.
type span struct{ off, end uint16 }

// placing is how a piece fits those before it.
type placing uint8

const (
	fits placing = iota
	duplicate
	overlaps // or contradicts where the datagram ends
	tiny
	tooLong
	tooMany
)

// place enters piece q. What does not fit is not entered.
func (e *entry[V]) place(q *stack.Piece) placing {
	switch {
	case q.Len == 0, q.More && q.Len < minPiece:
		return tiny
	case q.Whole() > maxDatagram:
		return tooLong
	}
	s := span{q.Off, uint16(q.End())}
	if how := e.compare(s, !q.More); how != fits {
		return how
	}
	if e.n == maxPieces {
		return tooMany
	}
	e.at[e.n] = s
	e.n++
	e.bytes += q.Len
	e.end = max(e.end, s.end)
	if !q.More {
		e.total = s.end
	}
	return fits
}

// maxDatagram is the bytes that a datagram may have, IPv4's header included and IPv6's not.
const maxDatagram = 65535

// compare looks for what s has in common with the pieces that are there.
func (e *entry[V]) compare(s span, last bool) placing {
	for _, a := range e.at[:e.n] {
		if a == s && last == (e.total == s.end) {
			return duplicate
		}
		if a.off < s.end && s.off < a.end {
			return overlaps
		}
	}
	switch {
	case last && (e.total != 0 || s.end < e.end):
		return overlaps
	case !last && e.total != 0 && s.end >= e.total:
		return overlaps
	}
	return fits
}

// complete reports whether each byte was seen: pieces do not overlap, so counting is enough.
func (e *entry[V]) complete() bool { return e.total != 0 && e.bytes == e.total }
