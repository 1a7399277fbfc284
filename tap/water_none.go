//go:build !linux && !darwin && !windows

package tap

import "github.com/songgao/water"

const waterHint = "water knows none for this platform"

func waterParams(Options) water.PlatformSpecificParams { return water.PlatformSpecificParams{} }
