//go:build amd64 || arm64

package flow

import "unsafe"

// prefetch asks for the cache line at p and does not wait for it.
//
//go:noescape
func prefetch(p unsafe.Pointer)

// prefetch4 asks for the line at p and the three behind it.
//
//go:noescape
func prefetch4(p unsafe.Pointer)
