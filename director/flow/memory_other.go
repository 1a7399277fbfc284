//go:build !linux || race

package flow

import "unsafe"

const offHeap = false

// mapped returns zero memory of Go's heap, which the collector does not look into.
func mapped(bytes int) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(make([]uint64, bytes/8)))
}

// unmap leaves it to the collector.
func unmap(unsafe.Pointer, int) {}

// mappedHuge returns nil: there are no huge pages to be had.
func mappedHuge() unsafe.Pointer { return nil }
