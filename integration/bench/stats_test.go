package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var missing = math.NaN()

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []float64
		want    summary
	}{
		{"none", nil, summary{}},
		{"one", []float64{3}, summary{3, 3, 3, 1}},
		{"odd, out of order", []float64{9, 1, 5}, summary{5, 1, 9, 3}},
		{"even: between the two in the middle", []float64{4, 1, 2, 100}, summary{3, 1, 100, 4}},
		{"one missing", []float64{missing, 2, 4}, summary{3, 2, 4, 2}},
		{"all missing", []float64{missing, missing}, summary{}},
		{"an outlier moves the spread only", []float64{10, 10, 10, 10, 1}, summary{10, 1, 10, 5}},
	} {
		before := slices.Clone(c.samples)
		if got := summarize(c.samples); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if !slices.EqualFunc(before, c.samples, same) {
			t.Errorf("%s: the samples were changed to %v", c.name, c.samples)
		}
	}
}

// same is equality under which a missing sample equals another.
func same(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

func TestRatios(t *testing.T) {
	for _, c := range []struct {
		name                string
		samples, base, want []float64
	}{
		{"none", nil, nil, []float64{}},
		{"round by round", []float64{1, 4, 9}, []float64{2, 2, 3}, []float64{0.5, 2, 3}},
		{"a round that is not there yet", []float64{1, 4}, []float64{2}, []float64{0.5}},
		{"missing on either side", []float64{missing, 4}, []float64{2, missing}, []float64{missing, missing}},
		{"nothing to compare with", []float64{4}, []float64{0}, []float64{missing}},
	} {
		if got := ratios(c.samples, c.base); !slices.EqualFunc(got, c.want, same) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A machine that grows slower from round to round must not show in a ratio.
func TestRatioForgivesDrift(t *testing.T) {
	var ours, base []float64
	for round := range 5 {
		speed := math.Pow(0.7, float64(round))
		base, ours = append(base, 10*speed), append(ours, 9*speed)
	}
	r := summarize(ratios(ours, base))
	if math.Abs(r.Median-0.9) > 1e-9 || r.Max-r.Min > 1e-9 {
		t.Errorf("%+v, want 0.9 without spread", r)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		sorted []int64
		p      float64
		want   int64
	}{
		{nil, 0.5, 0}, {[]int64{7}, 0, 7}, {[]int64{7}, 1, 7}, {[]int64{1, 2}, 0.5, 1}, {[]int64{1, 2}, 0.51, 2},
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 0.999, 100}, {hundred, 1, 100},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile %v of %d samples: %d, want %d", c.p, len(c.sorted), got, c.want)
		}
	}
}

// TestPercentileTwin holds percentile against its definition, counted out.
func TestPercentileTwin(t *testing.T) {
	for range 200 {
		samples := make([]int64, 1+rand.IntN(50))
		for i := range samples {
			samples[i] = rand.Int64N(20)
		}
		slices.Sort(samples)
		p := rand.Float64()
		got := percentile(samples, p)
		below, atMost := 0, 0
		for _, v := range samples {
			if v < got {
				below++
			}
			if v <= got {
				atMost++
			}
		}
		if n := float64(len(samples)); float64(atMost) < p*n || float64(below) >= p*n {
			t.Fatalf("percentile %v of %v is %d", p, samples, got)
		}
	}
}
