package sched

import (
	"math/rand/v2"
	"slices"
	"testing"

	"tapdirector/stack"
)

// TestLVSHash: values of the kernel's hash_32, worked out apart from the code.
func TestLVSHash(t *testing.T) {
	for _, tc := range []struct {
		addr string
		port uint16
		bits int
	}{
		{"10.77.1.7", 0, 8}, {"10.77.1.7", 40000, 8}, {"255.255.255.255", 1, 10}, {"2001:db8:1::7", 0, 8}, {"2001:db8:1::7", 443, 16}, {"::1", 0, 8},
	} {
		a := tuple(tc.addr, tc.addr).Src
		b := a.As16()
		v := uint64(b[12])<<24 | uint64(b[13])<<16 | uint64(b[14])<<8 | uint64(b[15])
		if !a.Is4() {
			for i := 0; i < 12; i += 4 {
				v ^= uint64(b[i])<<24 | uint64(b[i+1])<<16 | uint64(b[i+2])<<8 | uint64(b[i+3])
			}
		}
		v = (v + uint64(tc.port)) % (1 << 32)
		want := v * 0x61c88647 % (1 << 32) / (1 << (32 - tc.bits))
		if got := lvsHash(a, tc.port, tc.bits); uint64(got) != want {
			t.Errorf("%s port %d: %d, want %d", tc.addr, tc.port, got, want)
		}
	}
}

// lvsTable is LVS's: servers in order, each weight slots in a row, round and round until 256 are full.
func lvsTable(weights []int32) (table []int) {
	for i := 0; ; i = (i + 1) % len(weights) {
		for range max(weights[i], 1) {
			if len(table) == 256 {
				return table
			}
			table = append(table, i)
		}
	}
}

// TestSlotsAreLVSs: the same table as LVS's up to the last deal, and all of it where the weights are equal and few enough.
func TestSlotsAreLVSs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(19, 20))
	for range 200 {
		ws, sum := make([]int32, 1+rnd.IntN(20)), 0
		for i := range ws {
			ws[i] = rnd.Int32N(12)
			sum += int(max(ws[i], 1))
		}
		for _, name := range []string{"sh", "dh"} {
			same := 256 / sum * sum
			if name == "dh" {
				same = 256
				for i := range ws {
					ws[i] = 1
				}
			}
			s := mustNew(t, name, weights(ws...)).(*slotted)
			for slot, want := range lvsTable(ws)[:same] {
				if got := int((*s.table.load())[slot]); got != want {
					t.Fatalf("%s weights %v: slot %d has %d, in LVS %d", name, ws, slot, got, want)
				}
			}
		}
	}
}

// TestSlotShares: each server has its share of the slots, to one for each server where that is at least one, and at least one always.
func TestSlotShares(t *testing.T) {
	for _, tc := range []struct {
		weights []int32
		want    []int
	}{
		{[]int32{1, 1, 1}, []int{86, 85, 85}},
		{[]int32{100, 100}, []int{128, 128}},
		{[]int32{100, 99}, []int{129, 127}},
		{[]int32{65535, 1}, []int{255, 1}},
		{[]int32{1, 65535}, []int{1, 255}},
		{[]int32{300, 300, 100}, []int{110, 110, 36}},
		{[]int32{0, 1}, []int{128, 128}},
		{[]int32{5}, []int{256}},
	} {
		got := make([]int, len(tc.weights))
		table := *mustNew(t, "sh", weights(tc.weights...)).(*slotted).table.load()
		for _, i := range table {
			got[i]++
		}
		if !slices.Equal(got, tc.want) || len(table) != 256 {
			t.Errorf("weights %v: %v of %d, want %v", tc.weights, got, len(table), tc.want)
		}
	}
}

// TestManySlots: a thousand servers, most of them light.
func TestManySlots(t *testing.T) {
	for _, heavy := range []int32{1, 65535} {
		servers := equals(1000)
		servers[0].Weight.Store(heavy)
		for _, name := range []string{"sh", "dh"} {
			table := *mustNew(t, name, servers).(*slotted).table.load()
			count := make([]int, len(servers))
			for _, i := range table {
				count[i]++
			}
			if len(table) != 4096 || slices.Min(count) < 1 || heavy == 1 && slices.Max(count) > 5 {
				t.Errorf("%s, one of weight %d: %d slots, %d to %d each", name, heavy, len(table), slices.Min(count), slices.Max(count))
			}
		}
	}
}

// TestHashSequence follows LVS's rule by hand over adds, deletes and weight changes: the slot, and the server that it was dealt to.
func TestHashSequence(t *testing.T) {
	for family := range tuples {
		for _, ws := range [][]int32{{1, 1, 1}, {1, 1}, {2, 1, 1}, {0, 1, 3}} {
			s := mustNewWith(t, "sh", weights(ws...), Options{Port: true})
			table := lvsTable(ws)
			for _, k := range clients(family, 500) {
				slot := lvsHash(k.Src, k.SrcPort, 8)
				if same := 256 / int(sumOf(ws)) * int(sumOf(ws)); int(slot) >= same {
					continue
				}
				want := table[slot]
				if ws[want] == 0 {
					want = -1
				}
				if got := s.Pick(ask(k)); got != want {
					t.Fatalf("weights %v, client %v:%d: server %d, in LVS %d", ws, k.Src, k.SrcPort, got, want)
				}
			}
		}
	}
}

// sumOf sums weights as sh does.
func sumOf(ws []int32) (sum int32) {
	for _, w := range ws {
		sum += max(w, 1)
	}
	return sum
}

// TestDH: only the destination counts, and weights only as 0 or not.
func TestDH(t *testing.T) {
	for family := range tuples {
		servers := weights(9, 1, 1, 1)
		s := mustNewWith(t, "dh", servers, Options{})
		count := make([]int, len(servers))
		for n := range uint64(4000) {
			k := stack.Tuple{Src: addrOf(family, n*7919), Dst: addrOf(family, n), SrcPort: uint16(n)}
			i := s.Pick(ask(&k))
			count[i]++
			k.Src, k.SrcPort = addrOf(family, 1), 1
			if j := s.Pick(ask(&k)); j != i {
				t.Fatalf("another client of one destination: server %d, then %d", i, j)
			}
		}
		for i, n := range count {
			if n < 900 || n > 1100 {
				t.Errorf("%s: server %d has %d of 4000 destinations", family, i, n)
			}
		}
		before := picks(s, []*stack.Tuple{tuples[family]})
		servers[before[0]].Weight.Store(0)
		s.Update()
		if got := picks(s, []*stack.Tuple{tuples[family]}); got[0] != -1 {
			t.Errorf("%s: server %d without the fallback", family, got[0])
		}
	}
}
