package main

import (
	"slices"
	"strconv"
)

// aim bounds the ratio of ours to another peer in some figures: from below, or from above where less is better. What counts is the median of the rounds.
type aim struct {
	figures    []string
	ours, peer string
	bound      float64
}

var (
	bulkFigures  = []string{figureUp, figureDown, figureUp4, figureDown4}
	oneFlow      = []string{figureUDP, figureSeg}
	manyFlows    = []string{figureU8, figureU64, figureU4k}
	smallPackets = []string{figureUDP, figureU8, figureU64, figureU4k}
)

// aims are what is aimed at against peers. Packets of one flow are merged, so three times a copy loop is asked of them; flows that take turns shall
// never be slower for the attempt.
var aims = []aim{
	{bulkFigures, peerNAT, peerCopyLoop2, 0.95},
	{bulkFigures, peerNAT, peerLVSNAT, 2},
	{bulkFigures, peerNAT, peerHAProxy, 1.5},
	{bulkFigures, peerNAT, peerNftables, 0.75},
	{bulkFigures, peerDR, peerCopyLoop1, 0.95},
	{bulkFigures, peerDR, peerLVSDR, 1.3},

	{oneFlow, peerNAT, peerCopyLoop2, 3},
	{oneFlow, peerDR, peerCopyLoop1, 3},
	{manyFlows, peerNAT, peerCopyLoop2, 0.95},
	{manyFlows, peerDR, peerCopyLoop1, 0.95},
	{smallPackets, peerNAT, peerNftables, 1.2},

	{[]string{figureConn}, peerNAT, peerCopyLoop2, 0.9},
	{[]string{figureConn}, peerNAT, peerNftables, 1.3},
	{[]string{figureConn}, peerDR, peerCopyLoop1, 0.95},

	{[]string{figureP50}, peerNAT, peerCopyLoop2, 1.05},
	{[]string{figureP50}, peerNAT, peerNftables, 1.15},
	{[]string{figureP50}, peerDR, peerCopyLoop1, 1.05},
}

// aimMillion is that of a figure to its base: what a full table may cost, and its emptying.
const aimMillion = 1.5

// aimOf is the bound of ours to a peer in a figure; 0: none.
func aimOf(f figure, p *peer) float64 {
	if f.Base != "" {
		return aimMillion
	}
	for _, a := range aims {
		if a.peer == p.Key && a.ours == p.Method && slices.Contains(a.figures, f.Key) {
			return a.bound
		}
	}
	return 0
}

// reached reports whether a ratio is what was aimed at.
func (f figure) reached(ratio, bound float64) bool {
	if f.Lower {
		return ratio <= bound
	}
	return ratio >= bound
}

// bound writes an aim.
func (f figure) bound(aim float64) string {
	sign := "≥ "
	if f.Lower {
		sign = "≤ "
	}
	return sign + strconv.FormatFloat(aim, 'g', -1, 64)
}

// loopOf is the copy loop of as many arms as a method has: the floor, which nothing that reads and writes each frame of a TAP is below.
func loopOf(method string) string {
	if method == peerDR {
		return peerCopyLoop1
	}
	return peerCopyLoop2
}

// outOfReach reports whether the copy loop itself misses the aim of a row.
func (r *row) outOfReach() bool {
	return r.Floor != nil && !r.figure.reached(r.Floor.Median, r.Aim)
}

// verdict says what became of a row's aim.
func (r *row) verdict() string {
	switch {
	case *r.Reached:
		return "reached"
	case r.outOfReach():
		return "missed; the copy loop: " + number(r.Floor.Median, 2)
	}
	return "missed"
}
