package sched

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"tapdirector/stack"
)

// short is a QUIC packet with a short header; its connection id is not marked off.
func short(cid ...byte) []byte { return append([]byte{0x41}, cid...) }

// long is one with a long header.
func long(cid ...byte) []byte {
	p := append([]byte{0xc3, 0, 0, 0, 1, byte(len(cid))}, cid...)
	return append(p, 0, 0, 0x44, 0xd0)
}

// cidOf is what a server that takes part calls a connection: an octet, its id, a nonce.
func cidOf(rnd *rand.Rand, s *Server, idLength int) []byte {
	id := binary.BigEndian.AppendUint64(nil, s.QUICID)[8-idLength:]
	return append(append([]byte{byte(rnd.Uint32())}, id...), byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32()))
}

func TestQUICServerID(t *testing.T) {
	for _, tc := range []struct {
		name, payload string
		n             int
		id            uint64
		long, ok      bool
	}{
		{"short", "41" + "ff0a4d020baabbccdd" + "010203", 4, 0x0a4d020b, false, true},
		{"short, all of 8", "41" + "ff0102030405060708", 8, 0x0102030405060708, false, true},
		{"short, 1", "01" + "ff07", 1, 7, false, true},
		{"short, cut", "41" + "ff0a4d02", 4, 0, false, false},
		{"short, first octet only", "41", 1, 0, false, false},
		{"long", "c3" + "00000001" + "09" + "ff0a4d020baabbccdd" + "00", 4, 0x0a4d020b, true, true},
		{"long of an unknown version", "80" + "facefeed" + "05" + "ff0a4d020b", 4, 0x0a4d020b, true, true},
		{"long, an id too short for a server id", "c3" + "00000001" + "04" + "ff0a4d02" + "0b0b0b0b", 4, 0, true, false},
		{"long, no id", "c3" + "00000001" + "00" + "00ff0a4d020b", 4, 0, true, false},
		{"long, cut in the id", "c3" + "00000001" + "09" + "ff0a4d020baabb", 4, 0, true, false},
		{"long, cut before the length", "c3" + "00000001", 4, 0, true, false},
		{"long, length of 255", "c3" + "00000001" + "ff" + "ff0a4d020b", 4, 0, true, false},
		{"empty", "", 4, 0, false, false},
	} {
		payload, err := hex.DecodeString(tc.payload)
		if err != nil {
			t.Fatal(err)
		}
		if id, long, ok := quicServerID(payload, tc.n); id != tc.id || long != tc.long || ok != tc.ok {
			t.Errorf("%s: %x, long %v, ok %v; want %x, %v, %v", tc.name, id, long, ok, tc.id, tc.long, tc.ok)
		}
	}
}

// TestQUICMigration follows connections: the first packet by hash, then from elsewhere with ids that only the server's part is stable of.
func TestQUICMigration(t *testing.T) {
	rnd := rand.New(rand.NewPCG(27, 28))
	for _, idLength := range []int{1, 2, 4, 8} {
		for family := range tuples {
			servers := weights(1, 2, 3, 1, 1)
			for i, s := range servers {
				s.QUICID = uint64(i*37+5) << (8 * (idLength - 1))
			}
			s := mustNewWith(t, "quic", servers, Options{Fallback: true, QUICIDLength: idLength})
			for _, k := range clients(family, 300) {
				random := make([]byte, 8)
				binary.BigEndian.PutUint64(random, rnd.Uint64())
				home := s.Pick(Request{Tuple: k, Payload: long(random...)})
				moved := *k
				moved.Src, moved.SrcPort = addrOf(family, rnd.Uint64N(1<<24)), uint16(rnd.Uint32())
				for _, packet := range [][]byte{short(cidOf(rnd, servers[home], idLength)...), long(cidOf(rnd, servers[home], idLength)...)} {
					if got := s.Pick(Request{Tuple: &moved, Payload: packet}); got != home {
						t.Fatalf("ids of %d: server %d before the client moved, %d after", idLength, home, got)
					}
				}
			}
		}
	}
}

