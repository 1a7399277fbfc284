//go:build !linux

package tap

import "errors"

// openAuto opens with the only driver there is off Linux.
func openAuto(o Options) (*Device, error) { return openWater(o) }

func openLinux(Options) (*Device, error) {
	return nil, errors.New(`driver "linux" is for Linux only: leave driver out, or set "water"`)
}
