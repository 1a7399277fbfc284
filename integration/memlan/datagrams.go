package memlan

import (
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tapdirector/tap"
)

// datagrams returns what a receiving kernel makes of a frame before a socket, or a tunnel's end, sees it: a UDP superpacket's datagrams, complete; any other
// frame is returned as it is. Check must have found it right. Like the judge it shares no code with what it is to show.
func datagrams(f *tap.Frame) (all []tap.Frame) {
	if f.Header.GSOType != tap.GSOUDPL4 {
		return []tap.Frame{*f}
	}
	whole := f.Bytes()
	p, err := parseIP(whole)
	if err != nil || p.proto != uint8(header.UDPProtocolNumber) {
		return []tap.Frame{*f}
	}
	head, data := whole[:p.payload()], whole[p.payload():]
	for i := uint16(0); len(data) > 0; i++ {
		n := min(max(int(f.Header.GSOSize), 1), len(data))
		d := tap.NewFrame(tap.Header{}, append(append([]byte(nil), head...), data[:n]...))
		p.finishDatagram(d.Bytes(), i)
		all, data = append(all, d), data[n:]
	}
	return all
}

// finishDatagram gives b, which has the headers of superpacket p, its own lengths and checksums as the i-th datagram.
func (p *ipPacket) finishDatagram(b []byte, i uint16) {
	if p.six {
		header.IPv6(b[header.EthernetMinimumSize:]).SetPayloadLength(uint16(len(b) - header.EthernetMinimumSize - header.IPv6MinimumSize))
	} else {
		ip := header.IPv4(b[header.EthernetMinimumSize:])
		ip.SetTotalLength(uint16(len(ip)))
		ip.SetID(ip.ID() + i)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	udp := header.UDP(b[p.l4:])
	udp.SetLength(uint16(len(udp)))
	udp.SetChecksum(0)
	q, err := parseIP(b)
	if err != nil {
		return // what is wrong with it is told when it is judged
	}
	sum := ^checksum.Checksum(udp, q.pseudoHeader())
	if sum == 0 {
		sum = 0xffff
	}
	udp.SetChecksum(sum)
}
