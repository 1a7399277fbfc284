package tap

import "github.com/songgao/water"

const waterHint = "tap-windows6, from OpenVPN"

func waterParams(o Options) water.PlatformSpecificParams {
	return water.PlatformSpecificParams{ComponentID: "tap0901", InterfaceName: o.Name}
}
