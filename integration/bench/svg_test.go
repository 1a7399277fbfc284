package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// checkXML fails unless the text is well formed.
func checkXML(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
}

func TestSVG(t *testing.T) {
	s := &svg{width: 10, height: 20.25, style: "text { fill: red }\n"}
	s.rect("a", 0, -0.01, 1.26, 2)
	s.line("b", 1, 2, 3, 4)
	s.dot("c", 1, 2, 3, `<"&`)
	s.text("d", 1, 2, "a < b")
	got := told(t, s.writeTo)
	checkXML(t, got)
	want := `<svg xmlns="http://www.w3.org/2000/svg" width="10" height="20.2" viewBox="0 0 10 20.2">
<style>
text { fill: red }
</style>
<rect class="a" x="0" y="0" width="1.3" height="2"/>
<line class="b" x1="1" y1="2" x2="3" y2="4"/>
<circle class="c" cx="1" cy="2" r="3"><title>&lt;&#34;&amp;</title></circle>
<text class="d" x="1" y="2">a &lt; b</text>
</svg>
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestChart(t *testing.T) {
	r := example()
	text := told(t, r.writeChart)
	checkXML(t, text)
	for _, want := range []string{"prefers-color-scheme: dark", "nat to copyloop2, IPv6: 0.50 (0.50..0.50)", "nat to haproxy, IPv4: 1.33 (1.33..1.33)"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the chart", want)
		}
	}
	checkXML(t, told(t, (&report{Families: []int{4}}).writeChart))
}

// TestScale: 1 is where it should be, and what is beyond the ends is at them.
func TestScale(t *testing.T) {
	p := panel{left: 100}
	for _, c := range []struct{ ratio, want float64 }{
		{scaleMin, 100}, {scaleMax, 100 + panelWidth}, {0, 100}, {1000, 100 + panelWidth}, {1, 100 + panelWidth*3.0/8}, {2, 100 + panelWidth*4.0/8},
	} {
		if got := p.x(c.ratio); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v is at %v, want %v", c.ratio, got, c.want)
		}
	}
}
