package cli

import (
	"fmt"
	"slices"
	"strings"

	"tapdirector/integration"
)

// The map is drawn from top to bottom, as packets to the VIP travel: client, LAN, director, LAN, servers. With one arm there is one LAN, and
// all but the client hang below it. Servers of a two-armed dr have a second leg, which a rail on the right takes back to the first LAN.

// railColumn is where the rail runs.
const railColumn = 92

// mapDrawing collects the lines of the map.
type mapDrawing struct {
	stage *stage
	lines []string
	rail  bool // the rail runs beside the lines that are added
}

// drawMap prints the topology with names, interfaces, MACs and addresses.
func drawMap(out *page, s *stage) {
	d := &mapDrawing{stage: s}
	d.client()
	d.lan(integration.Ext)
	if d.arms() == 2 {
		d.rail = d.secondLegs()
		d.add("       |")
		d.directorBetween()
		d.lan(integration.Int)
	} else {
		d.directorBeside()
	}
	for _, h := range s.plan.Servers {
		d.server(h)
	}
	d.rail = false
	d.add("")
	d.notes()
	for _, line := range d.lines {
		out.printf("%s\n", line)
	}
}

func (d *mapDrawing) arms() int { return len(d.stage.plan.Interfaces) }

// secondLegs reports whether servers have a leg on the client's LAN besides that to the director.
func (d *mapDrawing) secondLegs() bool { return len(d.stage.plan.Servers[0].Legs) > 1 }

func (d *mapDrawing) client() {
	c := d.stage.plan.Client
	d.add("  %-9s %s", c.Name, d.leg(c.Name, c.Legs[0].LAN, c.Legs[0].Address))
	d.add("       |")
}

// lan draws a LAN across the page.
func (d *mapDrawing) lan(name string) {
	line := fmt.Sprintf("  =====+==== %s: %s, MTU %d bytes ", name, d.stage.wire(name), d.stage.plan.MTU(name))
	end := railColumn - 8
	if name == integration.Ext {
		end = railColumn + 1
	}
	d.add("%s", line+strings.Repeat("=", max(end-len(line), 4)))
	if name == integration.Ext && d.secondLegs() {
		last := []byte(d.lines[len(d.lines)-1])
		last[railColumn] = '+'
		d.lines[len(d.lines)-1] = string(last)
	}
}

// directorBetween draws the director between its two LANs.
func (d *mapDrawing) directorBetween() {
	d.add("  %-9s %s", "director", d.directorLeg(0))
	d.add("  %-9s %s", "     |", d.directorLeg(1))
	d.add("       |")
}

// directorBeside draws the director as one more host on its one LAN.
func (d *mapDrawing) directorBeside() { d.add("       +-- director  %s", d.directorLeg(0)) }

// directorLeg is an interface of the director in words; the first one owns the VIP.
func (d *mapDrawing) directorLeg(n int) string {
	i := d.stage.plan.Interfaces[n]
	words := []string{d.stage.link("director", i.Name), macString(i.MAC)}
	for _, a := range i.Addresses {
		words = append(words, a.String())
	}
	if n == 0 {
		words = append(words, "VIP "+d.stage.VIP().String())
	}
	return strings.Join(words, "  ")
}

// server draws one server below its LAN, a line for each leg.
func (d *mapDrawing) server(h integration.Host) {
	for n, leg := range h.Legs {
		text := d.leg(h.Name, leg.LAN, leg.Address)
		if n == 0 {
			d.add("       +-- %-4s %s", h.Name, text)
			continue
		}
		d.add("       |        %s", text)
		d.tieToRail()
	}
}

// tieToRail leads the last line's leg to the rail.
func (d *mapDrawing) tieToRail() {
	last := &d.lines[len(d.lines)-1]
	text := strings.TrimRight(strings.TrimSuffix(*last, "|"), " ")
	*last = text + " " + strings.Repeat("-", max(railColumn-len(text)-1, 0)) + "+"
}

// notes say what makes the method work.
func (d *mapDrawing) notes() {
	p := d.stage.plan
	first := p.Servers[0]
	if p.Spec.Method == "nat" {
		d.add("  Servers listen on port %d; their default gateway is the director (%v), so answers come back through it.", first.Listen.Port(), first.Gateway)
		return
	}
	if p.Spec.Method == "fullnat" {
		d.add("  Servers listen on port %d and need no gateway: to them the director (%v) is the client.", first.Listen.Port(), p.Peer(p.Client.Addr()))
		return
	}
	if p.Spec.Method == "tun" {
		d.add("  Packets come to a server in a tunnel (%s) that ends in it.", p.Spec.Tunnel)
	}
	d.add("  Every server holds the VIP %v on lo, and neither ARP nor ND tells. It answers the client itself.", first.Hidden)
}

// leg is an interface in words.
func (d *mapDrawing) leg(host, lan string, address fmt.Stringer) string {
	words := []string{d.stage.link(host, lan), d.stage.mac(host, lan), address.String()}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), "  ")
}

// add appends a line, and the rail where it runs.
func (d *mapDrawing) add(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if d.rail {
		line = fmt.Sprintf("%-*s|", railColumn, line)
	}
	d.lines = append(d.lines, line)
}
