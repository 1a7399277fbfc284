package main

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// The chart
//
// A panel for NAT and one for DR; in each a line for every figure and peer that there are aims against. A dot is the median of the ratios, a thin line their spread, a
// short upright one the aim. To the right tapdirector is better, by as many times, on a logarithmic scale: where less is better, the ratio is turned over.
// Filled dots are IPv4, hollow ones IPv6. Its colours follow the reader's light or dark scheme, and it paints its own ground, so that both are readable
// wherever it is shown.

const chartStyle = `text { font: 12px sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.middle { text-anchor: middle }
.end { text-anchor: end }
.bold { font-weight: bold }
.ground { fill: #ffffff }
.stripe { fill: #f3f5f7 }
.grid { stroke: #d1d9e0 }
.even { stroke: #59636e; stroke-width: 1.5 }
.aim { stroke: #1f2328; stroke-width: 2 }
.c0 { stroke: #0072b2; fill: #0072b2 } .c1 { stroke: #d55e00; fill: #d55e00 } .c2 { stroke: #00855f; fill: #00855f } .c3 { stroke: #b0508a; fill: #b0508a }
circle { stroke-width: 1.5 }
circle.v6 { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .small { fill: #9198a1 } .ground { fill: #0d1117 } .stripe { fill: #151b23 } .grid { stroke: #3d444d } .even { stroke: #9198a1 } .aim { stroke: #f0f6fc }
.c0 { stroke: #56b4e9; fill: #56b4e9 } .c1 { stroke: #ff9a4d; fill: #ff9a4d } .c2 { stroke: #2bd9a5; fill: #2bd9a5 } .c3 { stroke: #e6a0c8; fill: #e6a0c8 }
circle.v6 { fill: #0d1117 }
}
`

// Measures of the chart, in pixels.
const (
	chartWidth  = 1070
	chartTop    = 78 // above the first figure
	chartBottom = 34 // below the last
	labelWidth  = 376
	panelWidth  = 310
	panelGap    = 44
	lineHeight  = 11 // of a peer
	figurePad   = 7  // between figures
)

// What the scale reaches; what is beyond is drawn at its end.
const (
	scaleMin = 1.0 / 8
	scaleMax = 32
)

// panel is one method's half of the chart.
type panel struct {
	method, title string
	peers         []string
	left          float64
}

var panels = []panel{
	{peerNAT, "NAT, two arms", []string{peerCopyLoop2, peerLVSNAT, peerNftables, peerHAProxy}, labelWidth},
	{peerDR, "DR, one arm", []string{peerCopyLoop1, peerLVSDR}, labelWidth + panelWidth + panelGap},
}

// legend names what the colours c0 to c3 are.
var legend = []string{"copy loop", "LVS in user-mode Linux", "nftables", "HAProxy"}

// chart is the report being drawn.
type chart struct {
	*svg
	r       *report
	figures []figure // that some panel has something of
}

// writeChart draws the ratios.
func (r *report) writeChart(w io.Writer) error {
	c := &chart{r: r, svg: &svg{width: chartWidth, style: chartStyle}}
	for _, f := range figures {
		if slices.ContainsFunc(panels, func(p panel) bool { return c.some(p, f) }) {
			c.figures = append(c.figures, f)
		}
	}
	c.height = chartTop + float64(len(c.figures))*figureHeight() + chartBottom
	c.rect("ground", 0, 0, c.width, c.height)
	c.head()
	y := float64(chartTop)
	for i, f := range c.figures {
		if i%2 == 0 {
			c.rect("stripe", 0, y, c.width, figureHeight())
		}
		c.text("end", labelWidth-14, y+figureHeight()/2+4, f.Title)
		y += figureHeight()
	}
	for _, p := range panels {
		c.scale(p)
		for i, f := range c.figures {
			c.figure(p, f, chartTop+float64(i)*figureHeight())
		}
	}
	return c.writeTo(w)
}

// figureHeight is the same for all, so that panels stay beside each other: room for the most peers a panel has.
func figureHeight() float64 { return float64(len(panels[0].peers)*lineHeight + figurePad) }

// some reports whether a panel has something of a figure.
func (c *chart) some(p panel, f figure) bool {
	return slices.ContainsFunc(c.r.Rows, func(row row) bool {
		return row.Figure == f.Key && row.Ratio != nil && slices.Contains(p.peers, row.Peer)
	})
}

// head is the title and the legend.
func (c *chart) head() {
	c.text("bold", 14, 22, "tapdirector compared: to the right of 1 it is better, by as many times")
	c.text("small", 14, 40, fmt.Sprintf("median of %d rounds, spread, and aim (upright); filled: IPv4, hollow: IPv6; turned over where less is better", c.r.Rounds))
	x := 700.0
	for i, name := range legend {
		c.dot(fmt.Sprintf("c%d", i), x, 18+float64(i%2)*18, 4, name)
		c.text("", x+9, 22+float64(i%2)*18, name)
		if i%2 == 1 {
			x += 180
		}
	}
}

// scale draws the grid of a panel and names its lines.
func (c *chart) scale(p panel) {
	c.text("middle bold", p.left+panelWidth/2, chartTop-22, p.title)
	bottom := c.height - chartBottom
	for v := scaleMin; v <= scaleMax; v *= 2 {
		class := "grid"
		if v == 1 {
			class = "even"
		}
		c.line(class, p.x(v), chartTop, p.x(v), bottom)
		name := fmt.Sprintf("%g", v)
		c.text("small middle", p.x(v), chartTop-6, name)
		c.text("small middle", p.x(v), bottom+16, name)
	}
}

// x is where a ratio is.
func (p panel) x(ratio float64) float64 {
	ratio = min(max(ratio, scaleMin), scaleMax)
	return p.left + panelWidth*math.Log2(ratio/scaleMin)/math.Log2(scaleMax/scaleMin)
}

// figure draws a figure's lines in a panel.
func (c *chart) figure(p panel, f figure, top float64) {
	pad := (figureHeight() - float64(len(p.peers)*lineHeight)) / 2
	for i, key := range p.peers {
		y := top + pad + (float64(i)+0.5)*lineHeight
		for _, family := range c.r.Families {
			if row := c.r.find(family, f.Key, key); row != nil && row.Ratio != nil {
				c.ratio(p, row, i, y)
			}
		}
	}
}

// ratio draws one ratio in the colour of its peer, of IPv6 a little lower.
func (c *chart) ratio(p panel, row *row, colour int, y float64) {
	better := func(v float64) float64 {
		if row.figure.Lower && v != 0 {
			return 1 / v
		}
		return v
	}
	if row.Aim != 0 {
		c.line("aim", p.x(better(row.Aim)), y-lineHeight/2+1, p.x(better(row.Aim)), y+lineHeight/2-1)
	}
	y += -1.5
	if row.Family == 6 {
		y += 3
	}
	class := fmt.Sprintf("c%d", colour)
	c.line(class, p.x(better(row.Ratio.Min)), y, p.x(better(row.Ratio.Max)), y)
	said := fmt.Sprintf("%s to %s, %s: %s (%s)", p.method, row.Peer, ipName(row.Family), number(row.Ratio.Median, 2), row.Ratio.spread(2))
	if row.Family == 6 {
		class += " v6"
	}
	c.dot(class, p.x(better(row.Ratio.Median)), y, 3, said)
}
