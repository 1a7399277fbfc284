//go:build !race

package flow

import (
	"testing"
	"unsafe"
)

// Where there is less address space than is asked for, there is less of it; huge pages begin where regions do.
func TestReserveLess(t *testing.T) {
	m := reserve[entry](1 << 42)
	defer m.free()
	if n := m.len(); n == 0 || n >= 1<<42/regionCells {
		t.Errorf("%d regions", n)
	}
	if at := uintptr(unsafe.Pointer(m.at(0))); at%hugeBytes != 0 || m.regionBytes() != hugeBytes {
		t.Errorf("at %#x", at)
	}
	if !m.add(m.len() - 1) {
		t.Error("no memory at the end")
	}
}
