package main

import "path/filepath"

// figure is something that is measured of every peer.
type figure struct {
	Key, Title, Unit string
	Lower            bool    // the less the better
	Aim              float64 // of the ratio of tapdirector to the copy loop: at least, or at most where less is better; 0: none
	digits           int     // behind the point
}

// Keys of the figures.
const (
	figureUp        = "tcp-up"
	figureDown      = "tcp-down"
	figureUp4       = "tcp-up-4"
	figureDown4     = "tcp-down-4"
	figureSeg       = "tcp-small"
	figureUDP       = "udp-small"
	figureU8        = "udp-small-8"
	figureU64       = "udp-small-64"
	figureU4k       = "udp-small-4096"
	figureConn      = "tcp-conn"
	figureP50       = "rtt-p50"
	figureP99       = "rtt-p99"
	figureP999      = "rtt-p99.9"
	figureL50       = "rtt-load-p50"
	figureL99       = "rtt-load-p99"
	figureL999      = "rtt-load-p99.9"
	figureCPUGB     = "cpu-gb"
	figureCPUPacket = "cpu-packet"
)

// figures are all of them, in the order in which they are told.
var figures = []figure{
	{Key: figureUp, Title: "bulk TCP, client to server", Unit: "Gbit/s", Aim: 0.8, digits: 2},
	{Key: figureDown, Title: "bulk TCP, server to client", Unit: "Gbit/s", Aim: 0.8, digits: 2},
	{Key: figureUp4, Title: "bulk TCP, 4 streams, client to server", Unit: "Gbit/s", Aim: 0.8, digits: 2},
	{Key: figureDown4, Title: "bulk TCP, 4 streams, server to client", Unit: "Gbit/s", Aim: 0.8, digits: 2},
	{Key: figureSeg, Title: "TCP in segments of 88 bytes, client to server", Unit: "Mbit/s", digits: 1},
	{Key: figureUDP, Title: "18-byte datagrams, one flow, at the socket", Unit: "packets/s", Aim: 3},
	{Key: figureU8, Title: "18-byte datagrams, 8 flows in turn, at the socket", Unit: "packets/s", Aim: 0.95},
	{Key: figureU64, Title: "18-byte datagrams, 64 flows in turn, at the socket", Unit: "packets/s", Aim: 0.95},
	{Key: figureU4k, Title: "18-byte datagrams, 4,096 flows in turn, at the socket", Unit: "packets/s", Aim: 0.95},
	{Key: figureConn, Title: "connect, 1 byte each way, close", Unit: "connections/s"},
	{Key: figureP50, Title: "1-byte round trip, p50", Unit: "µs", Lower: true, Aim: 1.2, digits: 1},
	{Key: figureP99, Title: "1-byte round trip, p99", Unit: "µs", Lower: true, digits: 1},
	{Key: figureP999, Title: "1-byte round trip, p99.9", Unit: "µs", Lower: true, digits: 1},
	{Key: figureL50, Title: "1-byte round trip beside bulk, p50", Unit: "µs", Lower: true, digits: 1},
	{Key: figureL99, Title: "1-byte round trip beside bulk, p99", Unit: "µs", Lower: true, digits: 1},
	{Key: figureL999, Title: "1-byte round trip beside bulk, p99.9", Unit: "µs", Lower: true, digits: 1},
	{Key: figureCPUGB, Title: "CPU of the machine for bulk TCP, client to server", Unit: "s/GB", Lower: true, digits: 3},
	{Key: figureCPUPacket, Title: "CPU of the machine for an 18-byte datagram, one flow", Unit: "µs", Lower: true, digits: 2},
}

// reached reports whether a ratio is what was aimed at.
func (f figure) reached(ratio float64) bool {
	if f.Lower {
		return ratio <= f.Aim
	}
	return ratio >= f.Aim
}

// peer is what can stand in the director's place.
type peer struct {
	Key, Title string
	Base       string // the peer it is compared with; "": none
	Ours       bool   // aims are for it
	Program    string // another tapdirector than the one that is built; "": that one
	TCPOnly    bool   // it ends connections, and forwards no datagrams
}

// Keys of the peers.
const (
	peerWire      = "wire"
	peerCopyLoop2 = "copyloop2"
	peerNAT       = "nat"
	peerCopyLoop1 = "copyloop1"
	peerDR        = "dr"
	peerWater     = "nat-water"
	peerLVSNAT    = "lvs-nat"
	peerLVSDR     = "lvs-dr"
	peerNftables  = "nftables"
	peerHAProxy   = "haproxy"
)

// peers are all of them; a base comes before those that are compared with it.
var peers = []peer{
	{Key: peerWire, Title: "straight wire", Base: peerCopyLoop2},
	{Key: peerCopyLoop2, Title: "copy loop, two arms"},
	{Key: peerNAT, Title: "tapdirector NAT, two arms", Base: peerCopyLoop2, Ours: true},
	{Key: peerWater, Title: "tapdirector NAT, driver water", Base: peerCopyLoop2},
	{Key: peerLVSNAT, Title: "LVS NAT in user-mode Linux", Base: peerCopyLoop2},
	{Key: peerNftables, Title: "nftables DNAT, in the kernel", Base: peerCopyLoop2},
	{Key: peerHAProxy, Title: "HAProxy, TCP, splice", Base: peerCopyLoop2, TCPOnly: true},
	{Key: peerCopyLoop1, Title: "copy loop, one arm"},
	{Key: peerDR, Title: "tapdirector DR, one arm", Base: peerCopyLoop1, Ours: true},
	{Key: peerLVSDR, Title: "LVS DR in user-mode Linux", Base: peerCopyLoop1},
}

// withPrograms adds to the peers other builds of tapdirector, each beside ours: nat@old, dr@old for the program "old".
func withPrograms(known []peer, programs []string) (all []peer) {
	for _, p := range known {
		all = append(all, p)
		for _, program := range programs {
			if p.Ours {
				name := filepath.Base(program)
				all = append(all, peer{Key: p.Key + "@" + name, Title: p.Title + ", " + name, Base: p.Base, Ours: true, Program: program})
			}
		}
	}
	return all
}
