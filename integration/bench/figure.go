package main

// figure is something that is measured of every peer.
type figure struct {
	Key, Title, Unit string
	Lower            bool   // the less the better
	Datagrams        bool   // a peer that ends connections has it not
	Process          bool   // a peer that is no process has it not
	Million          bool   // of ours only, in a lab of its own: see million.go
	Base             string // the figure of the same peer that it is compared with, instead of one peer with another
	digits           int    // behind the point
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
	figureMemory    = "memory"
	figureChurn     = "rtt-churn-p99.9"
	figureMillion   = "rtt-million-p99.9"
	figureEnding    = "rtt-ending-p99.9"
	figureMemoryMil = "memory-million"
)

// figures are all of them, in the order in which they are told.
var figures = []figure{
	{Key: figureUp, Title: "bulk TCP, client to server", Unit: "Gbit/s", digits: 2},
	{Key: figureDown, Title: "bulk TCP, server to client", Unit: "Gbit/s", digits: 2},
	{Key: figureUp4, Title: "bulk TCP, 4 streams, client to server", Unit: "Gbit/s", digits: 2},
	{Key: figureDown4, Title: "bulk TCP, 4 streams, server to client", Unit: "Gbit/s", digits: 2},
	{Key: figureSeg, Title: "TCP in segments of 88 bytes, client to server", Unit: "Mbit/s", digits: 1},
	{Key: figureUDP, Title: "18-byte datagrams, one flow, at the socket", Unit: "packets/s", Datagrams: true},
	{Key: figureU8, Title: "18-byte datagrams, 8 flows in turn, at the socket", Unit: "packets/s", Datagrams: true},
	{Key: figureU64, Title: "18-byte datagrams, 64 flows in turn, at the socket", Unit: "packets/s", Datagrams: true},
	{Key: figureU4k, Title: "18-byte datagrams, 4,096 flows in turn, at the socket", Unit: "packets/s", Datagrams: true},
	{Key: figureConn, Title: "connect, 1 byte each way, close", Unit: "connections/s"},
	{Key: figureP50, Title: "1-byte round trip, p50", Unit: "µs", Lower: true, digits: 1},
	{Key: figureP99, Title: "1-byte round trip, p99", Unit: "µs", Lower: true, digits: 1},
	{Key: figureP999, Title: "1-byte round trip, p99.9", Unit: "µs", Lower: true, digits: 1},
	{Key: figureL50, Title: "1-byte round trip beside bulk, p50", Unit: "µs", Lower: true, digits: 1},
	{Key: figureL99, Title: "1-byte round trip beside bulk, p99", Unit: "µs", Lower: true, digits: 1},
	{Key: figureL999, Title: "1-byte round trip beside bulk, p99.9", Unit: "µs", Lower: true, digits: 1},
	{Key: figureCPUGB, Title: "CPU of the machine for bulk TCP, client to server", Unit: "s/GB", Lower: true, digits: 3},
	{Key: figureCPUPacket, Title: "CPU of the machine for an 18-byte datagram, one flow", Unit: "µs", Lower: true, Datagrams: true, digits: 2},
	{Key: figureMemory, Title: "memory of its process, at most", Unit: "MB", Lower: true, Process: true, digits: 1},
	{Key: figureChurn, Title: "1-byte round trip beside 5,000 new connections/s, p99.9, the table empty", Unit: "µs", Lower: true, Million: true, digits: 1},
	{Key: figureMillion, Title: "the same with 1,000,000 connections in the table, to that with none", Unit: "µs", Lower: true, Million: true, Base: figureChurn, digits: 1},
	{Key: figureEnding, Title: "the same while 1,000,000 connections end, to that with none", Unit: "µs", Lower: true, Million: true, Base: figureChurn, digits: 1},
	{Key: figureMemoryMil, Title: "memory of its process with these, at most", Unit: "MB", Lower: true, Million: true, digits: 1},
}

// modesOf says which client a figure comes from.
var modesOf = map[string]string{
	figureUp: "up", figureDown: "down", figureUDP: "flood", figureSeg: "segments",
	figureU8: "flood8", figureU64: "flood64", figureU4k: "flood4096", figureConn: "conn", figureP50: "rtt", figureP99: "rtt",
	figureUp4: "up4", figureDown4: "down4", figureP999: "rtt", figureL50: "rttload", figureL99: "rttload", figureL999: "rttload",
	figureCPUGB: "up", figureCPUPacket: "flood",
}

// figureOf finds a figure by its key.
func figureOf(key string) (figure, bool) {
	for _, f := range figures {
		if f.Key == key {
			return f, true
		}
	}
	return figure{}, false
}

func figureKeys() (keys []string) {
	for _, f := range figures {
		keys = append(keys, f.Key)
	}
	return keys
}

// has reports whether there is such a figure of a peer.
func (p *peer) has(f figure) bool {
	switch {
	case f.Million:
		return p.Ours
	case f.Datagrams && p.TCPOnly, f.Process && p.InKernel:
		return false
	}
	return true
}
