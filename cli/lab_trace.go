package cli

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"tapdirector/stack"
	"tapdirector/stack/packettest"
	"tapdirector/tap"
)

// How sightings become a picture
//
// Every point reports frames on its own, so one packet is seen several times, each time perhaps rewritten. What a director never
// changes tells that it is one packet: its direction, and for TCP its flags, sequence numbers and length, for UDP its
// payload. By the same sign the client's end is known again when fullnat has changed it too. A packet seen at the same point for a second time is another one: a repetition. Packets and what is seen of each
// are in the order of the points' clock, which is one clock. What a bridge flooded to a host that it was not sent to does not count.

// step is one packet at one point.
type step struct {
	sighting
	srcMAC, dstMAC stack.MAC
	src, dst       netip.AddrPort
	ttl            uint8
	tunnel         string // what the packet travels in, in words; "" when it is not in a tunnel
}

// passage is one packet on its whole way.
type passage struct {
	forward bool   // from the client
	label   string // "SYN", "data, 4 bytes"
	steps   []step
}

// packetKey is what stays the same of a packet on its way through a director.
type packetKey struct {
	forward  bool
	flags    uint8
	seq, ack uint32
	payload  string
}

// trace picks the packets of the connection of one client address from what was seen; names are the owners of hardware addresses.
func trace(seen []sighting, client net.Addr, names map[stack.MAC]string) []passage {
	if client == nil {
		return nil
	}
	at, err := netip.ParseAddrPort(client.String())
	if err != nil {
		return nil
	}
	var passages []passage
	latest := map[packetKey]int{}
	ends := map[netip.AddrPort]bool{at: true} // and what the client's end becomes with fullnat
	for _, s := range seen {
		st, key, label, ok := decode(s, ends)
		if key.forward = true; !ok && known(latest, key) { // the client's packet, from another end
			ends[st.src] = true
			ok = true
		}
		key.forward = ends[st.src]
		if !ok || flooded(st, names) {
			continue
		}
		i, known := latest[key]
		if !known || passages[i].visited(s) {
			i = len(passages)
			latest[key] = i
			passages = append(passages, passage{forward: key.forward, label: label})
		}
		passages[i].steps = append(passages[i].steps, st)
	}
	return passages
}

// known reports whether a packet was seen before.
func known(latest map[packetKey]int, key packetKey) bool {
	_, ok := latest[key]
	return ok
}

// flooded reports whether a frame came by a host that it was not for.
func flooded(s step, names map[stack.MAC]string) bool {
	owner, known := names[s.dstMAC]
	return !s.out && known && owner != s.host
}

// visited reports whether the packet was seen at this point, in this direction, before.
func (p *passage) visited(s sighting) bool {
	return slices.ContainsFunc(p.steps, func(o step) bool { return o.host == s.host && o.lan == s.lan && o.out == s.out })
}

// passes reports whether the packet was seen at a host.
func (p *passage) passes(host string) bool {
	return slices.ContainsFunc(p.steps, func(s step) bool { return s.host == host })
}

// decode reads one frame; it reports false when the frame is neither from nor to one of the ends.
func decode(s sighting, ends map[netip.AddrPort]bool) (st step, key packetKey, label string, ok bool) {
	var p stack.Packet
	inner, tunnel := unwrapped(s.frame)
	f := tap.NewFrame(tap.Header{}, inner)
	if stack.Parse(&f, &p) != stack.ReasonNone || !p.HasPorts {
		return st, key, "", false
	}
	b := f.Bytes()
	st = step{
		sighting: s, srcMAC: stack.SrcMAC(b), dstMAC: stack.DstMAC(b), ttl: p.TTL, tunnel: tunnel,
		src: netip.AddrPortFrom(p.Src.Netip(), p.SrcPort), dst: netip.AddrPortFrom(p.Dst.Netip(), p.DstPort),
	}
	payload := b[int(p.L4)+int(p.L4Len):]
	key = packetKey{flags: p.TCPFlags, payload: string(payload)}
	if p.Proto == stack.ProtoTCP {
		key.seq, key.ack = binary.BigEndian.Uint32(b[p.L4+4:]), binary.BigEndian.Uint32(b[p.L4+8:])
	}
	return st, key, packetLabel(&p, len(payload)), ends[st.src] || ends[st.dst]
}

