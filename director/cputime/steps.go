package cputime

import (
	"slices"
	"time"
)

// Steps are the times that steps took.
type Steps struct {
	Sum   time.Duration
	steps []int32 // ns
}

// Do measures one by the thread's own time.
func (s *Steps) Do(step func()) {
	start := Thread()
	step()
	s.Add(Thread() - start)
}

// Add counts one that took so long.
func (s *Steps) Add(took time.Duration) {
	s.Sum += took
	s.steps = append(s.steps, int32(min(took, 1<<31-1)))
}

// Grow makes room for n steps, so that measuring them does not cost memory.
func (s *Steps) Grow(n int) {
	s.steps = slices.Grow(s.steps, n)
	clear(s.steps[len(s.steps):cap(s.steps)]) // has the system give it now
}

// Longest returns the longest step, the one that so many parts of a hundred are not longer than, and how many are longer than bound.
func (s *Steps) Longest(percent float64, bound time.Duration) (longest, quantile time.Duration, over int) {
	if len(s.steps) == 0 {
		return 0, 0, 0
	}
	slices.Sort(s.steps)
	last := len(s.steps) - 1
	at, _ := slices.BinarySearch(s.steps, int32(bound)+1)
	return time.Duration(s.steps[last]), time.Duration(s.steps[int(float64(last)*percent/100)]), len(s.steps) - at
}
