package main

import (
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
)

// svg is a drawing that is being made: elements in the order of their painting, with their looks by CSS class. The same calls make the same bytes.
type svg struct {
	width, height float64
	style         string
	body          strings.Builder
}

// line draws from one point to another.
func (s *svg) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&s.body, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`+"\n", class, coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2))
}

// dot draws a circle; what is said of it is shown where the pointer rests.
func (s *svg) dot(class string, x, y, radius float64, said string) {
	fmt.Fprintf(&s.body, `<circle class="%s" cx="%s" cy="%s" r="%s"><title>%s</title></circle>`+"\n", class, coordinate(x), coordinate(y), coordinate(radius), html.EscapeString(said))
}

// rect fills a rectangle.
func (s *svg) rect(class string, x, y, width, height float64) {
	fmt.Fprintf(&s.body, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`+"\n", class, coordinate(x), coordinate(y), coordinate(width), coordinate(height))
}

// text writes a line of text; the class says where (x, y) is in it.
func (s *svg) text(class string, x, y float64, text string) {
	fmt.Fprintf(&s.body, `<text class="%s" x="%s" y="%s">%s</text>`+"\n", class, coordinate(x), coordinate(y), html.EscapeString(text))
}

// writeTo writes the file.
func (s *svg) writeTo(w io.Writer) error {
	width, height := coordinate(s.width), coordinate(s.height)
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]s" height="%[2]s" viewBox="0 0 %[1]s %[2]s">
<style>
%[3]s</style>
%[4]s</svg>
`, width, height, s.style, s.body.String())
	return err
}

// coordinate is a number with at most one digit behind the point: a tenth of a pixel.
func coordinate(v float64) string {
	text := strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	if text == "-0" {
		return "0"
	}
	return text
}