// unwrapped returns a frame with the packet that a tunnel carries in the place of the tunnel's, and the tunnel in words; any other frame as it is.
func unwrapped(b []byte) (frame []byte, tunnel string) {
	if len(b) < tap.EthernetLen {
		return b, ""
	}
	o, inner, err := packettest.Unwrap(b[tap.EthernetLen:])
	if err != nil || len(inner) == 0 {
		return b, ""
	}
	frame = slices.Concat(b[:tap.EthernetLen], inner)
	frame[12], frame[13] = 0x08, 0x00
	if inner[0]>>4 == 6 {
		frame[12], frame[13] = 0x86, 0xdd
	}
	return frame, fmt.Sprintf("in %s, %v > %v", o.Kind, o.Src, o.Dst)
}

// packetLabel says what a packet is for.
func packetLabel(p *stack.Packet, payload int) string {
	if p.Proto == stack.ProtoUDP {
		return fmt.Sprintf("datagram, %d bytes", payload)
	}
	var words []string
	for _, f := range []struct {
		bit  uint8
		name string
	}{{stack.SYN, "SYN"}, {stack.FIN, "FIN"}, {stack.RST, "RST"}, {stack.ACK, "ACK"}} {
		if p.TCPFlags&f.bit != 0 {
			words = append(words, f.name)
		}
	}
	if payload > 0 {
		words = append(words, fmt.Sprintf("%d bytes", payload))
	}
	return strings.Join(words, " ")
}

// macNames tells whose hardware address is whose. The director's are in the plan, and the stage may know the hosts'; else a host shows its
// own with what it sends, and with what it alone receives.
func macNames(s *stage, seen []sighting) map[stack.MAC]string {
	names := map[stack.MAC]string{}
	for _, i := range s.plan.Interfaces {
		names[i.MAC] = "director"
	}
	for _, h := range append(slices.Clone(s.plan.Servers), s.plan.Client) {
		for _, leg := range h.Legs {
			if m, err := net.ParseMAC(s.mac(h.Name, leg.LAN)); err == nil && len(m) == 6 {
				names[stack.MAC(m)] = h.Name
			}
		}
	}
	receivers := map[stack.MAC][]string{}
	for _, si := range seen {
		if len(si.frame) < tap.EthernetLen || si.host == "director" {
			continue
		}
		if si.out {
			names[stack.SrcMAC(si.frame)] = si.host
		} else if dst := stack.DstMAC(si.frame); dst[0]&1 == 0 && !slices.Contains(receivers[dst], si.host) {
			receivers[dst] = append(receivers[dst], si.host)
		}
	}
	for m, hosts := range receivers {
		if _, known := names[m]; !known && len(hosts) == 1 {
			names[m] = hosts[0]
		}
	}
	return names
}

// drawTrace prints the first packet of each direction in full and all of them as a table.
func drawTrace(out *page, s *stage, seen []sighting, client net.Addr) {
	names := macNames(s, seen)
	passages := trace(seen, client, names)
	if len(passages) == 0 {
		out.heading("No frame of the first request was seen")
		return
	}
	d := &traceDrawing{out: out, stage: s, names: names, bold: out.terminal()}
	out.heading("The first request's packets as they passed (* = changed since the point before)")
	for _, forward := range []bool{true, false} {
		i := slices.IndexFunc(passages, func(p passage) bool { return p.forward == forward })
		if i >= 0 {
			d.closeUp(&passages[i])
		}
	}
	out.heading("All %d packets of that connection; times in ms", len(passages))
	d.table(passages)
}

// traceDrawing is what the drawing functions share.
type traceDrawing struct {
	out   *page
	stage *stage
	names map[stack.MAC]string
	bold  bool
}

