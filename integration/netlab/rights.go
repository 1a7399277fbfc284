//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Available says why no lab can be built here, or nil: a namespace can be made, and the TAP driver opened.
func Available() error {
	ns, err := NewNamespace("probe")
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("no right to make network namespaces (root, or a user namespace, has it): %w", err)
	}
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("the limit of namespaces (sysctl user.max_net_namespaces) is reached: %w", err)
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	return TunAvailable()
}

// TunAvailable says why /dev/net/tun cannot be used, or nil.
func TunAvailable() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no TAP driver: %w (load it with modprobe tun, or give the container --device /dev/net/tun)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no right to the TAP driver: %w (run as root, or chmod 0666 /dev/net/tun)", err)
	case err != nil:
		return fmt.Errorf("the TAP driver does not open: %w", err)
	}
	return f.Close()
}
