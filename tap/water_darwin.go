package tap

import "github.com/songgao/water"

const waterHint = "tuntaposx"

func waterParams(o Options) water.PlatformSpecificParams {
	return water.PlatformSpecificParams{Name: o.Name, Driver: water.MacOSDriverTunTapOSX}
}