// closeUp draws one packet's way, two lines a point: MACs, and addresses with ports.
func (d *traceDrawing) closeUp(p *passage) {
	d.out.printf("\n  %s, %s\n\n", p.label, direction(p.forward))
	for i, s := range p.steps {
		if i > 0 {
			d.out.printf("      |\n")
		}
		place := fmt.Sprintf("%-22s", d.place(s))
		if i > 0 && sameHeaders(s, p.steps[i-1]) {
			d.out.printf("    %s    the same\n", place)
			continue
		}
		before := p.steps[max(i-1, 0)]
		d.out.printf("    %s %s > %s\n", place,
			d.cell(d.mac(s.srcMAC), s.srcMAC != before.srcMAC, 28), d.cell(d.mac(s.dstMAC), s.dstMAC != before.dstMAC, 28))
		d.out.printf("    %-22s %s > %s %s\n", "", d.cell(s.src.String(), s.src != before.src, 28), d.cell(s.dst.String(), s.dst != before.dst, 28),
			d.cell(fmt.Sprintf("ttl %d", s.ttl), s.ttl != before.ttl, 0))
		if s.tunnel != "" {
			d.out.printf("    %-22s %s\n", "", d.cell(s.tunnel, s.tunnel != before.tunnel, 0))
		}
	}
	switch {
	case p.forward:
	case p.passes("director"):
		d.out.printf("\n    The answer came back through the director.\n")
	default:
		d.out.printf("\n    The answer did not pass the director.\n")
	}
}

// table prints one line for each packet and point.
func (d *traceDrawing) table(passages []passage) {
	begin := passages[0].steps[0].when
	wide := d.widest(passages)
	for _, p := range passages {
		d.out.printf("\n  %s, %s\n", p.label, direction(p.forward))
		for i, s := range p.steps {
			b := p.steps[max(i-1, 0)]
			macs := fmt.Sprintf("%s > %s", d.name(s.srcMAC), d.name(s.dstMAC))
			d.out.printf("  %8.3f  %-19s %s %s > %s\n", s.when.Sub(begin).Seconds()*1e3, d.place(s),
				d.cell(macs, s.srcMAC != b.srcMAC || s.dstMAC != b.dstMAC, 19),
				d.cell(s.src.String(), s.src != b.src, wide), d.cell(s.dst.String(), s.dst != b.dst, 0))
		}
	}
}

// widest is the length of the longest source.
func (d *traceDrawing) widest(passages []passage) (n int) {
	for _, p := range passages {
		for _, s := range p.steps {
			n = max(n, len(s.src.String()))
		}
	}
	return n + 1
}

// cell is a text of a fixed width with a star before it, and bold on a terminal, when it changed.
func (d *traceDrawing) cell(text string, changed bool, width int) string {
	padded := fmt.Sprintf("%-*s", max(width, 1), " "+text)
	if changed {
		padded = "*" + padded[1:]
	}
	if changed && d.bold {
		return "\x1b[1;33m" + padded + "\x1b[0m"
	}
	return padded
}

// place is where a step was seen, "director tap0 in".
func (d *traceDrawing) place(s step) string {
	dir := "in"
	if s.out {
		dir = "out"
	}
	return fmt.Sprintf("%s %s %s", s.host, d.stage.link(s.host, s.lan), dir)
}

// mac is a hardware address with its owner's name.
func (d *traceDrawing) mac(m stack.MAC) string { return d.name(m) + " " + macString(m) }

// name is the owner of a hardware address.
func (d *traceDrawing) name(m stack.MAC) string {
	if name, ok := d.names[m]; ok {
		return name
	}
	return "?"
}

func direction(forward bool) string {
	if forward {
		return "client to server"
	}
	return "server to client"
}

// sameHeaders reports whether nothing that the picture shows differs.
func sameHeaders(a, b step) bool {
	return a.srcMAC == b.srcMAC && a.dstMAC == b.dstMAC && a.src == b.src && a.dst == b.dst && a.ttl == b.ttl && a.tunnel == b.tunnel
}

// splitPoint reads "client/ext".
func splitPoint(point string) (host, lan string) {
	host, lan, _ = strings.Cut(point, "/")
	return host, lan
}
