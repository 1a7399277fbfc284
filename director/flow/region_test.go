package flow

import "testing"

// Regions come zero, keep what is written, and are zero again after they were given back.
func TestMemoryRegions(t *testing.T) {
	m := reserve[entry](5*regionCells - 1)
	defer m.free()
	if m.len() != 5 {
		t.Fatalf("%d regions", m.len())
	}
	for round := range 3 {
		for _, r := range []int{4, 0, 2} {
			if !m.add(r) {
				t.Fatal("no memory")
			}
			if round == 1 && m.fill(r) == !offHeap {
				t.Error("filling")
			}
			for i := uint32(r * regionCells); i < uint32((r+1)*regionCells); i += regionCells/7 - 1 {
				if *m.at(i) != (entry{}) {
					t.Fatalf("round %d: cell %d is not zero", round, i)
				}
				m.at(i).wide = i + 1
			}
		}
		for i := range uint32(5 * regionCells) {
			m.fetch(i &^ 4095) // whether it is there or not
		}
		if got := m.at(regionCells/7 - 1).wide; got != regionCells/7 {
			t.Errorf("cell holds %d", got)
		}
		for _, r := range []int{0, 4, 2} {
			m.drop(r)
		}
	}
}
