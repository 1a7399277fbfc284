package main

import "testing"

func TestAims(t *testing.T) {
	for _, c := range []struct {
		figure, peer string
		want         float64
	}{
		{figureUp, peerCopyLoop2, 0.95}, {figureDown4, peerCopyLoop1, 0.95}, {figureDown, peerLVSNAT, 2}, {figureUp4, peerLVSDR, 1.3},
		{figureUp, peerHAProxy, 1.5}, {figureUp, peerNftables, 0.75}, {figureUDP, peerCopyLoop2, 3}, {figureUDP, peerCopyLoop1, 3}, {figureSeg, peerCopyLoop1, 3},
		{figureU4k, peerCopyLoop2, 0.95}, {figureUDP, peerNftables, 1.2}, {figureU64, peerNftables, 1.2},
		{figureConn, peerCopyLoop2, 0.9}, {figureConn, peerCopyLoop1, 0.95}, {figureConn, peerNftables, 1.3},
		{figureP50, peerCopyLoop2, 1.05}, {figureP50, peerCopyLoop1, 1.05}, {figureP50, peerNftables, 1.15},
		{figureMillion, peerNAT, 1.5}, {figureMillion, peerDR, 1.5}, {figureEnding, peerNAT, 1.5},
		{figureUp, peerWire, 0}, {figureUDP, peerLVSNAT, 0}, {figureP99, peerCopyLoop2, 0}, {figureConn, peerHAProxy, 0},
	} {
		f, ok1 := figureOf(c.figure)
		p, ok2 := peerOf(c.peer)
		if got := aimOf(f, &p); !ok1 || !ok2 || got != c.want {
			t.Errorf("%s against %s: %v, want %v", c.figure, c.peer, got, c.want)
		}
	}
}

// Each aim is of a figure and a peer that there are, so that none is silently never judged, and is the only one of the two.
func TestAimsAreJudged(t *testing.T) {
	seen := map[target]bool{}
	for _, a := range aims {
		p, ok := peerOf(a.peer)
		if !ok || p.Method != a.ours || !p.compared() {
			t.Errorf("%+v: %s is not compared with that", a, a.ours)
		}
		for _, key := range a.figures {
			f, ok := figureOf(key)
			if at := (target{key, a.peer}); !ok || !p.has(f) || seen[at] {
				t.Errorf("%+v: %s", a, key)
			} else {
				seen[at] = true
			}
		}
	}
}

func TestReached(t *testing.T) {
	most, least := figure{Lower: true}, figure{}
	for _, c := range []struct {
		f            figure
		ratio, bound float64
		want         bool
		text         string
	}{
		{most, 1.2, 1.2, true, "≤ 1.2"}, {most, 1.21, 1.2, false, "≤ 1.2"}, {most, 0.5, 1.2, true, "≤ 1.2"},
		{least, 0.8, 0.8, true, "≥ 0.8"}, {least, 0.79, 0.8, false, "≥ 0.8"}, {least, 3, 0.8, true, "≥ 0.8"},
	} {
		if got := c.f.reached(c.ratio, c.bound); got != c.want || c.f.bound(c.bound) != c.text {
			t.Errorf("%+v at %v: %v, %s", c.f, c.ratio, got, c.f.bound(c.bound))
		}
	}
}
