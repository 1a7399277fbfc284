package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// With -versus, other builds of tapdirector run as peers of their own. The tables compare ours with each; here each is compared with the other peers.

// writeVersus writes the ratios of the other builds to the peers of their method, for a terminal and for Markdown alike.
func (r *report) writeVersus(w io.Writer) error {
	var b strings.Builder
	for i := range r.Rows {
		if r.Rows[i].peer.Program != "" {
			r.writeBuild(&b, &r.Rows[i])
		}
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(w, "\n| IP | figure | build | to | ratio | min..max |\n| --- | --- | --- | --- | --: | --: |\n"+b.String())
	return err
}

// writeBuild writes those of one build in one figure.
func (r *report) writeBuild(b *strings.Builder, ours *row) {
	for _, other := range r.Rows {
		if other.Family != ours.Family || other.Figure != ours.Figure || other.peer.Method != ours.peer.Method || other.peer.Ours {
			continue
		}
		if ratio := summarize(ratios(floats(ours.Samples), floats(other.Samples))); ratio.N > 0 {
			cells := []string{ipName(ours.Family), ours.Figure, ours.Peer, other.Peer, number(ratio.Median, 2), ratio.spread(2)}
			fmt.Fprint(b, tableLine(cells))
		}
	}
}

func floats(samples []sample) []float64 {
	f := slices.Repeat([]float64{0}, len(samples))
	for i, s := range samples {
		f[i] = float64(s)
	}
	return f
}
