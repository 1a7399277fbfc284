package main

import (
	"fmt"
	"io"
)

// comparison is the ratio of tapdirector to another peer in one figure, formed in each round.
type comparison struct {
	Figure string  `json:"figure"`
	Ours   string  `json:"ours"`
	Peer   string  `json:"peer"`
	Ratio  summary `json:"ratio"`
}

// versus compares each of ours with every other peer that was measured.
func (r *report) versus() (list []comparison) {
	for _, ours := range r.Rows {
		if !ours.peer.Ours {
			continue
		}
		for _, other := range r.Rows {
			if other.Figure != ours.Figure || other.peer.Ours {
				continue
			}
			if ratio := summarize(ratios(floats(ours.Samples), floats(other.Samples))); ratio.N > 0 {
				list = append(list, comparison{ours.Figure, ours.Peer, other.Peer, ratio})
			}
		}
	}
	return list
}

func floats(samples []sample) (f []float64) {
	for _, s := range samples {
		f = append(f, float64(s))
	}
	return f
}

// writeVersus writes them, for a terminal and for Markdown alike.
func (r *report) writeVersus(w io.Writer) error {
	list := r.versus()
	if len(list) == 0 {
		return nil
	}
	text := "\n| figure | tapdirector | to | ratio | min..max |\n| --- | --- | --- | --: | --: |\n"
	for _, c := range list {
		text += fmt.Sprintf("| %s | %s | %s | %s | %s..%s |\n", c.Figure, c.Ours, c.Peer, number(c.Ratio.Median, 2), number(c.Ratio.Min, 2), number(c.Ratio.Max, 2))
	}
	_, err := io.WriteString(w, text)
	return err
}
