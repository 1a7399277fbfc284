package ftp

import "bytes"

// reader puts the lines of one direction together out of segments. It reads every byte once, in order: what was read already goes by, and what is ahead of
// something that has not come is not read. The zero value is ready.
type reader struct {
	numbers
	next  uint32 // the first byte that was not read
	begun bool   // next is valid
	gap   bool   // bytes went by unread: whatever comes next is read, once the line they were in is over
	skip  bool   // in a line that does not matter
	n     uint8  // bytes in line
	line  [maxLine]byte
}

// admit returns the bytes of a payload that were not read yet; ok is false when they are ahead of bytes that have not come.
func (r *reader) admit(at uint32, payload []byte) (fresh []byte, ok bool) {
	if !r.begun || r.gap && before(r.next, at) {
		r.next, r.skip = at, r.gap
		r.begun, r.gap = true, false
	}
	if before(r.next, at) {
		return nil, false
	}
	if old := r.next - at; old < uint32(len(payload)) {
		return payload[old:], true
	}
	return nil, true
}

// pass notes that a segment from at went by without being read.
func (r *reader) pass(at uint32) {
	if r.begun && !before(at, r.next) {
		skip := r.skip || r.n > 0
		r.leave()
		r.skip, r.gap = skip, true
	}
}

// lineHandler is told of lines that may matter.
type lineHandler interface {
	// line handles the whole line of direction d. It reports false when the line has to wait: it is asked again then, so nothing may have changed.
	line(d int) bool
	// partly says what is to become of a line of direction d that is not whole.
	partly(d int) partly
	// tooLong counts a line that does not end.
	tooLong()
}

// partly is what becomes of a line of which only the beginning has come.
type partly uint8

const (
	goesOn  partly = iota // as it is, and the whole line is only to be read
	isHeld                // nothing of it goes on until it is whole
	ignored               // as it is, and nobody reads the rest
)

// read reads fresh bytes of direction d, up to where a line has to wait.
func (r *reader) read(d int, fresh []byte, h lineHandler) {
	for len(fresh) > 0 {
		end := bytes.IndexByte(fresh, '\n') + 1
		whole := end > 0
		if !whole {
			end = len(fresh)
		}
		had, from := r.n, r.next
		r.next += uint32(end)
		if !r.skip && !r.take(d, fresh[:end], whole, h) {
			r.n, r.next = had, from
			return
		}
		if whole {
			r.skip, r.n = false, 0
		}
		fresh = fresh[end:]
	}
}

// take adds a piece to the line, its last when whole. It reports false when that must wait.
func (r *reader) take(d int, piece []byte, whole bool, h lineHandler) bool {
	fits := copy(r.line[r.n:], piece)
	if !mayMatter(d, r.line[:int(r.n)+fits]) || fits < len(piece) {
		if fits < len(piece) && mayMatter(d, r.line[:]) {
			h.tooLong()
		}
		r.leave()
		return true
	}
	r.n += uint8(fits)
	if whole {
		return h.line(d)
	}
	return r.hold(len(piece), h.partly(d))
}

// hold does what is to be done with the beginning of a line, of which a piece has just come. It reports false when there is no room to hold it.
func (r *reader) hold(piece int, p partly) bool {
	e := r.opened()
	switch {
	case e == nil && p == isHeld && int(r.n) == piece:
		if e = r.add(r.next-uint32(piece), r.next); e == nil {
			return false
		}
		e.open = true
	case e == nil && p != goesOn:
		r.leave() // or some of it has gone on already
		return true
	case e == nil:
		return true
	}
	e.end, e.held = r.next, r.next
	return true
}

// leave gives up the line, which does not matter; what is held of it goes on.
func (r *reader) leave() {
	r.close()
	r.skip, r.n = true, 0
}

// close lets the bytes that are held go on as they are.
func (r *reader) close() {
	if e := r.opened(); e != nil {
		r.settle(e, e.end, r.line[:e.end-e.at])
	}
}

// settle gives an edit its text.
func (r *reader) settle(e *edit, end uint32, text []byte) {
	e.open, e.end, e.n = false, end, uint8(copy(e.text[:], text))
}

// replace makes the bytes from to to of the line, which is whole and ends at next, text. It reports false when there is no room yet.
func (r *reader) replace(from, to int, text []byte) bool {
	if e := r.opened(); e != nil { // all of the line was held, so all of it is text
		var b [maxText]byte
		whole := append(b[:0], r.line[:from]...)
		whole = append(append(whole, text...), r.line[to:r.n]...)
		r.settle(e, r.next, whole)
		return true
	}
	begin := r.next - uint32(r.n)
	e := r.add(begin+uint32(from), begin+uint32(to))
	if e == nil {
		return false
	}
	r.settle(e, e.end, text)
	return true
}

// keep lets a whole line go on as it is.
func (r *reader) keep() {
	if e := r.opened(); e != nil {
		r.settle(e, r.next, r.line[:r.n])
	}
}
