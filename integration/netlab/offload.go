//go:build linux

package netlab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct {
	cmd  uint32
	data uint32
}

// ethtoolRequest is struct ifreq as SIOCETHTOOL reads it: a name and a pointer.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte // the rest of the kernel's union
}

// offloads are the link features that make superpackets and partial checksums, in an order in which each may be set: segmentation
// needs scatter-gather and checksums.
var offloads = []struct {
	name     string
	set, get uint32
}{
	{"tx checksums", unix.ETHTOOL_STXCSUM, unix.ETHTOOL_GTXCSUM},
	{"scatter-gather", unix.ETHTOOL_SSG, unix.ETHTOOL_GSG},
	{"TCP segmentation", unix.ETHTOOL_STSO, unix.ETHTOOL_GTSO},
	{"generic segmentation", unix.ETHTOOL_SGSO, unix.ETHTOOL_GGSO},
	{"generic receive", unix.ETHTOOL_SGRO, unix.ETHTOOL_GGRO},
}

// setOffload switches all offloads of a link on or off. With them off the host sends frames of at most the MTU with full checksums.
func (n *Namespace) setOffload(link string, on bool) error {
	value := uint32(0)
	if on {
		value = 1
	}
	return n.Do(func() error {
		for _, o := range offloads {
			if _, err := ethtool(link, o.set, value); err != nil {
				return fmt.Errorf("%s of %s: %w", o.name, link, err)
			}
		}
		return nil
	})
}

// offload reads the state of each offload of a link.
func (n *Namespace) offload(link string) (map[string]bool, error) {
	state := map[string]bool{}
	err := n.Do(func() error {
		for _, o := range offloads {
			v, err := ethtool(link, o.get, 0)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", o.name, link, err)
			}
			state[o.name] = v != 0
		}
		return nil
	})
	return state, err
}

// ethtool makes one value request for a link of the calling thread's namespace.
func ethtool(link string, cmd, value uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	v := &ethtoolValue{cmd: cmd, data: value}
	request := &ethtoolRequest{data: unsafe.Pointer(v)}
	copy(request.name[:unix.IFNAMSIZ-1], link)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(request)))
	if errno != 0 {
		return 0, errno
	}
	return v.data, nil
}
