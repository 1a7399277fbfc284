package main

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
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

// acquaint lets the sender of a frame ping the director until it is answered: what the director's own host says to somebody whose MAC it must ask
// for first comes when it comes, and a marker does not tell.
func (p *player) acquaint(l link, frame []byte) error {
	h, ok := senderOf(frame)
	if !ok || h.local() || h.link != l || p.known[h.name] {
		return nil
	}
	if p.known == nil {
		p.known = map[string]bool{}
	}
	p.known[h.name] = true
	ping := greeting(h)
	p.greeted = false
	for limit := time.Now().Add(silentLimit); time.Now().Before(limit); time.Sleep(answerTime) {
		if err := p.side.Send(l, ping); err != nil {
			return err
		}
		if _, err := p.settle(l); err != nil || p.greeted {
			return err
		}
	}
	return errSilent
}

// greetID marks the pings of acquaint: an answer may be late, and is never part of a case.
const greetID = 0x7d7e

// greeting is a ping of h to the director's address on its link.
func greeting(h host) []byte {
	s := packettest.Spec{SrcMAC: h.mac, DstMAC: ourMAC[h.link], Proto: packettest.ICMP, ICMPType: 8, ICMPID: greetID}
	family := 4
	if h.addr.Is6() {
		family, s.Proto, s.ICMPType = 6, packettest.ICMPv6, 128
	}
	dip, _ := hostNamed([...]string{"dip", "indip"}[h.link], family)
	s.Src, s.Dst = netip.AddrPortFrom(h.addr, 0), netip.AddrPortFrom(dip.addr, 0)
	return s.Bytes()
}

// isGreeted reports whether b answers a greeting.
func isGreeted(b []byte) bool {
	at, reply := ethLen+20, byte(0)
	if len(b) > 12 && b[12] == 0x86 {
		at, reply = ethLen+40, 129
	}
	return len(b) >= at+8 && (b[ethLen+9] == packettest.ICMP || b[ethLen+6] == packettest.ICMPv6) && b[at] == reply && binary.BigEndian.Uint16(b[at+4:]) == greetID
}

