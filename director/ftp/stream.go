package ftp

// The bytes of one direction as their sender numbers them (old), and as their receiver does (new). An edit replaces some of the old bytes; from
// there on the numbers differ by what has become longer or shorter. Sequence numbers of what is sent are translated by sent, those that the
// receiver acknowledges by acked and sack. Everything is a function of the number alone, so it is all the same in which pieces, in
// which order and how often data comes: a retransmission is edited as the first time.
//
// Held bytes. Of a line that may have to be edited, but has not come to its end, nothing goes on: its bytes have no place among the new numbers
// yet. They are kept here, and acknowledged to the sender as soon as the receiver acknowledges all in front of them, because a sender
// with Nagle's algorithm sends the rest of the line only then. Where the receiver has done so already it would stay silent, or answer too late and with an
// old timestamp, which its peer takes for a slow path: so the sender is answered here. When the line is complete it goes on whole, and again
// whenever a segment with any of it comes again: its sender has only the first that is not acknowledged sent again, until it is. Where all of a line was
// acknowledged before it turned out not to matter, or the sender has no more to say, no byte of it comes again: then it goes in front of what follows.
//
// Edits are remembered until the receiver has acknowledged what they made, and longer while there is room. Where there is none the data waits: what
// is not read is not passed on either, so its sender sends it again.

const (
	maxEdits = 3   // under way at once; each belongs to a command that its client waits for
	maxLine  = 128 // bytes of a line that matters; the longest that is needed has some 70
	maxText  = maxLine + 48
)

// edit says that the old bytes from at to end have become text.
type edit struct {
	at, end uint32
	held    uint32 // the old bytes from at to here may have been acknowledged to the sender before there was a text
	open    bool   // there is no text yet: the line goes on behind end
	n       uint8  // bytes of text
	text    [maxText]byte
}

// grown is by how much more bytes there are behind the edit.
func (e *edit) grown() uint32 { return uint32(e.n) - (e.end - e.at) }

// numbers are the edits of one direction. The zero value has none.
type numbers struct {
	base   uint32 // new minus old in front of the first edit
	last   uint32 // new: the receiver has acknowledged all before it
	window uint16 // what it said with that, or later
	heard  bool   // last and window are valid
	count  uint8
	edits  [maxEdits]edit // by at
}

// before compares sequence numbers.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// sent translates the number of an old byte. One that was replaced is where its text begins.
func (n *numbers) sent(old uint32) uint32 {
	d := n.base
	for i := range n.count {
		e := &n.edits[i]
		if !before(e.at, old) {
			break
		}
		if e.open || before(old, e.end) {
			return e.at + d
		}
		d += e.grown()
	}
	return old + d
}

// acked translates a number that the receiver expects next. In the middle of a text it has nothing whole.
func (n *numbers) acked(new uint32) uint32 {
	d := n.base
	for i := range n.count {
		e := &n.edits[i]
		switch {
		case before(new-d, e.at):
			return new - d
		case e.open || before(new, e.at+d+uint32(e.n)):
			return e.held
		}
		d += e.grown()
	}
	return new - d
}

// sack translates the ends of a block that the receiver has; what it has of a text in part it does not have.
func (n *numbers) sack(start, end uint32) (uint32, uint32) {
	start, end = n.edge(start, true), n.edge(end, false)
	if before(end, start) {
		end = start // an empty block, which senders ignore
	}
	return start, end
}

// edge translates an end of a block: in the middle of a text to behind it, or to its beginning.
func (n *numbers) edge(new uint32, up bool) uint32 {
	d := n.base
	for i := range n.count {
		e := &n.edits[i]
		if !before(e.at+d, new) {
			break
		}
		if e.open || before(new, e.at+d+uint32(e.n)) {
			if up {
				return e.end
			}
			return e.at
		}
		d += e.grown()
	}
	return new - d
}

// probe returns the number of a segment without bytes that is seq for the receiver. Where its sender asks by an old number at whether the receiver is still there, it
// must be old for the receiver too, also where that has not got the held bytes.
func (n *numbers) probe(at, seq uint32) uint32 {
	if e := n.opened(); e != nil && !before(at, e.at) && before(at, e.held) {
		return n.sent(e.at) - 1
	}
	return seq
}

// owed returns the edit that ends at old byte at, if the receiver has not acknowledged its text though its sender may take all of it for received; nil when there is none.
func (n *numbers) owed(at uint32) *edit {
	for i := range n.count {
		e := &n.edits[i]
		if e.end == at && e.held == at && !e.open && (!n.heard || before(n.last, n.sent(e.at)+uint32(e.n))) {
			return e
		}
	}
	return nil
}

// hear notes what the receiver has acknowledged.
func (n *numbers) hear(ack uint32, window uint16) {
	if !n.heard || !before(ack, n.last) {
		n.last, n.window, n.heard = ack, window, true
	}
}

// add begins an edit behind all others; nil when there is no room.
func (n *numbers) add(at, end uint32) *edit {
	if n.count == maxEdits && !n.forgetFirst() {
		return nil
	}
	e := &n.edits[n.count]
	n.count++
	e.at, e.end, e.held, e.open, e.n = at, end, at, false, 0
	return e
}

// forgetFirst makes room for an edit, if the receiver has the first whole.
func (n *numbers) forgetFirst() bool {
	e := &n.edits[0]
	if e.open || !n.heard || before(n.last, e.at+n.base+uint32(e.n)) {
		return false
	}
	n.base += e.grown()
	copy(n.edits[:], n.edits[1:])
	n.count--
	return true
}

// opened returns the edit whose line is not complete, nil when there is none.
func (n *numbers) opened() *edit {
	if n.count > 0 && n.edits[n.count-1].open {
		return &n.edits[n.count-1]
	}
	return nil
}

// clean reports whether the old bytes from at to end go on as they are.
func (n *numbers) clean(at, end uint32) bool {
	for i := range n.count {
		if e := &n.edits[i]; before(at, e.end) && before(e.at, end) {
			return false
		}
	}
	return true
}

// rewrite appends to b what becomes of payload, whose first byte is at: the new bytes from sent(at) on. A text that any of it belongs to comes whole.
func (n *numbers) rewrite(b []byte, at uint32, payload []byte) []byte {
	end := at + uint32(len(payload))
	for i := range n.count {
		e := &n.edits[i]
		if !before(at, e.end) {
			continue // it is over where the payload begins
		}
		if !before(e.at, end) {
			break
		}
		if before(at, e.at) {
			b = append(b, payload[:e.at-at]...)
			payload = payload[e.at-at:]
		}
		if e.open {
			return b // the text begins there, and comes with the end of the line
		}
		b = append(b, e.text[:e.n]...)
		if !before(e.end, end) {
			return b
		}
		payload = payload[uint32(len(payload))-(end-e.end):]
		at = e.end
	}
	return append(b, payload...)
}
