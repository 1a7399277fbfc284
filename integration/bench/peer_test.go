package main

import (
	"slices"
	"testing"
)

// What the tables refer to must be there, or a ratio would silently be left out.
func TestCatalogue(t *testing.T) {
	for _, p := range peers {
		if ours, ok := peerOf(p.Method); !ok || !ours.Ours || p.Title == "" {
			t.Errorf("%s is compared with %q, which is not one of ours", p.Key, p.Method)
		}
		if p.Ours == p.compared() {
			t.Errorf("%s: ours %v, compared %v", p.Key, p.Ours, p.compared())
		}
	}
	for i, f := range figures {
		if slices.ContainsFunc(figures[:i], func(g figure) bool { return g.Key == f.Key }) || f.Title == "" || f.Unit == "" {
			t.Errorf("figure %+v", f)
		}
		if _, ok := figureOf(f.Base); f.Base != "" && !ok {
			t.Errorf("%s is compared with %q, which is no figure", f.Key, f.Base)
		}
		if modesOf[f.Key] == "" && !f.Process && !f.Million {
			t.Errorf("no client measures %s", f.Key)
		}
	}
	for _, panel := range panels {
		for _, key := range panel.peers {
			if p, ok := peerOf(key); !ok || p.Method != panel.method {
				t.Errorf("the chart compares %s with %s", panel.method, key)
			}
		}
	}
}

func TestWithPrograms(t *testing.T) {
	all := withPrograms(peers, []string{"/builds/old", "new"})
	if want := len(peers) + 2*2; len(all) != want {
		t.Fatalf("%d peers, want %d: two more of each of ours", len(all), want)
	}
	i := slices.IndexFunc(all, func(p peer) bool { return p.Key == "nat@old" })
	if i < 1 || all[i-1].Key != peerNAT || all[i].Program != "/builds/old" || !all[i].compared() || !all[i].Ours {
		t.Errorf("nat@old is not beside nat: %+v", all)
	}
	if p, ok := peerOf("nat@old"); !ok || p.Title != all[i].Title {
		t.Errorf("nat@old is not found again: %+v", p)
	}
	if p, ok := peerOf("wire@old"); ok {
		t.Errorf("found: %+v", p)
	}
}