// senderOf finds the host that a frame comes from.
func senderOf(b []byte) (host, bool) {
	switch {
	case len(b) >= ethLen+20 && b[12] == 8 && b[13] == 0:
		return hostOf(netip.AddrFrom4([4]byte(b[ethLen+12:])))
	case len(b) >= ethLen+40 && b[12] == 0x86 && b[13] == 0xdd:
		return hostOf(netip.AddrFrom16([16]byte(b[ethLen+8:])))
	}
	return host{}, false
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

// A marker is two pings of a link's probe: one to the director, whose answer leaves by this link, and one through the director to the other link's
// probe, which leaves by that. What a frame brings leaves before the marker that was sent behind it. It is sent again when it is late: user-mode
// Linux on a busy machine sometimes misses that a frame has come until the next one does.
const (
	markerID    = 0x7d7d
	firstLimit  = 20 * time.Millisecond // then twice that, and so on
	pingLimit   = 640 * time.Millisecond
	silentLimit = 20 * time.Second

	answerTime = time.Millisecond // for what waited for a MAC to leave: tapdirector's own host has a goroutine for that
)

// markers numbers them, those of all players: a late one is never taken for another.
var markers atomic.Uint32

var errSilent = errors.New("the director does not answer a ping")

// settle waits until the side has done with the frame that came in by link l, and all that followed from it, and returns what left.
func (p *player) settle(l link) (out []departure, err error) {
	for limit := time.Now().Add(silentLimit); time.Now().Before(limit); {
		more, asked, err := p.marker(l)
		out = append(out, more...)
		if err != nil {
			return out, err
		}
		if !asked && !p.side.Busy() {
			return out, nil
		}
		time.Sleep(answerTime)
	}
	return out, errors.New("the director does not come to rest")
}

// marker sends one into link l and collects what leaves before it has come out of both; asked says that there was a question among it.
func (p *player) marker(l link) (out []departure, asked bool, err error) {
	seq := uint16(markers.Add(1))
	probes, dips := [...]string{"probe", "inprobe"}, [...]string{"dip", "indip"}
	var pings [numLinks][]byte
	for i, name := range []string{dips[l], probes[1-l]} {
		from, _ := hostNamed(probes[l], 4)
		to, _ := hostNamed(name, 4)
		ping := packettest.Spec{
			SrcMAC: from.mac, DstMAC: ourMAC[l], Src: netip.AddrPortFrom(from.addr, 0), Dst: netip.AddrPortFrom(to.addr, 0),
			Proto: packettest.ICMP, ICMPType: 8, ICMPID: markerID, ICMPSeq: seq,
		}
		pings[i] = ping.Bytes()
	}
	var seen [numLinks]bool // by that link
	wait, limit := firstLimit, time.Now().Add(silentLimit)
	for time.Now().Before(limit) {
		for _, b := range pings {
			if err := p.side.Send(l, b); err != nil {
				return out, asked, err
			}
		}
		more, a, err := p.await(seq, &seen, wait)
		out, asked = append(out, more...), asked || a
		if seen == [numLinks]bool{true, true} || err != nil {
			return out, asked, err
		}
		wait = min(wait*2, pingLimit)
	}
	return out, asked, fmt.Errorf("by %v: %w", l, errSilent)
}

// await collects what leaves until a marker has come out of both links, or is late.
func (p *player) await(seq uint16, seen *[numLinks]bool, wait time.Duration) (out []departure, asked bool, err error) {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for *seen != [numLinks]bool{true, true} {
		select {
		case d := <-p.side.Departures():
			if n, marker := markerOf(d.frame); marker {
				seen[d.link] = seen[d.link] || n == seq
				continue
			}
			if isGreeted(d.frame) {
				p.greeted = true
				continue
			}
			answered, err := p.answer(d)
			if err != nil {
				return out, asked, err
			}
			asked = asked || answered
			if !answered && !isChatter(d.frame) {
				out = append(out, d)
			}
		case <-limit.C:
			return out, asked, nil
		}
	}
	return out, asked, nil
}

// markerOf returns the number of the marker that b is of.
func markerOf(b []byte) (uint16, bool) {
	const icmp = ethLen + 20
	if len(b) < icmp+8 || b[12] != 8 || b[13] != 0 || b[ethLen+9] != 1 || b[icmp] != 0 && b[icmp] != 8 || binary.BigEndian.Uint16(b[icmp+4:]) != markerID {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[icmp+6:]), true
}

// picks opens new connections one after the other and writes down the servers' numbers: "picks 6", "picks 6 clients" (each from another client
// instead of another port), "picks 6 ends" (to each end of the service in turn), "picks 6 from anywhere" (any rotation will do).
func (p *player) picks(args []string) error {
	if len(args) == 0 {
		return errors.New("how many?")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	rest := strings.Join(args[1:], " ")
	var seq []string
	for i := range n {
		from := fmt.Sprintf("client:%d", 41000+p.picked)
		if strings.Contains(rest, "clients") {
			from = fmt.Sprintf("client%d:%d", i+1, 40000+p.rounds)
		}
		p.picked++
		to := p.c.services[0].listen[0]
		if strings.Contains(rest, "ends") {
			to = p.c.services[0].listen[i%len(p.c.services[0].listen)]
		}
		who, err := p.pick(from, to)
		if err != nil {
			return err
		}
		seq = append(seq, who)
	}
	p.rounds++
	if strings.Contains(rest, "from anywhere") {
		seq, p.free = smallestRotation(seq), true
	}
	p.lines = append(p.lines, strings.Join(seq, " "))
	return nil
}

// pick opens one connection and says whom it went to.
func (p *player) pick(from, to string) (string, error) {
	s := &step{verb: ">", args: []string{from, "->", to, "open"}}
	_, b, err := buildFrame(p.c, &p.m, s)
	if err != nil {
		return "", err
	}
	out, err := p.exchange(ext, b, [][]byte{b}, slices.Clone)
	for _, d := range out {
		if d.link == in {
			name := strings.TrimPrefix(nameOfMAC([6]byte(d.frame[:6])), "server")
			return cmp.Or(name, "1"), err
		}
	}
	if len(out) > 0 {
		return "refused", err
	}
	return "dropped", err
}

// smallestRotation is the same for all rotations of a sequence.
func smallestRotation(seq []string) []string {
	best := seq
	for i := range seq {
		if r := append(slices.Clone(seq[i:]), seq[:i]...); slices.Compare(r, best) < 0 {
			best = r
		}
	}
	return best
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

// conns writes the connection table down.
func (p *player) conns() error {
	conns, err := p.side.Conns()
	for _, c := range conns {
		p.lines = append(p.lines, fmt.Sprintf("%s %s %s %s %s %s", c.proto, c.state, p.startOf(c.expires), named(c.client), named(c.virtual), named(c.real)))
	}
	slices.Sort(p.lines)
	return err
}

func named(a netip.AddrPort) string { return fmt.Sprintf("%s:%d", nameOf(a.Addr()), a.Port()) }

// late is how much later than its last packet a connection may be looked at; early is what a table may round up.
const (
	late  = 5 * time.Second
	early = time.Second
)

// startOf finds the timeout that a remaining time was counted down from, in seconds.
func (p *player) startOf(left time.Duration) string {
	if p.c.unaged {
		return "-"
	}
	known := []int{2, 3, 10, 30, 60, 120, 300, 900}
	if p.c.services[0].proto == "sctp" {
		known = []int{2, 4, 61, 300, 900}
	}
	known = append(known, p.c.timeouts[:]...)
	for _, v := range p.c.services {
		known = append(known, v.persistent)
	}
	slices.Sort(known)
	for _, k := range known {
		if d := time.Duration(k)*time.Second - left; d > -early && d < late {
			return strconv.Itoa(k)
		}
	}
	return left.Round(5 * time.Second).String() // the tables differ in what they round
}
