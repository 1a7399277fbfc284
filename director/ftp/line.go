package ftp

import (
	"bytes"
	"net/netip"
	"strconv"

	"tapdirector/stack"
)

// The lines that matter, RFC 959, 1123 (section 4.1.2.6) and 2428; nothing else is understood, and nothing is kept.
//
//	client   PORT h1,h2,h3,h4,p1,p2       active: connect to me there
//	         EPRT |1 or 2|address|port|   the same, either family; any printable delimiter
//	         PASV, EPSV                   passive: where may I connect?
//	         AUTH ...                     TLS is to begin
//	server   227 ... h1,h2,h3,h4,p1,p2 …  the answer to PASV; numbers anywhere in the text, in parentheses or not
//	         229 ... (|||port|) ...       the answer to EPSV
//	         234 ...                      TLS begins
//
// Commands are of any case. Numbers are decimal, at most 255 (a port 65535), and a port is never 0.

// verb is what a line means.
type verb uint8

const (
	other verb = iota
	port
	eprt
	pasv
	epsv
	auth
	answerPASV
	answerEPSV
	answerAUTH
)

// words are what the lines of each direction that matter begin with; a command of one word may end there.
var words = [2][]struct {
	text string
	verb verb
}{
	{{"PORT ", port}, {"EPRT ", eprt}, {"PASV", pasv}, {"EPSV", epsv}, {"AUTH ", auth}},
	{{"227 ", answerPASV}, {"229 ", answerEPSV}, {"234 ", answerAUTH}},
}

// verbOf tells what a whole line of direction d means.
func verbOf(d int, line []byte) verb {
	for _, w := range words[d] {
		if n := len(w.text); len(line) >= n && bytes.EqualFold(line[:n], []byte(w.text)) && (w.text[n-1] == ' ' || ends(line[n:])) {
			return w.verb
		}
	}
	return other
}

// ends reports whether a word ends where b begins.
func ends(b []byte) bool { return len(b) == 0 || b[0] == ' ' || b[0] == '\r' || b[0] == '\n' }

// mayMatter reports whether a line of direction d that begins like this can be one that matters.
func mayMatter(d int, line []byte) bool {
	for _, w := range words[d] {
		if n := min(len(w.text), len(line)); bytes.EqualFold(line[:n], []byte(w.text[:n])) {
			return true
		}
	}
	return false
}

// endpoint is an address and port in a line; from and to say where its text stands. addr is zero where the line has only a port.
type endpoint struct {
	addr     stack.Addr
	port     uint16
	from, to int
}

// endpointOf reads the address and port of a line whose verb has them; false when they are not there or not right.
func endpointOf(v verb, line []byte) (endpoint, bool) {
	switch v {
	case port:
		e, ok := sixNumbers(line, skipSpaces(line, len("PORT ")))
		return e, ok && blank(line[e.to:])
	case eprt:
		return extended(line, skipSpaces(line, len("EPRT ")))
	case answerPASV:
		return firstSixNumbers(line, len("227 "))
	case answerEPSV:
		return extendedPort(line, len("229 "))
	}
	return endpoint{}, false
}

func skipSpaces(line []byte, at int) int {
	for at < len(line) && line[at] == ' ' {
		at++
	}
	return at
}

// blank reports whether only spaces and the line's end are left.
func blank(rest []byte) bool { return len(bytes.Trim(rest, " \r\n")) == 0 }

// number reads a decimal number of at most limit at line[at:], and where it ends; false when there is none, or a larger one.
func number(line []byte, at, limit int) (n, end int, ok bool) {
	for end = at; end < len(line) && isDigit(line[end]); end++ {
		if n = n*10 + int(line[end]-'0'); n > limit {
			return 0, end, false
		}
	}
	return n, end, end > at && end-at <= 5
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// sixNumbers reads h1,h2,h3,h4,p1,p2 at line[at:].
func sixNumbers(line []byte, at int) (endpoint, bool) {
	var n [6]byte
	end := at
	for i := range n {
		v, to, ok := number(line, end, 255)
		if !ok || to-end > 3 {
			return endpoint{}, false
		}
		n[i], end = byte(v), to
		if i == 5 {
			break
		}
		if end == len(line) || line[end] != ',' {
			return endpoint{}, false
		}
		end++
	}
	e := endpoint{stack.AddrFrom4(n[:4]), uint16(n[4])<<8 | uint16(n[5]), at, end}
	return e, e.port != 0 && (end == len(line) || line[end] != ',')
}

// firstSixNumbers finds the first place behind at where six numbers stand.
func firstSixNumbers(line []byte, at int) (endpoint, bool) {
	for ; at < len(line); at++ {
		if !isDigit(line[at]) || isDigit(line[at-1]) || line[at-1] == ',' {
			continue
		}
		if e, ok := sixNumbers(line, at); ok {
			return e, true
		}
	}
	return endpoint{}, false
}

// extended reads |protocol|address|port| at line[at:].
func extended(line []byte, at int) (endpoint, bool) {
	fields := bytes.TrimRight(line[at:], " \r\n")
	if len(fields) < 2 || !isDelimiter(fields[0]) {
		return endpoint{}, false
	}
	e := endpoint{from: at, to: at + len(fields)}
	parts := bytes.Split(fields, fields[:1]) // of |1|a|p|: "", "1", "a", "p", ""
	if len(parts) != 5 || len(parts[4]) != 0 {
		return e, false
	}
	a, err := netip.ParseAddr(string(parts[2]))
	if err != nil || a.Zone() != "" || string(parts[1]) != map[bool]string{true: "1", false: "2"}[a.Is4()] {
		return e, false
	}
	p, end, ok := number(parts[3], 0, 65535)
	e.addr, e.port = stack.AddrFrom(a), uint16(p)
	return e, ok && end == len(parts[3]) && p != 0
}

func isDelimiter(c byte) bool { return c > 32 && c < 127 && !isDigit(c) }

// extendedPort finds (|||port|) behind at; the endpoint is the port alone.
func extendedPort(line []byte, at int) (endpoint, bool) {
	open := bytes.IndexByte(line[at:], '(')
	if open < 0 {
		return endpoint{}, false
	}
	b := line[at+open+1:]
	if len(b) < 5 || !isDelimiter(b[0]) || b[1] != b[0] || b[2] != b[0] {
		return endpoint{}, false
	}
	p, end, ok := number(b, 3, 65535)
	if !ok || p == 0 || end+1 >= len(b) || b[end] != b[0] || b[end+1] != ')' {
		return endpoint{}, false
	}
	from := at + open + 1 + 3
	return endpoint{port: uint16(p), from: from, to: from + end - 3}, true
}

// appendSix appends h1,h2,h3,h4,p1,p2.
func appendSix(b []byte, a stack.Addr, port uint16) []byte {
	var ip [4]byte
	a.Put(ip[:])
	for _, n := range [...]byte{ip[0], ip[1], ip[2], ip[3], byte(port >> 8)} {
		b = append(strconv.AppendUint(b, uint64(n), 10), ',')
	}
	return appendPort(b, port&255)
}

// appendExtended appends |protocol|address|port|.
func appendExtended(b []byte, a stack.Addr, port uint16) []byte {
	family := "|2|"
	if a.Is4() {
		family = "|1|"
	}
	b = append(a.Netip().AppendTo(append(b, family...)), '|')
	return append(appendPort(b, port), '|')
}

// appendPort appends a port.
func appendPort(b []byte, port uint16) []byte { return strconv.AppendUint(b, uint64(port), 10) }
