//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// The load that fills a table: one empty datagram from each of many sources, put on the director's TAP as if they came from its bridge. What has no room
// there waits, so none is lost. The sources are addresses set aside for measurements of networks (RFC 2544, RFC 5180), each with the ports from 1024
// on. Nobody answers them.

var (
	fillNet4 = netip.MustParseAddr("198.18.0.0")
	fillNet6 = netip.MustParseAddr("2001:2::")
)

// fillPorts is how many ports of one address are used, from firstPort on.
const fillPorts = 1<<16 - firstPort

// fill sends from many sources to an address.
func fill(to netip.AddrPort, args []string) error {
	if len(args) != 4 {
		return errors.New("fill: want SOURCES TAP FROM-MAC TO-MAC")
	}
	n, err1 := strconv.Atoi(args[0])
	src, err2 := net.ParseMAC(args[2])
	dst, err3 := net.ParseMAC(args[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	fd, err := openLink(args[1])
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	defer unix.Close(fd)
	write := func(b []byte, number int) int {
		putEthernet(b, src, dst, to.Addr())
		return ethernetHeader + putDatagram(b[ethernetHeader:], fillSource(to.Addr(), number), to)
	}
	block := newRawBlock()
	for i := 0; i < n; i += messages {
		if err := block.send(fd, i, min(messages, n-i), write); err != nil {
			return fmt.Errorf("fill: send: %w", err)
		}
	}
	return nil
}

func putEthernet(b []byte, src, dst net.HardwareAddr, to netip.Addr) {
	copy(b, dst)
	copy(b[6:], src)
	kind := uint16(unix.ETH_P_IP)
	if to.Is6() {
		kind = unix.ETH_P_IPV6
	}
	binary.BigEndian.PutUint16(b[12:], kind)
}

// fillSource is the source with a number, of to's family.
func fillSource(to netip.Addr, number int) netip.AddrPort {
	host, port := uint32(number/fillPorts+1), uint16(firstPort+number%fillPorts)
	if to.Is6() {
		a := fillNet6.As16()
		binary.BigEndian.PutUint32(a[12:], host)
		return netip.AddrPortFrom(netip.AddrFrom16(a), port)
	}
	a := fillNet4.As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+host)
	return netip.AddrPortFrom(netip.AddrFrom4(a), port)
}
