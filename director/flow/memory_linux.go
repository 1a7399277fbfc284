//go:build !race

package flow

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Memory of the table comes from the system and not from Go's heap: so it is no part of what the garbage collector paces itself by, no packet
// that needs some has to help the collector, it can be had as huge pages, and it is given back at once. (The race detector looks at Go's heap only, so with it the
// table is there.)

const offHeap = true

// mapped returns zero memory, whose pages come when they are touched; nil when there is none.
func mapped(bytes int) unsafe.Pointer {
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return p
}

// unmap gives back what mapped or mappedHuge returned, or a part of it.
func unmap(p unsafe.Pointer, bytes int) {
	unix.MunmapPtr(p, uintptr(bytes)) // fails for addresses only that were never mapped
}

// mappedHuge returns hugeBytes of zero memory, all of it there, as one huge page if the system has one; nil when it does not know of them.
func mappedHuge() unsafe.Pointer {
	p := mapped(2 * hugeBytes)
	if p == nil {
		return nil
	}
	before := -uintptr(p) & (hugeBytes - 1)
	huge := unsafe.Add(p, before)
	if before > 0 {
		unmap(p, int(before))
	}
	unmap(unsafe.Add(huge, hugeBytes), int(hugeBytes-before))
	b := unsafe.Slice((*byte)(huge), hugeBytes)
	if unix.Madvise(b, unix.MADV_HUGEPAGE) != nil || unix.Madvise(b, unix.MADV_POPULATE_WRITE) != nil { // since Linux 5.14
		unmap(huge, hugeBytes)
		return nil
	}
	return huge
}
