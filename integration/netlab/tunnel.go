//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"tapdirector/stack/packettest"
)

// The server's end of a tunnel
//
// What `ip link add type ipip`, gre or `ip fou add` would be in a server, for kernels that have none of them: sockets take the tunnel's packets from the kernel,
// which has checked the outer header and put fragments together, and what was in them is written to a TUN device, so that the same kernel takes it as
// come from a network. It answers by its own routes.

// tunnelEnd unwraps what comes to one address of a namespace.
type tunnelEnd struct {
	tun   *os.File
	conns []net.PacketConn
	wg    sync.WaitGroup

	mu  sync.Mutex
	err error
}

// tunnelProtos are the IP protocols of each kind.
var tunnelProtos = map[string][]uint8{"ipip": {unix.IPPROTO_IPIP, unix.IPPROTO_IPV6}, "gre": {unix.IPPROTO_GRE}, "gue": {unix.IPPROTO_UDP}}

const (
	tunnelLink   = "unwrapped" // the TUN device's name in a world
	tunnelBuffer = 8 << 20     // bytes waiting for an end: a sender's whole window comes at once
)

// openTunnelEnd makes the namespace unwrap tunnels of that kind at an address of its own, by a TUN device of that name.
func (n *Namespace) openTunnelEnd(kind string, at netip.Addr, link string) (*tunnelEnd, error) {
	e := &tunnelEnd{}
	err := n.Do(func() (err error) {
		e.tun, err = openTUN(link)
		return err
	})
	if err == nil {
		err = n.linkUp(link)
	}
	for _, proto := range tunnelProtos[kind] {
		if err == nil {
			err = e.listen(n, proto, at)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("end of %s tunnel at %v in %s: %w", kind, at, n.Name, err), e.close())
	}
	return e, nil
}

// openTUN makes a TUN device in this thread's namespace.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// listen opens the socket for one protocol and begins to read.
func (e *tunnelEnd) listen(n *Namespace, proto uint8, at netip.Addr) error {
	network, address := "ip4:"+strconv.Itoa(int(proto)), at.String()
	if at.Is6() {
		network = "ip6:" + strconv.Itoa(int(proto))
	}
	if proto == unix.IPPROTO_UDP {
		network, address = "udp", netip.AddrPortFrom(at, packettest.GUEPort).String()
	}
	c, err := n.ListenPacket(network, address)
	if err != nil {
		return err
	}
	e.conns = append(e.conns, c)
	if err := enlarge(c); err != nil {
		return err
	}
	e.wg.Go(func() { e.read(c, proto) })
	return nil
}

// enlarge gives the socket a large receive buffer, or in a user namespace, which may not, as large a one as the host allows.
func enlarge(c net.PacketConn) error {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tunnelBuffer)
		if errors.Is(set, unix.EPERM) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, tunnelBuffer)
		}
	})
	return errors.Join(err, set)
}

// read unwraps until the socket is closed. (For raw IPv4 sockets net takes the IP header off, for IPv6 the kernel does.)
func (e *tunnelEnd) read(c net.PacketConn, proto uint8) {
	b := make([]byte, 1<<16)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				e.note(err)
			}
			return
		}
		inner, err := packettest.UnwrapPayload(proto, b[:n])
		if err == nil {
			_, err = e.tun.Write(inner)
		}
		e.note(err)
	}
}

// note keeps the first error: nothing wrong may come by a tunnel.
func (e *tunnelEnd) note(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil && err != nil {
		e.err = fmt.Errorf("tunnel's end: %w", err)
	}
}

// close ends the end and returns what was wrong.
func (e *tunnelEnd) close() error {
	for _, c := range e.conns {
		c.Close()
	}
	e.wg.Wait()
	if e.tun != nil {
		e.tun.Close()
	}
	return e.err
}
