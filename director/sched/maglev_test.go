package sched

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// vector is a table that others have published. testdata/maglev.json holds facts from the sources named in it: likings are offset and skip, by the
// source's hash of its names or, in the paper, as printed.
type vector struct {
	Name, Source  string
	M             int
	Likings       [][2]uint32
	Weights       []int32
	Table         []uint16 // nil: only Entries are known to be the same, the order of turns is not
	TableWithout1 []uint16 // after server 1 left
	Entries       []int    // of each server
}

func (v *vector) likings(without int) (likings []liking) {
	for i, l := range v.Likings {
		if i != without {
			likings = append(likings, liking{l[0], l[1], v.Weights[i]})
		}
	}
	return likings
}

// TestMaglevVectors: the paper's example, and tables of other implementations.
func TestMaglevVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/maglev.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 6 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			table := maglev(v.likings(-1), v.M)
			if v.Table != nil && !slices.Equal(table, v.Table) {
				t.Errorf("table %v, want %v", table, v.Table)
			}
			if v.Entries != nil && !slices.Equal(entries(table, len(v.Likings)), v.Entries) {
				t.Errorf("entries %v, want %v", entries(table, len(v.Likings)), v.Entries)
			}
			if v.TableWithout1 == nil {
				return
			}
			got := maglev(v.likings(1), v.M)
			for i := range got {
				if got[i] >= 1 {
					got[i]++ // the places behind the one that left
				}
			}
			if !slices.Equal(got, v.TableWithout1) {
				t.Errorf("without server 1 %v, want %v", got, v.TableWithout1)
			}
		})
	}
}

// entries counts the slots of each of n servers.
func entries(table []uint16, n int) []int {
	count := make([]int, n)
	for _, i := range table {
		count[i]++
	}
	return count
}

// slowMaglev is the slow twin: whole permutations, and turns by counting in fractions: in round r a server has had its turns when they exceed
// r*weight/heaviest.
func slowMaglev(likings []liking, m int) []uint16 {
	table, taken := make([]uint16, m), make([]bool, m)
	heaviest := slices.MaxFunc(likings, func(a, b liking) int { return int(a.weight - b.weight) }).weight
	turns := make([]int, len(likings))
	for round, filled := 1, 0; ; round++ {
		for i, l := range likings {
			if turns[i]*int(heaviest) > round*int(l.weight) {
				continue
			}
			turns[i]++
			for j := range m {
				slot := (int(l.offset) + j*int(l.skip)) % m
				if !taken[slot] {
					table[slot], taken[slot] = uint16(i), true
					filled++
					break
				}
			}
			if filled == m {
				return table
			}
		}
	}
}

// randomLikings makes n with weights from 1 to heaviest.
func randomLikings(rnd *rand.Rand, n, m int, heaviest int32) []liking {
	likings := make([]liking, n)
	for i := range likings {
		likings[i] = liking{uint32(rnd.IntN(m)), 1 + uint32(rnd.IntN(m-1)), 1 + rnd.Int32N(heaviest)}
	}
	return likings
}

func TestMaglevSlowTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 12))
	for range 300 {
		m := []int{7, 17, 251}[rnd.IntN(3)]
		likings := randomLikings(rnd, 1+rnd.IntN(m), m, []int32{1, 3, 100, 65535}[rnd.IntN(4)])
		if got, want := maglev(likings, m), slowMaglev(likings, m); !slices.Equal(got, want) {
			t.Fatalf("%d slots, %v:\n%v, the slow twin says\n%v", m, likings, got, want)
		}
	}
	if maglev(nil, 251) != nil {
		t.Error("a table of no servers")
	}
}

// TestMaglevShares: a server's slots are its share of the weights, to a slot, but at least one.
func TestMaglevShares(t *testing.T) {
	rnd := rand.New(rand.NewPCG(13, 14))
	for range 100 {
		const m = 4093
		likings := randomLikings(rnd, 1+rnd.IntN(40), m, []int32{1, 10, 100}[rnd.IntN(3)])
		sum := 0
		for _, l := range likings {
			sum += int(l.weight)
		}
		for i, n := range entries(maglev(likings, m), len(likings)) {
			// Who took the first turn of a round that was not finished is a slot ahead; the first round is one turn for all.
			want := float64(m) * float64(likings[i].weight) / float64(sum)
			if float64(n) < want-2 || float64(n) > want+2 || n == 0 {
				t.Errorf("weight %d of %d, %d servers: %d slots, want %.1f", likings[i].weight, sum, len(likings), n, want)
			}
		}
	}
}
