package packettest

import (
	"bytes"
	"slices"
	"testing"
)

// Fragments of a packet make that packet again, in any order; not with one missing, twice, or of another packet.
func TestFragmentsAndReassemble(t *testing.T) {
	for _, e := range ends {
		s := Spec{Src: e.src, Dst: e.dst, Proto: UDP, Payload: bytes.Repeat([]byte("fragments "), 1000)}
		all := Fragments(s.Frame(), 1480, 77)
		if len(all) != 7 {
			t.Fatalf("%v: %d fragments, want 7", e.src, len(all))
		}
		slices.Reverse(all)
		whole, err := Reassemble(all)
		if err != nil || !bytes.Equal(whole.Bytes(), s.Bytes()) {
			t.Errorf("%v: %v\n%x, want\n%x", e.src, err, whole.Bytes()[:60], s.Bytes()[:60])
		}
		other := Fragments(s.Frame(), 1480, 78)
		for name, frames := range map[string][]int{"first missing": {0, 1, 2, 3, 4, 5}, "one missing": {0, 1, 2, 4, 5, 6}, "last missing": {1, 2, 3, 4, 5, 6},
			"one twice": {0, 1, 1, 2, 3, 4, 5, 6}, "nothing": {}} {
			some := all[:0:0]
			for _, i := range frames {
				some = append(some, all[i])
			}
			if _, err := Reassemble(some); err == nil {
				t.Errorf("%v: %s: no error", e.src, name)
			}
		}
		if _, err := Reassemble(append(slices.Clone(all[:6]), other[0])); err == nil {
			t.Errorf("%v: of two packets: no error", e.src)
		}
	}
}
