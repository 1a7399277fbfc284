//go:build !amd64 && !arm64

package flow

import "unsafe"

// prefetch does nothing: on this machine Go has no instruction for it.
func prefetch(unsafe.Pointer) {}

func prefetch4(unsafe.Pointer) {}