// TestQUICWithoutHelp: servers that write no ids keep clients whose port changes, and only those for certain.
func TestQUICWithoutHelp(t *testing.T) {
	rnd := rand.New(rand.NewPCG(29, 30))
	s := mustNew(t, "quic", equals(5))
	random := func() []byte { return binary.BigEndian.AppendUint64(make([]byte, 0, 8), rnd.Uint64()) }
	elsewhere := 0
	for _, k := range clients("IPv6", 500) {
		home := s.Pick(Request{Tuple: k, Payload: long(random()...)})
		rebound := *k
		rebound.SrcPort++
		if got := s.Pick(Request{Tuple: &rebound, Payload: short(random()...)}); got != home {
			t.Fatalf("server %d, with another port %d", home, got)
		}
		rebound.Src = addrOf("IPv6", rnd.Uint64())
		if s.Pick(Request{Tuple: &rebound, Payload: short(random()...)}) != home {
			elsewhere++
		}
	}
	if elsewhere < 300 {
		t.Errorf("%d of 500 clients with another address went elsewhere, about 400 are expected", elsewhere)
	}
}

// TestQUICDrain: an established connection reaches its server at weight 0 and under overload, a new one does not, even if its id names it.
func TestQUICDrain(t *testing.T) {
	rnd := rand.New(rand.NewPCG(31, 32))
	for family, k := range tuples {
		for _, drain := range []func(*Server){func(s *Server) { s.Weight.Store(0) }, func(s *Server) { s.Overload.Store(true) }} {
			servers := equals(4)
			s := mustNew(t, "quic", servers)
			drain(servers[2])
			s.Update()
			cid := cidOf(rnd, servers[2], 4)
			if got := s.Pick(Request{Tuple: k, Payload: short(cid...)}); got != 2 {
				t.Errorf("%s: an established connection went to %d", family, got)
			}
			if got := s.Pick(Request{Tuple: k, Payload: long(cid...)}); got == 2 || got < 0 {
				t.Errorf("%s: a new connection went to %d", family, got)
			}
		}
	}
}

// TestQUICTwins: of two servers with one id the first has it.
func TestQUICTwins(t *testing.T) {
	servers := equals(3)
	servers[2].QUICID = servers[1].QUICID
	s := mustNew(t, "quic", servers)
	if got := s.Pick(Request{Tuple: tuples["IPv4"], Payload: short(cidOf(rand.New(rand.NewPCG(33, 34)), servers[2], 4)...)}); got != 1 {
		t.Errorf("picked %d", got)
	}
}

func TestQUICNoAllocs(t *testing.T) {
	servers := equals(4)
	s := mustNew(t, "quic", servers)
	for _, payload := range [][]byte{nil, short(cidOf(rand.New(rand.NewPCG(35, 36)), servers[2], 4)...), long(1, 2, 3, 4, 5, 6, 7, 8)} {
		if n := testing.AllocsPerRun(100, func() { s.Pick(Request{Tuple: tuples["IPv6"], Payload: payload}) }); n != 0 {
			t.Errorf("%x: %v allocations", payload, n)
		}
	}
}

// FuzzQUIC: whatever a datagram holds, the pick is a usable server, or the one that a short header names; and an id is read only where there
// are bytes for it.
func FuzzQUIC(f *testing.F) {
	f.Add([]byte{}, uint8(4))
	f.Add(short(1, 10, 77, 2, 1, 9, 9, 9, 9), uint8(4))
	f.Add(long(1, 10, 77, 2, 1, 9, 9, 9, 9), uint8(4))
	f.Add(long(), uint8(1))
	f.Add([]byte{0xc0, 0, 0, 0, 1, 255}, uint8(8))
	f.Fuzz(func(t *testing.T, payload []byte, n uint8) {
		length := int(n%8) + 1
		id, long, ok := quicServerID(payload, length)
		if ok && length < 8 && id>>(8*length) != 0 {
			t.Errorf("an id of %d bytes: %x", length, id)
		}
		servers := weights(1, 0, 1)
		s := mustNewWith(t, "quic", servers, Options{Fallback: true, TableSize: 251, QUICIDLength: length})
		k := stack.Tuple{Src: addrOf("IPv6", id)}
		if i := s.Pick(Request{Tuple: &k, Payload: payload}); i < 0 || i == 1 && (!ok || long || servers[1].QUICID != id) {
			t.Errorf("picked %d", i)
		}
	})
}
