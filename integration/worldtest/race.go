//go:build race

package worldtest

// RaceEnabled says that the race detector is on: in-memory stacks are then some thirty times slower, and tests send less.
const RaceEnabled = true
