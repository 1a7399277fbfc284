package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tapdirector/stack/packettest"
)

// side is a director with its two links, seen from the LAN. It is used by one goroutine.
type side interface {
	Begin(c *testCase) error                                  // forget all connections, and serve the services of c
	Send(l link, frame []byte) error                          // a frame of the LAN, towards the director
	Departures() <-chan departure                             // what the director sends
	Busy() bool                                               // something waits inside for a MAC
	Conns() ([]connection, error)                             // the connection table
	Counts() ([]string, error)                                // "server2:8000 weight 1 active 1 inactive 0", each server of each service, sorted
	Change(verb string, r realServer, all []realServer) error // "add", "del", "edit", "weight": a server of the first service, which then has all
	Close() error
}

// departure is a frame that left.
type departure struct {
	link  link
	frame []byte
}

// connection is an entry of a connection table.
type connection struct {
	proto, state          string
	client, virtual, real netip.AddrPort
	expires               time.Duration
}

// player plays the LAN for one case on one side.
type player struct {
	side           side
	c              *testCase
	m              memory
	ids            map[uint16]bool
	greeted        bool            // since the last host spoke
	known          map[string]bool // hosts that have spoken to the director
	free           bool            // which connection went where does not matter: "from anywhere"
	cut            int             // packets sent in fragments
	picked, rounds int             // connections opened by picks, and how often there were picks
	servers        []realServer    // of the first service, as they are now
	trace          []string
	lines          []string // of the step in hand
}

// play runs a case and returns what was seen: the text of each step, and below it, indented, what it brought.
func play(s side, c *testCase) (trace []string, err error) {
	p := &player{side: s, c: c, ids: map[uint16]bool{}, servers: slices.Clone(c.services[0].servers)}
	if err := s.Begin(c); err != nil {
		return nil, err
	}
	if _, err := p.settle(ext); err != nil { // what the start brought is not part of the case
		return nil, err
	}
	for i := range c.steps {
		if err := p.step(&c.steps[i]); err != nil {
			return p.trace, fmt.Errorf("line %d: %s: %w", c.steps[i].line, c.steps[i].text, err)
		}
	}
	for _, verb := range []string{"conns", "counts"} {
		if verb == "conns" && (p.free || c.noConns) {
			continue
		}
		if err := p.step(&step{verb: verb, text: "at the end: " + verb}); err != nil {
			return p.trace, err
		}
	}
	return p.trace, nil
}

// step does one line.
func (p *player) step(s *step) (err error) {
	if s.verb == "expect" {
		return p.expect(s)
	}
	p.lines = nil
	switch s.verb {
	case ">", "<":
		err = p.frame(s)
	case "conns":
		err = p.conns()
	case "counts":
		p.lines, err = p.side.Counts()
	case "picks":
		err = p.picks(s.args)
	case "weight", "edit", "add", "del":
		err = p.change(s)
	case "wait":
		var d time.Duration
		if d, err = seconds(s.args); err == nil {
			time.Sleep(d)
		}
	}
	p.trace = append(p.trace, s.text)
	if p.lines == nil && !silent[s.verb] {
		p.lines = []string{"nothing"}
	}
	for _, l := range p.lines {
		p.trace = append(p.trace, "    "+l)
	}
	return err
}

// silent steps bring nothing to be seen.
var silent = map[string]bool{"wait": true, "weight": true, "edit": true, "add": true, "del": true}

// expect holds the last step to what the script says of it.
func (p *player) expect(s *step) error {
	want := strings.Join(s.args, " ")
	for _, l := range p.lines {
		if strings.Contains(l, want) {
			return nil
		}
	}
	return fmt.Errorf("but there was %q", p.lines)
}

// frame sends one frame, or one packet in fragments, and writes down what comes of it.
func (p *player) frame(s *step) error {
	words, spec := cutWords(s.args)
	l, b, err := buildFrame(p.c, &p.m, &step{verb: s.verb, args: words})
	if err != nil {
		return err
	}
	if err := p.acquaint(l, b); err != nil {
		return err
	}
	frames, after := [][]byte{b}, slices.Clone[[]departure]
	if spec != "" {
		p.cut++
		after = assemble
		if frames, err = cutPieces(b, spec, fragmentID(p.c, p.cut)); err != nil {
			return err
		}
	}
	out, err := p.exchange(l, b, frames, after)
	for _, d := range out {
		p.lines = append(p.lines, describe(d.link, d.frame, p.ids))
	}
	return err
}

// exchange sends a packet in one frame or in several, and returns what left before the side was done with it, by link, after something was made of that.
func (p *player) exchange(l link, b []byte, frames [][]byte, after func([]departure) []departure) ([]departure, error) {
	if len(b) >= ethLen+20 && b[12] == 8 && b[13] == 0 {
		p.ids[binary.BigEndian.Uint16(b[ip4ID:])] = true
	}
	p.m.sent[l] = b
	for _, f := range frames {
		if err := p.side.Send(l, f); err != nil {
			return nil, err
		}
	}
	out, err := p.settle(l)
	out = after(out)
	for _, d := range out {
		p.m.last[d.link] = d.frame
		if d.link == in && l == ext {
			p.remember(d.frame)
		}
	}
	slices.SortStableFunc(out, func(a, b departure) int { return int(a.link) - int(b.link) })
	return out, err
}

// remember keeps the ends of a packet that went to a server.
func (p *player) remember(b []byte) {
	at := ethLen + 20
	if p.c.family == 6 {
		at = ethLen + 40
	}
	proto := map[int]byte{4: b[ethLen+9], 6: b[ethLen+6]}[p.c.family]
	if len(b) < at+4 || proto != packettest.TCP && proto != packettest.UDP {
		return
	}
	addr := func(from int) netip.Addr {
		if p.c.family == 6 {
			return netip.AddrFrom16([16]byte(b[ethLen+8+from*16:][:16]))
		}
		return netip.AddrFrom4([4]byte(b[ethLen+12+from*4:][:4]))
	}
	p.m.client = netip.AddrPortFrom(addr(0), binary.BigEndian.Uint16(b[at:]))
	p.m.server = netip.AddrPortFrom(addr(1), binary.BigEndian.Uint16(b[at+2:]))
}

// change adds, deletes or edits a server of the first service: "add SERVER WORDS", "del SERVER", "edit SERVER WORDS", "weight SERVER N". A new one is the
// first of the list, as in LVS.
func (p *player) change(s *step) error {
	if len(s.args) == 0 {
		return errors.New("expected a server")
	}
	i := slices.IndexFunc(p.servers, func(r realServer) bool { return r.address == s.args[0] })
	if (i >= 0) == (s.verb == "add") {
		return fmt.Errorf("%d servers like this in the service", min(i+1, 1))
	}
	var r realServer
	var err error
	switch s.verb {
	case "add":
		r, err = p.c.readServer(s.args)
		p.servers = append([]realServer{r}, p.servers...)
	case "del":
		r = p.servers[i]
		p.servers = slices.Delete(p.servers, i, i+1)
	case "edit":
		r, err = p.c.readServer(s.args)
		p.servers[i] = r
	case "weight":
		r = p.servers[i]
		r.weight, err = strconv.Atoi(strings.Join(s.args[1:], " "))
		p.servers[i] = r
	}
	if err != nil {
		return err
	}
	return p.side.Change(s.verb, r, p.servers)
}
