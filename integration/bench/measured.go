package main

import "math"

// place is where samples come from: a peer in labs of one IP family.
type place struct {
	family int
	peer   string
}

// measured are samples by place and figure; each has an element for each round.
type measured map[place]map[string][]float64

// add puts the samples of one round in; figures that the round has not are missing.
func (m measured) add(at place, round int, got map[string]float64) {
	if m[at] == nil {
		m[at] = map[string][]float64{}
	}
	for _, f := range figures {
		s := m[at][f.Key]
		for len(s) <= round {
			s = append(s, math.NaN())
		}
		if v, ok := got[f.Key]; ok {
			s[round] = v
		}
		m[at][f.Key] = s
	}
}

// rows works the samples of some figures out: a row for each figure that a peer has, whether or not it was measured. Figures that no peer has a sample of are
// left out.
func (m measured) rows(families []int, peers []peer, keys []string) (rows []row) {
	for _, family := range families {
		for _, key := range keys {
			f, _ := figureOf(key)
			if m.any(family, peers, key) {
				rows = append(rows, m.rowsOf(family, peers, f)...)
			}
		}
	}
	return rows
}

func (m measured) any(family int, peers []peer, key string) bool {
	for i := range peers {
		if summarize(m[place{family, peers[i].Key}][key]).N > 0 {
			return true
		}
	}
	return false
}

func (m measured) rowsOf(family int, peers []peer, f figure) (rows []row) {
	for _, p := range peers {
		if !p.has(f) {
			continue
		}
		at := m[place{family, p.Key}]
		r := newRow(family, f, p, at[f.Key])
		switch {
		case f.Base != "":
			r.compare(at[f.Key], at[f.Base])
		case p.compared() && !f.Million:
			r.Ours = p.Method
			r.compare(m[place{family, p.Method}][f.Key], at[f.Key])
			r.compareFloor(m[place{family, loopOf(p.Method)}][f.Key], at[f.Key])
		}
		rows = append(rows, r)
	}
	return rows
}

func newRow(family int, f figure, p peer, samples []float64) row {
	r := row{Family: family, Figure: f.Key, Unit: f.Unit, Peer: p.Key, Summary: summarize(samples), figure: f, peer: p}
	for _, s := range samples {
		r.Samples = append(r.Samples, sample(s))
	}
	return r
}

// compare forms the ratio of samples to others, round by round, and judges it by what is aimed at.
func (r *row) compare(samples, to []float64) {
	ratio := summarize(ratios(samples, to))
	if ratio.N == 0 {
		return
	}
	r.Ratio = &ratio
	if bound := aimOf(r.figure, &r.peer); bound != 0 {
		reached := r.figure.reached(ratio.Median, bound)
		r.Aim, r.Reached = bound, &reached
	}
}

// compareFloor forms the ratio of the copy loop's samples to those of a peer that there is an aim against.
func (r *row) compareFloor(loop, peer []float64) {
	if ratio := summarize(ratios(loop, peer)); r.Reached != nil && r.Peer != loopOf(r.Ours) && ratio.N > 0 {
		r.Floor = &ratio
	}
}
