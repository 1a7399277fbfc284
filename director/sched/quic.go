package sched

import "fmt"

// quic keeps a QUIC connection on its server when the client changes its address.
//
// The connection table knows a connection by addresses and ports. When a client moves to another network, or its NAT gives it another port, its
// next packet is a stranger and comes here; only the destination connection id in it says which connection it is (RFC 9000 section 5.1). All ids
// but the very first are chosen by the server, and later ones are sent encrypted, so a director cannot learn them: the server has to write
// into each of them who it is. The form is that of QUIC-LB (draft-ietf-quic-load-balancers) without encryption:
//
//	first octet    anything: the server's (QUIC-LB: rotation and length)
//	server id      1 to 8 octets, the same number for all servers of the service
//	nonce          anything
//
// The director looks for a server with that id, no matter what the first octet says. The default id is the server's IPv4 address, or the last
// four octets of its IPv6 address, which is what MsQuic's load balancing mode "server id by IP" writes.
//
//	header    id known                      id not known
//	short     that server, even draining    by hash: the client moved, or it is not QUIC at all
//	long      that server, if usable        by hash: a new connection, whose id the client made up at random
//
// A short header is sent only when a connection is established, so it goes to its server also at weight 0 or under overload. A long header may
// begin a connection, so it does not.
//
// The hash is mh's, of the client's address. So where servers do not take part, a client whose NAT changes only its port, and every client
// when the director restarts, still finds its server; one whose address changes does not, most likely, and has to connect anew. Where all do,
// Options.Port may be set: new connections of clients behind one address then spread.
//
// A random first id may look like a known one: with ids of 4 octets once in 2^32 divided by the number of servers, with 1 octet often. That
// does no harm but to the weights, as all packets of a handshake go the same way.
//
// Not handled: a client that a NAT gave the address and port of another one, while the connection table still knows the other: such a packet does
// not come here. Encrypted server ids, several configurations at once (rotation), ids that tell their length. Ids that can be read let an
// observer see which server a client uses; they do not link the ids of a connection to each other.
type quic struct {
	hashed   Scheduler
	servers  []*Server
	byID     map[uint64]int32
	idLength int
}

// DefaultQUICIDLength is the length of an IPv4 address.
const DefaultQUICIDLength = 4

func newQUIC(servers []*Server, o Options) (Scheduler, error) {
	hashed, err := newMH(servers, o)
	if err != nil {
		return nil, err
	}
	q := &quic{hashed, servers, make(map[uint64]int32, len(servers)), o.QUICIDLength}
	if q.idLength == 0 {
		q.idLength = DefaultQUICIDLength
	}
	if q.idLength < 1 || q.idLength > 8 {
		return nil, fmt.Errorf("QUIC server ids of %d bytes: 1 to 8", q.idLength)
	}
	// Of two servers with one id the first has it.
	for i, s := range servers {
		if _, taken := q.byID[s.QUICID]; !taken {
			q.byID[s.QUICID] = int32(i)
		}
	}
	return q, nil
}

// Pick goes by the connection id if it names a server.
func (q *quic) Pick(r Request) int {
	if id, long, ok := quicServerID(r.Payload, q.idLength); ok {
		if i, known := q.byID[id]; known && (r.usable(q.servers[i]) || !long && !q.servers[i].Dead.Load()) {
			return int(i)
		}
	}
	return q.hashed.Pick(r)
}

// Update passes weights on; ids do not change.
func (q *quic) Update() { q.hashed.Update() }

// quicServerID returns the octets of a QUIC packet where its destination connection id may hold a server id of n octets, 1 to 8, and whether its
// header is long; ok is false when there is no room for them. Where things lie is the same in every version of QUIC (RFC 8999 section 5).
func quicServerID(payload []byte, n int) (id uint64, long, ok bool) {
	const (
		formLong  = 0x80 // in the first octet
		cidLength = 5    // of a long header: first octet, version, length of the id
		longCID   = 6
		shortCID  = 1
	)
	if len(payload) <= shortCID {
		return 0, false, false
	}
	cid := payload[shortCID:]
	if long = payload[0]&formLong != 0; long {
		if len(payload) < longCID || len(payload) < longCID+int(payload[cidLength]) {
			return 0, true, false
		}
		cid = payload[longCID : longCID+int(payload[cidLength])]
	}
	if len(cid) < 1+n {
		return 0, long, false
	}
	for _, b := range cid[1 : 1+n] {
		id = id<<8 | uint64(b)
	}
	return id, long, true
}
