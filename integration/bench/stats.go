package main

import (
	"math"
	"slices"
)

// Statistics of few, noisy samples
//
// What a figure is on a machine depends on what else runs there and drifts over minutes. So peers are measured in turn, round after round, and a
// ratio is formed within each round, between measurements that are a few seconds apart; only then comes the median. A median forgives a round
// that went wrong; the spread shows that it did. A sample that is not there is NaN and is left out.

// summary is what is told of the samples of one figure of one peer.
type summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"` // samples that were there; 0: the rest means nothing
}

// summarize sums samples up in any order.
func summarize(samples []float64) summary {
	present := slices.DeleteFunc(slices.Clone(samples), math.IsNaN)
	if len(present) == 0 {
		return summary{}
	}
	slices.Sort(present)
	return summary{Median: middle(present), Min: present[0], Max: present[len(present)-1], N: len(present)}
}

// middle is the median of sorted samples, at least one.
func middle(sorted []float64) float64 {
	h := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[h]
	}
	return (sorted[h-1] + sorted[h]) / 2
}

// ratios divides sample by sample, each by that of the same round; NaN where one is missing or the divisor is 0.
func ratios(samples, base []float64) []float64 {
	r := make([]float64, min(len(samples), len(base)))
	for i := range r {
		r[i] = math.NaN()
		if base[i] != 0 {
			r[i] = samples[i] / base[i]
		}
	}
	return r
}

// percentile is the smallest of the sorted samples that at least p of them (0 to 1) do not exceed; 0 without samples.
func percentile(sorted []int64, p float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
